"""Exponentials and logarithms; outside the reach of the float's exponent the laws do not hold."""

from __future__ import annotations

from ...compiler.core.drift import DOMAIN, ROUNDING
from ...compiler.core.ranges import Ranges
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match
from .law import DIVISOR, EXPONENT, NONNEGATIVE, POSITIVE, law


def _far_exponent(m: Match) -> Skip | None:
    if m.c.dtype != m.x.dtype:
        return skip("the exponent is %s", m.c.dtype)
    return None if Ranges().within(m.c, -4, 4) else skip("the power may overflow")


multiply_exponentials = law(
    "multiply-exponentials",
    "exp(x) exp(y) -> exp(x + y) where neither overflows",
    lambda op, x, y: op.Mul(op.Exp(x), op.Exp(y)),
    lambda op, x, y: op.Exp(op.Add(x, y)),
    drift=DOMAIN,
    needs={"x": EXPONENT, "y": EXPONENT},
)
divide_exponentials = law(
    "divide-exponentials",
    "exp(x) / exp(y) -> exp(x - y) where neither overflows",
    lambda op, x, y: op.Div(op.Exp(x), op.Exp(y)),
    lambda op, x, y: op.Exp(op.Sub(x, y)),
    drift=DOMAIN,
    needs={"x": EXPONENT, "y": EXPONENT},
)
reciprocal_of_exponential = law(
    "reciprocal-of-exponential",
    "1 / exp(x) -> exp(-x)",
    lambda op, x: op.Reciprocal(op.Exp(x)),
    lambda op, x: op.Exp(op.Neg(x)),
    drift=ROUNDING,
    bounds={"x": (-3.0, 3.0)},
)
root_of_exponential = law(
    "root-of-exponential",
    "sqrt(exp(x)) -> exp(x / 2) where exp(x) does not overflow",
    lambda op, x: op.Sqrt(op.Exp(x)),
    lambda op, x: op.Exp(op.Mul(x, 0.5)),
    drift=DOMAIN,
    needs={"x": EXPONENT},
)
power_of_exponential = law(
    "power-of-exponential",
    "exp(x)^c -> exp(c x) where exp(x) does not overflow",
    lambda op, x, c: op.Pow(op.Exp(x), c),
    lambda op, x, c: op.Exp(op.Mul(x, c)),
    drift=DOMAIN,
    constants=["c"],
    needs={"x": EXPONENT},
    given={"c": "float = {0.7}"},
    guard=_far_exponent,
)
log_of_exponential = law(
    "log-of-exponential",
    "log(exp(x)) -> x where exp(x) does not overflow",
    lambda op, x: op.Log(op.Exp(x)),
    lambda op, x: x,
    drift=DOMAIN,
    needs={"x": EXPONENT},
)
exponential_of_log = law(
    "exponential-of-log",
    "exp(log(x)) -> x where x >= 0",
    lambda op, x: op.Exp(op.Log(x)),
    lambda op, x: x,
    drift=DOMAIN,
    needs={"x": NONNEGATIVE},
)
add_logs = law(
    "add-logs",
    "log(x) + log(y) -> log(x y) where x, y > 0 are of moderate size",
    lambda op, x, y: op.Add(op.Log(x), op.Log(y)),
    lambda op, x, y: op.Log(op.Mul(x, y)),
    drift=DOMAIN,
    needs={"x": DIVISOR, "y": DIVISOR},
)
subtract_logs = law(
    "subtract-logs",
    "log(x) - log(y) -> log(x / y) where x, y > 0 are of moderate size",
    lambda op, x, y: op.Sub(op.Log(x), op.Log(y)),
    lambda op, x, y: op.Log(op.Div(x, y)),
    drift=DOMAIN,
    needs={"x": DIVISOR, "y": DIVISOR},
)
log_of_power = law(
    "log-of-power",
    "log(x^c) -> c log(x) where x > 0 is of moderate size",
    lambda op, x, c: op.Log(op.Pow(x, c)),
    lambda op, x, c: op.Mul(op.Log(x), c),
    drift=DOMAIN,
    constants=["c"],
    needs={"x": DIVISOR},
    given={"c": "float = {2.5}"},
    guard=_far_exponent,
)
log_of_root = law(
    "log-of-root",
    "log(sqrt(x)) -> log(x) / 2",
    lambda op, x: op.Log(op.Sqrt(x)),
    lambda op, x: op.Mul(op.Log(x), 0.5),
    drift=ROUNDING,
    bounds={"x": (0.5, 3.0)},
)
log_of_reciprocal = law(
    "log-of-reciprocal",
    "log(1 / x) -> -log(x) where x > 0",
    lambda op, x: op.Log(op.Reciprocal(x)),
    lambda op, x: op.Neg(op.Log(x)),
    drift=DOMAIN,
    needs={"x": POSITIVE},
)
tanh_of_sinh = law(
    "divide-hyperbolics",
    "sinh(x) / cosh(x) -> tanh(x) where neither overflows",
    lambda op, x: op.Div(op.Sinh(x), op.Cosh(x)),
    lambda op, x: op.Tanh(x),
    drift=DOMAIN,
    needs={"x": EXPONENT},
    opset=9,
)
tanh_of_sigmoid = law(
    "stretch-sigmoid",
    "2 sigmoid(2 x) - 1 -> tanh(x)",
    lambda op, x: op.Sub(op.Mul(op.Sigmoid(op.Mul(x, 2)), 2), 1),
    lambda op, x: op.Tanh(x),
    drift=ROUNDING,
)
