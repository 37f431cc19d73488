"""Softplus with a threshold, above which it is taken to be x itself, as PyTorch spells it."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.pattern import Const, Pen
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from .polynomial import DOUBLE, FLOAT, FLOAT16

ENOUGH = {FLOAT: 16.0, DOUBLE: 35.0, FLOAT16: 8.0}
"""From here on log(1 + exp(x)) rounds to x."""
OVERFLOWS = 88.0
"""The exponential of a 32-bit float from here on is infinite."""


def above(op: Pen, x: object, top: Const) -> object:
    return op.Where(op.any("Greater", "GreaterOrEqual")(x, top), x, op.Softplus(x))


def below(op: Pen, x: object, top: Const) -> object:
    return op.Where(op.any("Less", "LessOrEqual")(x, top), op.Softplus(x), x)


def above_logarithm(op: Pen, x: object, top: Const) -> object:
    return op.Where(op.any("Greater", "GreaterOrEqual")(x, top), x, op.Log(op.Add(op.Exp(x), 1.0)))


def below_logarithm(op: Pen, x: object, top: Const) -> object:
    return op.Where(op.any("Less", "LessOrEqual")(x, top), op.Log(op.Add(op.Exp(x), 1.0)), x)


def _model(body: str, top: str = "20", given: str = "float") -> str:
    return f"g ({given}[N,4] x) => ({given}[N,4] y) <{given} t = {{{top}}}, {given} one = {{1}}> {{ {body} }}"


def refuses(x: ir.Value, top: float | int | None) -> Skip | None:
    """Why Softplus is not x from ``top`` on."""
    enough = ENOUGH.get(x.dtype)  # type: ignore[arg-type]
    if enough is None or top is None or not top >= enough:
        return skip("from %s on a softplus of %s is not yet its argument", top, x.dtype)
    return None


@rule(
    above,
    below,
    drift=ROUNDING,
    examples=[
        _model("g0 = Greater(x, t) s = Softplus(x) y = Where(g0, x, s)"),
        _model("g0 = LessOrEqual(x, t) s = Softplus(x) y = Where(g0, s, x)", given="double", top="40"),
        _model("g0 = GreaterOrEqual(x, t) s = Softplus(x) y = Where(g0, x, s)", given="float16", top="19712"),
    ],
    leaves=[
        _model("g0 = Greater(x, t) s = Softplus(x) y = Where(g0, x, s)", top="5"),
        _model("g0 = Greater(x, t) s = Softplus(x) y = Where(g0, s, x)"),
        _model("g0 = Greater(x, t) n = Neg(x) s = Softplus(n) y = Where(g0, x, s)"),
        _model("g0 = Greater(x, t) s = Softplus(x) y = Where(g0, x, s)", given="double"),
    ],
)
def drop_softplus_threshold(op: Build, m: Match) -> Result:
    """Where(x > 20, x, Softplus(x)) -> Softplus(x)"""
    return refuses(m.x, m.scalar("top")) or op.Softplus(m.x)


@rule(
    above_logarithm,
    below_logarithm,
    drift=ROUNDING,
    doubtful=("cpu",),
    measured=True,
    examples=[
        _model("g0 = Greater(x, t) e = Exp(x) a = Add(e, one) s = Log(a) y = Where(g0, x, s)"),
        _model("g0 = Less(x, t) e = Exp(x) a = Add(one, e) s = Log(a) y = Where(g0, s, x)"),
    ],
    leaves=[
        _model("g0 = Greater(x, t) e = Exp(x) a = Add(e, one) s = Log(a) y = Where(g0, x, s)", top="100"),
        _model("g0 = Greater(x, t) e = Exp(x) a = Add(e, one) s = Log(a) y = Where(g0, x, s)", top="5"),
        _model("g0 = Greater(x, t) e = Exp(x) a = Add(e, t) s = Log(a) y = Where(g0, x, s)"),
    ],
)
def raise_guarded_softplus(op: Build, m: Match) -> Result:
    """Where(x > 20, x, log(1 + exp(x))) -> Softplus(x) (ONNX Runtime's CPU kernel takes five times as long)"""
    top = m.scalar("top")
    if m.x.dtype != FLOAT or top is None or top >= OVERFLOWS:
        return skip("beyond %s the exponential of %s may overflow before the threshold", top, m.x.dtype)
    return refuses(m.x, top) or op.Softplus(m.x)
