"""Gelu together with the bias before it."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.pattern import Const, Pen
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule


def biased(op: Pen, x: object, b: Const) -> object:
    return op.Gelu(op.Add(x, b), approximate="none")


@rule(
    biased,
    drift=ROUNDING,
    opset=20,
    kernels=("com.microsoft::BiasGelu",),
    examples=["g (float[N,3,2] x) => (float[N,3,2] y) <float[2] b = {1,2}> { a = Add(b, x) y = Gelu(a) }"],
    leaves=[
        "g (float[N,3,1] x) => (float[N,3,2] y) <float[2] b = {1,2}> { a = Add(b, x) y = Gelu(a) }",
        "g (float[N,2,2] x) => (float[N,2,2] y) <float[2,1] b = {1,2}> { a = Add(b, x) y = Gelu(a) }",
    ],
)
def fuse_bias_gelu(op: Build, m: Match) -> Result:
    """Gelu(x + b) -> BiasGelu(x, b) for b along the last dim"""
    refusal = _no_bias(m)
    return refusal if refusal else op.BiasGelu(m.x, m.b, _domain="com.microsoft")


def biased_tanh(op: Pen, x: object, b: Const) -> object:
    return op.Gelu(op.Add(x, b), approximate="tanh")


@rule(
    biased_tanh,
    drift=ROUNDING,
    opset=20,
    kernels=("com.microsoft::FastGelu",),
    examples=["g (float[N,3,2] x) => (float[N,3,2] y) <float[2] b = {1,2}> { a = Add(b, x) y = Gelu<approximate=\"tanh\">(a) }"],
    leaves=["g (float[N,2] x) => (float[N,2] y) <float[2] b = {1,2}> { a = Add(b, x) y = Gelu(a) }"],
)
def fuse_bias_fast_gelu(op: Build, m: Match) -> Result:
    """Gelu(x + b, tanh) -> FastGelu(x, b) for b along the last dim"""
    refusal = _no_bias(m)
    return refusal if refusal else op.FastGelu(m.x, m.b, _domain="com.microsoft")


def _no_bias(m: Match) -> Skip | None:
    bias, last = m.b.shape, m.x.shape[-1] if m.x.shape else None
    if m.x.dtype != ir.DataType.FLOAT:
        return skip("the kernel takes float, not %s", m.x.dtype)
    if bias is None or len(bias) != 1 or bias[0] != last:
        return skip("the bias has shape %s, the last dim is %s", bias, last)
    return None
