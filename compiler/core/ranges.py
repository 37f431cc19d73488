"""Range analysis: between which numbers a value lies, proven from the graph.

A value with a finite bound is never NaN and never infinite. A float input of the model may hold anything and has no bound; token ids, tables,
weights and whatever is normalised do. Rules of the ``domain`` kind ask here for their proof.
"""

from __future__ import annotations

import onnx_ir as ir

from .graph import array, is_op
from .interval import ANYTHING, Interval, of_array, of_dtype, stored
from .range_rules import MAX_WEIGHT_BYTES, rule_of
from .upstream import settle

_STORED = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


class Ranges:
    """Intervals of values, each found once."""

    def __init__(self) -> None:
        self._known: dict[ir.Value, Interval] = {}

    def interval(self, value: ir.Value | None) -> Interval:
        """Where the elements of a value lie at run time, whatever is fed."""
        if value is None:
            return ANYTHING
        return settle(self._known, value, _operands, lambda top: _held(top, self._find(top)))

    def bound(self, value: ir.Value | None) -> float | None:
        """A number that |value| never exceeds at run time, or None when nothing is proven; a bounded value is never NaN."""
        found = self.interval(value)
        return found.magnitude if found.finite else None

    def is_finite(self, value: ir.Value | None) -> bool:
        """Whether the value is proven to hold neither NaN nor infinity."""
        return self.interval(value).finite

    def is_number(self, value: ir.Value | None) -> bool:
        """Whether the value is proven not to hold NaN."""
        return not self.interval(value).nan

    def is_nonnegative(self, value: ir.Value | None) -> bool:
        """Whether no element is proven to be below 0; NaN, -0 and infinity are not."""
        return self.interval(value).low >= 0

    def is_positive(self, value: ir.Value | None) -> bool:
        """Whether every element is proven to be above 0, or NaN."""
        return self.interval(value).low > 0

    def is_nonzero(self, value: ir.Value | None) -> bool:
        """Whether no element is proven to be 0 or -0; NaN and infinity are not."""
        return not self.interval(value).has_zero

    def within(self, value: ir.Value | None, low: float, high: float) -> bool:
        """Whether every element is proven to be a number in [low, high]."""
        found = self.interval(value)
        return not found.nan and low <= found.low and found.high <= high

    def _find(self, value: ir.Value) -> Interval:
        constant = array(value, MAX_WEIGHT_BYTES)
        if constant is not None:
            return of_array(constant)
        if value.dtype is None or not value.dtype.is_floating_point():
            return of_dtype(value.dtype) if value.dtype is not None else ANYTHING
        node = value.producer()
        rule = rule_of(node, value) if node is not None and is_op(node, node.op_type) else None
        return ANYTHING if node is None or rule is None else rule(node, [self._known.get(item, ANYTHING) for item in node.inputs if item is not None])


def _held(value: ir.Value, found: Interval) -> Interval:
    """The interval as the value's dtype holds it; nothing is known of what has no dtype, or one without rounding rules here."""
    if value.dtype is None:
        return ANYTHING
    if not value.dtype.is_floating_point():
        return found
    return stored(found, value.dtype) if value.dtype in _STORED else ANYTHING


def _operands(value: ir.Value) -> list[ir.Value]:
    node = value.producer()
    if node is None or (value.dtype is not None and not value.dtype.is_floating_point()):
        return []
    return [item for item in node.inputs if item is not None]
