"""Products of matrices with the bias and the activation after them."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import producer
from ...compiler.core.pattern import ANY, Const, Pen
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from .conv import activation_params

MICROSOFT = "com.microsoft"
FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE)
ROWS = "g (float[N,2] x) => (float[N,3] y) <float[2,3] w = {1,2,3,4,5,6}, float[3] b = {1,2,3}"


def biased(op: Pen, x: object, w: object, b: Const) -> object:
    return op.Add(op.MatMul(x, w), b)


@rule(
    biased,
    drift=ROUNDING,
    opset=11,
    examples=[
        f"{ROWS}> {{ c = MatMul(x, w) y = Add(b, c) }}",
        "g (float[N,2] x, float[2,3] z) => (float[N,3] y) <float[1,1] b = {5}> { c = MatMul(x, z) y = Add(c, b) }",
    ],
    leaves=[
        "g (float[N,1,2] x) => (float[N,1,3] y) <float[2,3] w = {1,2,3,4,5,6}, float[3] b = {1,2,3}> { c = MatMul(x, w) y = Add(b, c) }",
        "g (float[N,2] x) => (float[N,3] y) <float[2,1] w = {1,2}, float[3] b = {1,2,3}> { c = MatMul(x, w) y = Add(b, c) }",
        "g (float[N,2] x) => (float[1,N,3] y) <float[2,3] w = {1,2,3,4,5,6}, float[1,1,3] b = {1,2,3}> { c = MatMul(x, w) y = Add(b, c) }",
        "g (float16[N,2] x) => (float16[N,3] y) <float16[2,3] w = {1,2,3,4,5,6}, float16[3] b = {1,2,3}> { c = MatMul(x, w) y = Add(b, c) }",
    ],
)
def fuse_gemm(op: Build, m: Match) -> Result:
    """x @ w + b -> Gemm(x, w, b) for matrices"""
    if m.x.dtype not in FLOATS:
        return skip("the kernel was not measured for %s", m.x.dtype)
    if any(value.shape is None or len(value.shape) != 2 for value in (m.x, m.w)):
        return skip("the operands have shapes %s and %s", m.x.shape, m.w.shape)
    if any(producer(value, "DequantizeLinear") is not None for value in (m.x, m.w)):
        return skip("the MatMul is quantised: the runtime turns it into an integer one")
    width = m.w.shape[1]  # type: ignore[index]
    shape = m.b.shape
    if shape is None or len(shape) > 2 or shape[-1:] not in ((width,), (1,), ()) or (len(shape) == 2 and shape[0] != 1):
        return skip("the bias has shape %s, the product %s columns", shape, width)
    return op.Gemm(m.x, m.w, m.b)


def activated(op: Pen, a: object, b: object, c: object = None) -> object:
    return op.any("Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid")(op.Gemm(a, b, c, _attrs=ANY, _name="gemm"), _attrs=ANY)


@rule(
    activated,
    drift=ROUNDING,
    opset=11,
    kernels=("com.microsoft::FusedGemm",),
    examples=[
        f"{ROWS}> {{ c = Gemm(x, w, b) y = Relu(c) }}",
        f"{ROWS}> {{ c = Gemm<alpha=0.5>(x, w) y = LeakyRelu<alpha=0.2>(c) }}",
        "g (float[N,2] x, float[3,2] w) => (float[N,3] y) { c = Gemm<transB=1>(x, w) y = HardSigmoid<alpha=0.3, beta=0.4>(c) }",
    ],
    leaves=[
        f"{ROWS}> {{ c = Gemm(x, w, b) y = Elu(c) }}",
        "g (float[N,2] x, float[2,3] w) => (float[N,3] y, float[N,3] c) { c = Gemm(x, w) y = Relu(c) }",
        "g (double[N,2] x, double[2,3] w) => (double[N,3] y) { c = Gemm(x, w) y = Relu(c) }",
    ],
)
def fuse_gemm_activation(op: Build, m: Match) -> Result:
    """f(Gemm(a, b, c)) -> FusedGemm(a, b, c, activation=f)"""
    if m.a.dtype != ir.DataType.FLOAT:
        return skip("the kernel takes float, not %s", m.a.dtype)
    params = activation_params(m.root)
    if isinstance(params, Skip):
        return params
    names = ("activation_alpha", "activation_beta")
    extra = dict(zip(names, params or (), strict=False))
    attributes: dict[str, object] = {**m.node("gemm").attributes, "activation": m.root.op_type, **extra}
    return op.node("FusedGemm", (m.a, m.b, m.c), attributes, MICROSOFT).outputs[0]
