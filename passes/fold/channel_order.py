"""Channels picked or reordered beside a Conv: its weight can be picked from or reordered instead."""

from __future__ import annotations

import numpy as np

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import attribute, scalar
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


def picked_after(op: Pen, x: object, order: Const, w: Const, b: Const | None = None) -> object:
    return op.Gather(op.Conv(x, w, b, _attrs=ANY, _name="conv"), order, axis=1)


def cut_after(op: Pen, x: object, starts: Const, ends: Const, axes: Const, w: Const, b: Const | None = None, steps: Const | None = None) -> object:
    return op.Slice(op.Conv(x, w, b, _attrs=ANY, _name="conv"), starts, ends, axes, steps)


@rule(
    picked_after,
    cut_after,
    drift=ROUNDING,
    opset=13,
    examples=[
        "g (float[N,2,4,4] x) => (float[N,2,4,4] y) <int64[2] o = {2,0}, float[3,2,1,1] w = {1,2,3,4,5,6}, float[3] b = {1,2,3}>"
        " { a = Conv(x, w, b) y = Gather<axis=1>(a, o) }",
        "g (float[N,2,4,4] x) => (float[N,1,4,4] y) <int64[1] s = {-1}, int64[1] e = {9223372036854775807}, int64[1] a = {-3},"
        " float[3,2,1,1] w = {1,2,3,4,5,6}> { c = Conv(x, w) y = Slice(c, s, e, a) }",
    ],
    leaves=[
        "g (float[N,2,4,4] x) => (float[N,2,4,4] y, float[N,3,4,4] a) <int64[2] o = {2,0}, float[3,2,1,1] w = {1,2,3,4,5,6}>"
        " { a = Conv(x, w) y = Gather<axis=1>(a, o) }",
        "g (float[N,2,4,4] x) => (float[N,4,4] y) <int64 o = {2}, float[3,2,1,1] w = {1,2,3,4,5,6}> { a = Conv(x, w) y = Gather<axis=1>(a, o) }",
        "g (float[N,2,4,4] x) => (float[N,4,4,4] y) <int64[4] o = {2,0,0,1}, float[3,2,1,1] w = {1,2,3,4,5,6}> { a = Conv(x, w) y = Gather<axis=1>(a, o) }",
        "g (float[N,3,4,4] x) => (float[N,2,4,4] y) <int64[2] o = {2,0}, float[3,1,1,1] w = {1,2,3}> { a = Conv<group=3>(x, w) y = Gather<axis=1>(a, o) }",
        "g (float[N,2,4,4] x) => (float[N,3,3,4] y) <int64[1] s = {1}, int64[1] e = {4}, int64[1] a = {2}, float[3,2,1,1] w = {1,2,3,4,5,6}>"
        " { c = Conv(x, w) y = Slice(c, s, e, a) }",
    ],
)
def compute_picked_channels(op: Build, m: Match) -> Result:
    """Conv(x, w, b)[:, order] -> Conv(x, w[order], b[order])"""
    conv, weight = m.node("conv"), m.array("w")
    places = _places(m, weight.shape[0])
    if places is None or places.ndim != 1 or places.size > weight.shape[0]:
        return skip("it does not pick some of the %s channels", weight.shape[0])
    if attribute(conv, "group", 1) != 1:
        return skip("the channels are computed in %s groups", attribute(conv, "group"))
    bias = op.const(m.array("b")[places], "bias") if m.b is not None else None
    return op.like(conv, m.x, op.const(weight[places], "weight"), bias)


def _places(m: Match, channels: int) -> np.ndarray | None:
    """Which channels are picked."""
    if m.root.op_type == "Gather":
        order = m.array("order")
        inside = order.size > 0 and -channels <= order.min() and order.max() < channels
        return np.where(order < 0, order + channels, order) if inside else None
    rank = len(m.x.shape) if m.x.shape is not None else 0
    parts = [scalar(value) for value in (m.starts, m.ends, m.axes)]
    step = scalar(m.steps) if m.steps is not None else 1
    if not rank or None in parts or step != 1 or int(parts[2]) % rank != 1:  # type: ignore[arg-type]
        return None
    kept = np.arange(channels)[slice(int(parts[0]), min(int(parts[1]), channels))]  # type: ignore[arg-type]
    return kept if kept.size else None
