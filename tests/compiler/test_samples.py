"""Inputs are made from the graph: in range for what they are for, of every extreme shape, and nasty."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.backends.ort.reference import open_reference
from graphwright.compiler.core.backend import Sample
from graphwright.compiler.core.errors import InputError
from graphwright.compiler.core.graph import bind_opsets
from graphwright.compiler.core.shapes import infer_shapes
from graphwright.compiler.roles import Role, makes_sizes, roles
from graphwright.compiler.samples import generate
from graphwright.compiler.tolerance import stress_of


def model_of(text: str, opset: int = 18, version: int = 9) -> ir.Model:
    model = ir.from_onnx_text(f'<ir_version: {version}, opset_import: ["" : {opset}]>\n{text}')
    bind_opsets(model)
    return model


def made(model: ir.Model, given: tuple[Sample, ...] = (), **options: object) -> tuple[Sample, ...]:
    """Samples that ONNX Runtime accepts; every one of them is run once more here."""
    runner = open_reference(model)
    try:
        samples = generate(model, given, run=runner.run, **options)  # type: ignore[arg-type]
        for sample in samples:
            runner.run(sample)
    finally:
        runner.close()
    return samples


def shapes(samples: tuple[Sample, ...], name: str) -> list[tuple[int, ...]]:
    return [np.shape(sample[name]) for sample in samples]  # type: ignore[arg-type]


PLAIN = "g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }"


def test_every_dimension_is_tried_at_one_and_zero_and_larger() -> None:
    found = {shape[0] for shape in shapes(made(model_of(PLAIN)), "x")}
    assert {0, 1, 2} <= found and max(found) > 2


def test_a_size_of_zero_that_the_model_refuses_is_left_out() -> None:
    text = "g (float[N,4] x) => (float[A,4] y) { n = Shape<end=1>(x) z = Constant<value_ints=[1]>() s = Sub(n, z) y = Gather(x, s) }"
    found = made(model_of(text))
    assert {shape[0] for shape in shapes(found, "x")} >= {1, 2} and len(found) > 5


def test_special_numbers_come_with_floats() -> None:
    kinds = [stress_of(sample) for sample in made(model_of(PLAIN))]
    assert any(kind.nan for kind in kinds) and any(kind.infinite for kind in kinds) and any(kind.large for kind in kinds)
    arrays = [np.asarray(sample["x"]) for sample in made(model_of(PLAIN))]
    assert any((array == 0).all() and np.signbit(array).any() and not np.signbit(array).all() for array in arrays if array.size > 2)
    assert any(((array != 0) & (np.abs(array) < np.finfo(np.float32).tiny)).any() for array in arrays)


def test_the_users_samples_come_first_and_set_the_scale_of_the_others() -> None:
    given = ({"x": np.full((5, 4), 1000.0, np.float32) + np.arange(20, dtype=np.float32).reshape(5, 4)},)
    found = made(model_of(PLAIN), given)
    assert found[0] is given[0] and len(found) > 5
    assert 900 < float(np.mean(np.asarray(found[1]["x"]))) < 1100 and np.shape(found[1]["x"]) == (5, 4)


def test_a_users_sample_that_does_not_fit_is_named_with_the_reason() -> None:
    with pytest.raises(InputError, match="example input 1"):
        made(model_of(PLAIN), ({"x": np.ones((2, 4), np.float32)}, {"x": np.ones((2, 5), np.float32)}))


def test_the_same_seed_makes_the_same_samples() -> None:
    one, two, other = (made(model_of(PLAIN), seed=seed) for seed in (3, 3, 4))
    assert [sample["x"].tobytes() for sample in one] == [sample["x"].tobytes() for sample in two]  # type: ignore[union-attr]
    assert one[0]["x"].tobytes() != other[0]["x"].tobytes()  # type: ignore[union-attr]


def test_slow_models_get_few_samples() -> None:
    model = model_of(PLAIN)

    class Slow:
        def __init__(self) -> None:
            self.now = 0.0

        def run(self, sample: Sample) -> None:
            self.now += 1.5

    slow = Slow()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("graphwright.compiler.samples.time.perf_counter", lambda: slow.now)
        assert len(generate(model, run=slow.run, seconds=3.0)) == 2
        assert len(generate(model, run=slow.run, seconds=0.1)) == 2
    assert len(generate(model, limit=4)) == 4


# --- what inputs are for ---------------------------------------------------------------------------------------------------------------------------

EMBEDDING = (
    "g (int64[B,S] ids, int32[B,S] mask, int64[B,S] positions) => (float[B,S,3] y) <float[7,3] table, float[5,3] places, int64 shift = {2}>"
    " { a = Gather(table, ids) p = Add(positions, shift) q = Gather(places, p) h = Add(a, q)"
    " m = Cast<to=1>(mask) o = Constant<value_float=1.0>() i = Sub(o, m) b = Constant<value_float=-1e9>() n = Mul(i, b)"
    " l = Constant<value_ints=[2]>() u = Unsqueeze(n, l) y = Add(h, u) }"
)


def embedding() -> ir.Model:
    model = model_of(EMBEDDING.replace("float[7,3] table, float[5,3] places, ", "").replace("positions)", "positions, float[7,3] table, float[5,3] places)", 1))
    for value in [value for value in model.graph.inputs if value.name in ("table", "places")]:
        model.graph.inputs.remove(value)
        rows = 7 if value.name == "table" else 5
        value.const_value = ir.tensor(np.arange(rows * 3, dtype=np.float32).reshape(rows, 3), name=value.name)
        model.graph.register_initializer(value)
    return model


def test_token_ids_stay_in_the_table_and_positions_in_theirs() -> None:
    found = made(embedding())
    ids, positions = (np.concatenate([np.asarray(sample[name]).reshape(-1) for sample in found]) for name in ("ids", "positions"))
    ordinary = ids[ids >= 0]
    assert set(ordinary) == set(range(7)), "every row is used by some sample"
    assert positions.max() <= 2 and ids.min() >= -7


def test_the_last_row_and_rows_counted_from_the_end_are_tried() -> None:
    found = made(embedding())
    assert any((np.asarray(sample["ids"]) < 0).all() and np.asarray(sample["ids"]).size for sample in found)
    assert any((np.asarray(sample["ids"]) == 6).any() for sample in found)


def test_masks_hold_zeros_and_ones_and_no_row_is_closed() -> None:
    for sample in made(embedding()):
        mask = np.asarray(sample["mask"])
        assert set(np.unique(mask)) <= {0, 1} and mask.dtype == np.int32
        assert mask.shape[-1] == 0 or (mask.sum(axis=-1) >= 1).all()
    assert any((np.asarray(sample["mask"]) == 0).any() for sample in made(embedding())) and np.asarray(made(embedding())[0]["mask"]).sum() >= 2


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("c = Cast<to=9>(i) y = Where(c, x, z)", Role(mask=True)),
        ("r = Constant<value_ints=[-1]>() j = Reshape(i, r) c = Cast<to=9>(j) n = Not(c) y = Where(n, x, z)", Role(mask=True)),
        ("t = Constant<value_floats=[1.0,2.0,3.0]>() y = Gather(t, i)", Role(rows=3)),
        ("t = Constant<value_floats=[1.0,2.0,3.0]>() o = Constant<value_int=1>() j = Sub(i, o) y = Gather(t, j)", Role(rows=4)),
        ("y = Gather(x, i)", Role(shared=True)),
        ("d = Constant<value_int=6>() v = Constant<value_floats=[0.0,1.0]>() y = OneHot(i, d, v)", Role(rows=6)),
        ("k = Constant<value_int=16000>() e = Equal(i, k) y = Where(e, x, z)", Role(choices=[16000.0])),
        ("y = ConstantOfShape(i)", Role(size="small")),
        ("y = Expand(x, i)", Role(size="ones")),
        ("y = Cast<to=1>(i)", Role()),
    ],
)
def test_the_role_of_an_input_is_read_off_its_uses(body: str, expected: Role) -> None:
    model = model_of(f"g (int64[N] i, float[N] x, float z) => (float[N] y) {{ {body} }}")
    infer_shapes(model)
    assert roles(model)["i"] == expected


def test_roles_are_found_inside_branches_loops_and_functions() -> None:
    branch = model_of(
        "g (bool b, int64[N] i, float[5] t) => (float[N] y) { y = If(b) <then_branch = a () => (float[N] u) { u = Gather(t, i) },"
        " else_branch = e () => (float[N] v) { v = Cast<to=1>(i) }> }"
    )
    assert roles(branch)["i"].rows == 5 and roles(branch)["b"].mask
    loop = model_of(
        "g (int64 n, int64[N] i, float[5] t) => (float[N] y) { c = Constant<value = bool {1}>() s = Cast<to=1>(i) y, last = Loop(n, c, s, i)"
        " <body = b (int64 k, bool d, float[N] p, int64[N] j) => (bool d2, float[N] q, int64[N] j2)"
        " { d2 = Identity(d) g = Gather(t, j) q = Add(p, g) j2 = Identity(j) }> }"
    )
    assert roles(loop)["i"].rows == 5 and roles(loop)["n"].size == "small"
    function = ir.from_onnx_text(
        '<ir_version: 9, opset_import: ["" : 18, "f" : 1]> g (int64[N] i, float[5] t) => (float[N] y) { y = f.look(t, i) }'
        ' <domain: "f", opset_import: ["" : 18]> look (a, b) => (c) { d = Identity(b) c = Gather(a, d) }'
    )
    assert roles(function)["i"].rows == 5 or roles(function)["i"].shared


def test_a_number_that_decides_how_much_memory_is_taken_stays_small() -> None:
    wild = model_of(
        "g (int64 n) => (float[A] y) { z = Constant<value_int=0>() o = Constant<value_int=1>() m = Mul(n, n) r = Range(z, m, o) y = Cast<to=1>(r) }"
    )
    assert makes_sizes(wild.graph.inputs[0])
    for sample in made(wild):
        assert abs(int(np.asarray(sample["n"]))) < 100
    tame = model_of("g (int64[N] n) => (int64[N] y) { y = Mul(n, n) }")
    assert not makes_sizes(tame.graph.inputs[0])
    assert any(np.abs(np.asarray(sample["n"]).astype(float)).max(initial=0) > 2**60 for sample in made(tame))


def test_both_branches_of_a_flag_get_ordinary_and_nan_inputs() -> None:
    text = (
        "g (bool b, float[N] x) => (float[N] y) { y = If(b) <then_branch = t () => (float[N] u) { u = Neg(x) },"
        " else_branch = e () => (float[N] v) { v = Abs(x) }> }"
    )
    seen = {(bool(sample["b"]), bool(np.isnan(np.asarray(sample["x"])).any())) for sample in made(model_of(text))}
    assert seen == {(True, False), (True, True), (False, False), (False, True)}


def test_numbers_that_a_scalar_is_compared_with_are_all_tried_and_one_other() -> None:
    text = (
        "g (int64 rate, float[N] x) => (float[N] y) { a = Constant<value_int=8000>() b = Constant<value_int=16000>() e = Equal(rate, a) f = Equal(rate, b)"
        " m = Cast<to=1>(e) n = Cast<to=1>(f) p = Mul(x, m) q = Mul(x, n) y = Sub(p, q) }"
    )
    assert {int(np.asarray(sample["rate"])) for sample in made(model_of(text))} >= {8000, 16000, 16001}


# --- sizes that depend on each other ----------------------------------------------------------------------------------------------------------------


def test_sizes_that_have_to_agree_are_found() -> None:
    text = "g (float[A,K] x, float[L,B] w) => (float[A,B] y) { y = MatMul(x, w) }"
    for sample in made(model_of(text)):
        assert np.shape(sample["x"])[1] == np.shape(sample["w"])[0]


def test_a_mask_as_long_as_cache_and_input_together_is_found() -> None:
    text = "g (float[B,P] past, float[B,S] now, float[B,T] mask) => (float[B,T] y) { c = Concat<axis=1>(past, now) y = Mul(c, mask) }"
    found = made(model_of(text))
    assert len(found) > 4 and np.size(found[0]["mask"]) > 1
    for sample in found:
        assert np.shape(sample["past"])[1] + np.shape(sample["now"])[1] in (np.shape(sample["mask"])[1], 1) or 1 in np.shape(sample["mask"])


def test_dimensions_written_as_expressions_are_kept() -> None:
    text = "g (float[P] past, float[S] now, float[T] mask) => (float[T] y) { c = Concat<axis=0>(past, now) y = Mul(c, mask) }"
    model = model_of(text)
    model.graph.inputs[2].shape = ir.Shape(["P + S"])
    for sample in made(model):
        assert np.shape(sample["mask"])[0] == np.shape(sample["past"])[0] + np.shape(sample["now"])[0]


def test_unnamed_dimensions_that_belong_together_shrink_together() -> None:
    text = (
        "g (float[?,?] x, float[2,?,4] state) => (float[A] y, float[B,C] z) { a = Constant<value_ints=[0,2]>() s = ReduceSum<keepdims=0>(state, a)"
        " k = Constant<value_ints=[1]>() t = ReduceSum<keepdims=0>(x, k) y = Add(s, t) st = Constant<value_ints=[0]>() e = Constant<value_ints=[30]>()"
        " w = Slice(x, st, e, k) r = Constant<value_ints=[-1,30]>() z = Reshape(w, r) }"
    )
    model = model_of(text.replace("?", "Q"))
    for value, names in ((model.graph.inputs[0], [None, None]), (model.graph.inputs[1], [2, None, 4])):
        value.shape = ir.Shape([ir.SymbolicDim(None) if name is None else name for name in names])
    found = made(model)
    assert np.shape(found[0]["x"])[0] == np.shape(found[0]["state"])[1] == 2 and np.shape(found[0]["x"])[1] >= 30


def test_images_are_large_enough_to_be_ones_and_tried_at_other_sizes() -> None:
    text = "g (float[N,3,H,W] x) => (float[N,3,A,B] y) { y = MaxPool<kernel_shape=[7,7], strides=[4,4]>(x) }"
    found = shapes(made(model_of(text)), "x")
    assert found[0][2] >= 32 and len({shape[2:] for shape in found}) > 1


def test_an_input_of_unknown_rank_gets_one_that_works() -> None:
    model = model_of("g (float[A,B,C] x) => (float[A,C,B] y) { y = Transpose<perm=[0,2,1]>(x) }")
    model.graph.inputs[0].shape = None
    model.graph.outputs[0].shape = None
    assert all(len(shape) == 3 for shape in shapes(made(model), "x"))


def test_empty_tensors_are_kept_from_operators_that_end_the_process_on_them() -> None:
    text = "g (float[S,N,4] x, float[1,12,4] w, float[1,12,3] r) => (float[S,A,N,3] y) { y = LSTM<hidden_size=3>(x, w, r) }"
    assert all(0 not in shape for shape in shapes(made(model_of(text)), "x"))


def test_a_base_sample_is_never_empty() -> None:
    text = "g (float[A,2] x, float[B,2] w) => (float[C,2] y) { y = Mul(x, w) }"
    assert all(np.size(made(model_of(text))[0][name]) for name in ("x", "w"))


# --- other kinds of input ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["float16", "double", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool", "string"])
def test_inputs_of_every_kind_are_made(kind: str) -> None:
    found = made(model_of(f"g ({kind}[N,2] x) => ({kind}[N,2] y) {{ y = Identity(x) }}"))
    assert len(found) >= 3
    assert {np.asarray(sample["x"]).dtype for sample in found} == {np.dtype("float64" if kind == "double" else object if kind == "string" else kind)}


def test_bytes_fill_their_whole_range() -> None:
    found = np.concatenate([np.asarray(sample["x"]).reshape(-1) for sample in made(model_of("g (uint8[64,64] x) => (uint8[64,64] y) { y = Identity(x) }"))])
    assert found.min() == 0 and found.max() == 255


def test_sequences_and_absent_optionals_are_made() -> None:
    sequence = made(model_of("g (seq(float[N]) s) => (float[M] y) { y = ConcatFromSequence<axis=0>(s) }"))
    assert all(isinstance(sample["s"], list) and sample["s"] for sample in sequence)
    optional = made(model_of("g (optional(float[N]) o) => (bool y) { y = OptionalHasElement(o) }"))
    assert any(sample["o"] is None for sample in optional) and any(sample["o"] is not None for sample in optional)


def test_a_weight_that_callers_may_override_is_overridden_once() -> None:
    model = model_of("g (float[N,2] x, float[2] w) => (float[N,2] y) <float[2] w = {1,2}> { y = Mul(x, w) }")
    value = next(value for value in model.graph.inputs if value.name == "w")
    assert value.is_initializer()
    found = made(model, limit=30)
    assert sum("w" in sample for sample in found) == 1


def test_a_model_without_inputs_has_the_empty_sample() -> None:
    assert made(model_of("g () => (float[2] y) { y = Constant<value_floats=[1.0,2.0]>() }")) == ({},)


def test_an_input_that_no_memory_holds_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="elements"):
        generate(model_of("g (float[1000000,1000000] x) => (float[1000000,1000000] y) { y = Relu(x) }"))
    monkeypatch.setattr("graphwright.compiler.samples.MAX_ELEMENTS", 1000)
    found = generate(model_of("g (float[N,300] x) => (float[N,300] y) { y = Relu(x) }"))
    assert len(found) > 5 and all(np.size(sample["x"]) <= 1000 for sample in found)


def test_when_nothing_is_accepted_the_inputs_and_the_reason_are_named() -> None:
    def refuse(sample: Sample) -> None:
        raise ValueError("the moon is in the wrong phase\nand more")

    with pytest.raises(InputError, match=r"pass example inputs for 'x' \(float .*\). The runtime says: the moon is in the wrong phase$"):
        generate(model_of(PLAIN), run=refuse)


@pytest.mark.shared
def test_inputs_are_made_for_every_real_model(shared: Path) -> None:
    for path in sorted((shared / "models").glob("*.onnx")):
        model = ir.load(path)
        bind_opsets(model)
        if path.stem == "style_candy":
            continue  # Nine seconds a run in ``made``; nothing about its one image input is special.
        found = made(model, limit=4, seconds=0.5)
        assert found and not stress_of(found[0]).any, path.stem


@pytest.mark.shared
def test_both_sample_rates_of_a_real_model_are_found(shared: Path) -> None:
    model = ir.load(shared / "models" / "silero_vad.onnx")
    bind_opsets(model)
    found = made(model)
    assert {int(np.asarray(sample["sr"])) == 16000 for sample in found} == {True, False}
    assert all(np.shape(sample["input"])[0] == np.shape(sample["state"])[1] for sample in found)
