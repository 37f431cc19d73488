"""What Slice and Shape pick."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ..dims import UNKNOWN, Dim
from .attributes import int_attribute, ints_attribute
from .contents import Content, numbers


def shape_slice(node: ir.Node, rank: int) -> slice:
    """Which dimensions a Shape node with its ``start`` and ``end`` yields; none when start is beyond end."""
    first = _clamped(int_attribute(node, "start"), rank)
    last = _clamped(int_attribute(node, "end", rank), rank)
    return slice(first, max(first, last))


def _clamped(position: int, rank: int) -> int:
    return min(max(position + rank if position < 0 else position, 0), rank)


def slice_bounds(node: ir.Node, known: Sequence[Content | None]) -> list[tuple[Dim, Dim, int, int]] | None:
    """(start, end, axis, step) for each axis a Slice cuts; starts and ends may be symbols. None when axes or steps are not known."""
    starts, ends = ints_attribute(node, "starts"), ints_attribute(node, "ends")
    if starts is not None and ends is not None:
        axes = ints_attribute(node, "axes") or tuple(range(len(starts)))
        return _zipped(starts, ends, axes, (1,) * len(starts))
    given = [*node.inputs, None, None][:5]
    contents = [*known, None, None][:5]
    count = next((len(part) for part in contents[1:3] if part is not None and part.ndim == 1), None)
    if count is None:
        return None
    places, steps = _ints(given[3], contents[3], tuple(range(count))), _ints(given[4], contents[4], (1,) * count)
    if places is None or steps is None or 0 in steps:
        return None
    first, last = ((UNKNOWN,) * count if part is None else tuple(part) for part in contents[1:3])
    return _zipped(first, last, places, steps)


def _ints(given: ir.Value | None, known: Content | None, default: tuple[int, ...]) -> tuple[int, ...] | None:
    if given is None:
        return default
    found = numbers(known)
    return None if found is None else tuple(int(item) for item in found.reshape(-1))


def _zipped(starts: Sequence[Dim], ends: Sequence[Dim], axes: Sequence[int], steps: Sequence[int]) -> list[tuple[Dim, Dim, int, int]] | None:
    if not len(starts) == len(ends) == len(axes) == len(steps):
        return None
    return list(zip(starts, ends, axes, steps, strict=True))


def picked(start: int, end: int, step: int, size: int) -> slice:
    """The Python slice that picks what ONNX's Slice does along an axis of this size."""
    start = start + size if start < 0 else start
    end = end + size if end < 0 else end
    if step > 0:
        return slice(min(max(start, 0), size), min(max(end, 0), size), step)
    first, last = min(max(start, 0), size - 1), min(max(end, -1), size - 1)
    return slice(first, None if last < 0 else last, step)
