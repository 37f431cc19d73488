"""Gaussian error linear units (Hendrycks and Gimpel 2016), in the spellings that exporters use."""

from __future__ import annotations

from math import pi, sqrt

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.pattern import Pen
from ...compiler.core.rule import Match, Result, rule

CUBIC = 0.044715
SLOPE = sqrt(2 / pi)


def erf_plus_one(op: Pen, x: object) -> object:
    return op.Add(op.Erf(op.Div(x, sqrt(2))), 1.0)


def erf_plus_one_scaled(op: Pen, x: object) -> object:
    return op.Add(op.Erf(op.Mul(x, 1 / sqrt(2))), 1.0)


def tanh_plus_one(op: Pen, x: object) -> object:
    cube = op.Pow(x, 3.0)
    return op.Add(op.Tanh(op.Mul(op.Add(x, op.Mul(cube, CUBIC)), SLOPE)), 1.0)


def tanh_plus_one_multiplied(op: Pen, x: object) -> object:
    cube = op.Mul(op.Mul(x, x), x)
    return op.Add(op.Tanh(op.Mul(op.Add(x, op.Mul(cube, CUBIC)), SLOPE)), 1.0)


def tanh_plus_one_left(op: Pen, x: object) -> object:
    cube = op.Mul(op.Mul(op.Mul(x, CUBIC), x), x)
    return op.Add(op.Tanh(op.Mul(op.Add(x, cube), SLOPE)), 1.0)


def tanh_plus_one_factored(op: Pen, x: object) -> object:
    square = op.Add(op.Mul(op.Mul(x, CUBIC), x), 1.0)
    return op.Add(op.Tanh(op.Mul(op.Mul(x, SLOPE), square)), 1.0)


def tanh_plus_one_squared(op: Pen, x: object) -> object:
    square = op.Add(op.Mul(op.Mul(x, x), CUBIC), 1.0)
    return op.Add(op.Tanh(op.Mul(op.Mul(x, SLOPE), square)), 1.0)


def tanh_plus_one_power(op: Pen, x: object) -> object:
    square = op.Add(op.Mul(op.Pow(x, 2.0), CUBIC), 1.0)
    return op.Add(op.Tanh(op.Mul(op.Mul(x, SLOPE), square)), 1.0)


def halved_last(bracket: object) -> object:
    def draw(op: Pen, x: object) -> object:
        return op.Mul(op.Mul(x, bracket(op, x)), 0.5)  # type: ignore[operator]

    return draw


def halved_input(bracket: object) -> object:
    def draw(op: Pen, x: object) -> object:
        return op.Mul(op.Mul(x, 0.5), bracket(op, x))  # type: ignore[operator]

    return draw


def halved_bracket(bracket: object) -> object:
    def draw(op: Pen, x: object) -> object:
        return op.Mul(x, op.Mul(bracket(op, x), 0.5))  # type: ignore[operator]

    return draw


def spread(bracket: object) -> object:
    def draw(op: Pen, x: object) -> object:
        half = op.Add(op.Mul(_inner(bracket, op, x), 0.5), 0.5)
        return op.Mul(x, half)

    return draw


def _inner(bracket: object, op: Pen, x: object) -> object:
    """The erf or tanh inside a bracket, without its + 1."""
    return bracket(op, x).node.inputs[0]  # type: ignore[operator]


def spellings(*brackets: object) -> list:
    """Every way of multiplying x, one half and the bracket."""
    return [shape(bracket) for bracket in brackets for shape in (halved_last, halved_input, halved_bracket, spread)]


@rule(
    *spellings(erf_plus_one, erf_plus_one_scaled),
    drift=ROUNDING,
    opset=20,
    examples=[
        "g (float[N,4] x) => (float[N,4] y) <float r = {1.4142135}, float one = {1}, float half = {0.5}>"
        " { a = Div(x, r) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half) }",
        "g (float[N,4] x) => (float[N,4] y) <float r = {0.70710677}, float one = {1}, float[1] half = {0.5}>"
        " { a = Mul(r, x) b = Erf(a) c = Add(one, b) d = Mul(half, x) y = Mul(c, d) }",
        "g (float[N,4] x) => (float[N,4] y) <float r = {0.70710677}, float half = {0.5}>"
        " { a = Mul(r, x) b = Erf(a) c = Mul(half, b) d = Add(half, c) y = Mul(d, x) }",
    ],
    leaves=[
        "g (float[N,4] x) => (float[N,4] y) <float r = {1.41}, float one = {1}, float half = {0.5}>"
        " { a = Div(x, r) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half) }",
        "g (float[N,4] x) => (float[N,4] y, float[N,4] b) <float r = {1.4142135}, float one = {1}, float half = {0.5}>"
        " { a = Div(x, r) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half) }",
        "g (float[N,4] x, float[N,4] z) => (float[N,4] y) <float r = {1.4142135}, float one = {1}, float half = {0.5}>"
        " { a = Div(x, r) b = Erf(a) c = Add(b, one) d = Mul(z, c) y = Mul(d, half) }",
    ],
)
def raise_gelu(op: Build, m: Match) -> Result:
    """x/2 (1 + erf(x / sqrt 2)) -> Gelu(x)"""
    return op.Gelu(m.x)


@rule(
    *spellings(
        tanh_plus_one, tanh_plus_one_multiplied, tanh_plus_one_left, tanh_plus_one_factored, tanh_plus_one_squared, tanh_plus_one_power
    ),
    drift=ROUNDING,
    opset=20,
    examples=[
        "g (float[N,4] x) => (float[N,4] y) <float k = {0.044715}, float s = {0.7978846}, float three = {3}, float one = {1}, float half = {0.5}>"
        " { p = Pow(x, three) a = Mul(p, k) b = Add(x, a) c = Mul(b, s) t = Tanh(c) d = Add(t, one) e = Mul(x, half) y = Mul(e, d) }",
        "g (float[N,4] x) => (float[N,4] y) <float k = {0.044715}, float s = {0.7978846}, float one = {1}, float half = {0.5}>"
        " { q = Mul(x, x) p = Mul(x, q) a = Mul(k, p) b = Add(x, a) c = Mul(s, b) t = Tanh(c) d = Add(one, t) e = Mul(x, d) y = Mul(e, half) }",
    ],
    leaves=[
        "g (float[N,4] x) => (float[N,4] y) <float k = {0.05}, float s = {0.7978846}, float three = {3}, float one = {1}, float half = {0.5}>"
        " { p = Pow(x, three) a = Mul(p, k) b = Add(x, a) c = Mul(b, s) t = Tanh(c) d = Add(t, one) e = Mul(x, half) y = Mul(e, d) }"
    ],
)
def raise_tanh_gelu(op: Build, m: Match) -> Result:
    """x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) -> Gelu(x, approximate=tanh)"""
    return op.Gelu(m.x, approximate="tanh")
