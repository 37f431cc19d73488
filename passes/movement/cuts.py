"""What a Slice keeps, and how cuts follow each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from ...compiler.core.axes import numbers_in
from ...compiler.core.build import Build
from ...compiler.core.dims import Dim
from ...compiler.core.shapes import dims_of
from ...compiler.core.symbolic.slicing import picked

ENDLESS = 2**31 - 1
"""Ends from here on mean "to the end" in every exporter."""
FIRST = -(2**63)
"""The end of a cut that runs backwards to the start."""


@dataclass(frozen=True)
class Cut:
    """Start, end and step along one axis, as Slice reads them."""

    start: int
    end: int
    step: int = 1

    def of_size(self, size: int) -> range:
        """The positions it keeps of so many."""
        return range(size)[picked(self.start, self.end, self.step, size)]


Cuts = Mapping[int, Cut]
"""By axis, counted from the start."""


def cuts_of(node: ir.Node) -> dict[int, Cut] | None:
    """The cuts that a Slice makes; None when one of them depends on the inputs, or the rank does."""
    shape = dims_of(node.inputs[0])
    parts = [numbers_in(value) for value in node.inputs[1:]]
    given = [value is not None for value in node.inputs[1:]]
    if shape is None or len(parts) < 2 or any(part is None for part, there in zip(parts, given, strict=True) if there):
        return None
    starts, ends = parts[0] or (), parts[1] or ()
    axes = parts[2] if len(parts) > 2 and given[2] else list(range(len(starts)))
    steps = parts[3] if len(parts) > 3 and given[3] else [1] * len(starts)
    rows = list(zip(starts, ends, axes or (), steps or (), strict=False))
    if len(rows) != len(starts):
        return None
    return {axis % len(shape): Cut(start, end, step) for start, end, axis, step in rows}


def sliced(op: Build, x: ir.Value, cuts: Cuts) -> ir.Value:
    """Slice ``x``; ``x`` itself without cuts."""
    if not cuts:
        return x
    axes = sorted(cuts)
    starts, ends, steps = ([getattr(cuts[axis], part) for axis in axes] for part in ("start", "end", "step"))
    backwards = [op.const(steps, "steps")] if any(step != 1 for step in steps) else []
    return op.Slice(x, op.const(starts, "starts"), op.const(ends, "ends"), op.const(axes, "axes"), *backwards)  # type: ignore[return-value]


def cut_for(kept: range) -> Cut:
    """The cut that keeps these positions."""
    if not kept:
        return Cut(0, 0)
    last = kept[-1] + kept.step
    return Cut(kept.start, last if last >= 0 else FIRST, kept.step)


def one_after_other(first: Cut, second: Cut, size: Dim) -> Cut | None:
    """The one cut that keeps what both do; None when that depends on the size."""
    if isinstance(size, int):
        positions = first.of_size(size)
        return cut_for(positions[picked(second.start, second.end, second.step, len(positions))])
    if first.step < 1 or second.step < 1 or first.start < 0 or second.start < 0:
        return None
    end = _joint_end(first, second)
    return None if end is None else Cut(first.start + second.start * first.step, end, first.step * second.step)


def _joint_end(first: Cut, second: Cut) -> int | None:
    """Where both have ended, whatever the size is."""
    if second.end >= ENDLESS:
        return first.end
    if second.end >= 0:
        reach = first.start + second.end * first.step
        return reach if first.end >= ENDLESS else min(first.end, reach) if first.end >= 0 else None
    return second.end if first.end >= ENDLESS and first.step == 1 else None


def keeps_all(cut: Cut, size: Dim) -> bool:
    """Whether nothing is cut off."""
    return cut.start == 0 and cut.step == 1 and (cut.end >= ENDLESS or (isinstance(size, int) and cut.end >= size))
