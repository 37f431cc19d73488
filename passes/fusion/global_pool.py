"""The mean of an image as a pooling, which stays in the layout of the Conv before it."""

from __future__ import annotations

from ...compiler.core.build import Build
from ...compiler.core.dims import at_least
from ...compiler.core.drift import ROUNDING
from ...compiler.core.pattern import Const, Pen
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from ..raising.deviation import kept_axes
from ..raising.polynomial import SINGLES

SLOW_ON = ("cpu",)
"""ONNX Runtime 1.32's CPU kernel takes 1.7 times as long as ReduceMean ([1,96,56,56]: 39 against 22 us); behind a Conv it saves a reordering."""


def spatial_mean(op: Pen, x: object, axes: Const) -> object:
    return op.ReduceMean(x, axes, keepdims=1)


@rule(
    spatial_mean,
    drift=ROUNDING,
    opset=18,
    doubtful=SLOW_ON,
    measured=True,
    examples=[
        "g (float[N,2,3,4] x) => (float[N,2,1,1] y) <int64[2] axes = {2,3}> { y = ReduceMean(x, axes) }",
        "g (float[N,2,3,4] x) => (float[N,2,1,1] y) <int64[2] axes = {-1,-2}> { y = ReduceMean(x, axes) }",
    ],
    leaves=[
        "g (float[N,3,4] x) => (float[N,3,1] y) <int64[1] axes = {2}> { y = ReduceMean(x, axes) }",
        "g (float[N,C,3,4] x) => (float[N,C,1,1] y) <int64[2] axes = {2,3}> { y = ReduceMean(x, axes) }",
        "g (float[N,2,3,4] x) => (float[N,2,3,1] y) <int64[1] axes = {3}> { y = ReduceMean(x, axes) }",
        "g (float[N,2,3,4] x) => (float[N,2] y) <int64[2] axes = {2,3}> { y = ReduceMean<keepdims=0>(x, axes) }",
        "g (float[N,4] x) => (float[N,1] y) <int64[1] axes = {1}> { y = ReduceMean(x, axes) }",
        "g (float[N,2,H,4] x) => (float[N,2,1,1] y) <int64[2] axes = {2,3}> { y = ReduceMean(x, axes) }",
        "g (double[N,2,3,4] x) => (double[N,2,1,1] y) <int64[2] axes = {2,3}> { y = ReduceMean(x, axes) }",
    ],
)
def pool_globally(op: Build, m: Match) -> Result:
    """ReduceMean over every spatial dim -> GlobalAveragePool (in ONNX Runtime faster behind a Conv, slower by itself)"""
    axes, shape = kept_axes(m.root), m.x.shape
    if axes is None or shape is None or len(shape) < 4 or axes != tuple(range(2, len(shape))) or m.x.dtype not in SINGLES:
        return skip("it reduces '%s' of shape %s over %s", m.x.name, shape, axes)
    if not all(at_least(size, 1) for size in shape[1:]):
        return skip("a dim of %s may be 0, and the kernel takes no empty image", shape)
    return op.GlobalAveragePool(m.x)
