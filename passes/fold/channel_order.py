"""Channels reordered before a Conv: its weight can be reordered instead."""

from __future__ import annotations

import numpy as np

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import attribute
from ...compiler.core.pattern import ANY, Const, Pen
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule


def picked_before(op: Pen, x: object, order: Const, w: Const, b: object = None) -> object:
    return op.Conv(op.Gather(x, order, axis=1), w, b, _attrs=ANY)


@rule(
    picked_before,
    drift=ROUNDING,
    opset=11,
    examples=[
        "g (float[N,3,4,4] x) => (float[N,1,4,4] y) <int64[3] o = {2,0,1}, float[1,3,1,1] w = {1,2,3}> { a = Gather<axis=1>(x, o) y = Conv(a, w) }",
    ],
    leaves=[
        "g (float[N,3,4,4] x) => (float[N,1,4,4] y) <int64[3] o = {2,0,2}, float[1,3,1,1] w = {1,2,3}> { a = Gather<axis=1>(x, o) y = Conv(a, w) }",
        "g (float[N,C,4,4] x) => (float[N,1,4,4] y) <int64[3] o = {2,0,1}, float[1,3,1,1] w = {1,2,3}> { a = Gather<axis=1>(x, o) y = Conv(a, w) }",
        "g (float[N,3,4,4] x) => (float[N,3,4,4] y) <int64[3] o = {2,0,1}, float[3,1,1,1] w = {1,2,3}> { a = Gather<axis=1>(x, o) y = Conv<group=3>(a, w) }",
    ],
)
def reorder_conv_input(op: Build, m: Match) -> Result:
    """Conv(x[:, order], w) -> Conv(x, w with its input channels in the order of x)"""
    order, weight = m.array("order"), m.array("w")
    channels = m.x.shape[1] if m.x.shape is not None and len(m.x.shape) > 1 else None
    if attribute(m.root, "group", 1) != 1 or order.ndim != 1 or order.size != channels:
        return skip("it picks %s of %s channels for %s groups", order.shape, channels, attribute(m.root, "group", 1))
    places = np.where(order < 0, order + order.size, order)
    if (np.sort(places) != np.arange(order.size)).any():
        return skip("some channels are picked twice")
    return op.like(m.root, m.x, op.const(np.ascontiguousarray(weight[:, np.argsort(places)]), "weight"), m.b)
