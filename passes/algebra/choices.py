"""Comparisons, and choices between two values.

ONNX Runtime's Where makes 0 of -0, so that nothing about it is exact.
"""

from __future__ import annotations

from ...compiler.core.drift import DOMAIN, EXACT, ROUNDING
from ...compiler.core.rule import Rule
from .law import BOOLEAN, FLOATS, NUMBERS, SIGNED, Need, law

ANYTHING = BOOLEAN | NUMBERS
_NUMBER = Need("a number, not NaN", lambda ranges, value: ranges.is_number(value), (-3.0, 3.0))
_OPPOSITE = {"Less": "GreaterOrEqual", "LessOrEqual": "Greater", "Greater": "LessOrEqual", "GreaterOrEqual": "Less"}
_MIRRORED = {"Less": "Greater", "LessOrEqual": "GreaterOrEqual", "Greater": "Less", "GreaterOrEqual": "LessOrEqual"}


def _opposite(kind: str) -> Rule:
    return law(
        f"negate-{kind.lower()}",
        f"Not({kind}(x, y)) -> {_OPPOSITE[kind]}(x, y) where neither is NaN",
        lambda op, x, y: op.Not(getattr(op, kind)(x, y)),
        lambda op, x, y: getattr(op, _OPPOSITE[kind])(x, y),
        drift=DOMAIN,
        dtypes=NUMBERS,
        needs={"x": _NUMBER, "y": _NUMBER},
        result="bool[N,3]",
        examples=[f"g (int64[N] a, int64[N] b) => (bool[N] y) {{ c = {kind}(a, b) y = Not(c) }}"],
        opset=16,
    )


def _mirrored(kind: str) -> Rule:
    return law(
        f"compare-negated-by-{kind.lower()}",
        f"{kind}(-x, -y) -> {_MIRRORED[kind]}(x, y)",
        lambda op, x, y: getattr(op, kind)(op.Neg(x), op.Neg(y)),
        lambda op, x, y: getattr(op, _MIRRORED[kind])(x, y),
        drift=EXACT,
        result="bool[N,3]",
        leaves=[f"g (int32[N] a, int32[N] b) => (bool[N] y) {{ c = Neg(a) d = Neg(b) y = {kind}(c, d) }}"],
        opset=16,
    )


OPPOSITES = tuple(map(_opposite, _OPPOSITE))
MIRRORED = tuple(map(_mirrored, _MIRRORED))
equal_negated = law(
    "compare-negated-by-equal",
    "Equal(-x, -y) -> Equal(x, y)",
    lambda op, x, y: op.Equal(op.Neg(x), op.Neg(y)),
    lambda op, x, y: op.Equal(x, y),
    drift=EXACT,
    dtypes=FLOATS | SIGNED,
    result="bool[N,3]",
    opset=13,
)

_WHERE = {"cond": "bool[N,3]"}
choose_either = law(
    "choose-either",
    "Where(c, x, x) -> x",
    lambda op, cond, x: op.Where(cond, x, x),
    lambda op, x: x,
    drift=ROUNDING,
    dtypes=ANYTHING,
    typed="x",
    given=_WHERE,
    leaves=["g (bool[N,3] c, float[3] x) => (float[N,3] y) { y = Where(c, x, x) }"],
    opset=9,
)
choose_the_other = law(
    "choose-the-other",
    "Where(Not(c), x, y) -> Where(c, y, x)",
    lambda op, cond, x, y: op.Where(op.Not(cond), x, y),
    lambda op, cond, x, y: op.Where(cond, y, x),
    drift=ROUNDING,
    dtypes=ANYTHING,
    typed="x",
    given=_WHERE,
    opset=9,
)
choose_first_again = law(
    "choose-first-again",
    "Where(c, Where(c, x, y), z) -> Where(c, x, z)",
    lambda op, cond, x, y, z: op.Where(cond, op.Where(cond, x, y), z),
    lambda op, cond, x, z: op.Where(cond, x, z),
    drift=ROUNDING,
    dtypes=ANYTHING,
    typed="x",
    given=_WHERE,
    leaves=["g (bool c, float x, float[N] z, float w) => (float[N] y) { a = Where(c, x, z) y = Where(c, a, w) }"],
    opset=9,
)
choose_second_again = law(
    "choose-second-again",
    "Where(c, x, Where(c, y, z)) -> Where(c, x, z)",
    lambda op, cond, x, y, z: op.Where(cond, x, op.Where(cond, y, z)),
    lambda op, cond, x, z: op.Where(cond, x, z),
    drift=ROUNDING,
    dtypes=ANYTHING,
    typed="x",
    given=_WHERE,
    opset=9,
)
choose_truth = law(
    "choose-truth",
    "Where(c, true, false) -> c",
    lambda op, cond: op.Where(cond, True, False),
    lambda op, cond: cond,
    drift=ROUNDING,
    dtypes=BOOLEAN,
    opset=9,
)
choose_falsehood = law(
    "choose-falsehood",
    "Where(c, false, true) -> Not(c)",
    lambda op, cond: op.Where(cond, False, True),
    lambda op, cond: op.Not(cond),
    drift=ROUNDING,
    dtypes=BOOLEAN,
    opset=9,
)
choose_constantly = law(
    "choose-constantly",
    "Where(true, x, y) -> x",
    lambda op, x, y: op.Where(True, x, y),
    lambda op, x: x,
    drift=ROUNDING,
    dtypes=ANYTHING,
    given={"y": "float[3]"},
    opset=9,
)
choose_otherwise = law(
    "choose-otherwise",
    "Where(false, x, y) -> y",
    lambda op, x, y: op.Where(False, x, y),
    lambda op, y: y,
    drift=ROUNDING,
    dtypes=ANYTHING,
    given={"x": "float[3]"},
    opset=9,
)

_SHARED_OPERAND = ("Add", "Sub", "Mul", "Div")
_UNARY = ("Exp", "Log", "Sqrt", "Tanh", "Sigmoid", "Relu", "Erf", "Abs", "Neg", "Sin", "Cos", "Floor", "Ceil", "Softplus", "Gelu")


def _choose_before(kind: str) -> Rule:
    return law(
        f"choose-before-{kind.lower()}",
        f"Where(c, {kind}(x, z), {kind}(y, z)) -> {kind}(Where(c, x, y), z)",
        lambda op, cond, x, y, z: op.Where(cond, getattr(op, kind)(x, z), getattr(op, kind)(y, z)),
        lambda op, cond, x, y, z: getattr(op, kind)(op.Where(cond, x, y), z),
        drift=ROUNDING,
        typed="x",
        given=_WHERE,
        opset=9,
    )


def _choose_argument(kind: str) -> Rule:
    return law(
        f"choose-before-{kind.lower()}",
        f"Where(c, {kind}(x), {kind}(y)) -> {kind}(Where(c, x, y))",
        lambda op, cond, x, y: op.Where(cond, getattr(op, kind)(x), getattr(op, kind)(y)),
        lambda op, cond, x, y: getattr(op, kind)(op.Where(cond, x, y)),
        drift=ROUNDING,
        typed="x",
        given=_WHERE,
        bounds={"x": (0.5, 3.0), "y": (0.5, 3.0)} if kind in ("Log", "Sqrt") else {},
        opset=20 if kind == "Gelu" else 9,
    )


BEFORE_BINARY = tuple(map(_choose_before, _SHARED_OPERAND))
BEFORE_UNARY = tuple(map(_choose_argument, _UNARY))
