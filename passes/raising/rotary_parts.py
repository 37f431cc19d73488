"""Which elements of its last dimension a part of x holds: a half of it, or every other element."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.dims import same_shape
from ...compiler.core.graph import array, attribute, producer, scalar

Part = tuple[ir.Value, range]
"""A tensor and the elements of its last dimension that a part of it holds."""


def part_of(value: ir.Value | None) -> Part | None:
    """The tensor of whose last dimension ``value`` is a part, and which elements they are."""
    node = producer(value, "Slice", "Split", "Gather", "Squeeze")
    if node is None or value is None:
        return None
    if node.op_type in ("Gather", "Squeeze"):
        return _of_pairs(node)
    source = node.inputs[0]
    width = source.shape[-1] if source is not None and source.shape is not None and len(source.shape) > 0 else None
    if source is None or source.shape is None or not isinstance(width, int):
        return None
    rank = len(source.shape)
    return _split_part(node, value, source, rank) if node.op_type == "Split" else _slice_part(node, source, rank, width)


def _slice_part(node: ir.Node, source: ir.Value, rank: int, width: int) -> Part | None:
    numbers = [array(item) for item in node.inputs[1:]]
    if len(numbers) < 3 or any(item is None or item.size != 1 for item in numbers):
        return None
    start, end, axis, *step = (int(item.reshape(-1)[0]) for item in numbers if item is not None)
    if axis % rank != rank - 1 or (step and step[0] <= 0):
        return None
    return source, range(width)[slice(start, end, *step)]


def _split_part(node: ir.Node, value: ir.Value, source: ir.Value, rank: int) -> Part | None:
    sizes = [item.shape[-1] if item.shape is not None else None for item in node.outputs]
    known = [size for size in sizes if isinstance(size, int)]
    if int(attribute(node, "axis", 0)) % rank != rank - 1 or len(known) < len(sizes):  # type: ignore[call-overload]
        return None
    index = value.index() or 0
    start = sum(known[:index])
    return source, range(start, start + known[index])


def _of_pairs(node: ir.Node) -> Part | None:
    """Element 0 or 1 of neighbours that a Reshape of x put into a dimension of two."""
    index: int | None = None
    pairs = node.inputs[0]
    if node.op_type == "Squeeze":
        split = producer(pairs, "Split")
        index, pairs = (pairs.index(), split.inputs[0]) if split is not None and pairs is not None else (None, None)
        axis = attribute(split, "axis", 0) if split is not None else None
    else:
        chosen = node.inputs[1]
        place = scalar(chosen) if chosen is not None and chosen.shape is not None and len(chosen.shape) == 0 else None
        index, axis = None if place is None else int(place) % 2, attribute(node, "axis", 0)
    view = producer(pairs, "Reshape")
    x = view.inputs[0] if view is not None else None
    if index is None or pairs is None or pairs.shape is None or x is None or x.shape is None or axis not in (-1, len(pairs.shape) - 1):
        return None
    width = x.shape[-1]
    halves = isinstance(width, int) and width % 2 == 0 and same_shape(pairs.shape, (*list(x.shape)[:-1], width // 2, 2))
    return (x, range(index, width, 2)) if halves and isinstance(width, int) else None
