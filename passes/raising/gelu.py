"""Gaussian error linear units (Hendrycks and Gimpel 2016), in whatever order exporters spell them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import pi, sqrt

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from .polynomial import FLOATS, Terms, claim, made_by, means, monomial, read, read_twice
from .precision import in_widest

CUBIC = 0.044715
SLOPE = sqrt(2 / pi)

ERF = "float r = {1.4142135}, float q = {0.70710677}, float one = {1}, float half = {0.5}, float two = {2}"
TANH = "float k = {0.044715}, float s = {0.7978846}, float sk = {0.0356774}, float one = {1}, float half = {0.5}, float two = {2}, float three = {3}"

TWICE = TANH.replace("0.7978846", "1.5957691")


def _erf(body: str, constants: str = ERF, given: str = "float[N,4] x") -> str:
    """A model; the constants of 16 bits further down are written as their bits."""
    return f"g ({given}) => (float[N,4] y) <{constants}> {{ {body} }}"


def _tanh(body: str, constants: str = TANH, given: str = "float[N,4] x") -> str:
    return f"g ({given}) => (float[N,4] y) <{constants}> {{ {body} }}"


@rule(
    "Mul",
    "Div",
    "Add",
    drift=ROUNDING,
    opset=20,
    examples=[
        _erf("a = Div(x, r) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half)"),
        _erf("a = Mul(q, x) b = Erf(a) c = Add(one, b) d = Mul(half, x) y = Mul(c, d)", ERF.replace("float half", "float[1] half")),
        _erf("a = Mul(q, x) b = Erf(a) c = Mul(half, b) d = Add(half, c) y = Mul(d, x)"),
        _erf("a = Mul(q, x) b = Erf(a) c = Add(b, one) d = Mul(c, half) y = Mul(d, x)"),
        _erf("a = Mul(q, x) b = Erf(a) c = Add(b, one) d = Mul(c, x) y = Div(d, two)"),
        _erf("a = Mul(q, x) b = Erf(a) c = Mul(x, b) d = Add(x, c) y = Mul(d, half)"),
        _erf("h = Mul(x, half) a = Div(x, r) b = Erf(a) c = Mul(h, b) y = Add(h, c)"),
        _erf("a = Neg(x) b = Div(a, r) c = Erf(b) d = Sub(one, c) e = Mul(d, x) y = Mul(e, half)"),
        _erf("a = Mul(q, x) b = Erf(a) c = Add(b, one) d = Mul(c, x) y = Mul(d, half)", ERF.replace("float half = {0.5}", "float[4] half = {0.5,0.5,0.5,0.5}")),
        "g (float16[N,4] x) => (float16[N,4] y) <float16 r = {15784}, float16 one = {15360}, float16 half = {14336}>"
        " { a = Div(x, r) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half) }",
        "g (float16[N,4] x) => (float16[N,4] y) <float r = {1.4142135}, float one = {1}, float16 half = {14336}>"
        " { w = Cast<to=1>(x) a = Div(w, r) b = Erf(a) c = Add(b, one) n = Cast<to=10>(c) d = Mul(x, n) y = Mul(d, half) }",
    ],
    leaves=[
        _erf("a = Div(x, r) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half)", ERF.replace("1.4142135", "1.41")),
        _erf("a = Div(x, r) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half)", ERF.replace("{0.5}", "{0.4999}")),
        _erf("a = Mul(x, r) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half)"),
        _erf("a = Div(r, x) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half)"),
        _erf("a = Div(x, r) b = Erf(a) c = Sub(b, one) d = Mul(x, c) y = Mul(d, half)"),
        _erf("a = Div(x, r) b = Erf(a) c = Add(b, one) d = Mul(z, c) y = Mul(d, half)", given="float[N,4] x, float[N,4] z"),
        _erf(
            "a = Div(x, r) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half)", ERF.replace("float half = {0.5}", "float[1,4] half = {0.5,0.5,0.5,0.6}")
        ),
        "g (float[N,4] x) => (float[N,4] y, float[N,4] b) <float r = {1.4142135}, float one = {1}, float half = {0.5}>"
        " { a = Div(x, r) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half) }",
        "g (float[N,1] x) => (float[N,4] y) <float r = {1.4142135}, float one = {1}, float[4] half = {0.5,0.5,0.5,0.5}>"
        " { a = Div(x, r) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half) }",
        "g (float[N,4] x) => (float[N,4] y) <float r = {1.4142135}, float one = {1}, float half = {0.5}>"
        " { n = Cast<to=10>(x) w = Cast<to=1>(n) a = Div(w, r) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half) }",
    ],
)
def raise_gelu(op: Build, m: Match) -> Result:
    """x/2 (1 + erf(x / sqrt 2)) -> Gelu(x)"""
    return _raise(op, m, "Erf", lambda x: {monomial(x): 1 / sqrt(2)}, "none")


@rule(
    "Mul",
    "Div",
    "Add",
    drift=ROUNDING,
    opset=20,
    examples=[
        _tanh("p = Pow(x, three) a = Mul(p, k) b = Add(x, a) c = Mul(b, s) t = Tanh(c) d = Add(t, one) e = Mul(x, half) y = Mul(e, d)"),
        _tanh(
            "p = Pow(x, cube) a = Mul(p, k) b = Add(x, a) c = Mul(b, s) t = Tanh(c) d = Add(t, one) e = Mul(x, half) y = Mul(e, d)",
            f"{TANH}, int64 cube = {{3}}",
        ),
        _tanh("q = Mul(x, x) p = Mul(x, q) a = Mul(k, p) b = Add(x, a) c = Mul(s, b) t = Tanh(c) d = Add(one, t) e = Mul(x, d) y = Mul(e, half)"),
        _tanh("a = Mul(x, k) b = Mul(a, x) c = Mul(b, x) d = Add(x, c) e = Mul(d, s) t = Tanh(e) f = Add(t, one) h = Mul(f, half) y = Mul(x, h)"),
        _tanh("a = Mul(x, s) b = Mul(k, x) c = Mul(b, x) d = Add(c, one) e = Mul(a, d) t = Tanh(e) f = Mul(t, half) h = Add(f, half) y = Mul(x, h)"),
        _tanh("a = Mul(x, s) q = Pow(x, two) b = Mul(k, q) d = Add(b, one) e = Mul(a, d) t = Tanh(e) f = Add(t, one) h = Mul(f, x) y = Div(h, two)"),
        _tanh("q = Mul(x, x) a = Mul(q, sk) b = Add(a, s) c = Mul(b, x) t = Tanh(c) f = Add(t, one) h = Mul(x, half) y = Mul(h, f)"),
        _tanh("p = Pow(x, three) a = Mul(p, sk) l = Mul(x, s) b = Add(l, a) t = Tanh(b) d = Mul(x, t) e = Add(d, x) y = Mul(e, half)"),
        "g (float16[N,4] x) => (float16[N,4] y)"
        " <float16 k = {10681}, float16 s = {14946}, float16 three = {16896}, float16 one = {15360}, float16 half = {14336}>"
        " { p = Pow(x, three) a = Mul(p, k) b = Add(x, a) c = Mul(b, s) t = Tanh(c) d = Add(t, one) e = Mul(x, half) y = Mul(e, d) }",
    ],
    leaves=[
        _tanh(
            "p = Pow(x, three) a = Mul(p, k) b = Add(x, a) c = Mul(b, s) t = Tanh(c) d = Add(t, one) e = Mul(x, half) y = Mul(e, d)",
            TANH.replace("0.044715", "0.0447"),
        ),
        _tanh("p = Pow(x, two) a = Mul(p, k) b = Add(x, a) c = Mul(b, s) t = Tanh(c) d = Add(t, one) e = Mul(x, half) y = Mul(e, d)"),
        _tanh(
            "p = Pow(x, three) a = Mul(p, k) b = Add(x, a) c = Mul(b, s) t = Tanh(c) d = Add(t, one) e = Mul(x, half) y = Mul(e, d)",
            TANH.replace("0.7978846", "0.79"),
        ),
        _tanh(
            "p = Pow(z, three) a = Mul(p, k) b = Add(x, a) c = Mul(b, s) t = Tanh(c) d = Add(t, one) e = Mul(x, half) y = Mul(e, d)",
            given="float[N,4] x, float[N,4] z",
        ),
        _tanh("p = Pow(x, three) a = Mul(p, k) b = Add(x, a) c = Mul(b, s) t = Tanh(c) d = Add(t, one) e = Mul(x, one) y = Mul(e, d)"),
    ],
)
def raise_tanh_gelu(op: Build, m: Match) -> Result:
    """x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) -> Gelu(x, approximate=tanh)"""
    return _raise(op, m, "Tanh", lambda x: {monomial(x): SLOPE, monomial(x, x, x): SLOPE * CUBIC}, "tanh")


@rule(
    "Mul",
    drift=ROUNDING,
    opset=20,
    examples=[
        _tanh("p = Pow(x, three) a = Mul(p, k) b = Add(x, a) c = Mul(b, s) t = Sigmoid(c) y = Mul(x, t)", TWICE),
        _tanh("q = Mul(x, x) a = Mul(q, k) b = Add(a, one) c = Mul(b, x) d = Mul(c, s) t = Sigmoid(d) y = Mul(t, x)", TWICE),
    ],
    leaves=[
        _tanh("p = Pow(x, three) a = Mul(p, k) b = Add(x, a) c = Mul(b, s) t = Sigmoid(c) y = Mul(x, t)"),
        _tanh("p = Pow(x, three) a = Mul(p, k) b = Add(x, a) c = Mul(b, s) t = Tanh(c) y = Mul(x, t)", TWICE),
    ],
)
def raise_sigmoid_gelu(op: Build, m: Match) -> Result:
    """x sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3)) -> Gelu(x, approximate=tanh)"""
    y = m.outputs[0]
    for node in made_by(y, "Sigmoid"):
        for x in read_twice(y, node):
            outer, inner = read(y, x), read(node.inputs[0], x)
            wanted = {monomial(x): 2 * SLOPE, monomial(x, x, x): 2 * SLOPE * CUBIC}
            if outer is None or inner is None or x.dtype not in FLOATS or not means(inner, wanted, y.dtype):
                continue
            if means(outer, {monomial(x, node.outputs[0]): 1.0}, y.dtype):
                claim(m, outer, inner, node)
                return in_widest(op, m, x, partial(op.Gelu, approximate="tanh"))
        return None
    return None


def _raise(op: Build, m: Match, gate: str, argument: Callable[[ir.Value], Terms], approximate: str) -> Result:
    """``x/2 + x/2 gate(argument(x))`` as one Gelu; both gates are odd, so a negative argument with a negative factor means the same."""
    y = m.outputs[0]
    for node in made_by(y, gate):
        for x in read_twice(y, node):
            outer, inner = read(y, x), read(node.inputs[0], x)
            if outer is None or inner is None or x.dtype not in FLOATS:
                continue
            sign = -1.0 if inner.terms.get(monomial(x), 0.0) < 0 else 1.0
            wanted = {key: sign * number for key, number in argument(x).items()}
            if means(outer, {monomial(x): 0.5, monomial(x, node.outputs[0]): 0.5 * sign}, y.dtype) and means(inner, wanted, node.inputs[0].dtype):  # type: ignore[union-attr]
                claim(m, outer, inner, node)
                return in_widest(op, m, x, partial(op.Gelu, approximate=approximate))
        return skip("what surrounds %s is not x/2 (1 + it) with the argument a Gelu has", node.name)
    return None
