"""Truth values and bits."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from ...compiler.core.drift import EXACT
from ...compiler.core.rule import Rule
from .law import BOOLEAN, INTEGERS, law


@dataclass(frozen=True)
class Lattice:
    """The operators of truth values, or of bits."""

    prefix: str
    dtypes: frozenset[ir.DataType]
    opset: int
    meet: str
    join: str
    negation: str
    difference: str


_TRUTH = Lattice("", BOOLEAN, 7, "And", "Or", "Not", "Xor")
_BITS = Lattice("bitwise-", INTEGERS, 18, "BitwiseAnd", "BitwiseOr", "BitwiseNot", "BitwiseXor")


def _pairs() -> list[tuple[Lattice, str, str]]:
    return [(kind, first, second) for kind in (_TRUTH, _BITS) for first, second in ((kind.meet, kind.join), (kind.join, kind.meet))]


def _name(lattice: Lattice, operator: str) -> str:
    return lattice.prefix + operator.removeprefix("Bitwise").lower()


def _de_morgan(lattice: Lattice, first: str, second: str) -> Rule:
    negation = lattice.negation
    return law(
        f"negate-{_name(lattice, first)}-once",
        f"{first}({negation}(x), {negation}(y)) -> {negation}({second}(x, y))",
        lambda op, x, y: getattr(op, first)(getattr(op, negation)(x), getattr(op, negation)(y)),
        lambda op, x, y: getattr(op, negation)(getattr(op, second)(x, y)),
        drift=EXACT,
        dtypes=lattice.dtypes,
        opset=lattice.opset,
    )


def _absorption(lattice: Lattice, first: str, second: str) -> Rule:
    return law(
        f"absorb-{_name(lattice, second)}",
        f"{first}(x, {second}(x, y)) -> x",
        lambda op, x, y: getattr(op, first)(x, getattr(op, second)(x, y)),
        lambda op, x: x,
        drift=EXACT,
        dtypes=lattice.dtypes,
        given={"y": "bool[3]" if lattice is _TRUTH else "int64[3]"},
        leaves=["g (bool[3] x, bool[N,3] z) => (bool[N,3] y) { a = Or(x, z) y = And(x, a) }"],
        opset=lattice.opset,
    )


def _distribution(lattice: Lattice, first: str, second: str) -> Rule:
    return law(
        f"factor-{_name(lattice, first)}",
        f"{second}({first}(x, z), {first}(y, z)) -> {first}({second}(x, y), z)",
        lambda op, x, y, z: getattr(op, second)(getattr(op, first)(x, z), getattr(op, first)(y, z)),
        lambda op, x, y, z: getattr(op, first)(getattr(op, second)(x, y), z),
        drift=EXACT,
        dtypes=lattice.dtypes,
        opset=lattice.opset,
    )


def _differing(lattice: Lattice) -> Rule:
    difference = lattice.difference
    return law(
        f"cancel-{_name(lattice, difference)}",
        f"{difference}({difference}(x, y), y) -> x",
        lambda op, x, y: getattr(op, difference)(getattr(op, difference)(x, y), y),
        lambda op, x: x,
        drift=EXACT,
        dtypes=lattice.dtypes,
        given={"y": "bool[3]" if lattice is _TRUTH else "int64[3]"},
        opset=lattice.opset,
    )


def _differing_negations(lattice: Lattice) -> Rule:
    difference, negation = lattice.difference, lattice.negation
    return law(
        f"drop-negations-under-{_name(lattice, difference)}",
        f"{difference}({negation}(x), {negation}(y)) -> {difference}(x, y)",
        lambda op, x, y: getattr(op, difference)(getattr(op, negation)(x), getattr(op, negation)(y)),
        lambda op, x, y: getattr(op, difference)(x, y),
        drift=EXACT,
        dtypes=lattice.dtypes,
        opset=lattice.opset,
    )


def _neutral(lattice: Lattice, operator: str, number: int | bool) -> Rule:
    shown = {True: "true", False: "false"}.get(number, str(number)) if isinstance(number, bool) else str(number)
    return law(
        f"drop-{_name(lattice, operator)}-{shown}".replace("--1", "-ones"),
        f"{operator}(x, {shown}) -> x",
        lambda op, x: getattr(op, operator)(x, number),
        lambda op, x: x,
        drift=EXACT,
        dtypes=lattice.dtypes,
        opset=lattice.opset,
    )


DE_MORGAN = tuple(_de_morgan(*pair) for pair in _pairs())
ABSORPTION = tuple(_absorption(*pair) for pair in _pairs())
DISTRIBUTION = tuple(_distribution(*pair) for pair in _pairs())
CANCELLATION = tuple(map(_differing, (_TRUTH, _BITS)))
DOUBLE_NEGATION = tuple(map(_differing_negations, (_TRUTH, _BITS)))
NEUTRAL = (
    _neutral(_TRUTH, "And", True),
    _neutral(_TRUTH, "Or", False),
    _neutral(_TRUTH, "Xor", False),
    _neutral(_BITS, "BitwiseAnd", -1),
    _neutral(_BITS, "BitwiseOr", 0),
    _neutral(_BITS, "BitwiseXor", 0),
)
negate_xor = law("negate-xor", "Xor(x, true) -> Not(x)", lambda op, x: op.Xor(x, True), lambda op, x: op.Not(x), drift=EXACT, dtypes=BOOLEAN)
equal_negations = law(
    "equal-negations",
    "Equal(Not(x), Not(y)) -> Equal(x, y)",
    lambda op, x, y: op.Equal(op.Not(x), op.Not(y)),
    lambda op, x, y: op.Equal(x, y),
    drift=EXACT,
    dtypes=BOOLEAN,
)
