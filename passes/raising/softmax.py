"""Softmax and LogSoftmax spelled with exponentials and sums, their logarithm, and log-sum-exp."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import DOMAIN, ROUNDING
from ...compiler.core.graph import attribute, is_op, producer
from ...compiler.core.pattern import ANY, Pen
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from .deviation import kept_axes
from .polynomial import DOUBLE, FLOAT

ROOM = {FLOAT: 32.0, DOUBLE: 256.0}
"""exp of twice as much, summed over as many elements as fit into memory, stays finite, and its reciprocal is no denormal."""
SHIFTED = "m = ReduceMax(x, axes) d = Sub(x, m) e = Exp(d) s = ReduceSum(e, axes)"
PLAIN = "e = Exp(x) s = ReduceSum(e, axes)"
BOUNDED = "x = Sigmoid(z) e = Exp(x) s = ReduceSum(e, axes)"


def _model(body: str, given: str = "float[N,4] x", axes: str = "{-1}") -> str:
    return f"g ({given}) => (float[N,4] y) <int64[1] axes = {axes}, int64[1] other = {{0}}, float two = {{2}}> {{ {body} }}"


@dataclass(frozen=True)
class Exponentials:
    """``sum(exp(of))`` over one axis, kept; ``of`` is ``x`` less ``shift``, its maximum, or ``x`` itself."""

    x: ir.Value
    of: ir.Value
    exp: ir.Value
    shift: ir.Value | None
    axis: int
    nodes: tuple[ir.Node, ...]


def summed(value: ir.Value | None) -> Exponentials | None:
    """``value`` as a sum of exponentials over one axis."""
    total = producer(value, "ReduceSum")
    exp = producer(total.inputs[0], "Exp") if total is not None else None
    if total is None or exp is None or exp.inputs[0] is None:
        return None
    axes, of = kept_axes(total), exp.inputs[0]
    if axes is None or len(axes) != 1:
        return None
    shifted = producer(of, "Sub")
    top = producer(shifted.inputs[1], "ReduceMax") if shifted is not None else None
    if shifted is not None and top is not None and top.inputs[0] is shifted.inputs[0] and top.inputs[0] is not None and kept_axes(top) == axes:
        return Exponentials(top.inputs[0], of, exp.outputs[0], top.outputs[0], axes[0], (total, exp, shifted, top))
    return Exponentials(of, of, exp.outputs[0], None, axes[0], (total, exp))


def _is_safe(m: Match, x: ir.Value) -> bool:
    """Whether exp of ``x`` neither overflows nor vanishes."""
    bound = m.ranges.bound(x)
    return m.fast_math or (bound is not None and bound < ROOM.get(x.dtype, 0.0))  # type: ignore[arg-type]


@rule(
    "Div",
    "Mul",
    drift=ROUNDING,
    opset=18,
    examples=[
        _model(f"{SHIFTED} y = Div(e, s)"),
        _model(f"{SHIFTED} r = Reciprocal(s) y = Mul(r, e)"),
        _model(f"{SHIFTED} y = Div(e, s)", axes="{0}"),
        "g (double[N,4] x) => (double[N,4] y) <int64[1] axes = {1}> { m = ReduceMax(x, axes) d = Sub(x, m) e = Exp(d) s = ReduceSum(e, axes) y = Div(e, s) }",
    ],
    leaves=[
        _model(f"{SHIFTED} y = Div(s, e)"),
        _model(f"{PLAIN} y = Div(e, s)"),
        _model(f"{SHIFTED} y = Mul(e, s)"),
        _model("m = ReduceMax(x, other) d = Sub(x, m) e = Exp(d) s = ReduceSum(e, axes) y = Div(e, s)"),
        _model("m = ReduceMax(z, axes) d = Sub(x, m) e = Exp(d) s = ReduceSum(e, axes) y = Div(e, s)", "float[N,4] x, float[N,4] z"),
        "g (float[4,4] x) => (float[4,4] y) <int64[1] axes = {1}>"
        " { m = ReduceMax(x, axes) d = Sub(x, m) e = Exp(d) s = ReduceSum<keepdims=0>(e, axes) y = Div(e, s) }",
        "g (float[N,4] x) => (float[N,4] y) <int64[2] axes = {0,1}> { m = ReduceMax(x, axes) d = Sub(x, m) e = Exp(d) s = ReduceSum(e, axes) y = Div(e, s) }",
        _model(f"{SHIFTED} y = Div(f, s)".replace("e = Exp(d)", "e = Exp(d) f = Exp(x)")),
    ],
)
def raise_softmax(op: Build, m: Match) -> Result:
    """exp(x - max x) / sum(exp(x - max x)) -> Softmax(x)"""
    found = _divided(m)
    if found is None or found.shift is None:
        return None
    return _softmax(op, m, found)


@rule(
    "Div",
    "Mul",
    drift=DOMAIN,
    opset=18,
    examples=[_model(f"{PLAIN} y = Div(e, s)"), _model(f"{BOUNDED} y = Div(e, s)", "float[N,4] z")],
    leaves=[
        _model(f"{PLAIN} y = Div(e, s)"),
        _model("x = Sigmoid(z) e = Exp(x) f = Exp(z) s = ReduceSum(f, axes) y = Div(e, s)", "float[N,4] z"),
    ],
)
def raise_plain_softmax(op: Build, m: Match) -> Result:
    """exp(x) / sum(exp(x)) -> Softmax(x), where exp neither overflows nor vanishes"""
    found = _divided(m)
    if found is None or found.shift is not None:
        return None
    if not _is_safe(m, found.x):
        return skip("exp('%s') may overflow or vanish: that gives NaN where Softmax does not", found.x.name)
    return _softmax(op, m, found)


def _divided(m: Match) -> Exponentials | None:
    """The exponentials of which the root is each divided by the sum; what divides is claimed."""
    over, under = m.root.inputs
    if is_op(m.root, "Mul"):
        over, inverse = (over, under) if producer(under, "Reciprocal") is not None else (under, over)
        node = producer(inverse, "Reciprocal")
        under = node.inputs[0] if node is not None else None
        if node is None or summed(under) is None:
            return None
        m.take(node)
    found = summed(under)
    return found if found is not None and found.exp is over else None


def _softmax(op: Build, m: Match, found: Exponentials) -> Result:
    for node in found.nodes:
        m.take(node)
    return op.Softmax(found.x, axis=found.axis)


def logged(op: Pen, x: object) -> object:
    return op.Log(op.Softmax(x, axis=ANY, _name="softmax"))


@rule(
    logged,
    drift=DOMAIN,
    opset=13,
    examples=[
        "g (float[N,4] x) => (float[N,4] y) { p = Softmax(x) y = Log(p) }",
        "g (float[N,4] z) => (float[N,4] y) { x = Sin(z) p = Softmax<axis=0>(x) y = Log(p) }",
    ],
    leaves=[
        "g (float[N,4] x) => (float[N,4] y) { p = Softmax(x) y = Log(p) }",
        "g (float[N,4] x) => (float[N,4] y) { s = Sigmoid(x) p = Softmax(s) y = Exp(p) }",
    ],
)
def raise_log_softmax(op: Build, m: Match) -> Result:
    """log(Softmax(x)) -> LogSoftmax(x), where no probability vanishes"""
    if not _is_safe(m, m.x):
        return skip("a probability may vanish: its logarithm is -inf where LogSoftmax has a number")
    return op.LogSoftmax(m.x, axis=attribute(m.node("softmax"), "axis", -1))


@rule(
    "Sub",
    drift=ROUNDING,
    opset=18,
    examples=[
        _model(f"{SHIFTED} l = Log(s) y = Sub(d, l)"),
        _model(f"{SHIFTED} l = Log(s) k = Add(l, m) y = Sub(x, k)"),
        _model("l = ReduceLogSumExp(x, axes) y = Sub(x, l)"),
    ],
    leaves=[
        _model(f"{SHIFTED} l = Log(s) y = Sub(x, l)"),
        _model(f"{SHIFTED} l = Log(s) y = Sub(l, d)"),
        _model(f"{SHIFTED} l = Log(s) k = Add(l, s) y = Sub(x, k)"),
        _model("l = ReduceLogSumExp(z, axes) y = Sub(x, l)", "float[N,4] x, float[N,4] z"),
        "g (float[4,4] x) => (float[4,4] y) <int64[1] axes = {1}> { l = ReduceLogSumExp<keepdims=0>(x, axes) y = Sub(x, l) }",
    ],
)
def raise_spelled_log_softmax(op: Build, m: Match) -> Result:
    """(x - max x) - log(sum(exp(x - max x))) -> LogSoftmax(x), and the same for x - ReduceLogSumExp(x)"""
    over, under = m.root.inputs
    node = producer(under, "ReduceLogSumExp", "Log", "Add")
    if node is None or over is None:
        return None
    if is_op(node, "ReduceLogSumExp"):
        axes = kept_axes(node)
        if node.inputs[0] is not over or axes is None or len(axes) != 1:
            return None
        m.take(node)
        return op.LogSoftmax(over, axis=axes[0])
    found = _log_sum(m, node) if is_op(node, "Add") else summed(node.inputs[0])
    if found is None or found.shift is None or over is not (found.x if is_op(node, "Add") else found.of):
        return None
    for part in (node, *found.nodes):
        m.take(part)
    return op.LogSoftmax(found.x, axis=found.axis)


def _log_sum(m: Match, node: ir.Node) -> Exponentials | None:
    """What ``node`` adds the maximum back to the log of the sum of; the Log is claimed."""
    for item, other in zip(node.inputs, reversed(node.inputs), strict=True):
        log = producer(item, "Log")
        found = summed(log.inputs[0]) if log is not None else None
        if log is not None and found is not None and found.shift is other:
            m.take(log)
            return found
    return None


@rule(
    "Add",
    drift=ROUNDING,
    opset=18,
    doubtful=("cpu",),
    measured=True,
    examples=[f"g (float[N,4] x) => (float[N,1] y) <int64[1] axes = {{1}}> {{ {SHIFTED} l = Log(s) y = Add(m, l) }}"],
    leaves=[f"g (float[N,4] x) => (float[N,1] y) <int64[1] axes = {{1}}> {{ {SHIFTED} l = Log(s) y = Add(s, l) }}"],
)
def raise_log_sum_exp(op: Build, m: Match) -> Result:
    """max x + log(sum(exp(x - max x))) -> ReduceLogSumExp(x) (ONNX Runtime's CPU kernel takes ten times as long)"""
    found = _log_sum(m, m.root)
    if found is None:
        return None
    for node in found.nodes:
        m.take(node)
    return op.ReduceLogSumExp(found.x, np.array([found.axis]), keepdims=1)
