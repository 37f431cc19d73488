"""Layer normalisation together with the residual addition before it."""

from __future__ import annotations

from ...compiler.core.build import Build
from ...compiler.core.dims import same_shape
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import attribute
from ...compiler.core.pattern import ANY, Const, Pen
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from .skip_norm import epsilon_of, unfit

KERNEL = "com.microsoft::SkipLayerNormalization"
SLOW_ON = ("cpu",)
"""ONNX Runtime 1.32's CPU kernel takes 3.5 to 8 times as long as Add and LayerNormalization ([1,128,384]: 223 against 32 us)."""


def post_norm(op: Pen, x: object, residual: object, scale: object, shift: object = None) -> object:
    return op.LayerNormalization(op.Add(x, residual), scale, shift, _attrs=ANY, _name="norm")


def pre_norm(op: Pen, x: object, residual: object, scale: object, shift: object = None) -> object:
    total = op.Add(x, residual)
    return op.LayerNormalization(total, scale, shift, _attrs=ANY, _name="norm"), total


@rule(
    post_norm,
    drift=ROUNDING,
    opset=17,
    kernels=(KERNEL,),
    doubtful=SLOW_ON,
    measured=True,
    examples=[
        "g (float[N,3,2] x, float[N,3,2] r) => (float[N,3,2] y) <float[2] s = {1,2}, float[2] t = {1,2}> { a = Add(x, r) y = LayerNormalization(a, s, t) }",
    ],
    leaves=[
        "g (float[N,3,2] x, float[M,3,2] r) => (float[K,3,2] y) <float[2] s = {1,2}, float[2] t = {1,2}> { a = Add(x, r) y = LayerNormalization(a, s, t) }",
        "g (float[N,3,2] x, float[N,3,2] r) => (float[N,3,2] y) <float[3,2] s = {1,2,3,4,5,6}> { a = Add(x, r) y = LayerNormalization<axis=1>(a, s) }",
    ],
)
def fuse_skip_layer_norm(op: Build, m: Match) -> Result:
    """LayerNormalization(x + r, s, t) -> SkipLayerNormalization(x, r, s, t)"""
    refusal = unfit(m, KERNEL)
    return refusal if refusal else op.SkipLayerNormalization(m.x, m.residual, m.scale, m.shift, epsilon=epsilon_of(m), _domain="com.microsoft")


@rule(
    pre_norm,
    drift=ROUNDING,
    opset=17,
    kernels=(KERNEL,),
    doubtful=SLOW_ON,
    measured=True,
    examples=[
        "g (float[N,3,2] x, float[N,3,2] r) => (float[N,3,2] y, float[N,3,2] a) <float[2] s = {1,2}, float[2] t = {1,2}>"
        " { a = Add(x, r) y = LayerNormalization(a, s, t) }",
    ],
    leaves=["g (float[N,3,2] x, float[3,2] r) => (float[N,3,2] y, float[N,3,2] a) <float[2] s = {1,2}> { a = Add(x, r) y = LayerNormalization(a, s) }"],
)
def fuse_skip_layer_norm_sum(op: Build, m: Match) -> Result:
    """LayerNormalization(x + r, s, t), with x + r used elsewhere -> SkipLayerNormalization(x, r, s, t) and its fourth output"""
    refusal = unfit(m, KERNEL)
    if refusal:
        return refusal
    outputs = op.SkipLayerNormalization(m.x, m.residual, m.scale, m.shift, epsilon=epsilon_of(m), _domain="com.microsoft", _outputs=4)
    return outputs[0], outputs[3]  # type: ignore[index]


def biased(op: Pen, x: object, b: Const, residual: object, scale: object, shift: object = None) -> object:
    return op.SkipLayerNormalization(op.Add(x, b), residual, scale, shift, epsilon=ANY, _domain="com.microsoft")


def biased_residual(op: Pen, x: object, b: Const, residual: object, scale: object, shift: object = None) -> object:
    return op.SkipLayerNormalization(residual, op.Add(x, b), scale, shift, epsilon=ANY, _domain="com.microsoft")


@rule(
    biased,
    biased_residual,
    drift=ROUNDING,
    kernels=(KERNEL,),
    doubtful=SLOW_ON,
    measured=True,
    examples=[
        "g (float[N,3,2] x, float[N,3,2] r) => (float[N,3,2] y) <float[2] b = {3,4}, float[2] s = {1,2}, float[2] t = {1,2}>"
        " { a = Add(b, x) y = com.microsoft.SkipLayerNormalization(a, r, s, t) }",
    ],
    leaves=[
        "g (float[N,2,2] x, float[N,2,2] r) => (float[N,2,2] y) <float[2,1] b = {3,4}, float[2] s = {1,2}, float[2] t = {1,2}>"
        " { a = Add(b, x) y = com.microsoft.SkipLayerNormalization(a, r, s, t) }",
    ],
)
def fuse_skip_bias(op: Build, m: Match) -> Result:
    """SkipLayerNormalization(x + b, r, s, t) -> SkipLayerNormalization(x, r, s, t, b)"""
    return _no_bias(m) or op.like(m.root, m.x, m.residual, m.scale, m.shift, m.b)


def biased_sum(op: Pen, x: object, b: Const, residual: object, scale: object, shift: object = None) -> object:
    made = op.SkipLayerNormalization(op.Add(x, b), residual, scale, shift, epsilon=ANY, _domain="com.microsoft", _outputs=4)
    return made[0], made[3]  # type: ignore[index]


def biased_residual_sum(op: Pen, x: object, b: Const, residual: object, scale: object, shift: object = None) -> object:
    made = op.SkipLayerNormalization(residual, op.Add(x, b), scale, shift, epsilon=ANY, _domain="com.microsoft", _outputs=4)
    return made[0], made[3]  # type: ignore[index]


@rule(
    biased_sum,
    biased_residual_sum,
    drift=ROUNDING,
    kernels=(KERNEL,),
    doubtful=SLOW_ON,
    measured=True,
    examples=[
        "g (float[N,3,2] x, float[N,3,2] r) => (float[N,3,2] y, float[N,3,2] z) <float[2] b = {3,4}, float[2] s = {1,2}, float[2] t = {1,2}>"
        " { a = Add(b, x) y, , , z = com.microsoft.SkipLayerNormalization(a, r, s, t) }",
        "g (float[N,3,2] x, float[N,3,2] r) => (float[N,3,2] y, float[N,3,2] z) <float[2] b = {3,4}, float[2] s = {1,2}>"
        " { a = Add(x, b) y, , , z = com.microsoft.SkipLayerNormalization<epsilon=0.001>(r, a, s) }",
    ],
    leaves=[
        "g (float[N,2,2] x, float[N,2,2] r) => (float[N,2,2] y, float[N,2,2] z) <float[2,1] b = {3,4}, float[2] s = {1,2}, float[2] t = {1,2}>"
        " { a = Add(b, x) y, , , z = com.microsoft.SkipLayerNormalization(a, r, s, t) }",
    ],
)
def fuse_skip_bias_sum(op: Build, m: Match) -> Result:
    """SkipLayerNormalization(x + b, r, s, t) and its fourth output, the sum -> SkipLayerNormalization(x, r, s, t, b) and its fourth output"""
    refusal = _no_bias(m)
    if refusal:
        return refusal
    epsilon = attribute(m.root, "epsilon")
    made = op.SkipLayerNormalization(m.x, m.residual, m.scale, m.shift, m.b, epsilon=epsilon, _domain="com.microsoft", _outputs=4)
    return made[0], made[3]  # type: ignore[index]


def _no_bias(m: Match) -> Skip | None:
    """Why ``m.b`` is no bias along the last dim of what is added."""
    bias = m.b.shape
    if bias is None or len(bias) != 1 or not same_shape(bias, m.scale.shape) or not same_shape(m.x.shape, m.residual.shape):
        return skip("the bias has shape %s", bias)
    return None
