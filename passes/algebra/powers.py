"""Powers, roots and reciprocals."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import DOMAIN, ROUNDING
from ...compiler.core.ranges import Ranges
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match
from .law import DIVISOR, INVERTIBLE, NONNEGATIVE, POSITIVE, law, strictly

square = law("square", "x^2 -> x x", lambda op, x: op.Pow(x, 2), lambda op, x: op.Mul(x, x), drift=ROUNDING)
fourth_power = law("fourth-power", "x^4 -> (x x) (x x)", lambda op, x: op.Pow(x, 4), lambda op, x: _squared(op, op.Mul(x, x)), drift=ROUNDING)
cube = law(
    "cube",
    "x^3 -> (x x) x",
    lambda op, x: op.Pow(x, 3),
    lambda op, x: op.Mul(op.Mul(x, x), x),
    drift=ROUNDING,
    doubtful=("cpu",),
    measured=True,
)
"""ONNX Runtime has a fast path for the exponents 2 and 3, so that one Pow beats two products there."""
square_root = law(
    "square-root",
    "x^0.5 -> sqrt(x) where x >= 0",
    lambda op, x: op.Pow(x, 0.5),
    lambda op, x: op.Sqrt(x),
    drift=DOMAIN,
    needs={"x": NONNEGATIVE},
)
"""The root of minus infinity is NaN, its power infinite."""
reciprocal = law("reciprocal", "x^-1 -> 1 / x", lambda op, x: op.Pow(x, -1), lambda op, x: op.Reciprocal(x), drift=ROUNDING, bounds={"x": (0.5, 3.0)})
reciprocal_square = law(
    "reciprocal-square",
    "x^-2 -> 1 / (x x)",
    lambda op, x: op.Pow(x, -2),
    lambda op, x: op.Reciprocal(op.Mul(x, x)),
    drift=ROUNDING,
    bounds={"x": (0.5, 3.0)},
)
reciprocal_root = law(
    "reciprocal-root",
    "x^-0.5 -> 1 / sqrt(x) where x > 0",
    lambda op, x: op.Pow(x, -0.5),
    lambda op, x: op.Reciprocal(op.Sqrt(x)),
    drift=DOMAIN,
    needs={"x": POSITIVE},
)
power_of_three_halves = law(
    "power-of-three-halves",
    "x^1.5 -> x sqrt(x) where x >= 0",
    lambda op, x: op.Pow(x, 1.5),
    lambda op, x: op.Mul(x, op.Sqrt(x)),
    drift=DOMAIN,
    needs={"x": NONNEGATIVE},
)


def _squared(op: Build, x: ir.Value) -> ir.Value:
    return op.Mul(x, x)  # type: ignore[return-value]


def _alike(m: Match) -> Skip | None:
    if m.a.dtype != m.b.dtype:
        return skip("the exponents are %s and %s", m.a.dtype, m.b.dtype)
    return None if Ranges().within(m.a, -4, 4) else skip("the power in between may overflow")


power_of_power = law(
    "power-of-power",
    "(x^a)^b -> x^(a b) where x > 0",
    lambda op, x, a, b: op.Pow(op.Pow(x, a), b),
    lambda op, x, a, b: op.Pow(x, op.Mul(a, b)),
    drift=DOMAIN,
    constants=["a", "b"],
    needs={"x": strictly(DIVISOR)},
    given={"a": "float = {1.5}", "b": "float = {0.7}"},
    guard=_alike,
)
multiply_roots = law(
    "multiply-roots",
    "sqrt(x) sqrt(y) -> sqrt(x y) where x, y > 0 are of moderate size",
    lambda op, x, y: op.Mul(op.Sqrt(x), op.Sqrt(y)),
    lambda op, x, y: op.Sqrt(op.Mul(x, y)),
    drift=DOMAIN,
    needs={"x": DIVISOR, "y": DIVISOR},
)
divide_roots = law(
    "divide-roots",
    "sqrt(x) / sqrt(y) -> sqrt(x / y) where x, y > 0 are of moderate size",
    lambda op, x, y: op.Div(op.Sqrt(x), op.Sqrt(y)),
    lambda op, x, y: op.Sqrt(op.Div(x, y)),
    drift=DOMAIN,
    needs={"x": DIVISOR, "y": DIVISOR},
)
multiply_root_by_itself = law(
    "multiply-root-by-itself",
    "sqrt(x) sqrt(x) -> x where x >= 0",
    lambda op, x: op.Mul(op.Sqrt(x), op.Sqrt(x)),
    lambda op, x: x,
    drift=DOMAIN,
    needs={"x": NONNEGATIVE},
)
square_a_root = law(
    "square-a-root",
    "sqrt(x)^2 -> x where x >= 0",
    lambda op, x: op.Pow(op.Sqrt(x), 2),
    lambda op, x: x,
    drift=DOMAIN,
    needs={"x": NONNEGATIVE},
)
meet_roots = law(
    "meet-roots",
    "(a sqrt(b)) (sqrt(b) c) -> (a b) c where b >= 0 (DNNFusion, table 4)",
    lambda op, a, b, c: op.Mul(op.Mul(a, op.Sqrt(b)), op.Mul(op.Sqrt(b), c)),
    lambda op, a, b, c: op.Mul(op.Mul(a, b), c),
    drift=DOMAIN,
    needs={"b": NONNEGATIVE},
)
divide_by_root = law(
    "divide-by-root",
    "x / sqrt(x) -> sqrt(x) where x > 0 is finite",
    lambda op, x: op.Div(x, op.Sqrt(x)),
    lambda op, x: op.Sqrt(x),
    drift=DOMAIN,
    needs={"x": DIVISOR},
)


def _squared_reciprocal(op: Build, a: ir.Value, b: ir.Value) -> ir.Value:
    inverse = op.Reciprocal(a)
    return op.Mul(op.Mul(inverse, inverse), op.Reciprocal(b))  # type: ignore[return-value]


_APART = {"x": (0.5, 3.0), "y": (0.5, 3.0), "z": (0.5, 3.0), "a": (0.5, 3.0), "b": (0.5, 3.0)}
gather_reciprocals = law(
    "gather-reciprocals",
    "1/a * 1/(a b) -> (1/a)^2 * 1/b where a, b are of moderate size (DNNFusion, table 4)",
    lambda op, a, b: op.Mul(op.Reciprocal(a), op.Reciprocal(op.Mul(a, b))),
    _squared_reciprocal,
    drift=DOMAIN,
    needs={"a": DIVISOR, "b": DIVISOR},
    given={"b": "float[3]"},
)
multiply_reciprocals = law(
    "multiply-reciprocals",
    "1/x * 1/y -> 1/(x y) where x, y are not small",
    lambda op, x, y: op.Mul(op.Reciprocal(x), op.Reciprocal(y)),
    lambda op, x, y: op.Reciprocal(op.Mul(x, y)),
    drift=DOMAIN,
    needs={"x": INVERTIBLE, "y": INVERTIBLE},
)
multiply_by_reciprocal_value = law(
    "multiply-by-reciprocal-value",
    "x * 1/y -> x / y where y is not so small that 1/y is infinite",
    lambda op, x, y: op.Mul(x, op.Reciprocal(y)),
    lambda op, x, y: op.Div(x, y),
    drift=DOMAIN,
    needs={"y": INVERTIBLE},
    leaves=["g (float[N,3] x, float[N,3] z) => (float[N,3] y, float[N,3] r) { r = Reciprocal(z) y = Mul(x, r) }"],
)
divide_by_reciprocal = law(
    "divide-by-reciprocal",
    "x / (1/y) -> x y",
    lambda op, x, y: op.Div(x, op.Reciprocal(y)),
    lambda op, x, y: op.Mul(x, y),
    drift=ROUNDING,
    bounds=_APART,
)
divide_by_quotient = law(
    "divide-by-quotient",
    "x / (y / z) -> (x z) / y where all are of moderate size",
    lambda op, x, y, z: op.Div(x, op.Div(y, z)),
    lambda op, x, y, z: op.Div(op.Mul(x, z), y),
    drift=DOMAIN,
    needs={"x": DIVISOR, "y": DIVISOR, "z": DIVISOR},
)
divide_twice = law(
    "divide-twice",
    "(x / y) / z -> x / (y z) where y, z are of moderate size",
    lambda op, x, y, z: op.Div(op.Div(x, y), z),
    lambda op, x, y, z: op.Div(x, op.Mul(y, z)),
    drift=DOMAIN,
    needs={"y": DIVISOR, "z": DIVISOR},
)
reciprocal_of_quotient = law(
    "reciprocal-of-quotient",
    "1/(x / y) -> y / x",
    lambda op, x, y: op.Reciprocal(op.Div(x, y)),
    lambda op, x, y: op.Div(y, x),
    drift=ROUNDING,
    bounds=_APART,
)
one_over = law("one-over", "1 / x -> Reciprocal(x)", lambda op, x: op.Div(1, x), lambda op, x: op.Reciprocal(x), drift=ROUNDING, bounds=_APART)
