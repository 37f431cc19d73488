"""What feeds a node, and whether a pattern could match there at all: a quick no for almost all that do not."""

from __future__ import annotations

import onnx_ir as ir

from .graph import constant
from .pattern import COMMUTATIVE, Literal, Operand, Pattern, ValuePattern

MISSING, CONSTANT = "missing", "constant"

Surroundings = tuple[str, ...]
"""What feeds each input of a node: the operator that makes it, a constant, nothing at all."""


def surroundings(node: ir.Node) -> Surroundings:
    """What feeds a node; all that `plausible` looks at."""
    return tuple(_feed(value) for value in node.inputs)


def _feed(value: ir.Value | None) -> str:
    if value is None:
        return MISSING
    node = value.producer()
    if node is None or node.op_type == "Constant":
        return CONSTANT if constant(value) is not None else ""
    return node.op_type


def plausible(pattern: Pattern, around: Surroundings) -> bool:
    """Whether the pattern could match a node of its root's operator that is fed like this."""
    operands = pattern.root.inputs
    if any(feed is not MISSING for feed in around[len(operands) :]):
        return False
    feeds = around[: len(operands)] + (MISSING,) * (len(operands) - len(around))
    if all(map(_could_be, operands, feeds)):
        return True
    return len(feeds) == 2 and any(kind in COMMUTATIVE for kind in pattern.root.types) and all(map(_could_be, operands, feeds[::-1]))


def _could_be(operand: Operand, feed: str) -> bool:
    if operand is None:
        return feed is MISSING
    if isinstance(operand, ValuePattern):
        return feed in operand.node.types
    if isinstance(operand, Literal):
        return feed is CONSTANT
    return operand.optional if feed is MISSING else not operand.const or feed is CONSTANT
