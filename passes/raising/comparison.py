"""Where with a comparison against a number, read as a function in two pieces."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from ...compiler.core.graph import is_op, producer
from .polynomial import number_beside

COMPARISONS = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")


@dataclass(frozen=True)
class Pieces:
    """``above`` where x > at and ``below`` where x < at; ``nan_above`` says which of the two a NaN gets."""

    x: ir.Value
    at: float
    above: ir.Value
    below: ir.Value
    equal_above: bool
    nan_above: bool
    nodes: tuple[ir.Node, ...]


def pieces(where: ir.Node) -> Pieces | None:
    """The two pieces of a Where; None when its condition is no comparison of a value with a number."""
    condition, when, otherwise = where.inputs
    negations: list[ir.Node] = []
    node = producer(condition)
    while is_op(node, "Not"):
        negations.append(node)  # type: ignore[arg-type]
        node = producer(node.inputs[0])  # type: ignore[union-attr]
    if node is None or not is_op(node, *COMPARISONS) or when is None or otherwise is None:
        return None
    index = next((index for index in (0, 1) if number_beside(node, index) is not None), None)
    x = None if index is None else node.inputs[1 - index]
    number = None if index is None else number_beside(node, index)
    if x is None or number is None:
        return None
    greater, inclusive = node.op_type.startswith("Greater") == (index == 1), node.op_type.endswith("OrEqual")
    if len(negations) % 2:
        when, otherwise = otherwise, when
    above, below = (when, otherwise) if greater else (otherwise, when)
    equal_above = inclusive if greater else not inclusive
    return Pieces(x, number, above, below, equal_above, not greater, (node, *negations))
