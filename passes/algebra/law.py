"""Laws: two drawings that compute the same, and what it takes for that to hold.

A family of laws is a table of facts and a drawing with a gap; `law` makes a `Rule` of each row, with an example drawn from the law itself.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import ml_dtypes
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import broadcast, broadcasts_into
from ...compiler.core.drift import DOMAIN, Drift
from ...compiler.core.graph import constant
from ...compiler.core.pattern import Const
from ...compiler.core.ranges import Ranges
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, Rule, rule
from .sketch import Bounds, sketch

Drawing = Callable[..., object]
Guard = Callable[[Match], Skip | None]

T = ir.DataType
FLOATS = frozenset({T.FLOAT, T.DOUBLE, T.FLOAT16, T.BFLOAT16})
SIGNED = frozenset({T.INT8, T.INT16, T.INT32, T.INT64})
UNSIGNED = frozenset({T.UINT8, T.UINT16, T.UINT32, T.UINT64})
INTEGERS = SIGNED | UNSIGNED
NUMBERS = FLOATS | INTEGERS
BOOLEAN = frozenset({T.BOOL})


@dataclass(frozen=True)
class Need:
    """What must be proven of an operand, and the bounds by which an example of the law proves it.

    Fast maths does without the proof where the law's sides only differ in being defined; a ``strict`` need is one without which they just differ.
    """

    what: str
    holds: Callable[[Ranges, ir.Value], bool]
    bounds: Bounds
    strict: bool = False


def strictly(need: Need) -> Need:
    """The need, also under fast maths."""
    return replace(need, strict=True)


def _lies(ranges: Ranges, value: ir.Value, low: float, high: float) -> bool:
    """Whether all elements but NaN lie in [low, high]: a NaN stays one on both sides of a law that keeps the operand."""
    found = ranges.interval(value)
    return low <= found.low and found.high <= high


def inside(low: float, high: float) -> Need:
    """In [low, high], or NaN."""
    return Need(f"in [{low:g}, {high:g}]", lambda ranges, value: _lies(ranges, value, low, high), (max(low, -3.0), min(high, 3.0)))


def _is_moderate(ranges: Ranges, value: ir.Value) -> bool:
    return value.dtype in FLOATS and ranges.interval(value).magnitude < float(ml_dtypes.finfo(value.dtype.numpy()).max) ** 0.5 / 2


def _is_exponent(ranges: Ranges, value: ir.Value) -> bool:
    return value.dtype in FLOATS and 2.1 * ranges.interval(value).magnitude < math.log(float(ml_dtypes.finfo(value.dtype.numpy()).max))


def _is_divisor(ranges: Ranges, value: ir.Value) -> bool:
    """Whether products and quotients of two such numbers neither overflow nor get lost."""
    size = 2.0**7 if value.dtype == T.FLOAT16 else 1e4
    return _lies(ranges, value, 1 / size, size)


NONNEGATIVE = Need("not negative", Ranges.is_nonnegative, (0.0, 3.0))
POSITIVE = Need("positive", Ranges.is_positive, (0.5, 3.0))
FINITE = Need("finite", Ranges.is_finite, (-3.0, 3.0))
MODERATE = Need("small enough for its square not to overflow", _is_moderate, (-3.0, 3.0))
INVERTIBLE = Need("at least 1e-4", lambda ranges, value: ranges.interval(value).low >= 1e-4, (0.5, 3.0))
DIVISOR = Need("positive and of moderate size", _is_divisor, (0.5, 3.0))
EXPONENT = Need("small enough for the square of its exponential not to overflow", _is_exponent, (-3.0, 3.0))


def law(
    name: str,
    equation: str,
    before: Drawing,
    after: Drawing | None = None,
    *,
    drift: Drift,
    dtypes: frozenset[ir.DataType] = FLOATS,
    typed: str = "",
    constants: Sequence[str] = (),
    needs: Mapping[str, Need] | None = None,
    guard: Guard | None = None,
    given: Mapping[str, str] | None = None,
    result: str = "",
    bounds: Mapping[str, Bounds] | None = None,
    examples: Sequence[str] = (),
    leaves: Sequence[str] = (),
    opset: int = 7,
    shared: bool = False,
    doubtful: tuple[str, ...] = (),
    measured: bool = False,
) -> Rule:
    """The rule that turns ``before`` into ``after``, drawings whose parameters of the same name are the same value.

    Without ``after`` the result is that of the operator drawn with ``_name="kept"``, which may have other readers. ``dtypes`` are those of the operand
    ``typed`` (the first). ``constants`` names the parameters that must be constants. ``needs`` says what has to be proven of an operand of a `DOMAIN`
    law. An operand that ``after`` no longer has may not have widened the result. ``given`` and ``result`` are the types of the example's operands and
    result (``float[N,3]`` by default); without an entry in ``given`` a constant is 2. ``bounds`` keeps an operand of the example where the law's
    functions are defined.
    """
    names = list(inspect.signature(before).parameters)[1:]
    kept = names if after is None else list(inspect.signature(after).parameters)[1:]
    dropped = [item for item in names if item not in kept]
    if constants:
        before.__annotations__ = {**before.__annotations__, **dict.fromkeys(constants, Const)}
    typed = typed or names[0]

    def build(op: Build, m: Match) -> Result:
        dtype = getattr(m, typed).dtype
        if dtype not in dtypes:
            return skip("'%s' is %s", getattr(m, typed).name, dtype)
        if constants and all(constant(getattr(m, item)) is not None for item in names):
            return skip("all of it is constant")
        refusal = _unproven(m, needs or {}, dropped) or _narrower(m, kept, dropped) or (guard(m) if guard is not None else None)
        if refusal is not None:
            return refusal
        return m.node("kept").outputs[0] if after is None else after(op, *(getattr(m, item) for item in kept))  # type: ignore[return-value]

    build.__name__, build.__doc__, build.__module__ = name.replace("-", "_"), equation, before.__module__
    kind = _kind(dtypes)
    drawn = sketch(before, kind, given or {}, result, {**(bounds or {}), **{key: need.bounds for key, need in (needs or {}).items()}})
    careless = [sketch(before, kind, given or {}, result, {})] if drift is DOMAIN and needs else []
    shown, hidden = [drawn, *examples], [*careless, *leaves]
    return rule(before, drift=drift, examples=shown, leaves=hidden, opset=opset, shared=shared or after is None, doubtful=doubtful, measured=measured)(build)


def _kind(dtypes: frozenset[ir.DataType]) -> str:
    """The dtype that an example has, in ONNX text."""
    if T.FLOAT in dtypes:
        return "float"
    if T.BOOL in dtypes:
        return "bool"
    return "int64" if T.INT64 in dtypes else "uint64"


def _unproven(m: Match, needs: Mapping[str, Need], dropped: list[str]) -> Skip | None:
    """Which need is not met; an operand that is left out may not hold NaN either."""
    for name, need in needs.items():
        value = getattr(m, name)
        if m.fast_math and not need.strict:
            continue
        if not need.holds(m.ranges, value):
            return skip("'%s' is not proven to be %s", value.name, need.what)
        if name in dropped and not m.ranges.is_number(value):
            return skip("'%s' may be NaN", value.name)
    return None


def _narrower(m: Match, kept: list[str], dropped: list[str]) -> Skip | None:
    """Why leaving operands out might make the result smaller; an operator that is not elementwise drops none."""
    if not dropped:
        return None
    whole = broadcast(*(getattr(m, name).shape for name in kept))
    for name in dropped:
        if not broadcasts_into(getattr(m, name).shape, whole):
            return skip("'%s' may broadcast the result to a larger shape", getattr(m, name).name)
    return None
