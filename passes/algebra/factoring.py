"""Equal factors of a sum or a difference are taken out (distributivity, DNNFusion table 4)."""

from __future__ import annotations

from ...compiler.core.drift import ROUNDING
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Rule
from .law import NUMBERS, law

_SUMS = {"Add": "+", "Sub": "-"}
_APART = {"z": (0.5, 3.0)}


def _common_factor(kind: str) -> Rule:
    sign = _SUMS[kind]
    printed = "g (float[N,3] a, float[N,3] b, float[N,3] c) => (float[N,3] y) { s = Add(a, b) q = Mul(s, s) p = Mul(s, c) y = Sub(q, p) }"
    return law(
        f"factor-products-under-{kind.lower()}",
        f"x z {sign} y z -> (x {sign} y) z",
        lambda op, x, y, z: getattr(op, kind)(op.Mul(x, z), op.Mul(y, z)),
        lambda op, x, y, z: op.Mul(getattr(op, kind)(x, y), z),
        drift=ROUNDING,
        dtypes=NUMBERS,
        given={"z": "float[3]"},
        examples=[printed] if kind == "Sub" else [],
        leaves=["g (float[N,3] a, float[N,3] b, float[N,3] c, float[N,3] d) => (float[N,3] y) { p = Mul(a, b) q = Mul(c, d) y = Add(p, q) }"],
    )


def _common_divisor(kind: str) -> Rule:
    sign = _SUMS[kind]
    return law(
        f"factor-quotients-under-{kind.lower()}",
        f"x / z {sign} y / z -> (x {sign} y) / z",
        lambda op, x, y, z: getattr(op, kind)(op.Div(x, z), op.Div(y, z)),
        lambda op, x, y, z: op.Div(getattr(op, kind)(x, y), z),
        drift=ROUNDING,
        bounds=_APART,
        leaves=["g (int32[N] a, int32[N] b, int32[N] c) => (int32[N] y) { p = Div(a, c) q = Div(b, c) y = Add(p, q) }"],
    )


COMMON_FACTORS = tuple(map(_common_factor, _SUMS))
COMMON_DIVISORS = tuple(map(_common_divisor, _SUMS))

factor_addend = law(
    "factor-addend",
    "x + x y -> x (y + 1) (DNNFusion, table 4)",
    lambda op, x, y: op.Add(x, op.Mul(x, y)),
    lambda op, x, y: op.Mul(x, op.Add(y, 1)),
    drift=ROUNDING,
    dtypes=NUMBERS,
    given={"y": "float[3]"},
)
factor_minuend = law(
    "factor-minuend",
    "x - x y -> x (1 - y)",
    lambda op, x, y: op.Sub(x, op.Mul(x, y)),
    lambda op, x, y: op.Mul(x, op.Sub(1, y)),
    drift=ROUNDING,
    given={"y": "float[3]"},
)
factor_subtrahend = law(
    "factor-subtrahend",
    "x y - x -> x (y - 1)",
    lambda op, x, y: op.Sub(op.Mul(x, y), x),
    lambda op, x, y: op.Mul(x, op.Sub(y, 1)),
    drift=ROUNDING,
    given={"y": "float[3]"},
)
def _more_follows(m: Match) -> Skip | None:
    """A longer chain would be taken apart link by link."""
    readers = [node for node, _ in m.root.outputs[0].uses()]
    return skip("the sum goes on") if any(m.x in node.inputs for node in readers) else None


add_thrice = law(
    "add-thrice",
    "(x + x) + x -> 3 x",
    lambda op, x: op.Add(op.Add(x, x), x),
    lambda op, x: op.Mul(x, 3),
    drift=ROUNDING,
    dtypes=NUMBERS,
    guard=_more_follows,
)
factor_square = law(
    "factor-square",
    "x^2 - x y -> x (x - y) (DNNFusion, table 4, for x = a + b)",
    lambda op, x, y: op.Sub(op.Pow(x, 2), op.Mul(x, y)),
    lambda op, x, y: op.Mul(x, op.Sub(x, y)),
    drift=ROUNDING,
)
add_to_square = law(
    "add-to-square",
    "x^2 + x y -> x (x + y)",
    lambda op, x, y: op.Add(op.Pow(x, 2), op.Mul(x, y)),
    lambda op, x, y: op.Mul(x, op.Add(x, y)),
    drift=ROUNDING,
)

_EXTREMES = {"Max": "Min", "Min": "Max"}


def _extreme_of_sums(kind: str) -> Rule:
    return law(
        f"take-addend-out-of-{kind.lower()}",
        f"{kind}(x + z, y + z) -> {kind}(x, y) + z",
        lambda op, x, y, z: getattr(op, kind)(op.Add(x, z), op.Add(y, z)),
        lambda op, x, y, z: op.Add(getattr(op, kind)(x, y), z),
        drift=ROUNDING,
        opset=8,
        leaves=[f"g (int64[N] a, int64[N] b, int64[N] c) => (int64[N] y) {{ p = Add(a, c) q = Add(b, c) y = {kind}(p, q) }}"],
    )


def _extreme_of_differences(kind: str) -> Rule:
    return law(
        f"take-subtrahend-out-of-{kind.lower()}",
        f"{kind}(x - z, y - z) -> {kind}(x, y) - z",
        lambda op, x, y, z: getattr(op, kind)(op.Sub(x, z), op.Sub(y, z)),
        lambda op, x, y, z: op.Sub(getattr(op, kind)(x, y), z),
        drift=ROUNDING,
        opset=8,
    )


def _extreme_of_complements(kind: str) -> Rule:
    return law(
        f"take-minuend-out-of-{kind.lower()}",
        f"{kind}(z - x, z - y) -> z - {_EXTREMES[kind]}(x, y)",
        lambda op, x, y, z: getattr(op, kind)(op.Sub(z, x), op.Sub(z, y)),
        lambda op, x, y, z: op.Sub(z, getattr(op, _EXTREMES[kind])(x, y)),
        drift=ROUNDING,
        opset=8,
    )


EXTREMES_OF_SUMS = tuple(map(_extreme_of_sums, _EXTREMES))
EXTREMES_OF_DIFFERENCES = tuple(map(_extreme_of_differences, _EXTREMES))
EXTREMES_OF_COMPLEMENTS = tuple(map(_extreme_of_complements, _EXTREMES))
