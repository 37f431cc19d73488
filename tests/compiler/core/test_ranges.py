"""Bounds are never smaller than what a run shows, and nothing is claimed of what a caller feeds."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from graphwright.compiler.core.graph import bind_opsets
from graphwright.compiler.core.ranges import Ranges
from graphwright.compiler.core.shapes import infer_shapes

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'
TABLE = "float[4,2] t = {-3, 1, 2, 5, -7, 0.5, 4, 4}"
BOUNDED = {
    "gather": "y = Gather(t, i)",
    "sum": "a = Gather(t, i) b = Neg(a) y = Sub(a, b)",
    "product": "a = Gather(t, i) y = Mul(a, a)",
    "quotient": "a = Gather(t, i) y = Div(a, d)",
    "softmax": "a = Gather(t, i) y = Softmax(a)",
    "gelu": "a = Gather(t, i) y = Gelu(a)",
    "clip": "a = Gather(t, i) y = Clip(a, lo)",
    "leaky": "a = Gather(t, i) y = LeakyRelu<alpha=3.0>(a)",
    "matmul": "a = Gather(t, i) y = MatMul(a, w)",
    "gemm": "a = Gather(t, i) y = Gemm<alpha=2.0, beta=-3.0, transB=1>(a, w, s)",
    "norm": "a = Gather(t, i) y = LayerNormalization(a, s, s)",
    "attention": "a = Gather(t, i) b = Transpose(a) c = MatMul(a, b) p = Softmax(c) y = MatMul(p, a)",
    "cast": "y = Cast<to=1>(i)",
    "where": "a = Gather(t, i) c = Cast<to=9>(i) u = Unsqueeze(c, one) y = Where(u, a, lo)",
    "concat": "a = Gather(t, i) b = Mul(a, a) y = Concat<axis=0>(a, b)",
    "pad": "a = Gather(t, i) y = Pad(a, pads, nine)",
}
CONSTANTS = (
    f"{TABLE}, float[2] d = {{0.5, -2}}, float lo = {{-2}}, float[2,2] w = {{1,-2,3,4}}, float[2] s = {{2,-3}}, int64[1] one = {{1}},"
    " int64[4] pads = {0,0,0,1}, float nine = {9}"
)


def model_of(body: str, inputs: str = "int64[3] i", constants: str = CONSTANTS) -> ir.Model:
    model = ir.from_onnx_text(f"{HEADER}g ({inputs}) => (float y) <{constants}> {{ {body} }}")
    model.graph.outputs[0].shape = None
    bind_opsets(model)
    infer_shapes(model)
    return model


@pytest.mark.parametrize("body", BOUNDED.values(), ids=BOUNDED)
def test_a_run_stays_within_the_bound(body: str) -> None:
    model = model_of(body)
    bound = Ranges().bound(model.graph.outputs[0])
    assert bound is not None
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString())
    for tokens in ([0, 1, 2], [3, 3, 3], [2, 0, 2]):
        largest = np.abs(session.run(None, {"i": np.array(tokens)})[0]).max()
        assert largest <= bound


@pytest.mark.parametrize(
    "body",
    ["y = Relu(x)", "y = Softmax(x)", "y = Clip(x, lo)", "y = LayerNormalization(x, s, s)", "y = Exp(x)", "a = Gather(t, i) y = Div(a, z)"],
)
def test_nothing_is_claimed_without_proof(body: str) -> None:
    model = model_of(body, "int64[3] i, float[3,2] x", f"{CONSTANTS}, float z = {{0}}")
    assert Ranges().bound(model.graph.outputs[0]) is None


def test_a_sum_that_overflows_has_no_bound_but_one_that_rounds_back_has() -> None:
    low = "float low = {-3.4028235e38}"
    assert Ranges().bound(model_of("a = Gather(t, i) y = Add(a, low)", constants=f"{TABLE}, {low}").graph.outputs[0]) == float(np.finfo(np.float32).max)
    assert Ranges().bound(model_of("y = Add(low, low)", constants=f"{TABLE}, {low}").graph.outputs[0]) is None


def test_half_precision_overflows_earlier() -> None:
    assert Ranges().bound(model_of("a = Cast<to=10>(i) y = Cast<to=1>(a)").graph.outputs[0]) is None


SPECIAL = np.array([0.0, -0.0, 0.3, -0.7, 2.5, -2.5, 40.0, -90.0, 1e-40, 3e38, np.inf, -np.inf, np.nan], dtype=np.float32)
UNARY = (
    "Abs", "Neg", "Relu", "Floor", "Ceil", "Round", "Sign", "Sigmoid", "Tanh", "Erf", "Sin", "Cos", "Atan", "Exp", "Log", "Sqrt", "Softplus", "Softsign",
    "Sinh", "Asinh", "Reciprocal", "LeakyRelu", "Gelu", "HardSwish", "Mish", "HardSigmoid", "ThresholdedRelu", "ReduceMax", "ReduceMin", "ReduceMean",
    "ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare",
)  # fmt: skip
LIMITS = [(-np.inf, np.inf), (0.0, np.inf), (-3.0, 2.0), (0.5, 60.0), (-np.inf, -0.25)]


def assert_holds(model: ir.Model, feeds: dict[str, np.ndarray]) -> None:
    """Every element of the output lies where the analysis says."""
    found = Ranges().interval(model.graph.outputs[0])
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    made = session.run(None, feeds)[0]
    real = made[~np.isnan(made)]
    assert found.nan or real.size == made.size
    assert ((real >= found.low) & (real <= found.high)).all(), (found, made)


@pytest.mark.parametrize("low,high", LIMITS)
@pytest.mark.parametrize("kind", UNARY)
def test_every_element_lies_in_the_interval(kind: str, low: float, high: float) -> None:
    """With and without NaN in what is clipped; the clipped value's own interval is what the operator is told."""
    body = f"a = Clip(x, lo, hi) y = {kind}(a)"
    constants = f"float lo = {{{max(low, -3.4e38)}}}, float hi = {{{min(high, 3.4e38)}}}"
    model = model_of(body, "float[13] x", constants)
    assert_holds(model, {"x": SPECIAL})
    assert_holds(model, {"x": np.nan_to_num(SPECIAL)})


@pytest.mark.parametrize("low,high", LIMITS)
@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "Mean"])
def test_every_combination_lies_in_the_interval(kind: str, low: float, high: float) -> None:
    constants = f"float lo = {{{max(low, -3.4e38)}}}, float hi = {{{min(high, 3.4e38)}}}, float two = {{2}}"
    for other in ("x", "a", "b", "s", "two"):
        body = f"a = Clip(x, lo, hi) b = Sigmoid(z) s = Mul(z, z) y = {kind}(a, {other})"
        model = model_of(body, "float[13,1] x, float[13] z", constants)
        assert_holds(model, {"x": SPECIAL[:, None], "z": SPECIAL})


SIGNS = {
    "a variance": ("d = Sub(x, x) s = Mul(d, d) v = ReduceMean(s, one) y = Add(v, eps)", "is_positive"),
    "a root of a variance": ("s = Pow(x, two) v = ReduceMean(s, one) e = Add(v, eps) y = Sqrt(e)", "is_nonzero"),
    "a sum of exponentials": ("e = Exp(x) y = ReduceSum(e, one)", "is_nonnegative"),
    "a probability": ("y = Softmax(x)", "is_nonnegative"),
    "a padded product": ("s = Mul(x, x) y = Pad(s, pads)", "is_nonnegative"),
    "an 8-bit activation": ("q = Cast<to=2>(i) y = DequantizeLinear(q, eps)", "is_nonnegative"),
}


@pytest.mark.parametrize(("body", "claim"), SIGNS.values(), ids=SIGNS)
def test_signs_are_proven(body: str, claim: str) -> None:
    constants = "int64[1] one = {1}, float eps = {0.00001}, float two = {2}, int64[4] pads = {0,0,0,1}"
    model = model_of(body, "float[2,3] x, int64[2] i", constants)
    assert getattr(Ranges(), claim)(model.graph.outputs[0])


@pytest.mark.parametrize(
    ("body", "claim"),
    [
        ("y = Div(one, p)", "is_nonnegative"),
        ("y = Exp(x)", "is_positive"),
        ("s = Mul(x, z) y = Identity(s)", "is_nonnegative"),
        ("s = Mul(p, p) y = Sub(s, one)", "is_nonnegative"),
        ("s = Mul(p, p) y = Pad(s, pads, minus)", "is_nonnegative"),
        ("y = Pow(x, z)", "is_nonnegative"),
        ("y = ReduceMean(p, axis)", "is_number"),
        ("y = Softmax(x)", "is_number"),
        ("y = Max(x, p)", "is_number"),
    ],
)
def test_no_sign_is_claimed_without_proof(body: str, claim: str) -> None:
    """1 / -0 is -inf, exp(-200) is 0, and the mean of nothing is NaN."""
    constants = "float one = {1}, float minus = {-1}, int64[4] pads = {0,0,0,1}, int64[1] axis = {1}"
    model = model_of(f"p = Relu(x) {body}" if claim != "is_number" else f"p = Sigmoid(k) {body}", "float[2,N] x, float[2,N] z, float[2,N] k", constants)
    assert not getattr(Ranges(), claim)(model.graph.outputs[0])


def test_a_deep_graph_needs_no_recursion() -> None:
    body = " ".join(["v0 = Gather(t, i)", *(f"v{step + 1} = Relu(v{step})" for step in range(5000)), "y = Neg(v5000)"])
    assert Ranges().bound(model_of(body).graph.outputs[0]) == 5.0
