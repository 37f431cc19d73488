"""Sigmoid, Tanh, Softplus and Softsign spelled with Exp, Log and Abs."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import DOMAIN, ROUNDING
from ...compiler.core.graph import producer
from ...compiler.core.pattern import Pen
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from .polynomial import FLOAT, FLOAT16, FLOATS, ONE, SINGLES, claim, close, made_by, means, monomial, number_beside, read
from .precision import in_widest

NUMBERS = "float one = {1}, float two = {2}, float half = {0.5}, float zero = {0}"
EXP_OVERFLOWS = {FLOAT: 88.0, FLOAT16: 11.0}
"""exp of less is finite."""


def _model(body: str, given: str = "float[N,4] x", constants: str = NUMBERS) -> str:
    return f"g ({given}) => (float[N,4] y) <{constants}> {{ {body} }}"


@rule(
    "Div",
    "Reciprocal",
    drift=ROUNDING,
    examples=[
        _model("n = Neg(x) e = Exp(n) d = Add(e, one) y = Div(one, d)"),
        _model("n = Neg(x) e = Exp(n) d = Add(one, e) y = Reciprocal(d)"),
        _model("n = Mul(x, m) e = Exp(n) d = Add(one, e) y = Div(one, d)", constants="float one = {1}, float m = {-1}"),
        _model("n = Mul(x, m) e = Exp(n) d = Add(one, e) y = Div(one, d)", constants="float one = {1}, float m = {-1.5}"),
        "g (double[N,4] x) => (double[N,4] y) <double one = {1}> { n = Neg(x) e = Exp(n) d = Add(e, one) y = Div(one, d) }",
    ],
    leaves=[
        _model("e = Exp(x) d = Sub(e, one) y = Div(one, d)"),
        _model("n = Neg(x) e = Exp(n) d = Add(e, two) y = Div(one, d)"),
        _model("n = Neg(x) e = Exp(n) d = Add(e, one) y = Div(two, d)"),
        _model("n = Neg(x) e = Exp(n) d = Add(e, one) y = Div(d, one)"),
        "g (float[N,1] x) => (float[N,4] y) <float[4] v = {1,1,1,1}, float one = {1}> { n = Neg(x) e = Exp(n) d = Add(e, one) y = Div(v, d) }",
        "g (float[N,4] x) => (float[N,4] y, float[N,4] e) <float one = {1}> { n = Neg(x) e = Exp(n) d = Add(e, one) y = Div(one, d) }",
    ],
)
def raise_sigmoid(op: Build, m: Match) -> Result:
    """1 / (1 + exp(-x)) -> Sigmoid(x)"""
    below = m.root.inputs[-1]
    if m.root.op_type == "Div" and number_beside(m.root, 0) != 1:
        return None
    for node in made_by(below, "Exp"):
        outer, argument = read(below), node.inputs[0]
        if argument is None or not means(outer, {ONE: 1.0, monomial(node.outputs[0]): 1.0}, argument.dtype):
            return skip("what surrounds %s is not 1 / (1 + it)", node.name)
        claim(m, outer, node)  # type: ignore[arg-type]
        return _of_scaled(op, m, argument, -1.0, op.Sigmoid)
    return None


def _of_scaled(op: Build, m: Match, argument: ir.Value, factor: float, make: Callable[[ir.Value], object]) -> Result:
    """``make(factor * argument)``, with the factors that are already on the argument multiplied in."""
    product = read(argument)
    x = next((value for key in product.terms for value, power in key if power == 1 and len(key) == 1), argument) if product is not None else argument
    line = product.linear(x) if product is not None else None
    if product is None or line is None or line[1] != 0:
        x, scale = argument, factor
    else:
        claim(m, product)
        scale = line[0] * factor
    if close(scale, 1.0, argument.dtype):
        return in_widest(op, m, x, make, FLOATS)
    return in_widest(op, m, x, lambda value: make(op.Neg(value) if scale == -1 else op.Mul(value, scale)), FLOATS)  # type: ignore[arg-type]


@rule(
    "Add",
    "Mul",
    "Div",
    drift=ROUNDING,
    examples=[
        _model("h = Mul(x, half) t = Tanh(h) a = Add(t, one) y = Mul(a, half)"),
        _model("h = Div(x, two) t = Tanh(h) a = Mul(t, half) y = Add(a, half)"),
        _model("h = Div(x, two) t = Tanh(h) a = Add(one, t) y = Div(a, two)"),
    ],
    leaves=[
        _model("t = Tanh(x) a = Add(t, one) y = Mul(a, half)"),
        _model("h = Mul(x, half) t = Tanh(h) a = Add(t, one) y = Mul(a, two)"),
        _model("h = Mul(x, half) t = Tanh(h) y = Add(t, half)"),
    ],
)
def raise_tanh_sigmoid(op: Build, m: Match) -> Result:
    """(1 + tanh(x / 2)) / 2 -> Sigmoid(x)"""
    y = m.outputs[0]
    for node in made_by(y, "Tanh"):
        outer, inner = read(y), read(node.inputs[0])
        if inner is None or not means(outer, {ONE: 0.5, monomial(node.outputs[0]): 0.5}, y.dtype):
            return None
        x = next((value for key in inner.terms for value, power in key if power == 1), None)
        if x is None or not means(inner, {monomial(x): 0.5}, y.dtype):
            return skip("%s is not the tanh of x / 2", node.name)
        claim(m, outer, inner, node)  # type: ignore[arg-type]
        return in_widest(op, m, x, op.Sigmoid)
    return None


@rule(
    "Add",
    "Sub",
    drift=DOMAIN,
    examples=[
        _model("b = Mul(x, two) s = Sigmoid(b) c = Mul(s, two) y = Sub(c, one)"),
        _model("b = Mul(x, two) s = Sigmoid(b) c = Mul(two, s) y = Add(c, m)", constants="float two = {2}, float m = {-1}"),
    ],
    leaves=[
        _model("b = Mul(x, two) s = Sigmoid(b) c = Mul(s, two) y = Sub(c, one)"),
        _model("s = Sigmoid(x) c = Mul(s, two) y = Sub(c, one)"),
        _model("b = Mul(x, two) s = Sigmoid(b) c = Mul(s, two) y = Sub(one, c)"),
        _model("b = Mul(x, two) s = Sigmoid(b) c = Mul(s, two) y = Sub(c, half)"),
    ],
)
def raise_sigmoid_tanh(op: Build, m: Match) -> Result:
    """2 sigmoid(2 x) - 1 -> Tanh(x), where nobody counts on 0 for tiny x, of which the difference keeps no digit"""
    y = m.outputs[0]
    for node in made_by(y, "Sigmoid"):
        outer, inner = read(y), read(node.inputs[0])
        if inner is None or not means(outer, {ONE: -1.0, monomial(node.outputs[0]): 2.0}, y.dtype):
            return None
        x = next((value for key in inner.terms for value, power in key if power == 1), None)
        if x is None or not means(inner, {monomial(x): 2.0}, y.dtype):
            return skip("%s is not the sigmoid of 2 x", node.name)
        if not m.fast_math:
            return skip("where '%s' is tiny the difference is 0, and Tanh is not", x.name)
        claim(m, outer, inner, node)  # type: ignore[arg-type]
        return in_widest(op, m, x, op.Tanh)
    return None


@rule(
    "Div",
    drift=DOMAIN,
    examples=[
        _model("t = Tanh(x) e = Exp(t) d = Add(e, one) y = Div(e, d)"),
        _model("t = Tanh(x) e = Exp(t) d = Add(one, e) y = Div(e, d)"),
    ],
    leaves=[
        _model("e = Exp(x) d = Add(e, one) y = Div(e, d)"),
        _model("t = Tanh(x) e = Exp(t) d = Add(e, two) y = Div(e, d)"),
        _model("t = Tanh(x) e = Exp(t) f = Exp(x) d = Add(f, one) y = Div(e, d)"),
    ],
)
def raise_exp_sigmoid(op: Build, m: Match) -> Result:
    """exp(x) / (1 + exp(x)) -> Sigmoid(x), where exp does not overflow"""
    over, below = m.root.inputs
    node = producer(over, "Exp")
    if node is None or over is None:
        return None
    outer, x = read(below, over), node.inputs[0]
    if outer is None or x is None or not means(outer, {ONE: 1.0, monomial(over): 1.0}, over.dtype):
        return None
    if not (m.fast_math or _stays_finite(m, x)):
        return skip("exp('%s') may overflow: it gives NaN where Sigmoid gives 1", x.name)
    claim(m, outer, node)
    return in_widest(op, m, x, op.Sigmoid)


def _stays_finite(m: Match, x: ir.Value) -> bool:
    bound = m.ranges.bound(x)
    return bound is not None and bound < EXP_OVERFLOWS.get(x.dtype, 0.0)  # type: ignore[arg-type]


@rule(
    "Log",
    drift=DOMAIN,
    doubtful=("cpu",),
    measured=True,
    examples=[
        _model("t = Sin(x) e = Exp(t) d = Add(e, one) y = Log(d)"),
        _model("t = Sin(x) e = Exp(t) d = Add(one, e) y = Log(d)"),
    ],
    leaves=[
        _model("e = Exp(x) d = Add(e, one) y = Log(d)"),
        _model("t = Sin(x) e = Exp(t) d = Add(e, two) y = Log(d)"),
        _model("t = Sin(x) e = Exp(t) d = Sub(e, one) y = Log(d)"),
        "g (double[N,4] x) => (double[N,4] y) <double one = {1}> { t = Sin(x) e = Exp(t) d = Add(e, one) y = Log(d) }",
    ],
)
def raise_softplus(op: Build, m: Match) -> Result:
    """log(1 + exp(x)) -> Softplus(x), where exp does not overflow (ONNX Runtime's CPU kernel takes five times as long)"""
    below = m.root.inputs[0]
    for node in made_by(below, "Exp"):
        outer, x = read(below), node.inputs[0]
        if outer is None or x is None or not means(outer, {ONE: 1.0, monomial(node.outputs[0]): 1.0}, x.dtype):
            return None
        if not (m.fast_math or _stays_finite(m, x)):
            return skip("exp('%s') may overflow: it gives infinity where Softplus gives x", x.name)
        claim(m, outer, node)
        return in_widest(op, m, x, op.Softplus, SINGLES)
    return None


@rule(
    "Div",
    drift=DOMAIN,
    examples=[
        _model("t = Sin(x) e = Exp(t) n = Neg(t) f = Exp(n) a = Sub(e, f) b = Add(e, f) y = Div(a, b)"),
        _model("t = Sin(x) e = Exp(t) f = Reciprocal(e) a = Sub(e, f) b = Add(f, e) y = Div(a, b)"),
    ],
    leaves=[
        _model("t = Sin(x) e = Exp(t) n = Neg(t) f = Exp(n) a = Sub(e, f) b = Add(e, f) y = Div(a, b)"),
        _model("t = Sin(x) e = Exp(t) n = Neg(t) f = Exp(n) a = Sub(f, e) b = Add(e, f) y = Div(a, b)"),
        _model("t = Sin(x) e = Exp(t) n = Neg(x) f = Exp(n) a = Sub(e, f) b = Add(e, f) y = Div(a, b)"),
    ],
)
def raise_exp_tanh(op: Build, m: Match) -> Result:
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x)) -> Tanh(x), where exp does not overflow and x is not tiny"""
    over, under = m.root.inputs
    for node in made_by(over, "Exp"):
        gate, x = node.outputs[0], node.inputs[0]
        difference, total = read(over, gate), read(under, gate)
        others = [value for key in (total.terms if total is not None else ()) for value, _ in key if value is not gate]
        if difference is None or total is None or x is None or len(others) != 1:
            continue
        wanted = {monomial(gate): 1.0, monomial(others[0]): -1.0}
        if not means(difference, wanted, x.dtype) or not means(total, {monomial(gate): 1.0, monomial(others[0]): 1.0}, x.dtype):
            continue
        inverse = _inverse_exp(others[0], gate, x)
        if inverse is None:
            continue
        if not m.fast_math:
            return skip("exp('%s') may overflow, and where '%s' is tiny the difference is 0: Tanh has numbers there", x.name, x.name)
        claim(m, difference, total, node, *inverse)
        return in_widest(op, m, x, op.Tanh)
    return None


def _inverse_exp(value: ir.Value, exp: ir.Value, x: ir.Value) -> tuple[ir.Node, ...] | None:
    """The nodes that make ``value`` = exp(-x), given ``exp`` = exp(x)."""
    node = producer(value, "Exp", "Reciprocal")
    if node is None or node.op_type == "Reciprocal":
        return (node,) if node is not None and node.inputs[0] is exp else None
    argument = read(node.inputs[0], x)
    return (node, *argument.nodes) if argument is not None and means(argument, {monomial(x): -1.0}, x.dtype) else None


def stable(op: Pen, x: object) -> object:
    return op.Add(op.Relu(x), op.Log(op.Add(op.Exp(op.Neg(op.Abs(x))), 1.0)))


@rule(
    stable,
    drift=ROUNDING,
    doubtful=("cpu",),
    measured=True,
    examples=[_model("r = Relu(x) a = Abs(x) n = Neg(a) e = Exp(n) d = Add(e, one) l = Log(d) y = Add(r, l)")],
    leaves=[
        _model("r = Relu(z) a = Abs(x) n = Neg(a) e = Exp(n) d = Add(e, one) l = Log(d) y = Add(r, l)", "float[N,4] x, float[N,4] z"),
        _model("r = Relu(x) a = Abs(x) e = Exp(a) d = Add(e, one) l = Log(d) y = Add(r, l)"),
        _model("r = Relu(x) a = Abs(x) n = Neg(a) e = Exp(n) d = Add(e, two) l = Log(d) y = Add(r, l)"),
    ],
)
def raise_stable_softplus(op: Build, m: Match) -> Result:
    """Relu(x) + log(1 + exp(-|x|)) -> Softplus(x) (ONNX Runtime's CPU kernel takes five times as long)"""
    return in_widest(op, m, m.x, op.Softplus, SINGLES)


def absolute_plus_one(op: Pen, x: object) -> object:
    return op.Div(x, op.Add(op.Abs(x), 1.0))


@rule(
    absolute_plus_one,
    drift=ROUNDING,
    examples=[
        _model("a = Abs(x) b = Add(a, one) y = Div(x, b)"),
        _model("a = Abs(x) b = Add(one, a) y = Div(x, b)"),
    ],
    leaves=[
        _model("a = Abs(x) b = Add(a, two) y = Div(x, b)"),
        _model("a = Abs(z) b = Add(a, one) y = Div(x, b)", "float[N,4] x, float[N,4] z"),
        "g (double[N,4] x) => (double[N,4] y) <double one = {1}> { a = Abs(x) b = Add(a, one) y = Div(x, b) }",
    ],
)
def raise_softsign(op: Build, m: Match) -> Result:
    """x / (1 + |x|) -> Softsign(x)"""
    return in_widest(op, m, m.x, op.Softsign, SINGLES)
