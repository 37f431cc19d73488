"""The axes that an operator works along, and other small numbers it is given."""

from __future__ import annotations

import onnx_ir as ir

from .graph import attribute
from .shapes import dims_of, known_ints

__all__ = ["axes_of", "ints", "numbers_in", "reduced_axes"]


def numbers_in(value: ir.Value | None) -> list[int] | None:
    """What a small tensor of integers holds; None when some of it depends on the inputs."""
    known = known_ints(value)
    found = [item for item in known or () if isinstance(item, int)]
    return found if known is not None and len(found) == len(known) else None


def axes_of(node: ir.Node, rank: int, index: int = 1) -> list[int] | None:
    """The axes in an input, counted from the start; None when they are left out, not known, or beyond ``rank``."""
    given = numbers_in(node.inputs[index] if len(node.inputs) > index else None)
    if given is None or not all(-rank <= axis < rank for axis in given):
        return None
    return [axis % rank for axis in given]


def reduced_axes(node: ir.Node) -> tuple[int, ...] | None:
    """The axes that a reduction runs over, from 0 and in order, said as an input or as an attribute; None when they or the rank are not known."""
    shape = dims_of(node.inputs[0])
    if shape is None:
        return None
    given = node.inputs[1] if len(node.inputs) > 1 else None
    axes = numbers_in(given) if given is not None else list(ints(node, "axes"))
    if axes is None or not all(-len(shape) <= axis < len(shape) for axis in axes):
        return None
    if not axes:
        return () if attribute(node, "noop_with_empty_axes", 0) else tuple(range(len(shape)))
    return tuple(sorted(axis % len(shape) for axis in axes))


def ints(node: ir.Node, name: str, default: tuple[int, ...] = ()) -> tuple[int, ...]:
    """An attribute that is a list of integers."""
    found = attribute(node, name)
    return default if found is None else tuple(int(item) for item in found)  # type: ignore[attr-defined]
