"""Reading a node's whole-number attributes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import onnx_ir as ir

from ..graph import attribute


def int_attribute(node: ir.Node, name: str, default: int = 0) -> int:
    """A number, or ``default`` when neither the node nor its operator gives one."""
    found = attribute(node, name, None)
    return default if found is None else int(cast(int, found))


def ints_attribute(node: ir.Node, name: str) -> tuple[int, ...] | None:
    """A list, None when absent."""
    found = attribute(node, name, None)
    return None if found is None else tuple(int(item) for item in cast(Iterable[int], found))


def axis_of(axis: int, rank: int) -> int | None:
    """A position counted from the start, None when out of range."""
    return axis % rank if -rank <= axis < rank else None
