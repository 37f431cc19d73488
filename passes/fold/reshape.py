"""Reshapes whose target is known, and those that change nothing."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...compiler.core.dims import Dim, positive_given, same, same_shape
from ...compiler.core.graph import attribute, constant, is_op, make_constant, replace, sweep
from ...compiler.core.ledger import Ledger
from ...compiler.core.names import Names
from ...compiler.core.shapes import dims_of, never_zero


def drop_unchanged(node: ir.Node, ledger: Ledger, names: Names) -> int:
    """Reshape(x) or Expand(x) to the shape x has -> x"""
    if not is_op(node, "Reshape", "Expand") or not same_shape(dims_of(node.inputs[0]), dims_of(node.outputs[0])):
        return 0
    if not ledger.permit(f"drop-{node.op_type.lower()}", node.outputs[0].name or ""):
        return 0
    source = node.inputs[0]
    assert source is not None
    replace(node.outputs[0], source, names)
    sweep([node])
    return 1


def fold_target(node: ir.Node, ledger: Ledger, names: Names) -> int:
    """Reshape(x, computed target) -> Reshape(x, constant), where each size is a number, or copied (0), or alone left to be worked out (-1)"""
    if not is_op(node, "Reshape") or len(node.inputs) < 2 or node.inputs[1] is None or constant(node.inputs[1]) is not None or node.graph is None:
        return 0
    data, made = dims_of(node.inputs[0]), dims_of(node.outputs[0])
    target = None if data is None or made is None else constant_target(data, made, never_zero(node))
    if target is None or not ledger.permit("fold-reshape-target", node.outputs[0].name or ""):
        return 0
    before = node.inputs[1].producer()
    node.replace_input_with(1, make_constant(node.graph, np.array(target, dtype=np.int64), names.fresh(f"{node.outputs[0].name}_shape")))
    if attribute(node, "allowzero", 0):
        del node.attributes["allowzero"]
    if before is not None:
        sweep([before])
    return 1


def constant_target(data: tuple[Dim, ...], made: tuple[Dim, ...], positive: frozenset[str]) -> list[int] | None:
    """A target without symbols that reshapes ``data`` into ``made``, empty tensors included; None when there is none.

    -1 fails beside an empty dimension, so it stands only where the others cannot be 0: ``positive`` are the symbols that are never 0.
    """
    target: list[int | None] = [_entry(data, index, size) for index, size in enumerate(made)]
    open_places = [index for index, entry in enumerate(target) if entry is None]
    if not open_places:
        return [entry for entry in target if entry is not None]
    if len(open_places) > 1:
        return None
    others = [size for index, size in enumerate(made) if index != open_places[0]]
    if not all(positive_given(size, positive) for size in others):
        return None
    return [-1 if entry is None else entry for entry in target]


def _entry(data: tuple[Dim, ...], index: int, size: Dim) -> int | None:
    if isinstance(size, int) and size > 0:
        return size
    return 0 if index < len(data) and same(data[index], size) else None
