"""The approximate Gelu as ONNX Runtime's FastGelu, with the bias before it if there is one."""

from __future__ import annotations

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.pattern import Const, Pen
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule

KERNEL = "com.microsoft::FastGelu"
SLOW_ON = ("cpu",)
"""ONNX Runtime 1.32's CPU kernel takes 1.1 times as long as the Gelu of the standard ([512,1024]: 260 against 235 us)."""


def biased_tanh(op: Pen, x: object, b: Const) -> object:
    return op.Gelu(op.Add(x, b), approximate="tanh")


@rule(
    biased_tanh,
    drift=ROUNDING,
    opset=20,
    kernels=(KERNEL,),
    measured=True,
    examples=['g (float[N,3,2] x) => (float[N,3,2] y) <float[2] b = {1,2}> { a = Add(b, x) y = Gelu<approximate="tanh">(a) }'],
    leaves=[
        "g (float[N,2] x) => (float[N,2] y) <float[2] b = {1,2}> { a = Add(b, x) y = Gelu(a) }",
        'g (float[N,2,2] x) => (float[N,2,2] y) <float[2,1] b = {1,2}> { a = Add(b, x) y = Gelu<approximate="tanh">(a) }',
    ],
)
def fuse_bias_fast_gelu(op: Build, m: Match) -> Result:
    """Gelu(x + b, tanh) -> FastGelu(x, b) for b along the last dim"""
    refusal = no_bias(m, KERNEL)
    return refusal if refusal else op.FastGelu(m.x, m.b, _domain="com.microsoft")


def tanh_gelu(op: Pen, x: object) -> object:
    return op.Gelu(x, approximate="tanh")


@rule(
    tanh_gelu,
    drift=ROUNDING,
    opset=20,
    kernels=(KERNEL,),
    doubtful=SLOW_ON,
    measured=True,
    examples=['g (float[N,4] x) => (float[N,4] y) { y = Gelu<approximate="tanh">(x) }'],
    leaves=["g (float[N,4] x) => (float[N,4] y) { y = Gelu(x) }", 'g (double[N,4] x) => (double[N,4] y) { y = Gelu<approximate="tanh">(x) }'],
)
def fuse_fast_gelu(op: Build, m: Match) -> Result:
    """Gelu(x, tanh) -> FastGelu(x)"""
    return op.FastGelu(m.x, _domain="com.microsoft") if m.target.takes(KERNEL, m.x.dtype) else skip("the kernel does not take %s", m.x.dtype)


def no_bias(m: Match, kernel: str) -> Skip | None:
    """Why ``m.b`` is no bias along the last dim of ``m.x``, as the kernels take it."""
    bias, last = m.b.shape, m.x.shape[-1] if m.x.shape else None
    if not m.target.takes(kernel, m.x.dtype):
        return skip("the kernel does not take %s", m.x.dtype)
    if bias is None or len(bias) != 1 or bias[0] != last:
        return skip("the bias has shape %s, the last dim is %s", bias, last)
    return None
