"""Work done before a tensor is spread out instead of after."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import broadcast, broadcasts_into
from ...compiler.core.drift import EXACT
from ...compiler.core.pattern import ANY, Pen
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule

TWO = ("Add", "Sub", "Mul", "Div", "And", "Or", "Xor", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Max", "Min", "Mod")
ONE = ("Not", "Neg", "Abs", "Cast", "Exp", "Sqrt", "Sin", "Cos", "Relu", "Sigmoid", "Tanh", "Floor", "Ceil", "IsNaN", "Sign", "Reciprocal", "Log")


def first(op: Pen, x: object, shape: object, y: object) -> object:
    return op.any(*TWO)(op.Expand(x, shape), y, _attrs=ANY)


def second(op: Pen, x: object, shape: object, y: object) -> object:
    return op.any("Sub", "Div", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Mod")(y, op.Expand(x, shape), _attrs=ANY)


@rule(
    first,
    second,
    drift=EXACT,
    opset=13,
    examples=[
        "g (float[1,S] x, float[1] z, float[N,S] w) => (float[N,S] y) { s = Shape(w) e = Expand(x, s) a = Mul(z, e) y = Neg(a) }",
        "g (int64[1,1,1,S] k, int64[1,1,S,1] q, float[N,1,1,S] v, float[N,1,S,1] w) => (bool[N,1,S,S] y)"
        " { s = Shape(v) t = Shape(w) e = Expand(k, s) f = Expand(q, t) a = LessOrEqual(e, f) y = Not(a) }",
        "g (float[1,S] x, float[N,S] w) => (float[N,S] y) { s = Shape(w) e = Expand(x, s) a = Mul(e, e) y = Neg(a) }",
        "g (int64[1,S] x, int64[1] z, float[N,S] w) => (int64[N,S] y) { s = Shape(w) e = Expand(x, s) a = Sub(z, e) y = Neg(a) }",
    ],
    leaves=[
        "g (float[1,S] x, float[N,S] z) => (float[N,S] y) { s = Shape(z) e = Expand(x, s) a = Mul(z, e) y = Neg(a) }",
        "g (float[1,S] x, float[1] z, float[N,S] w) => (float[N,S] y, float[N,S] e) { s = Shape(w) e = Expand(x, s) a = Mul(z, e) y = Neg(a) }",
    ],
)
def work_before_expand(op: Build, m: Match) -> Result:
    """f(Expand(x, s), y) -> Expand(f(x, y), s)"""
    source = next((value for value in m.root.inputs if value is not m.y), None)
    if source is None:
        return op.Expand(op.like(m.root, m.x, m.x), m.shape)
    if source.shape is None or m.x.shape is None or m.y.shape is None:
        return skip("the shape of '%s' or '%s' is not known", m.x.name, m.y.name)
    if broadcasts_into(source.shape, m.y.shape):
        return skip("'%s' is as large as what '%s' is expanded to", m.y.name, m.x.name)
    if broadcast(m.x.shape, m.y.shape) is None:
        return skip("'%s' and '%s' cannot be broadcast together", m.x.name, m.y.name)
    operands = [m.x if value is source else value for value in m.root.inputs]
    return op.Expand(op.like(m.root, *operands), m.shape)


def choice(op: Pen, c: object, shape: object, x: object, y: object) -> object:
    return op.Where(op.Expand(c, shape), x, y)


@rule(
    choice,
    drift=EXACT,
    opset=13,
    examples=[
        "g (bool[1,S] c, float[N,S] v) => (float[N,S] y) <float a = {0}, float b = {-9}> { s = Shape(v) e = Expand(c, s) w = Where(e, a, b) y = Neg(w) }"
    ],
    leaves=["g (bool[1,S] c, float[N,S] x) => (float[N,S] y) <float b = {-9}> { s = Shape(x) e = Expand(c, s) w = Where(e, x, b) y = Neg(w) }"],
)
def choose_before_expand(op: Build, m: Match) -> Result:
    """Where(Expand(c, s), x, y) -> Expand(Where(c, x, y), s) for single numbers x and y"""
    if not all(_is_single(value) for value in (m.x, m.y)):
        return skip("'%s' or '%s' is no single number", m.x.name, m.y.name)
    return op.Expand(op.Where(m.c, m.x, m.y), m.shape)


def _is_single(value: ir.Value) -> bool:
    return value.shape is not None and len(value.shape) == 0


def alone(op: Pen, x: object, shape: object) -> object:
    return op.any(*ONE)(op.Expand(x, shape), _attrs=ANY)


@rule(
    alone,
    drift=EXACT,
    opset=13,
    examples=["g (bool[1,S] c, float[N,S] v) => (bool[N,S] y) { s = Shape(v) e = Expand(c, s) n = Not(e) y = Identity(n) }"],
    leaves=["g (bool[1,S] c, float[N,S] v) => (bool[N,S] y, bool[N,S] e) { s = Shape(v) e = Expand(c, s) n = Not(e) y = Identity(n) }"],
)
def compute_before_expand(op: Build, m: Match) -> Result:
    """f(Expand(x, s)) -> Expand(f(x), s)"""
    return op.Expand(op.like(m.root, m.x), m.shape)
