"""Functions that commute with taking the largest or smallest, or with summing: the reduction goes first, and the function sees fewer elements."""

from __future__ import annotations

import math

import onnx_ir as ir

from ...compiler.core.axes import ints, reduced_axes
from ...compiler.core.build import Build
from ...compiler.core.dims import at_least, broadcasts_into
from ...compiler.core.drift import DOMAIN, ROUNDING, Drift
from ...compiler.core.graph import attribute, is_op, producer, scalar
from ...compiler.core.pattern import ANY, Const, Pen
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, Rule, rule
from .law import FLOATS, NONNEGATIVE, Need

_TAKES_ACTIVATIONS = ("Conv", "ConvTranspose", "Gemm", "BatchNormalization", "FusedConv")
"""An activation right behind one of these costs nothing: runtimes fuse it."""
FUSED_ACTIVATIONS = ("Relu", "LeakyRelu", "Sigmoid", "Tanh", "Clip", "HardSigmoid")
"""The activations that runtimes fuse so."""

_INCREASING: dict[str, tuple[Drift, Need | None, int]] = {
    "Exp": (ROUNDING, None, 7),
    "Sigmoid": (ROUNDING, None, 7),
    "Tanh": (ROUNDING, None, 7),
    "Erf": (ROUNDING, None, 9),
    "Relu": (ROUNDING, None, 7),
    "LeakyRelu": (ROUNDING, None, 7),
    "Elu": (ROUNDING, None, 7),
    "Selu": (ROUNDING, None, 7),
    "Celu": (ROUNDING, None, 12),
    "HardSigmoid": (ROUNDING, None, 7),
    "Softplus": (ROUNDING, None, 7),
    "Atan": (ROUNDING, None, 7),
    "Sinh": (ROUNDING, None, 9),
    "Asinh": (ROUNDING, None, 9),
    "Floor": (ROUNDING, None, 7),
    "Ceil": (ROUNDING, None, 7),
    "Sqrt": (DOMAIN, NONNEGATIVE, 7),
    "Log": (DOMAIN, NONNEGATIVE, 7),
}
"""Functions that never fall and that map NaN, and nothing else, to NaN; which NaN a reduction drops depends on its place only."""
_FALLING_AT = {"LeakyRelu": ("alpha",), "Elu": ("alpha",), "Celu": ("alpha",), "HardSigmoid": ("alpha",), "Selu": ("alpha", "gamma")}
"""Attributes of 0 or below make these functions fall somewhere."""


def refuses_reduction(node: ir.Node) -> Skip | None:
    """Why a reduction might run over no element at all, whose result a function would change; or, for a pool, over padding only."""
    if is_op(node, "MaxPool"):
        gaps = any(step != 1 for step in ints(node, "dilations"))
        return skip("a window may hold nothing but padding") if gaps or attribute(node, "ceil_mode", 0) else None
    dims = _reduced_dims(node)
    if dims is None or not all(at_least(dim, 1) for dim in dims):
        return skip("'%s', of shape %s, may have nothing to reduce", node.inputs[0].name, node.inputs[0].shape)  # type: ignore[union-attr]
    return None


def _reduced_dims(node: ir.Node) -> list[int | ir.SymbolicDim] | None:
    source = node.inputs[0]
    if source is None or source.shape is None:
        return None
    if is_op(node, "GlobalMaxPool"):
        return list(source.shape.dims[2:])
    axes = reduced_axes(node)
    return None if axes is None else [source.shape.dims[axis] for axis in axes]


def again(op: Build, reduction: ir.Node, kind: str, x: ir.Value) -> ir.Value:
    """The same reduction, possibly of another kind, of ``x``."""
    attributes: dict[str, object] = dict(reduction.attributes)
    return op.node(kind, (x, *reduction.inputs[1:]), attributes).outputs[0]


def follows_linear(value: ir.Value) -> bool:
    """Whether a Conv or the like makes the value, perhaps with a residual added: an activation is free there."""
    node = value.producer()
    if node is not None and is_op(node, "Add"):
        return any(producer(item, *_TAKES_ACTIVATIONS) is not None for item in node.inputs)
    return node is not None and is_op(node, *_TAKES_ACTIVATIONS)


_REDUCERS = ("ReduceMax", "ReduceMin", "MaxPool", "GlobalMaxPool")
_CONSTANTS = "<int64[1] a = {1}>"
_BODIES = {
    "ReduceMax": ("float[N,3]", "float[N,1]", "ReduceMax({}, a)"),
    "ReduceMin": ("float[N,3]", "float[N]", "ReduceMin<keepdims=0>({}, a)"),
    "MaxPool": ("float[N,1,4]", "float[N,1,2]", "MaxPool<kernel_shape=[2], strides=[2]>({})"),
    "GlobalMaxPool": ("float[N,2,3]", "float[N,2,1]", "GlobalMaxPool({})"),
}


def _text(reducer: str, function: str, bounds: tuple[float, float] | None) -> str:
    """A model that applies a function, then a reduction."""
    given, made, call = _BODIES[reducer]
    if bounds is None:
        return f"g ({given} x) => ({made} y) {_CONSTANTS} {{ t = {function}(x) y = {call.format('t')} }}"
    limits = f"<int64[1] a = {{1}}, float lo = {{{bounds[0]}}}, float hi = {{{bounds[1]}}}>"
    body = f"{{ n = Cast<to=1>(r) x = Clip(n, lo, hi) t = {function}(x) y = {call.format('t')} }}"
    return f"g ({given.replace('float', 'int8')} r) => ({made} y) {limits} {body}"


def _commuting(reducer: str, function: str) -> Rule:
    drift, need, opset = _INCREASING[function]

    def before(op: Pen, x: object, axes: object = None) -> object:
        made = getattr(op, function)(x, _attrs=ANY, _name="function")
        return getattr(op, reducer)(made, axes, _attrs=ANY) if reducer.startswith("Reduce") else getattr(op, reducer)(made, _attrs=ANY)

    def build(op: Build, m: Match) -> Result:
        node = m.node("function")
        if m.x.dtype not in FLOATS:
            return skip("'%s' is %s", m.x.name, m.x.dtype)
        if any(float(attribute(node, name, 1.0)) <= 0 for name in _FALLING_AT.get(function, ())):  # type: ignore[arg-type]
            return skip("the function falls somewhere")
        if function in FUSED_ACTIVATIONS and follows_linear(m.x):
            return skip("what makes '%s' takes the function in", m.x.name)
        if need is not None and not (m.fast_math or need.holds(m.ranges, m.x)):
            return skip("'%s' is not proven to be %s", m.x.name, need.what)
        return refuses_reduction(m.root) or op.like(node, again(op, m.root, reducer, m.x))

    build.__name__ = f"{reducer.lower()}_before_{function.lower()}"
    build.__doc__ = f"{reducer}({function}(x)) -> {function}({reducer}(x)){f' where x is {need.what}' if need is not None else ''}"
    leaves = [_text(reducer, function, None)] if need is not None else []
    if reducer.startswith("Reduce"):
        leaves.append(f"g (float[3,N] x) => (float[3,1] y) {_CONSTANTS} {{ t = {function}(x) y = {reducer}(t, a) }}")
    if function in _FALLING_AT:
        leaves.append(_text(reducer, f"{function}<alpha=-0.5>", None))
    if reducer == "MaxPool" and function in FUSED_ACTIVATIONS:
        leaves.append(
            f"g (float[N,1,4] x, float[1,1,1] w) => (float[N,1,2] y) {{ c = Conv(x, w) t = {function}(c) y = MaxPool<kernel_shape=[2], strides=[2]>(t) }}"
        )
    opset = max(opset, 13 if reducer.startswith("Reduce") else 8)
    return rule(before, drift=drift, examples=[_text(reducer, function, (0.5, 3.0) if need else None)], leaves=leaves, opset=opset)(build)


COMMUTING = tuple(_commuting(reducer, function) for reducer in _REDUCERS for function in _INCREASING)

_OPPOSITE = {"ReduceMax": "ReduceMin", "ReduceMin": "ReduceMax"}


def _negated_extreme(reducer: str) -> Rule:
    def before(op: Pen, x: object, axes: object = None) -> object:
        return getattr(op, reducer)(op.Neg(x), axes, _attrs=ANY)

    def build(op: Build, m: Match) -> Result:
        if m.x.dtype not in FLOATS:
            return skip("-x overflows for the least integer")
        return refuses_reduction(m.root) or op.Neg(again(op, m.root, _OPPOSITE[reducer], m.x))

    build.__name__ = f"{reducer.lower()}_before_neg"
    build.__doc__ = f"{reducer}(-x) -> -{_OPPOSITE[reducer]}(x)"
    leaf = f"g (int32[N,3] x) => (int32[N,1] y) {_CONSTANTS} {{ t = Neg(x) y = {reducer}(t, a) }}"
    return rule(before, drift=ROUNDING, examples=[_text(reducer, "Neg", None)], leaves=[leaf], opset=13)(build)


NEGATED_EXTREMES = tuple(map(_negated_extreme, _OPPOSITE))


def _number(m: Match) -> float | None:
    """The one number in the constant ``c``, if it cannot give the result more dimensions than ``x`` has."""
    return scalar(m.c) if broadcasts_into(m.c.shape, m.x.shape) else None


def _shifted(reducer: str, kind: str) -> Rule:
    """Extremes and means of x + c, for one number c."""
    sign = {"Add": "+", "Sub": "-"}[kind]

    def before(op: Pen, x: object, c: Const, axes: object = None) -> object:
        return getattr(op, reducer)(getattr(op, kind)(x, c), axes, _attrs=ANY)

    def build(op: Build, m: Match) -> Result:
        number = _number(m)
        if number is None or m.x.dtype not in FLOATS or not abs(number) < 1e4:
            return skip("'%s' has shape %s, '%s' is %s", m.c.name, m.c.shape, m.x.name, m.x.dtype)
        return refuses_reduction(m.root) or getattr(op, kind)(again(op, m.root, reducer, m.x), number)

    build.__name__ = f"{reducer.lower()}_before_{kind.lower()}"
    build.__doc__ = f"{reducer}(x {sign} c) -> {reducer}(x) {sign} c for one number c"
    given, made, call = _BODIES.get(reducer, _BODIES["ReduceMin"])
    call = call.replace("ReduceMin", reducer)
    numbers = "<int64[1] a = {1}, float[1] c = {2}>"
    leaf = "<int64[1] a = {1}, float[3] c = {1,2,3}>"
    return rule(
        before,
        drift=ROUNDING,
        examples=[f"g ({given} x) => ({made} y) {numbers} {{ t = {kind}(x, c) y = {call.format('t')} }}"],
        leaves=[f"g ({given} x) => ({made} y) {leaf} {{ t = {kind}(x, c) y = {call.format('t')} }}"],
        opset=18,
    )(build)


SHIFTED = tuple(_shifted(reducer, kind) for reducer in ("ReduceMax", "ReduceMin", "ReduceMean") for kind in ("Add", "Sub"))


def _scaled(reducer: str, kind: str) -> Rule:
    """Sums, means and extremes of x * c, for one number c; a negative one turns extremes around."""
    sign = {"Mul": "*", "Div": "/"}[kind]

    def before(op: Pen, x: object, c: Const, axes: object = None) -> object:
        return getattr(op, reducer)(getattr(op, kind)(x, c), axes, _attrs=ANY)

    def build(op: Build, m: Match) -> Result:
        number = _number(m)
        if number is None or m.x.dtype not in FLOATS:  # ONNX Runtime adds large integers up in doubles.
            return skip("'%s' has shape %s, '%s' is %s", m.c.name, m.c.shape, m.x.name, m.x.dtype)
        if not 1e-4 <= abs(number) <= 1e4:
            return skip("a factor of %s may make the reduction overflow, or nothing of it", number)
        kept = _OPPOSITE.get(reducer, reducer) if number < 0 else reducer
        return refuses_reduction(m.root) or getattr(op, kind)(again(op, m.root, kept, m.x), number)

    build.__name__ = f"{reducer.lower()}_before_{kind.lower()}"
    build.__doc__ = f"{reducer}(x {sign} c) -> {reducer}(x) {sign} c for one number c{', turned around for c < 0' if reducer in _OPPOSITE else ''}"
    given, made, call = _BODIES.get(reducer, _BODIES["ReduceMin"])
    call = call.replace("ReduceMin", reducer)
    examples = [f"g ({given} x) => ({made} y) <int64[1] a = {{1}}, float c = {{{number}}}> {{ t = {kind}(x, c) y = {call.format('t')} }}" for number in (2, -3)]
    leaves = [
        f"g ({given} x) => ({made} y) <int64[1] a = {{1}}, float[3] c = {{1,2,3}}> {{ t = {kind}(x, c) y = {call.format('t')} }}",
        f"g ({given} x) => ({made} y) <int64[1] a = {{1}}, float c = {{0}}> {{ t = {kind}(x, c) y = {call.format('t')} }}",
        f"g ({given.replace('float', 'int64')} x) => ({made.replace('float', 'int64')} y) <int64[1] a = {{1}}, int64 c = {{2}}>"
        f" {{ t = {kind}(x, c) y = {call.format('t')} }}",
    ]
    return rule(before, drift=ROUNDING, examples=examples, leaves=leaves, opset=18)(build)


SCALED = tuple(_scaled(reducer, kind) for reducer in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin") for kind in ("Mul", "Div"))


def _negated_sum(reducer: str) -> Rule:
    def before(op: Pen, x: object, axes: object = None) -> object:
        return getattr(op, reducer)(op.Neg(x), axes, _attrs=ANY)

    def build(op: Build, m: Match) -> Result:
        if reducer == "ReduceMean" and m.x.dtype not in FLOATS:
            return skip("the mean of integers rounds")
        return op.Neg(again(op, m.root, reducer, m.x))

    build.__name__ = f"{reducer.lower()}_before_neg"
    build.__doc__ = f"{reducer}(-x) -> -{reducer}(x)"
    text = f"g (float[N,3] x) => (float[N,1] y) {_CONSTANTS} {{ t = Neg(x) y = {reducer}(t, a) }}"
    return rule(before, drift=ROUNDING, examples=[text], opset=13)(build)


NEGATED_SUMS = tuple(map(_negated_sum, ("ReduceSum", "ReduceMean")))


def _unsigned(reducer: str, inner: str) -> Rule:
    def before(op: Pen, x: object, axes: object = None) -> object:
        return getattr(op, reducer)(getattr(op, inner)(x), axes, _attrs=ANY)

    def build(op: Build, m: Match) -> Result:
        return again(op, m.root, reducer, m.x) if m.x.dtype in FLOATS else skip("'%s' is %s", m.x.name, m.x.dtype)

    build.__name__ = f"{reducer.lower()}_of_{inner.lower()}"
    build.__doc__ = f"{reducer}({inner}(x)) -> {reducer}(x)"
    text = f"g (float[N,3] x) => (float[N,1] y) {_CONSTANTS} {{ t = {inner}(x) y = {reducer}(t, a) }}"
    return rule(before, drift=ROUNDING, examples=[text], opset=18)(build)


UNSIGNED = tuple(_unsigned(reducer, inner) for reducer in ("ReduceL1", "ReduceL2", "ReduceSumSquare") for inner in ("Neg", "Abs"))


def exponentials(op: Pen, x: object, axes: object = None) -> object:
    return op.ReduceProd(op.Exp(x), axes, _attrs=ANY)


@rule(
    exponentials,
    drift=DOMAIN,
    opset=18,
    examples=[
        "g (int8[N,3] r) => (float[N,1] y) <int64[1] a = {1}, float lo = {-2}, float hi = {2}>"
        " { n = Cast<to=1>(r) x = Clip(n, lo, hi) t = Exp(x) y = ReduceProd(t, a) }"
    ],
    leaves=[
        "g (float[N,3] x) => (float[N,1] y) <int64[1] a = {1}> { t = Exp(x) y = ReduceProd(t, a) }",
        "g (int8[3,N] r) => (float[3,1] y) <int64[1] a = {1}, float lo = {-2}, float hi = {2}>"
        " { n = Cast<to=1>(r) x = Clip(n, lo, hi) t = Exp(x) y = ReduceProd(t, a) }",
    ],
)
def multiply_exponentials_by_adding(op: Build, m: Match) -> Result:
    """ReduceProd(exp(x)) -> exp(ReduceSum(x)) where no partial product overflows (DNNFusion, table 4)"""
    if m.x.dtype not in FLOATS:
        return skip("'%s' is %s", m.x.name, m.x.dtype)
    if not m.fast_math:
        dims, bound = _reduced_dims(m.root), m.ranges.interval(m.x).magnitude
        if dims is None or not all(isinstance(dim, int) for dim in dims):
            return skip("nothing is known of how large '%s' is", m.x.name)
        bound *= math.prod(dim for dim in dims if isinstance(dim, int))
        if bound > (80 if m.x.dtype in (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.BFLOAT16) else 10):
            return skip("a product of up to e^%s may overflow", bound)
    return op.Exp(again(op, m.root, "ReduceSum", m.x))


def met_sums(op: Pen, a: object, b: object, c: object, axes: object = None) -> object:
    total = op.ReduceSum(b, axes, _attrs=ANY, _name="total")
    return op.Mul(op.Mul(a, total), op.Mul(total, c))


@rule(
    met_sums,
    drift=ROUNDING,
    opset=13,
    shared=True,
    examples=[
        "g (float[N,3] a, float[N,3] b, float[N,3] c) => (float[N,3] y) <int64[1] x = {1}> { s = ReduceSum(b, x) p = Mul(a, s) q = Mul(s, c) y = Mul(p, q) }"
    ],
    leaves=[
        "g (float[N,3] a, float[N,3] b, float[N,3] c) => (float[N,3] y, float[N,3] p) <int64[1] x = {1}>"
        " { s = ReduceSum(b, x) p = Mul(a, s) q = Mul(s, c) y = Mul(p, q) }"
    ],
)
def square_shared_sum(op: Build, m: Match) -> Result:
    """(a sum(b)) (sum(b) c) -> (a c) sum(b)^2 (DNNFusion, table 4)"""
    total = m.node("total").outputs[0]
    if any(len(value.uses()) != 1 or value.is_graph_output() for value in m.root.inputs if value is not None):
        return skip("a product in between is also needed elsewhere")
    return op.Mul(op.Mul(m.a, m.c), op.Mul(total, total))
