"""Negations, absolute values and signs."""

from __future__ import annotations

from ...compiler.core.drift import DOMAIN, EXACT, ROUNDING
from ...compiler.core.rule import Rule
from .law import FLOATS, MODERATE, NONNEGATIVE, SIGNED, law, strictly

SIGNED_NUMBERS = FLOATS | SIGNED

cancel_negations = law("cancel-negations", "-(-x) -> x", lambda op, x: op.Neg(op.Neg(x)), lambda op, x: x, drift=EXACT, dtypes=SIGNED_NUMBERS)
add_negated = law("add-negated", "x + (-y) -> x - y", lambda op, x, y: op.Add(x, op.Neg(y)), lambda op, x, y: op.Sub(x, y), drift=EXACT, dtypes=SIGNED_NUMBERS)
subtract_negated = law(
    "subtract-negated", "x - (-y) -> x + y", lambda op, x, y: op.Sub(x, op.Neg(y)), lambda op, x, y: op.Add(x, y), drift=EXACT, dtypes=SIGNED_NUMBERS
)
negate_difference = law(
    "negate-difference", "-(x - y) -> y - x", lambda op, x, y: op.Neg(op.Sub(x, y)), lambda op, x, y: op.Sub(y, x), drift=ROUNDING, dtypes=SIGNED_NUMBERS
)
multiply_negated = law(
    "multiply-negated",
    "(-x) (-y) -> x y",
    lambda op, x, y: op.Mul(op.Neg(x), op.Neg(y)),
    lambda op, x, y: op.Mul(x, y),
    drift=EXACT,
    dtypes=SIGNED_NUMBERS,
)
divide_negated = law(
    "divide-negated",
    "(-x) / (-y) -> x / y",
    lambda op, x, y: op.Div(op.Neg(x), op.Neg(y)),
    lambda op, x, y: op.Div(x, y),
    drift=EXACT,
    leaves=["g (int32[N] x, int32[N] z) => (int32[N] y) { a = Neg(x) b = Neg(z) y = Div(a, b) }"],
)

_BY_CONSTANT = {
    "scale-negated": ("(-x) c -> x (-c)", lambda op, x, c: op.Mul(op.Neg(x), c), lambda op, x, c: op.Mul(x, op.Neg(c)), EXACT),
    "negate-scaled": ("-(x c) -> x (-c)", lambda op, x, c: op.Neg(op.Mul(x, c)), lambda op, x, c: op.Mul(x, op.Neg(c)), EXACT),
    "divide-negated-by-constant": ("(-x) / c -> x / (-c)", lambda op, x, c: op.Div(op.Neg(x), c), lambda op, x, c: op.Div(x, op.Neg(c)), EXACT),
    "negate-divided": ("-(x / c) -> x / (-c)", lambda op, x, c: op.Neg(op.Div(x, c)), lambda op, x, c: op.Div(x, op.Neg(c)), EXACT),
    "divide-constant-by-negated": ("c / (-x) -> (-c) / x", lambda op, x, c: op.Div(c, op.Neg(x)), lambda op, x, c: op.Div(op.Neg(c), x), EXACT),
    "negate-divided-constant": ("-(c / x) -> (-c) / x", lambda op, x, c: op.Neg(op.Div(c, x)), lambda op, x, c: op.Div(op.Neg(c), x), EXACT),
    "shift-negated": ("(-x) - c -> (-c) - x", lambda op, x, c: op.Sub(op.Neg(x), c), lambda op, x, c: op.Sub(op.Neg(c), x), EXACT),
    "negate-shifted": ("-(x + c) -> (-c) - x", lambda op, x, c: op.Neg(op.Add(x, c)), lambda op, x, c: op.Sub(op.Neg(c), x), ROUNDING),
}
NEGATIONS_OF_CONSTANTS = tuple(
    law(name, equation, before, after, drift=drift, constants=["c"], given={"c": "float[3] = {2,-3,0.5}"})
    for name, (equation, before, after, drift) in _BY_CONSTANT.items()
)
"""A negation next to a constant goes into it."""

_ODD = ("Sin", "Tan", "Sinh", "Tanh", "Asin", "Atan", "Asinh", "Atanh", "Erf", "Softsign")


def _odd(kind: str) -> Rule:
    return law(
        f"negate-twice-around-{kind.lower()}",
        f"-{kind}(-x) -> {kind}(x)",
        lambda op, x: op.Neg(getattr(op, kind)(op.Neg(x))),
        lambda op, x: getattr(op, kind)(x),
        drift=ROUNDING,
        bounds={"x": (-0.5, 0.5)},
        opset=9,
    )


def _even(kind: str, inner: str) -> Rule:
    return law(
        f"{kind.lower()}-of-{inner.lower()}",
        f"{kind}({inner}(x)) -> {kind}(x)",
        lambda op, x: getattr(op, kind)(getattr(op, inner)(x)),
        lambda op, x: getattr(op, kind)(x),
        drift=EXACT if kind == "Abs" else ROUNDING,
        dtypes=SIGNED_NUMBERS if kind == "Abs" else FLOATS,
        opset=9,
    )


ODD_FUNCTIONS = tuple(map(_odd, _ODD))
EVEN_FUNCTIONS = tuple(_even(kind, inner) for kind in ("Abs", "Cos", "Cosh") for inner in ("Neg", "Abs"))

multiply_absolutes = law(
    "multiply-absolutes", "|x| |y| -> |x y|", lambda op, x, y: op.Mul(op.Abs(x), op.Abs(y)), lambda op, x, y: op.Abs(op.Mul(x, y)), drift=EXACT
)
divide_absolutes = law(
    "divide-absolutes", "|x| / |y| -> |x / y|", lambda op, x, y: op.Div(op.Abs(x), op.Abs(y)), lambda op, x, y: op.Abs(op.Div(x, y)), drift=EXACT
)
gather_absolutes = law(
    "gather-absolutes",
    "(|a| b) |c| -> |a c| b (DNNFusion, table 4)",
    lambda op, a, b, c: op.Mul(op.Mul(op.Abs(a), b), op.Abs(c)),
    lambda op, a, b, c: op.Mul(op.Abs(op.Mul(a, c)), b),
    drift=ROUNDING,
)
square_absolute = law(
    "square-absolute", "|x| |x| -> x x", lambda op, x: op.Mul(op.Abs(x), op.Abs(x)), lambda op, x: op.Mul(x, x), drift=EXACT, dtypes=SIGNED_NUMBERS
)
root_of_square = law(
    "root-of-square",
    "sqrt(x x) -> |x| where x x does not overflow",
    lambda op, x: op.Sqrt(op.Mul(x, x)),
    lambda op, x: op.Abs(x),
    drift=DOMAIN,
    needs={"x": MODERATE},
)
drop_absolute = law("drop-absolute", "|x| -> x where x >= 0", lambda op, x: op.Abs(x), lambda op, x: x, drift=DOMAIN, needs={"x": strictly(NONNEGATIVE)})
drop_sign_of_sign = law("drop-sign-of-sign", "sign(sign(x)) -> sign(x)", lambda op, x: op.Sign(op.Sign(x, _name="kept")), drift=EXACT, opset=9)
times_sign = law("times-sign", "x sign(x) -> |x|", lambda op, x: op.Mul(x, op.Sign(x)), lambda op, x: op.Abs(x), drift=ROUNDING, opset=9)
absolute_times_sign = law("absolute-times-sign", "|x| sign(x) -> x", lambda op, x: op.Mul(op.Abs(x), op.Sign(x)), lambda op, x: x, drift=ROUNDING, opset=9)
absolute_from_max = law("absolute-from-max", "max(x, -x) -> |x|", lambda op, x: op.Max(x, op.Neg(x)), lambda op, x: op.Abs(x), drift=ROUNDING, opset=8)
minimum_of_negations = law(
    "minimum-of-negations",
    "-max(-x, -y) -> min(x, y)",
    lambda op, x, y: op.Neg(op.Max(op.Neg(x), op.Neg(y))),
    lambda op, x, y: op.Min(x, y),
    drift=ROUNDING,
    opset=8,
)
maximum_of_negations = law(
    "maximum-of-negations",
    "-min(-x, -y) -> max(x, y)",
    lambda op, x, y: op.Neg(op.Min(op.Neg(x), op.Neg(y))),
    lambda op, x, y: op.Max(x, y),
    drift=ROUNDING,
    opset=8,
)
rejoin_halves = law("rejoin-halves", "relu(x) - relu(-x) -> x", lambda op, x: op.Sub(op.Relu(x), op.Relu(op.Neg(x))), lambda op, x: x, drift=ROUNDING)
add_halves = law("add-halves", "relu(x) + relu(-x) -> |x|", lambda op, x: op.Add(op.Relu(x), op.Relu(op.Neg(x))), lambda op, x: op.Abs(x), drift=ROUNDING)
