"""Conv together with the residual addition and the activation after it."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import same_shape
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import attribute, producer, scalar
from ...compiler.core.pattern import ANY, Const, Pen
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule

MICROSOFT = "com.microsoft"
KERNEL = "com.microsoft::FusedConv"
ON_CUDA = ("Relu",)
"""What cuDNN applies within a convolution, as ONNX Runtime calls it."""
CONV = "g (float[N,1,3,3] x) => (float[N,2,3,3] y) <float[2,1,1,1] w = {2,-3}, float[2] b = {1,2}"


def activated(op: Pen, x: object, w: object, b: object = None) -> object:
    return op.any("Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid")(op.Conv(x, w, b, _attrs=ANY, _name="conv"), _attrs=ANY)


def clipped(op: Pen, x: object, w: object, low: Const, high: Const, b: object = None) -> object:
    return op.Clip(op.Conv(x, w, b, _attrs=ANY, _name="conv"), low, high)


@rule(
    activated,
    clipped,
    drift=ROUNDING,
    opset=11,
    kernels=(KERNEL,),
    examples=[
        f"{CONV}> {{ c = Conv(x, w, b) y = Relu(c) }}",
        f"{CONV}> {{ c = Conv(x, w) y = LeakyRelu<alpha=0.1>(c) }}",
        f"{CONV}, float lo = {{0}}, float hi = {{6}}> {{ c = Conv(x, w, b) y = Clip(c, lo, hi) }}",
    ],
    leaves=[
        "g (float16[N,1,3,3] x, float16[2,1,1,1] w) => (float16[N,2,3,3] y) { c = Conv(x, w) y = Relu(c) }",
        f"{CONV}, float lo = {{3}}, float hi = {{1}}> {{ c = Conv(x, w, b) y = Clip(c, lo, hi) }}",
        "g (uint8[N,1,3,3] q, uint8[2,1,1,1] v, float s) => (float[N,2,3,3] y)"
        " { x = DequantizeLinear(q, s) w = DequantizeLinear(v, s) c = Conv(x, w) y = Relu(c) }",
    ],
)
def fuse_conv_activation(op: Build, m: Match) -> Result:
    """f(Conv(x, w, b)) -> FusedConv(x, w, b, activation=f)"""
    if m.x.dtype != ir.DataType.FLOAT:
        return skip("the kernel takes float, not %s", m.x.dtype)
    if _is_quantised(m.node("conv")):
        return skip("the Conv is quantised: the runtime turns it into an integer one")
    params = _params(m)
    return params if isinstance(params, Skip) else _fused(op, m.node("conv"), (m.x, m.w, m.b), m.root.op_type, params)


def added(op: Pen, x: object, w: object, z: object, b: object = None) -> object:
    return op.Add(op.Conv(x, w, b, _attrs=ANY, _name="conv"), z)


@rule(
    added,
    drift=ROUNDING,
    opset=11,
    kernels=(KERNEL,),
    examples=["g (float[N,1,3,3] x, float[N,2,3,3] z) => (float[N,2,3,3] y) <float[2,1,1,1] w = {2,-3}> { c = Conv(x, w) y = Add(z, c) }"],
    leaves=["g (float[N,1,3,3] x, float[N,2,1,1] z) => (float[N,2,3,3] y) <float[2,1,1,1] w = {2,-3}> { c = Conv(x, w) y = Add(z, c) }"],
)
def fuse_conv_sum(op: Build, m: Match) -> Result:
    """Conv(x, w, b) + z -> FusedConv(x, w, b, z) for z of the result's shape"""
    if m.x.dtype != ir.DataType.FLOAT:
        return skip("the kernel takes float, not %s", m.x.dtype)
    if _is_quantised(m.node("conv")):
        return skip("the Conv is quantised: the runtime turns it into an integer one")
    if not same_shape(m.z.shape, m.node("conv").outputs[0].shape):
        return skip("'%s' has shape %s, the Conv makes %s", m.z.name, m.z.shape, m.node("conv").outputs[0].shape)
    return _fused(op, m.node("conv"), (m.x, m.w, m.b, m.z), None, None)


def sum_activated(op: Pen, x: object, w: object, z: object, b: object = None) -> object:
    fused = op.FusedConv(x, w, b, z, _attrs=ANY, _name="conv", _domain=MICROSOFT)
    return op.any("Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid")(fused, _attrs=ANY)


def sum_clipped(op: Pen, x: object, w: object, z: object, low: Const, high: Const, b: object = None) -> object:
    return op.Clip(op.FusedConv(x, w, b, z, _attrs=ANY, _name="conv", _domain=MICROSOFT), low, high)


@rule(
    sum_activated,
    sum_clipped,
    drift=ROUNDING,
    opset=11,
    kernels=(KERNEL,),
    examples=[
        "g (float[N,1,3,3] x, float[N,2,3,3] z) => (float[N,2,3,3] y) <float[2,1,1,1] w = {2,-3}>"
        " { c = com.microsoft.FusedConv(x, w, , z) y = Relu(c) }"
    ],
)
def fuse_conv_sum_activation(op: Build, m: Match) -> Result:
    """f(FusedConv(x, w, b, z)) -> FusedConv(x, w, b, z, activation=f)"""
    conv = m.node("conv")
    if "activation" in conv.attributes:
        return skip("it has the activation %s already", attribute(conv, "activation"))
    params = _params(m)
    return params if isinstance(params, Skip) else _fused(op, conv, (m.x, m.w, m.b, m.z), m.root.op_type, params)


def _params(m: Match) -> list[float] | None | Skip:
    """As `activation_params`, where the target's kernel knows the activation."""
    if m.target.device == "cuda" and m.root.op_type not in ON_CUDA:
        return skip("the kernel of a GPU knows no %s", m.root.op_type)
    return activation_params(m.root)


def _is_quantised(conv: ir.Node) -> bool:
    """Whether the runtime will make an integer Conv of it and its neighbours, which a FusedConv in between would prevent."""
    return all(producer(value, "DequantizeLinear") is not None for value in conv.inputs[:2])


def _fused(op: Build, conv: ir.Node, inputs: tuple[ir.Value | None, ...], activation: str | None, params: list[float] | None) -> ir.Value:
    attributes: dict[str, object] = {**conv.attributes, "activation": activation, "activation_params": params}
    return op.node("FusedConv", inputs, attributes, MICROSOFT).outputs[0]


def activation_params(node: ir.Node) -> list[float] | None | Skip:
    """What a fused kernel needs to know of an activation: [min, max], [alpha], [alpha, beta] or nothing."""
    if node.op_type == "Clip":
        low, high = scalar(node.inputs[1]), scalar(node.inputs[2])
        if low is None or high is None or not low <= high:
            return skip("its bounds are %s and %s", low, high)
        return [float(low), float(high)]
    if node.op_type == "LeakyRelu":
        return [float(attribute(node, "alpha", 0.01))]  # type: ignore[arg-type]
    if node.op_type == "HardSigmoid":
        return [float(attribute(node, "alpha", 0.2)), float(attribute(node, "beta", 0.5))]  # type: ignore[arg-type]
    return None
