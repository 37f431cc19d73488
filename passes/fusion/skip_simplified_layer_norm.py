"""RMSNormalization together with the residual sum before it."""

from __future__ import annotations

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.pattern import ANY, Pen
from ...compiler.core.rule import Match, Result, rule
from .skip_norm import epsilon_of, unfit

KERNEL = "com.microsoft::SkipSimplifiedLayerNormalization"
SLOW_ON = ("cpu",)
"""ONNX Runtime 1.32's CPU kernel takes twice as long as Add and RMSNormalization ([1,128,384]: 39 against 21 us), but for a few tokens."""
OPSET_23 = '<ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1]> '


def post_norm(op: Pen, x: object, residual: object, scale: object) -> object:
    return op.RMSNormalization(op.Add(x, residual), scale, _attrs=ANY, _name="norm")


def pre_norm(op: Pen, x: object, residual: object, scale: object) -> object:
    total = op.Add(x, residual)
    return op.RMSNormalization(total, scale, _attrs=ANY, _name="norm"), total


@rule(
    post_norm,
    drift=ROUNDING,
    opset=23,
    kernels=(KERNEL,),
    doubtful=SLOW_ON,
    measured=True,
    examples=[
        f"{OPSET_23} g (float[N,3,2] x, float[N,3,2] r) => (float[N,3,2] y) <float[2] s = {{1,2}}> {{ a = Add(x, r) y = RMSNormalization(a, s) }}",
        f"{OPSET_23} g (float[N,2] x, float[N,2] r) => (float[N,2] y) <float[2] s = {{1,2}}> {{ a = Add(x, r) y = RMSNormalization<epsilon=0.001>(a, s) }}",
    ],
    leaves=[
        f"{OPSET_23} g (float[N,3,2] x, float[M,3,2] r) => (float[K,3,2] y) <float[2] s = {{1,2}}> {{ a = Add(x, r) y = RMSNormalization(a, s) }}",
        f"{OPSET_23} g (float[N,3,2] x, float[2] r) => (float[N,3,2] y) <float[2] s = {{1,2}}> {{ a = Add(x, r) y = RMSNormalization(a, s) }}",
        f"{OPSET_23} g (float[N,3,2] x, float[N,3,2] r) => (float[N,3,2] y) <float[3,2] s = {{1,2,3,4,5,6}}>"
        " { a = Add(x, r) y = RMSNormalization<axis=1>(a, s) }",
        f"{OPSET_23} g (float[N,1,3,2] x, float[N,1,3,2] r) => (float[N,1,3,2] y) <float[2] s = {{1,2}}> {{ a = Add(x, r) y = RMSNormalization(a, s) }}",
        f"{OPSET_23} g (float[N,3,2] x, float[N,3,2] r) => (float[N,3,2] y) <float s = {{2}}> {{ a = Add(x, r) y = RMSNormalization(a, s) }}",
    ],
)
def fuse_skip_rms_norm(op: Build, m: Match) -> Result:
    """RMSNormalization(x + r, s) -> SkipSimplifiedLayerNormalization(x, r, s)"""
    refusal = unfit(m, KERNEL)
    return refusal if refusal else op.SkipSimplifiedLayerNormalization(m.x, m.residual, m.scale, epsilon=epsilon_of(m), _domain="com.microsoft")


@rule(
    pre_norm,
    drift=ROUNDING,
    opset=23,
    kernels=(KERNEL,),
    doubtful=SLOW_ON,
    measured=True,
    examples=[
        f"{OPSET_23} g (float[N,3,2] x, float[N,3,2] r) => (float[N,3,2] y, float[N,3,2] a) <float[2] s = {{1,2}}>"
        " { a = Add(x, r) y = RMSNormalization(a, s) }",
    ],
    leaves=[
        f"{OPSET_23} g (float[N,3,2] x, float[3,2] r) => (float[N,3,2] y, float[N,3,2] a) <float[2] s = {{1,2}}> {{ a = Add(x, r) y = RMSNormalization(a, s) }}"
    ],
)
def fuse_skip_rms_norm_sum(op: Build, m: Match) -> Result:
    """RMSNormalization(x + r, s), with x + r used elsewhere -> SkipSimplifiedLayerNormalization(x, r, s) and its fourth output"""
    refusal = unfit(m, KERNEL)
    if refusal:
        return refusal
    outputs = op.SkipSimplifiedLayerNormalization(m.x, m.residual, m.scale, epsilon=epsilon_of(m), _domain="com.microsoft", _outputs=4)
    return outputs[0], outputs[3]  # type: ignore[index]
