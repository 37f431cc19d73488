"""Functions that do nothing the second time, that undo themselves, and operands that meet themselves."""

from __future__ import annotations

from ...compiler.core.drift import DOMAIN, EXACT, ROUNDING
from ...compiler.core.rule import Rule
from .law import BOOLEAN, FLOATS, INTEGERS, NONNEGATIVE, NUMBERS, inside, law, strictly

_ROUNDINGS = ("Floor", "Ceil", "Round")


def _rounded_twice(outer: str, inner: str) -> Rule:
    return law(
        f"drop-{outer.lower()}-of-{inner.lower()}",
        f"{outer}({inner}(x)) -> {inner}(x)",
        lambda op, x: getattr(op, outer)(getattr(op, inner)(x, _name="kept")),
        drift=EXACT,
        opset=11 if "Round" in (outer, inner) else 7,
    )


ROUNDED_TWICE = tuple(_rounded_twice(outer, inner) for outer in _ROUNDINGS for inner in (*_ROUNDINGS, "Sign"))
"""A whole number is left as it is."""

drop_relu_of_relu = law("drop-relu-of-relu", "relu(relu(x)) -> relu(x)", lambda op, x: op.Relu(op.Relu(x, _name="kept")), drift=EXACT)
drop_relu = law(
    "drop-relu",
    "relu(x) -> x where x >= 0",
    lambda op, x: op.Relu(x),
    lambda op, x: x,
    drift=DOMAIN,
    needs={"x": strictly(NONNEGATIVE)},
    examples=[
        "g (float[N,3] x) => (float[N,3] y) { a = Sigmoid(x) y = Relu(a) }",
        "g (float[N,3] x) => (float[N,3] y) { a = Softmax(x) b = Sqrt(a) y = Relu(b) }",
        "g (uint8[N,3] q) => (float[N,3] y) <float s = {0.5}> { x = DequantizeLinear(q, s) y = Relu(x) }",
    ],
    leaves=["g (float[N,3] x, float[N,3] z) => (float[N,3] y) { a = Mul(x, z) y = Relu(a) }"],
)

_INVOLUTIONS = {"Not": (EXACT, BOOLEAN, 7), "BitwiseNot": (EXACT, INTEGERS, 18), "Reciprocal": (ROUNDING, FLOATS, 7)}


def _undone(kind: str) -> Rule:
    drift, dtypes, opset = _INVOLUTIONS[kind]
    return law(
        f"cancel-{kind.lower()}",
        f"{kind}({kind}(x)) -> x",
        lambda op, x: getattr(op, kind)(getattr(op, kind)(x)),
        lambda op, x: x,
        drift=drift,
        dtypes=dtypes,
        opset=opset,
    )


INVOLUTIONS = tuple(map(_undone, _INVOLUTIONS))

_SELF = {
    "And": (BOOLEAN, 7),
    "Or": (BOOLEAN, 7),
    "Max": (NUMBERS, 8),
    "Min": (NUMBERS, 8),
    "BitwiseAnd": (INTEGERS, 18),
    "BitwiseOr": (INTEGERS, 18),
}


def _with_itself(kind: str) -> Rule:
    dtypes, opset = _SELF[kind]
    return law(
        f"drop-{kind.lower()}-with-itself",
        f"{kind}(x, x) -> x",
        lambda op, x: getattr(op, kind)(x, x),
        lambda op, x: x,
        drift=EXACT,
        dtypes=dtypes,
        opset=opset,
    )


WITH_ITSELF = tuple(map(_with_itself, _SELF))

_INVERSES = {
    "sin": ("Sin", "Asin", inside(-0.99, 0.99)),
    "cos": ("Cos", "Acos", inside(-0.99, 0.99)),
    "tan": ("Tan", "Atan", inside(-4, 4)),
    "atan": ("Atan", "Tan", strictly(inside(-1.5, 1.5))),
    "sinh": ("Sinh", "Asinh", inside(-8, 8)),
    "asinh": ("Asinh", "Sinh", inside(-8, 8)),
    "cosh": ("Cosh", "Acosh", inside(1.1, 8)),
    "tanh": ("Tanh", "Atanh", inside(-0.99, 0.99)),
    "atanh": ("Atanh", "Tanh", inside(-1.5, 1.5)),
}


def _inverse(name: str) -> Rule:
    outer, inner, need = _INVERSES[name]
    return law(
        f"cancel-{name}",
        f"{outer}({inner}(x)) -> x where {inner} is well conditioned",
        lambda op, x: getattr(op, outer)(getattr(op, inner)(x)),
        lambda op, x: x,
        drift=DOMAIN,
        needs={"x": need},
        opset=9,
    )


INVERSES = tuple(map(_inverse, _INVERSES))
