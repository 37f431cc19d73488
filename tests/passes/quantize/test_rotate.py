"""Streams are found from norms and turned into another basis, and the model computes the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.calibration.engine import Engine
from graphwright.compiler.calibration.opening import open_calibration
from graphwright.compiler.core.drift import Drift
from graphwright.compiler.core.errors import InputError, UsageError
from graphwright.compiler.core.graph import bind_opsets, clone_model
from graphwright.compiler.core.ledger import Ledger
from graphwright.compiler.core.passes import Context
from graphwright.compiler.core.reasons import Reasons
from graphwright.compiler.core.shapes import settle_shapes
from graphwright.passes.quantize.quarot import kurtosis
from graphwright.passes.quantize.residual_stream import Stream, head_streams, residual_streams
from graphwright.passes.quantize.rotate import Rotate

Run = Callable[..., dict[str, np.ndarray]]
WIDTH, INNER, TOKENS = 8, 12, 11
EMBED = "h0 = Gather(table, x)"
BLOCK = "n0 = RMSNormalization<axis=-1>(h0, g0) a0 = MatMul(n0, up) b0 = Relu(a0) c0 = MatMul(b0, down) h1 = Add(h0, c0)"
HEAD = "n1 = RMSNormalization<axis=-1>(h1, g1) y = MatMul(n1, head)"
RMS = f"{EMBED} {BLOCK} {HEAD}"
LAYER = (
    f"{EMBED} p0 = Add(h0, place) n0 = LayerNormalization<axis=-1>(p0, g0, z0) a0 = MatMul(n0, up) a1 = Add(a0, ub) b0 = Relu(a1) c0 = MatMul(b0, down)"
    " c1 = Add(c0, db) h1 = Add(c1, p0) n1 = LayerNormalization<axis=-1>(h1, g1, z1) y = MatMul(n1, head)"
)
ATTENTION = (
    "n0 = RMSNormalization<axis=-1>(h0, g0) q = MatMul(n0, wq) k = MatMul(n0, wk) v = MatMul(n0, wv) v1 = Add(v, vb)"
    " q4 = Reshape(q, split) k4 = Reshape(k, split) v4 = Reshape(v1, split) qt = Transpose<perm=[0,2,1,3]>(q4) kt = Transpose<perm=[0,2,3,1]>(k4)"
    " vt = Transpose<perm=[0,2,1,3]>(v4) s = MatMul(qt, kt) w = Softmax(s) o = MatMul(w, vt) ot = Transpose<perm=[0,2,1,3]>(o) o3 = Reshape(ot, join)"
    " c0 = MatMul(o3, wo) h1 = Add(h0, c0)"
)
DRAWN = {
    "table": (TOKENS, WIDTH), "up": (WIDTH, INNER), "down": (INNER, WIDTH), "head": (WIDTH, 5), "g0": (WIDTH,), "g1": (WIDTH,), "z0": (WIDTH,), "z1": (WIDTH,),
    "ub": (INNER,), "db": (WIDTH,), "place": (4, WIDTH), "wq": (WIDTH, WIDTH), "wk": (WIDTH, WIDTH), "wv": (WIDTH, WIDTH), "wo": (WIDTH, WIDTH), "vb": (WIDTH,),
    "start": (1, 1, WIDTH), "one": (1,), "gate": (WIDTH,),
}  # fmt: skip


def read(body: str, outputs: str = "float[N,4,5] y", inputs: str = "int64[N,4] x") -> ir.Model:
    """A model from ONNX text, with random constants of the shapes above, an outlier in every embedding."""
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 23]> m ({inputs}) => ({outputs}) {{ {body} }}')
    rng = np.random.default_rng(0)
    contents: dict[str, np.ndarray] = {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in DRAWN.items()}
    contents["table"][:, 2] *= 30
    contents |= {"split": np.array([0, 0, 2, 4]), "join": np.array([0, 0, WIDTH]), "axes": np.array([1])}
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(content, name) for name, content in contents.items() if name in used)
    found = ir.from_proto(model)
    bind_opsets(found)
    settle_shapes(found)
    return found


def turned(model: ir.Model, step: Rotate | None = None, ledger: Ledger | None = None) -> tuple[ir.Model, int, list[str]]:
    copy, reasons = clone_model(model), Reasons()
    count = (step or Rotate()).run(copy, Context(reasons=reasons, ledger=ledger or Ledger()))
    onnx.checker.check_model(ir.to_proto(copy), full_check=True)
    return copy, count, [miss.reason for miss in reasons.misses]


def feeds(seed: int = 1) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).integers(0, TOKENS, (3, 4))}


def expect_same(before: ir.Model, after: ir.Model, run_onnx: Run) -> None:
    old, new = run_onnx(before, feeds()), run_onnx(after, feeds())
    assert old.keys() == new.keys()
    for name, expected in old.items():
        np.testing.assert_allclose(new[name], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def values_of(model: ir.Model, name: str, run_onnx: Run) -> np.ndarray:
    copy = clone_model(model)
    value = next(output for node in copy.graph for output in node.outputs if output.name == name)
    copy.graph.outputs.append(value)
    return run_onnx(copy, feeds())[name]


@pytest.mark.parametrize("body", [RMS, LAYER, f"{EMBED} {ATTENTION} {HEAD}"])
def test_a_stream_is_turned_and_the_model_computes_the_same(body: str, run_onnx: Run) -> None:
    model = read(body)
    after, count, reasons = turned(model)
    assert count >= 1 and not reasons
    expect_same(model, after, run_onnx)
    assert not np.allclose(after.graph.initializers[next(name for name in after.graph.initializers if "table" in name)].const_value.numpy()[:, 2], 0)


@pytest.mark.parametrize(("body", "share"), [(RMS, 0.2), (LAYER, 0.5)])
def test_outliers_of_the_stream_are_spread_over_all_channels(body: str, share: float, run_onnx: Run) -> None:
    model = read(body)
    after, _, _ = turned(model)
    assert kurtosis(values_of(after, "h0", run_onnx)) < share * kurtosis(values_of(model, "h0", run_onnx))


def test_no_operator_comes_or_goes_where_every_product_has_a_bias_or_the_norm_none() -> None:
    for body in (RMS, LAYER.replace("y = MatMul(n1, head)", "y0 = MatMul(n1, head) y = Add(y0, one)")):
        model = read(body)
        after, _, _ = turned(model)
        assert [node.op_type for node in after.graph] == [node.op_type for node in model.graph]


def test_a_product_without_bias_gets_one_where_the_norm_before_shifts(run_onnx: Run) -> None:
    body = LAYER.replace("y = MatMul(n1, head)", "y0 = MatMul(n1, head) y = Relu(y0)")
    model = read(body)
    after, count, _ = turned(model)
    assert count == 1 and len(list(after.graph)) == len(list(model.graph)) + 1
    expect_same(model, after, run_onnx)


def test_an_output_that_needs_a_bias_keeps_its_name(run_onnx: Run) -> None:
    model = read(LAYER.replace("a1 = Add(a0, ub) b0 = Relu(a1)", "b0 = Relu(a0)"), outputs="float[N,4,5] y, float[N,4,12] a0")
    after, count, _ = turned(model)
    assert count == 1 and len(list(after.graph)) == len(list(model.graph)) + 2
    expect_same(model, after, run_onnx)


def test_tied_embeddings_are_untied(run_onnx: Run) -> None:
    body = f"{EMBED} {BLOCK} n1 = RMSNormalization<axis=-1>(h1, g1) t = Transpose<perm=[1,0]>(table) y = MatMul(n1, t)"
    model = read(body, outputs=f"float[N,4,{TOKENS}] y")
    after, count, _ = turned(model)
    assert count == 1
    shapes = [tuple(value.const_value.shape.numpy()) for value in after.graph.initializers.values()]
    assert (WIDTH, TOKENS) in shapes and (TOKENS, WIDTH) in shapes
    expect_same(model, after, run_onnx)


def test_a_norm_that_two_products_read_gives_its_scale_to_both(run_onnx: Run) -> None:
    body = RMS.replace("b0 = Relu(a0)", "m0 = MatMul(n0, up) m1 = Sigmoid(m0) b0 = Mul(a0, m1)")
    model = read(body)
    after, count, _ = turned(model)
    assert count == 1
    expect_same(model, after, run_onnx)


def test_constants_that_join_the_stream_are_turned_with_it(run_onnx: Run) -> None:
    body = f"{EMBED} e0 = Gather<axis=1>(h0, axes) hm = Add(h0, one) hc = Concat<axis=1>(e0, hm) p = Add(hc, start) {BLOCK.replace('h0', 'p')} {HEAD}"
    model = read(body, outputs="float[N,5,5] y")
    after, count, reasons = turned(model)
    assert count == 1, reasons
    expect_same(model, after, run_onnx)


@pytest.mark.parametrize(
    ("body", "outputs", "reason"),
    [
        (RMS, "float[N,4,5] y, float[N,4,8] n0", "'n0' is an output of the model"),
        (RMS, "float[N,4,5] y, float[N,4,8] h1", "'h1' is an output of the model"),
        (RMS.replace(EMBED, f"{EMBED.replace('h0', 'e')} h0 = Relu(e)"), "float[N,4,5] y", "does not commute with a change of basis"),
        (RMS.replace(EMBED, f"{EMBED.replace('h0', 'e')} h0 = Mul(e, gate)"), "float[N,4,5] y", "scales the channels apart"),
        (RMS.replace("h1 = Add(h0, c0)", "h1 = Add(n0, c0)"), "float[N,4,5] y", "adds something to the result of a norm"),
    ],
)
def test_what_does_not_commute_is_left_with_a_reason(body: str, outputs: str, reason: str, run_onnx: Run) -> None:
    model = read(body, outputs=outputs)
    after, count, reasons = turned(model)
    assert count == 0 and any(reason in found for found in reasons)
    expect_same(model, after, run_onnx)


def test_the_stream_from_an_input_of_the_model_is_left() -> None:
    model = read(f"{BLOCK} {HEAD}", inputs="float[N,4,8] h0")
    assert turned(model)[1:] == (0, ["'h0' is an input of the model"] * 2)


def test_the_values_of_all_heads_are_turned_alike(run_onnx: Run) -> None:
    model = read(f"{EMBED} {ATTENTION} {HEAD}")
    found = list(head_streams(model))
    assert [(stream.width, len(stream.writers), len(stream.readers)) for stream in found] == [(4, 2, 1)]
    whole, heads = turned(model)[1], turned(model, Rotate(heads=False))[1]
    assert (whole, heads) == (2, 1)


def test_a_stream_says_what_makes_and_what_reads_it() -> None:
    (stream,) = residual_streams(read(LAYER))
    assert isinstance(stream, Stream)
    named = lambda edges: sorted(str(edge.node.inputs[edge.index].name) for edge in edges)  # noqa: E731
    assert (named(stream.writers), named(stream.readers)) == (["db", "down", "place", "table"], ["head", "up"])
    assert stream.width == WIDTH and stream.centred and len(stream.norms) == 2


@pytest.mark.parametrize("body", [RMS, LAYER])
def test_a_learned_rotation_computes_the_same_too(body: str, run_onnx: Run) -> None:
    pytest.importorskip("torch")
    model = read(body)
    copy = clone_model(model)
    data = open_calibration([feeds(seed) for seed in range(4)], model)
    assert Rotate(method="spinquant", steps=5).run(copy, Context(calibrator=Engine(data, OrtBackend()))) == 1
    expect_same(model, copy, run_onnx)


def test_learning_a_rotation_needs_calibration_data() -> None:
    with pytest.raises(InputError, match="calibration"):
        Rotate(method="spinquant").run(read(RMS), Context())


def test_one_seed_gives_one_basis_and_another_seed_another() -> None:
    model = read(RMS)
    found = [turned(model, Rotate(seed=seed))[0].graph.initializers for seed in (0, 0, 1)]
    tables = [next(value.const_value.numpy() for name, value in made.items() if "table" in name) for made in found]
    assert np.array_equal(tables[0], tables[1]) and not np.allclose(tables[0], tables[2])


def test_what_the_ledger_denies_stays() -> None:
    model = read(RMS)
    after, count, _ = turned(model, ledger=Ledger(denied=frozenset({("rotate", "h0")})))
    assert count == 0 and set(after.graph.initializers) == set(model.graph.initializers)


def test_a_weight_of_nan_leaves_the_stream_as_it_is() -> None:
    model = read(RMS)
    content = model.graph.initializers["up"].const_value.numpy().copy()
    content[0, 0] = np.nan
    model.graph.initializers["up"].const_value = ir.tensor(content)
    _, count, reasons = turned(model)
    assert count == 0 and reasons == ["'up' would overflow, or lose digits"]


def test_rotation_promises_rounding_and_refuses_methods_that_are_none() -> None:
    assert Rotate.drift is Drift.ROUNDING
    with pytest.raises(UsageError, match="there is no rotation 'awq'"):
        Rotate(method="awq").run(read(RMS), Context())


def test_a_real_decoder_is_turned_and_computes_the_same(shared: Path, run_onnx: Run) -> None:
    from graphwright.compiler.core.passes import parse_pipeline
    from graphwright.compiler.importer import import_model
    from graphwright.compiler.pipeline import CONTROLLED, PLAINER

    model = import_model(str(shared / "models/llama_260k.onnx")).model
    for step in parse_pipeline(f"{CONTROLLED},{PLAINER}"):
        step.run(model, Context())
    ids = {"ids": np.load(shared / "models/llama_260k_samples.npy").astype(np.int64)[:2, :40]}
    after, count, reasons = turned(model)
    assert count == 5 and not reasons
    np.testing.assert_allclose(run_onnx(after, ids)["logits"], run_onnx(model, ids)["logits"], rtol=1e-4, atol=1e-4)
