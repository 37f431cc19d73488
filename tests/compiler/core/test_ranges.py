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
    ["y = Relu(x)", "y = Softmax(x)", "y = Clip(x, lo)", "y = LayerNormalization(x, s, s)", "a = Gather(t, i) y = Exp(a)", "a = Gather(t, i) y = Div(a, z)"],
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


def test_a_deep_graph_needs_no_recursion() -> None:
    body = " ".join(["v0 = Gather(t, i)", *(f"v{step + 1} = Relu(v{step})" for step in range(5000)), "y = Neg(v5000)"])
    assert Ranges().bound(model_of(body).graph.outputs[0]) == 7.0
