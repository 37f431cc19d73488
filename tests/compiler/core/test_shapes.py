"""Every inferred shape is the real one, whatever sizes the model is fed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from graphwright.compiler.core import dims, shapes
from graphwright.compiler.core.errors import ModelError
from graphwright.compiler.core.graph import all_graphs, bind_opsets, clone_model
from graphwright.compiler.core.symbolic.standard import StandardInference
from graphwright.models.tiny import FAMILIES, find_tiny

HEAD = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>\n'
SIZES = (
    {"N": 3, "M": 5, "K": 4},
    {"N": 1, "M": 1, "K": 1},
    {"N": 2, "M": 1, "K": 7},
    {"N": 1, "M": 4, "K": 1},
    {"N": 0, "M": 3, "K": 2},
    {"N": 4, "M": 0, "K": 3},
)
Feeds = Mapping[str, np.ndarray]
Values = dict[str, object]


def read(text: str) -> ir.Model:
    model = ir.from_onnx_text(text if text.startswith("<") else HEAD + text)
    bind_opsets(model)
    return model


def inferred(text: str) -> ir.Model:
    model = read(text)
    shapes.infer_shapes(model)
    return model


def value_of(model: ir.Model, name: str) -> ir.Value:
    found = [value for graph in all_graphs(model) for node in graph for value in node.outputs if value.name == name]
    assert len(found) == 1, name
    return found[0]


def shape_of(model: ir.Model, name: str) -> str:
    return str(value_of(model, name).shape)


def run_everything(model: ir.Model, feeds: Feeds) -> Values:
    """What every tensor of the main graph is at run time, with ONNX Runtime's optimisations off."""
    open_model = clone_model(model)
    shapes.forget_ours(open_model)
    outputs = list(open_model.graph.outputs)
    for node in open_model.graph:
        open_model.graph.outputs.extend(value for value in node.outputs if value.name and isinstance(value.type, ir.TensorType) and value not in outputs)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(ir.to_proto(open_model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def assert_shapes_hold(model: ir.Model, feeds: Feeds) -> None:
    """Compare with a run: ints are equal, a symbol has one value everywhere, known numbers are those in the tensor."""
    real = {**run_everything(model, feeds), **feeds}
    bindings: dict[str, int] = {}
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    for value in values:
        array = real.get(value.name or "")
        if isinstance(array, np.ndarray):
            assert_shape_holds(value, array, bindings)
            assert_content_holds(value, array, bindings)


def assert_shape_holds(value: ir.Value, array: np.ndarray, bindings: dict[str, int]) -> None:
    if value.shape is None:
        return
    where = f"{value.name}: {value.shape} is really {array.shape} with {bindings}"
    assert len(value.shape) == array.ndim, where
    for dim, size in zip(value.shape, array.shape, strict=True):
        if isinstance(dim, ir.SymbolicDim) and dims.evaluate(dim, bindings) is None and dim.value in dims.free_symbols(dim):
            bindings[dim.value] = size
        known = dims.evaluate(dim, bindings)
        assert known is None or known == size, where


def assert_content_holds(value: ir.Value, array: np.ndarray, bindings: dict[str, int]) -> None:
    known = shapes.known_ints(value)
    if known is None:
        return
    numbers = [dims.evaluate(item, bindings) for item in known]
    assert len(numbers) == array.size
    assert all(number is None or number == item for number, item in zip(numbers, array.reshape(-1).tolist(), strict=True)), f"{value.name}: {known} is {array}"


def feeds_for(model: ir.Model, sizes: Mapping[str, int], seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    feeds = {}
    for value in model.graph.inputs:
        if value.is_initializer():
            continue
        assert value.dtype is not None and value.shape is not None
        shape = [dim if isinstance(dim, int) else sizes.get(dim.value or "", 2) for dim in value.shape]
        kind = value.dtype.numpy()
        numbers = random.standard_normal(shape) if kind.kind == "f" else random.integers(0, 2, shape)
        feeds[value.name or ""] = numbers.astype(kind)
    return feeds


# Each with the inferred shapes of some of its values; N, M and K may be 0 or 1.
SHAPED = {
    "view": ("g (float[N,M,8] x) => (float[A,B,C,D] y) <int64[4] s = {0,0,2,4}> { y = Reshape(x, s) }", {"y": "[N,M,2,4]"}),
    "view back": ("g (float[N,M,2,4] x) => (float[A,B,C] y) <int64[3] s = {0,0,-1}> { y = Reshape(x, s) }", {"y": "[N,M,8]"}),
    "view by shape": (
        "g (float[N,M,8] x) => (float[A,B,C,D] y) <int64[2] t = {2,4}> { s = Shape<end=2>(x) r = Concat<axis=0>(s, t) y = Reshape<allowzero=1>(x, r) }",
        {"y": "[N,M,2,4]"},
    ),
    "flatten tokens": (
        "g (float[N,M,8] x) => (float[A,B] y) <int64[1] w = {8}> { a = Shape<end=1>(x) b = Shape<start=1, end=2>(x) c = Mul(a, b)"
        " s = Concat<axis=0>(c, w) y = Reshape<allowzero=1>(x, s) }",
        {"y": "[M*N,8]"},
    ),
    "reshape of reshape with a 0 that copies": (
        "g (float[N,6] x) => (float[A,B,C] y) <int64[2] s = {-1,3}, int64[3] t = {0,3,1}> { a = Reshape(x, s) y = Reshape(a, t) }",
        {"a": "[2*N,3]", "y": "[2*N,3,1]"},
    ),
    "transposed view": (
        "g (float[N,M,8] x) => (float[A,B] y) { t = Transpose<perm=[1,0,2]>(x) y = Flatten<axis=2>(t) z = Flatten(t) }", {"y": "[M*N,8]", "z": "[M,8*N]"},
    ),
    "expand": (
        "g (float[N,1] x, float[M,K] z) => (float[A,B,C] y) <int64[1] one = {1}> { s = Shape(z) d = Shape<end=1>(x) t = Concat<axis=0>(one, d, one)"
        " y = Expand(x, t) }",
        {"y": "[1,N,1]"},
    ),
    "shape with start beyond end": ("g (float[N,M,8] x) => (int64[A] y) { y = Shape<start=2, end=1>(x) }", {"y": "[0]"}),
    "shape with negative bounds": ("g (float[N,M,8] x) => (int64[A] y) { y = Shape<start=-2, end=-1>(x) }", {"y": "[1]"}),
    "last token": (
        "g (float[N,M,8] x) => (float[A,B,C] y) <int64[1] s = {-1}, int64[1] e = {9223372036854775807}, int64[1] a = {1}> { y = Slice(x, s, e, a) }",
        {"y": "[N,min(1, M),8]"},
    ),
    "table cut to length": (
        "g (float[N,M,8] x, float[64,8] table) => (float[A,B,C] y) <int64[1] z = {0}> { e = Shape<start=1, end=2>(x) t = Slice(table, z, e, z) y = Add(x, t) }",
        {"t": "[min(64, M),8]", "y": "[N,M,8]"},
    ),
    "every second": (
        "g (float[N,M] x) => (float[A,B] y) <int64[2] s = {1,-1}, int64[2] e = {9223372036854775807,-9223372036854775807}, int64[2] a = {1,0},"
        " int64[2] p = {2,-1}> { y = Slice(x, s, e, a, p) }",
        {},
    ),
    "concat and split": (
        "g (float[N,M] x, float[N,K] z) => (float[A,B] y) { c = Concat<axis=1>(x, z) d = Concat<axis=-1>(c, c) y, r = Split<axis=1, num_outputs=2>(d) }",
        {"c": "[N,K + M]", "y": "[N,K + M]"},
    ),
    "tile and pad": (
        "g (float[N,M] x) => (float[A,B] y) <int64[2] r = {2,3}, int64[4] p = {1,0,0,2}> { t = Tile(x, r) y = Pad(t, p) }", {"y": "[2*N + 1,3*M + 2]"},
    ),
    "pad along axes": (
        "g (float[N,M] x) => (float[A,B] y) <int64[2] p = {1,2}, int64[1] a = {-1}> { y = Pad(x, p, , a) }", {"y": "[N,M + 3]"},
    ),
    "matmul": ("g (float[N,4,M,8] x, float[8,K] w) => (float[A,B,C,D] y) { y = MatMul(x, w) }", {"y": "[N,4,M,K]"}),
    "gather": ("g (float[9,8] t, int64[N,M] i) => (float[A,B,C] y) { y = Gather(t, i) }", {"y": "[N,M,8]"}),
    "range": (
        "g (float[N,M] x) => (int64[A] y) <int64 z = {0}, int64 two = {2}, int64[1] s = {1}> { h = Shape(x)"
        " n = Gather(h, s) e = Squeeze(n) y = Range(z, e, two) }",
        {"y": "[div(M + 1, 2)]"},
    ),
    "filled": ("g (float[N,M] x) => (float[A,B] y) { s = Shape(x) y = ConstantOfShape(s) }", {"y": "[N,M]"}),
    "one hot and top": (
        "g (int64[N,M] x, float[K,9] z) => (float[A,B,C] y) <int64 d = {5}, float[2] v = {0,1}, int64[1] k = {4}>"
        " { y = OneHot<axis=1>(x, d, v) t, i = TopK(z, k) }",
        {"y": "[N,5,M]", "t": "[K,4]"},
    ),
    "pixels": (
        "g (float[1,4,N,M] x) => (float[A,B,C,D] y) <float[4] s = {1,1,2,3}> { d = DepthToSpace<blocksize=2>(x) y = SpaceToDepth<blocksize=2>(d)"
        " r = Resize(x, , s) }",
        {"d": "[1,1,2*N,2*M]", "y": "[1,4,N,M]", "r": "[1,4,2*N,3*M]"},
    ),
    "size and product": (
        "g (float[N,M] x) => (float[A] y) <int64[1] m = {-1}> { s = Shape(x) p = ReduceProd<keepdims=0>(s) q = Size(x) r = Max(p, q) t = Reshape(r, m)"
        " y = Reshape<allowzero=1>(x, t) }",
        {"y": "[M*N]"},
    ),
    "expand as torch writes it": (
        "g (float[1,8] x, float[N,M] z) => (float[A,B] y) <int64[1] w = {8}, int64[2] o = {1,1}, int64 m = {-1}> { a = Shape<end=1>(z) s = Concat<axis=0>(a, w)"
        " q = Equal(s, m) c = Where(q, o, s) y = Expand(x, c) }",
        {"y": "[N,8]"},
    ),
    "floor division as torch writes it": (
        "g (float[N,M] x) => (float[A,B,C] y) <int64[1] two = {2}, int64[1] one = {1}> { n = Shape<end=1>(x) m = Shape<start=1>(x) a = Add(m, one)"
        " h = Div(a, two)"
        " r = Mod(m, two) s = Concat<axis=0>(n, h, r) y = ConstantOfShape(s) }",
        {"y": "[N,div(M + 1, 2),mod(M, 2)]"},
    ),
    "pads computed": (
        "g (float[N,M] x) => (float[A,B] y) <int64[2,2] p = {1,2,3,4}, int64[1] m = {-1}> { t = Transpose<perm=[1,0]>(p) f = Reshape(t, m) y = Pad(x, f) }",
        {"y": "[N + 3,M + 7]"},
    ),
    "einsum": ("g (float[N,M,K] x, float[N,K,8] z) => (float[A,B,C] y) { y = Einsum<equation=\"bij,bjk->bik\">(x, z) }", {"y": "[N,M,8]"}),
    "attention": (
        "<ir_version: 11, opset_import: [\"\" : 23]>\ng (float[N,2,M,8] q, float[N,2,K,8] k, float[N,2,K,8] v, float[N,2,3,8] pk, float[N,2,3,8] pv)"
        " => (float[A,B,C,D] y, float[E,F,G,H] nk) { y, nk, nv = Attention(q, k, v, , pk, pv) }",
        {"y": "[N,2,M,8]", "nk": "[N,2,K + 3,8]"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPED)
def test_a_shape_keeps_its_symbols_and_is_right_for_every_size(name: str) -> None:
    text, expected = SHAPED[name]
    model = inferred(text)
    assert {value: shape_of(model, value) for value in expected} == expected
    ran = 0
    for sizes in SIZES:
        try:
            run_everything(model, feeds_for(model, sizes))
        except Exception:
            continue
        assert_shapes_hold(model, feeds_for(model, sizes))
        ran += 1
    assert ran >= 3, "the model runs for too few sizes to show anything"


SPATIAL = [
    "Conv<pads=[1,1,1,1]>(x, w)", "Conv<strides=[2,3]>(x, w)", "Conv<dilations=[2,1], pads=[0,1,2,1]>(x, w)",
    'Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w)',
    'Conv<auto_pad="VALID">(x, w)', "MaxPool<kernel_shape=[2,3], strides=[2,2]>(x)", "MaxPool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x)",
    'AveragePool<kernel_shape=[2,2], auto_pad="SAME_LOWER", strides=[2,1]>(x)', "ConvTranspose<strides=[2,2], output_padding=[1,0]>(x, w)",
    "ConvTranspose<pads=[1,0,1,2], dilations=[2,1]>(x, w)", "GlobalAveragePool(x)", "AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]>(x)",
]  # fmt: skip


@pytest.mark.parametrize("call", SPATIAL)
def test_windows_over_symbolic_sizes_are_counted_right(call: str) -> None:
    model = inferred(
        f"g (float[N,4,H,W] x, float[4,4,3,3] w) => (float[A,B,C,D] y) {{ a = {call} b = Relu(a) y = MaxPool<kernel_shape=[1,1], strides=[2,2]>(b) }}"
    )
    for height, width in ((7, 8), (8, 9), (9, 12), (16, 5)):
        assert_shapes_hold(model, feeds_for(model, {"N": 2, "H": height, "W": width}))
    if "ceil_mode" not in call:
        assert not any(map(shapes.is_ours, value_of(model, "y").shape or ()))


def test_a_dynamic_size_is_not_frozen_by_what_it_meets() -> None:
    model = inferred("g (float[N] x, float[5] z) => (float[A] y, float[N] w) { y = Add(x, z) w = Relu(x) }")
    assert shape_of(model, "y") == "[5]"
    assert shape_of(model, "w") == "[N]"
    assert_shapes_hold(model, feeds_for(model, {"N": 1}))


def test_two_symbols_that_meet_are_not_merged() -> None:
    model = inferred("g (float[N] x, float[M] z) => (float[A] y) { a = Add(x, z) b = Relu(x) y = Mul(a, b) }")
    (met,) = value_of(model, "a").shape or ()
    assert shapes.is_ours(met) and shape_of(model, "b") == "[N]"
    for sizes in ({"N": 1, "M": 4}, {"N": 4, "M": 1}, {"N": 3, "M": 3}):
        assert_shapes_hold(model, feeds_for(model, sizes))


def test_unknown_dimensions_of_two_values_get_different_symbols() -> None:
    model = inferred("g (float[?] x) => (int64[A,B] y, int64[C,D] z) { y = NonZero(x) r = Relu(x) z = NonZero(r) }")
    first, second = (value_of(model, name).shape for name in "yz")
    assert first is not None and second is not None
    assert first[0] == second[0] == 1 and not dims.same(first[1], second[1])


def test_a_reshape_that_reads_a_size_of_0_as_a_copy_is_not_trusted() -> None:
    """[N,4] as [M,-1], where M is the size of another tensor: with M = 0 ONNX copies N."""
    model = inferred("g (float[N,4] x, float[M] z) => (float[A,B] y) <int64[1] m = {-1}> { d = Shape(z) s = Concat<axis=0>(d, m) y = Reshape(x, s) }")
    assert shapes.is_ours((value_of(model, "y").shape or ())[0])
    for sizes in ({"N": 3, "M": 0}, {"N": 3, "M": 2}):
        assert_shapes_hold(model, feeds_for(model, sizes))


def test_a_reshape_that_cannot_run_on_an_empty_tensor_shows_that_there_is_none() -> None:
    text = (
        "g (float[N,M,8] x) => (float[A,B,C] y) <int64[3] s = {{{first}}}, int64[1] e = {{8}}, int64[1] m = {{-1}}> {{ a = Reshape(x, s) n = Shape<end=1>(x)"
        " l = Shape<start=1, end=2>(x) t = Transpose<perm=[0,2,1]>(x) r = Concat<axis=0>(m, l, e) y = Reshape(t, r) }}"
    )
    assert shape_of(inferred(text.format(first="0,0,-1")), "y") == "[N,M,8]"
    assert shapes.is_ours((value_of(inferred(text.format(first="0,0,8")), "y").shape or ())[1])


@pytest.mark.parametrize(("text", "node"), [
    ("g (float[N,3] x, float[4,5] w) => (float[A,B] y) { y = MatMul(x, w) }", "y"),
    ("g (float[2] x, float[3] z) => (float[A] y) { q = Add(x, z) y = Relu(q) }", "q"),
    ("g (float[2,3] x) => (float[A] y) <int64[2] s = {4,-1}> { y = Reshape(x, s) }", "y"),
    ("g (float[2,3] x, float[3,3] z) => (float[A,B] y) { y = Concat<axis=1>(x, z) }", "y"),
])  # fmt: skip
def test_a_contradiction_names_its_node(text: str, node: str) -> None:
    with pytest.raises(ModelError, match=f"'{node}'"):
        inferred(text)


def test_a_contradiction_in_a_branch_is_no_error_because_it_may_never_run() -> None:
    model = inferred(
        "g (bool c, float[2] x) => (float[A] y) { y = If(c) <then_branch = t () => (float[B] r) { w = Constant<value = float[3] {1,2,3}>() r = Add(x, w) },"
        " else_branch = e () => (float[C] q) { q = Relu(x) }> }"
    )
    assert value_of(model, "y").dtype == ir.DataType.FLOAT


IF = (
    "g (bool c, float[N,M] x, float[K] z) => (float[A,B] y) { y = If(c) <then_branch = t () => (float[D,E] r) { r = Relu(x) },"
    " else_branch = e () => (float[F,G] q) { q = Add(x, z) }> v = Identity(y) }"
)


def test_branches_give_what_both_agree_on() -> None:
    model = inferred(IF)
    first, second = value_of(model, "y").shape or ()
    assert first == "N" and shapes.is_ours(second)
    for truth in (True, False):
        assert_shapes_hold(model, {**feeds_for(model, {"N": 2, "M": 1, "K": 4}), "c": np.array(truth)})


def test_a_branch_that_is_always_taken_decides() -> None:
    model = inferred(
        IF.replace("bool c, float", "float")
        .replace("{ y = If", "{ s = Size(x) w = Constant<value_int=-1>() c = Equal(s, w) y = If")
        .replace("float[K] z", "float[1] z")
    )
    assert shape_of(model, "y") == "[N,M]"


LOOP = (
    "g (int64 n, float[N] x, float[2] w) => (float[A] y, float[B,C] z) {{ c = Constant<value = bool {{1}}>() y, k, z = Loop(n, c, x, w) <body = b"
    " (int64 i, bool c0, float[X] a, float[Y] k0) => (bool c1, float[Z] d, float[Y] k1, float[W] s)"
    " {{ c1 = Identity(c0) d = {step} k1 = Relu(k0) s = Neg({scanned}) }}> }}"
)


def test_a_carried_value_that_grows_has_no_fixed_size() -> None:
    model = inferred(LOOP.format(step="Concat<axis=0>(a, a)", scanned="k0"))
    (size,) = value_of(model, "y").shape or ()
    assert shapes.is_ours(size) and shape_of(model, "k1") == "[2]" and shape_of(model, "k") == "[2]"
    assert (value_of(model, "z").shape or ())[1] == 2
    for count in (0, 1, 3):
        assert_shapes_hold(model, {**feeds_for(model, {"N": 3}), "n": np.array(count)})


def test_a_loop_counter_declared_as_a_vector_of_one_element_stays_one() -> None:
    text = LOOP.format(step="Relu(a)", scanned="v").replace("(int64 i,", "(int64[1] i,").replace("s = Neg(v)", "v = Cast<to=1>(i) s = Neg(v)")
    model = inferred(text.replace("float[B,C] z", "float[B,1] z"))
    assert shape_of(model, "s") == "[1]"
    assert_shapes_hold(model, {**feeds_for(model, {"N": 3}), "n": np.array(2)})


def test_a_carried_value_that_keeps_its_size_keeps_its_symbol() -> None:
    model = inferred(LOOP.format(step="Relu(a)", scanned="a"))
    assert shape_of(model, "y") == "[N]" and (value_of(model, "z").shape or ())[1] == "N"


def test_what_is_born_in_a_body_has_no_name_outside() -> None:
    model = inferred(
        LOOP.format(step="Relu(a)", scanned="a")
        .replace("s = Neg(a)", "t = Neg(a) u = Compress<axis=0>(t, m) s = Abs(u)")
        .replace("float[2] w)", "float[2] w, bool[N] m)")
    )
    inside, outside = value_of(model, "s").shape, value_of(model, "z").shape
    assert inside is not None and outside is not None and shapes.is_ours(outside[1]) and not dims.same(inside[0], outside[1])


def test_a_loop_that_runs_to_its_count_stacks_that_many() -> None:
    model = inferred(LOOP.format(step="Relu(a)", scanned="a").replace("int64 n, ", "").replace("{ c =", "{ n = Constant<value_int=4>() c =", 1))
    assert shape_of(model, "z") == "[4,N]"


def test_scan_slices_and_stacks() -> None:
    model = inferred(
        "g (float[N] s, float[M,N] x) => (float[A] y, float[B,C] z) { y, z = Scan<num_scan_inputs=1, body = b (float[X] a, float[Y] e)"
        " => (float[Z] r, float[W] o)"
        " { r = Add(a, e) o = Relu(r) }>(s, x) }"
    )
    assert (shape_of(model, "y"), shape_of(model, "z")) == ("[N]", "[M,N]")
    assert_shapes_hold(model, feeds_for(model, {"N": 3, "M": 4}))


def test_tensors_of_one_sequence_share_no_symbol() -> None:
    model = inferred(
        "g (float[N] x, float[M] z) => (float[A] y) { s = SequenceConstruct(x, z) i = Constant<value_int=0>() j = Constant<value_int=1>() a = SequenceAt(s, i)"
        " b = SequenceAt(s, j) y = Concat<axis=0>(a, b) }"
    )
    (first,), (second,) = value_of(model, "a").shape or (), value_of(model, "b").shape or ()
    assert not dims.same(first, second)
    assert_shapes_hold(model, feeds_for(model, {"N": 3, "M": 5}))


def test_hints_survive_only_where_nobody_knows_the_operator() -> None:
    model = inferred(
        '<ir_version: 10, opset_import: ["" : 21, "mine" : 1]>\ng (float[N,3] x) => (float[A,B] y) <float[9,9] a, float[N,7] b>'
        " { a = Relu(x) b = mine.Thing(a) y = Neg(b) }"
    )
    assert (shape_of(model, "a"), shape_of(model, "b"), shape_of(model, "y")) == ("[N,3]", "[N,7]", "[N,7]")


def test_the_model_gets_its_own_names_back() -> None:
    model = read("g (float[N,?] x, float[M,?] z) => (float[batch,width] y) { a = NonZero(x) y = Add(x, z) }")
    shapes.infer_shapes(model)
    shapes.infer_shapes(model)
    assert all(dims.is_known(dim) for value in model.graph.inputs for dim in value.shape or ())
    shapes.forget_ours(model)
    assert [str(value.shape) for value in model.graph.inputs] == ["[N,None]", "[M,None]"]
    assert str(model.graph.outputs[0].shape) == "[batch,width]"
    assert shape_of(model, "a") == "[2,None]"


def test_a_new_node_is_inferred_alone() -> None:
    model = inferred("g (float[N,3] x) => (float[A,B] y) { y = Relu(x) }")
    node = ir.Node("", "Transpose", [model.graph.inputs[0]])
    shapes.infer_node(node)
    assert (str(node.outputs[0].shape), node.outputs[0].dtype) == ("[3,N]", ir.DataType.FLOAT)
    unknown = ir.Node("", "NonZero", [model.graph.inputs[0]])
    shapes.infer_node(unknown)
    assert shapes.is_ours((unknown.outputs[0].shape or ())[1])


def test_known_numbers_stop_at_what_the_type_can_hold() -> None:
    model = inferred(
        "g (float[N] x) => (int32[1] y) <int64[1] big = {3000000000}> { a = Cast<to=6>(big) s = Shape(x) c = Cast<to=6>(s) y = Add(a, c) b = Mul(c, c) }"
    )
    assert shapes.known_ints(value_of(model, "a")) is None
    assert [str(item) for item in shapes.known_ints(value_of(model, "b")) or ()] == ["N*N"]


def test_repeated_layers_are_asked_about_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal layers put the same few questions to ONNX, so the work grows with the nodes and no faster."""
    asked = []
    answer = StandardInference.outcomes
    monkeypatch.setattr(StandardInference, "outcomes", lambda self, node: asked.append(self) or answer(self, node))
    steps = "\n".join(f"v{i} = {('Relu', 'Neg', 'Exp')[i % 3]}({f'v{i - 1}' if i else 'x'})" for i in range(400))
    model = inferred(f"g (float[N,3] x) => (float[A,B] y) {{ {steps} y = Abs(v399) }}")
    assert shape_of(model, "y") == "[N,3]"
    assert len(asked) == 401 and len(asked[0].answers) == 4


CONTRIB: dict[str, tuple[str, str]] = {
    "BiasGelu": ("float[N,M,8] x, float[8] b", "com.microsoft.BiasGelu(x, b)"),
    "FastGelu": ("float[N,M,8] x, float[8] b", "com.microsoft.FastGelu(x, b)"),
    "QuickGelu": ("float[N,M,8] x", "com.microsoft.QuickGelu(x)"),
    "SkipLayerNormalization": ("float[N,M,8] x, float[N,M,8] s, float[8] g", "com.microsoft.SkipLayerNormalization(x, s, g)"),
    "FusedMatMul": ("float[N,8,M] x, float[N,K,8] z", "com.microsoft.FusedMatMul<transA=1, transB=1>(x, z)"),
    "FusedConv": ("float[N,3,M,K] x, float[4,3,3,3] w", 'com.microsoft.FusedConv<activation="Relu", pads=[1,1,1,1]>(x, w)'),
    "QLinearAdd": ("uint8[N,M] x, uint8[N,M] z, float s, uint8 p", "com.microsoft.QLinearAdd(x, s, p, z, s, p, s, p)"),
    "QLinearConcat": ("uint8[N,M] x, uint8[N,K] z, float s, uint8 p", "com.microsoft.QLinearConcat<axis=1>(s, p, x, s, p, z, s, p)"),
    "DynamicQuantizeMatMul": ("float[N,M,8] x, uint8[8,K] w, float s, uint8 p", "com.microsoft.DynamicQuantizeMatMul(x, w, s, p)"),
    "MultiHeadAttention": ("float[N,M,8] q, float[N,K,8] k, float[N,K,8] v", "com.microsoft.MultiHeadAttention<num_heads=2>(q, k, v)"),
    "Attention": ("float[N,M,8] x, float[8,24] w, float[24] b", "com.microsoft.Attention<num_heads=2>(x, w, b)"),
}


@pytest.mark.parametrize("name", CONTRIB)
def test_operators_of_onnx_runtime_are_known(name: str) -> None:
    inputs, call = CONTRIB[name]
    model = inferred(f"g ({inputs}) => (float y) {{ y = {call} }}")
    made = value_of(model, "y")
    assert made.shape is not None and not any(map(shapes.is_ours, made.shape))
    model.graph.outputs[0].type = made.type
    for sizes in ({"N": 2, "M": 5, "K": 4}, {"N": 1, "M": 3, "K": 3}):
        feeds = feeds_for(model, sizes)
        assert_shapes_hold(model, {key: np.ones_like(array) if array.ndim == 0 else array for key, array in feeds.items()})


@pytest.mark.parametrize(("name", "exporter"), [("bert", "dynamo"), ("bert", "torchscript"), ("gpt2", "dynamo"), ("llama", "dynamo")])
def test_exported_transformers_have_the_shapes_inferred(name: str, exporter: str, tmp_path: Path) -> None:
    _assert_export_holds(name, exporter, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "exporter"), [(tiny.name, exporter) for tiny in FAMILIES for exporter in tiny.exporters])
def test_every_exported_family_has_the_shapes_inferred(name: str, exporter: str, tmp_path: Path) -> None:
    _assert_export_holds(name, exporter, tmp_path)


def _assert_export_holds(name: str, exporter: str, folder: Path) -> None:
    tiny = find_tiny(name)
    model = ir.load(tiny.export(folder, exporter, optimize=False))  # type: ignore[arg-type]
    bind_opsets(model)
    shapes.infer_shapes(model)
    (output,) = model.graph.outputs
    assert not any(map(shapes.is_ours, output.shape or ()))
    wanted = {value.name for value in model.graph.inputs}
    for feeds in tiny.feeds(4):
        assert_shapes_hold(model, {key: array for key, array in feeds.items() if key in wanted})


@pytest.mark.shared
def test_the_real_models_have_the_shapes_inferred(shared: Path, subtests: Callable[..., object]) -> None:
    for path in sorted((shared / "models").glob("*.onnx")):
        model = ir.load(path)
        bind_opsets(model)
        shapes.infer_shapes(model)
        sizes = {"height": 65, "width": 48, "batch": 2}
        if path.stem == "silero_vad":
            feeds = {"input": np.zeros((1, 512), np.float32), "state": np.zeros((2, 1, 128), np.float32), "sr": np.array(16000)}
        else:
            feeds = feeds_for(model, sizes)
        with subtests.test(path.stem):
            assert_shapes_hold(model, feeds)
