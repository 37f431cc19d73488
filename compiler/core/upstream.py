"""What is known of a value from what is known of those it is made from, each worked out once, without recursion."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import onnx_ir as ir

Fact = TypeVar("Fact")


def settle(known: dict[ir.Value, Fact], value: ir.Value, operands: Callable[[ir.Value], Iterable[ir.Value]], find: Callable[[ir.Value], Fact]) -> Fact:
    """Fill ``known`` for ``value`` and all it depends on; ``find`` is asked for a value once its ``operands`` are known."""
    stack = [value]
    while stack:
        top = stack[-1]
        if top in known:
            stack.pop()
            continue
        missing = [item for item in operands(top) if item not in known]
        if missing:
            stack.extend(missing)
            continue
        known[top] = find(top)
        stack.pop()
    return known[value]
