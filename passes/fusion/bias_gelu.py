"""Gelu together with the bias before it."""

from __future__ import annotations

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.pattern import Const, Pen
from ...compiler.core.rule import Match, Result, rule
from .fast_gelu import no_bias

KERNEL = "com.microsoft::BiasGelu"


def biased(op: Pen, x: object, b: Const) -> object:
    return op.Gelu(op.Add(x, b), approximate="none")


@rule(
    biased,
    drift=ROUNDING,
    opset=20,
    kernels=(KERNEL,),
    measured=True,
    examples=["g (float[N,3,2] x) => (float[N,3,2] y) <float[2] b = {1,2}> { a = Add(b, x) y = Gelu(a) }"],
    leaves=[
        "g (float[N,3,1] x) => (float[N,3,2] y) <float[2] b = {1,2}> { a = Add(b, x) y = Gelu(a) }",
        "g (float[N,2,2] x) => (float[N,2,2] y) <float[2,1] b = {1,2}> { a = Add(b, x) y = Gelu(a) }",
        "g (float16[N,2] x) => (float16[N,2] y) <float16[2] b = {15360,14336}> { a = Add(b, x) y = Gelu(a) }",
        'g (float[N,2] x) => (float[N,2] y) <float[2] b = {1,2}> { a = Add(b, x) y = Gelu<approximate="tanh">(a) }',
    ],
)
def fuse_bias_gelu(op: Build, m: Match) -> Result:
    """Gelu(x + b) -> BiasGelu(x, b) for b along the last dim"""
    refusal = no_bias(m, KERNEL)
    return refusal if refusal else op.BiasGelu(m.x, m.b, _domain="com.microsoft")
