"""Reductions of reductions, and reductions over nothing but dimensions of size 1."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.axes import reduced_axes
from ...compiler.core.build import Build
from ...compiler.core.drift import DOMAIN, ROUNDING
from ...compiler.core.graph import attribute
from ...compiler.core.pattern import ANY, Pen
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, Rule, rule
from .law import FLOATS, NUMBERS
from .reductions import refuses_reduction

_MERGED = {"ReduceSum": 13, "ReduceMean": 18, "ReduceMax": 18, "ReduceMin": 18, "ReduceProd": 18, "ReduceL1": 18, "ReduceL2": 18}
_EXTREMES = ("ReduceMax", "ReduceMin")
_HEAD = "<int64[1] a = {1}, int64[1] b = {2}, int64[1] l = {-1}>"


def _all_axes(first: ir.Node, last: ir.Node) -> list[int] | Skip:
    """The axes of the first reduction's operand over which both together run."""
    inner, outer = reduced_axes(first), reduced_axes(last)
    source = first.inputs[0]
    if inner is None or outer is None or source is None or source.shape is None:
        return skip("the axes are not known")
    if attribute(first, "keepdims", 1) != attribute(last, "keepdims", 1):
        return skip("only one of them keeps the dimensions")
    left = list(range(len(source.shape)))
    if not attribute(first, "keepdims", 1):
        left = [axis for axis in left if axis not in inner]
    return sorted({*inner, *(left[axis] for axis in outer)})


def _reduced_twice(kind: str) -> Rule:
    def before(op: Pen, x: object, inner: object = None, outer: object = None) -> object:
        return getattr(op, kind)(getattr(op, kind)(x, inner, _attrs=ANY, _name="first"), outer, _attrs=ANY)

    def build(op: Build, m: Match) -> Result:
        first = m.node("first")
        axes = _all_axes(first, m.root)
        if isinstance(axes, Skip):
            return axes
        if m.x.dtype not in (NUMBERS if kind != "ReduceMean" else FLOATS):
            return skip("'%s' is %s", m.x.name, m.x.dtype)
        if not axes:
            return m.x
        if kind in _EXTREMES and not (m.fast_math or m.ranges.is_number(m.x)):
            return skip("'%s' may hold NaN, and which of them an extreme drops depends on the order", m.x.name)
        refusal = refuses_reduction(first) or refuses_reduction(m.root) if kind in ("ReduceMax", "ReduceMin", "ReduceMean") else None
        if refusal is not None:
            return refusal
        return getattr(op, kind)(m.x, op.const(axes, "axes"), keepdims=int(attribute(m.root, "keepdims", 1)))  # type: ignore[call-overload]

    build.__name__ = f"merge_{kind.lower()}s"
    build.__doc__ = f"{kind}({kind}(x, a), b) -> {kind}(x, a and b){' where x holds no NaN' if kind in _EXTREMES else ''}"
    extreme = kind in _EXTREMES
    head, cast = ("g (int8[N,2,3] r)", "x = Cast<to=1>(r) ") if extreme else ("g (float[N,2,3] x)", "")
    careless = [f"g (float[N,2,3] x) => (float[N,1,1] y) {_HEAD} {{ t = {kind}(x, l) y = {kind}(t, a) }}"] if extreme else []
    return rule(
        before,
        drift=DOMAIN if extreme else ROUNDING,
        opset=_MERGED[kind],
        examples=[
            f"{head} => (float[N,1,1] y) {_HEAD} {{ {cast}t = {kind}(x, l) y = {kind}(t, a) }}",
            f"{head} => (float[N] y) {_HEAD} {{ {cast}t = {kind}<keepdims=0>(x, a) y = {kind}<keepdims=0>(t, a) }}",
        ],
        leaves=[
            f"{head} => (float[N,1] y) {_HEAD} {{ {cast}t = {kind}<keepdims=0>(x, b) y = {kind}(t, a) }}",
            f"{head} => (float[N,1,1] y, float[N,2,1] t) {_HEAD} {{ {cast}t = {kind}(x, b) y = {kind}(t, a) }}",
            *careless,
        ],
    )(build)


REDUCED_TWICE = tuple(map(_reduced_twice, _MERGED))


def _reduces_nothing(kind: str) -> Rule:
    """Over dimensions of size 1 a sum, mean, product or extreme is the element itself."""

    adds = kind in ("ReduceSum", "ReduceMean")
    number, reader = ("int32", "Abs") if adds else ("float", "Tanh")
    wrong = [f"g (float[N,1,3] x) => (float[N,1,3] y) {_HEAD} {{ t = {kind}(x, a) y = Reciprocal(t) }}"] if adds else []

    def before(op: Pen, x: object, axes: object = None) -> object:
        return getattr(op, kind)(x, axes, _attrs=ANY)

    def build(op: Build, m: Match) -> Result:
        axes = reduced_axes(m.root)
        if axes is None or any(m.x.shape[axis] != 1 for axis in axes):  # type: ignore[index]
            return skip("it reduces the axes %s of shape %s", axes, m.x.shape)
        if adds and m.x.dtype is not None and m.x.dtype.is_floating_point() and not (m.fast_math or m.ranges.is_nonzero(m.x)):
            return skip("'%s' may be -0.0, of which the kernel makes 0.0", m.x.name)
        if attribute(m.root, "keepdims", 1):
            return m.x
        return op.Squeeze(m.x, op.const(list(axes), "axes")) if axes else m.x

    build.__name__ = f"drop_{kind.lower()}_of_one"
    build.__doc__ = f"{kind}(x) -> x over dimensions of size 1, squeezed where they are not kept"
    return rule(
        before,
        drift=ROUNDING,
        opset=_MERGED[kind],
        examples=[
            f"g ({number}[N,1,3] x) => ({number}[N,1,3] y) {_HEAD} {{ t = {kind}(x, a) y = {reader}(t) }}",
            f"g ({number}[N,1,3] x) => ({number}[N,3] y) {_HEAD} {{ y = {kind}<keepdims=0>(x, a) }}",
        ],
        leaves=[f"g (float[N,1,3] x) => (float[1,1,3] y) {_HEAD.replace('{1}', '{0}')} {{ y = {kind}(x, a) }}", *wrong],
    )(build)


REDUCES_NOTHING = tuple(map(_reduces_nothing, ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd")))
