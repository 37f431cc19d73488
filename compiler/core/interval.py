"""Intervals of float numbers, as runs compute them: with rounding, overflow to infinity, and NaN."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import ml_dtypes  # noqa: F401  (numpy learns bfloat16 from it)
import numpy as np
import onnx_ir as ir

SLACK = 1.001
"""Room for rounding where a kernel may take more than one step."""


@dataclass(frozen=True)
class Interval:
    """What the elements of a tensor can be: every one that is a number lies in [low, high], infinities included; without ``nan`` every one is a number."""

    low: float
    high: float
    nan: bool = False

    @property
    def finite(self) -> bool:
        """Whether no element is NaN or infinite."""
        return not self.nan and -math.inf < self.low and self.high < math.inf

    @property
    def magnitude(self) -> float:
        """What |element| never exceeds; infinite when nothing is known."""
        return max(abs(self.low), abs(self.high))

    @property
    def has_zero(self) -> bool:
        """Whether an element may be 0 (or -0)."""
        return self.low <= 0 <= self.high

    @property
    def has_infinity(self) -> bool:
        """Whether an element may be infinite."""
        return self.low == -math.inf or self.high == math.inf


ANYTHING = Interval(-math.inf, math.inf, True)
UNIT = Interval(0.0, 1.0)


def around(bound: float, nan: bool = False) -> Interval:
    """[-bound, bound]."""
    return Interval(-bound, bound, nan)


def hull(parts: Iterable[Interval]) -> Interval:
    """The smallest interval that holds all of them."""
    found = list(parts)
    if not found:
        return ANYTHING
    return Interval(min(part.low for part in found), max(part.high for part in found), any(part.nan for part in found))


def loosened(interval: Interval) -> Interval:
    """With `SLACK` on both ends; an end that is 0 stays."""
    room = SLACK - 1
    return Interval(interval.low - abs(interval.low) * room, interval.high + abs(interval.high) * room, interval.nan)


def add(a: Interval, b: Interval) -> Interval:
    """a + b; NaN where inf - inf is possible."""
    opposed = (a.high == math.inf and b.low == -math.inf) or (a.low == -math.inf and b.high == math.inf)
    low = -math.inf if -math.inf in (a.low, b.low) else a.low + b.low
    high = math.inf if math.inf in (a.high, b.high) else a.high + b.high
    return Interval(low, high, a.nan or b.nan or opposed)


def negate(a: Interval) -> Interval:
    """-a."""
    return Interval(-a.high, -a.low, a.nan)


def absolute(a: Interval) -> Interval:
    """|a|."""
    return Interval(0.0 if a.has_zero else min(abs(a.low), abs(a.high)), a.magnitude, a.nan)


def multiply(a: Interval, b: Interval) -> Interval:
    """a * b; NaN where 0 * inf is possible."""
    corners = [_product(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
    undefined = (a.has_zero and b.has_infinity) or (b.has_zero and a.has_infinity)
    return Interval(min(corners), max(corners), a.nan or b.nan or undefined)


def square(a: Interval) -> Interval:
    """a * a of one value with itself."""
    size = absolute(a)
    return Interval(size.low * size.low, size.high * size.high, a.nan)


def divide(a: Interval, b: Interval) -> Interval:
    """a / b. A divisor that may be 0 may be -0 too, so that nothing is known of the quotient's sign."""
    nan = a.nan or b.nan or (a.has_infinity and b.has_infinity)
    if b.has_zero:
        return Interval(-math.inf, math.inf, nan or a.has_zero)
    corners = [_quotient(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
    return Interval(min(corners), max(corners), nan)


def increasing(function: Callable[[float], float], a: Interval) -> Interval:
    """The image of a function that never falls, worked out with some rounding."""
    return loosened(Interval(_at(function, a.low), _at(function, a.high), a.nan))


def _at(function: Callable[[float], float], point: float) -> float:
    try:
        return function(point)
    except OverflowError:
        return math.inf


def _product(x: float, y: float) -> float:
    return 0.0 if x == 0 or y == 0 else x * y


def _quotient(x: float, y: float) -> float:
    return 0.0 if x == 0 or math.isinf(y) else x / y


def stored(interval: Interval, dtype: ir.DataType) -> Interval:
    """The interval once its numbers are rounded to ``dtype``: what does not fit is infinite, what is too small for a normal number may be 0.

    Rounding never falls, so the rounded ends hold for every rounded element.
    """
    if math.isnan(interval.low) or math.isnan(interval.high):
        return ANYTHING
    kind = dtype.numpy()
    smallest = float(ml_dtypes.finfo(kind).smallest_normal)
    with np.errstate(over="ignore"):
        low, high = (float(np.float64(end).astype(kind)) for end in (interval.low, interval.high))
    return Interval(0.0 if 0 < low < smallest else low, 0.0 if -smallest < high < 0 else high, interval.nan)


def of_array(content: np.ndarray) -> Interval:
    """The interval of a constant's elements."""
    if content.dtype.kind in "OUS" or content.dtype.names:
        return ANYTHING
    if content.size == 0:
        return Interval(0.0, 0.0)
    numbers = content if content.dtype.kind == "f" else content.astype(np.float64)
    low, high = float(numbers.min()), float(numbers.max())
    if not (math.isnan(low) or math.isnan(high)):
        return Interval(low, high)
    real = numbers[~np.isnan(numbers)]
    return Interval(float(real.min()), float(real.max()), True) if real.size else ANYTHING


def of_dtype(dtype: ir.DataType) -> Interval:
    """All that a dtype can hold."""
    if dtype == ir.DataType.BOOL:
        return UNIT
    if dtype.is_integer():
        bits = dtype.bitwidth
        return around(2.0 ** (bits - 1)) if dtype.is_signed() else Interval(0.0, 2.0**bits)
    return ANYTHING
