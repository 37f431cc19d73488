"""Expands that change nothing that their readers would not do by themselves."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.dims import Dim, broadcast, broadcasts_into, same_shape
from ...compiler.core.graph import is_op, make_constant, opset, sweep, users
from ...compiler.core.ledger import Ledger
from ...compiler.core.names import Names
from ...compiler.core.shapes import dims_of

_BROADCASTING = (
    "Add", "Sub", "Mul", "Div", "Pow", "Mod", "Min", "Max", "Sum", "Mean", "Where", "And", "Or", "Xor", "Equal", "Greater", "Less",
    "GreaterOrEqual", "LessOrEqual", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Expand",
)  # fmt: skip
_ALL_BROADCAST = 8
"""Since this opset each of them broadcasts all its inputs."""


def read_before_expand(node: ir.Node, ledger: Ledger, names: Names) -> int:
    """Add(Expand(x), y) -> Add(x, y), where the sum has that shape anyway; a ConstantOfShape is an expanded number, a Tile may be an Expand"""
    value = node.outputs[0] if node.outputs else None
    if value is None or not (is_op(node, "Expand", "ConstantOfShape") or _only_expands(node)):
        return 0
    small = () if is_op(node, "ConstantOfShape") else dims_of(node.inputs[0])
    readers = [reader for reader in users(value) if _broadcasts_anyway(reader, value, small)]
    changes = 0
    source: ir.Value | None = None
    for reader in readers:
        if ledger.permit("read-before-expand", reader.outputs[0].name or ""):
            source = source or _unexpanded(node, names)
            for index, given in enumerate(reader.inputs):
                if given is value:
                    reader.replace_input_with(index, source)
            changes += 1
    if changes:
        sweep([node])
    return changes


def _only_expands(node: ir.Node) -> bool:
    """Whether a Tile repeats dims of size 1 only."""
    return is_op(node, "Tile") and broadcasts_into(dims_of(node.inputs[0]), dims_of(node.outputs[0]))


def _broadcasts_anyway(reader: ir.Node, value: ir.Value, small: tuple[Dim, ...] | None) -> bool:
    """Whether what comes out has the same shape when the reader is given ``small`` instead: from the other inputs, or from all of them together."""
    if not is_op(reader, *_BROADCASTING) or reader.graph is None or opset(reader.graph) < _ALL_BROADCAST:
        return False
    if is_op(reader, "Expand"):
        return reader.inputs[0] is value and reader.inputs[1] is not value and broadcasts_into(dims_of(value), dims_of(reader.outputs[0]))
    others = [given for given in reader.inputs if given is not None and given is not value]
    if any(broadcasts_into(dims_of(value), dims_of(other)) for other in others):
        return True
    return bool(others) and same_shape(broadcast(small, *map(dims_of, others)), dims_of(reader.outputs[0]))


def _unexpanded(node: ir.Node, names: Names) -> ir.Value:
    if is_op(node, "Expand", "Tile"):
        source = node.inputs[0]
        assert source is not None
        return source
    number = node.attributes.get("value")
    filled = number.as_tensor().numpy() if number is not None else ir.tensor([0.0], dtype=ir.DataType.FLOAT).numpy()
    assert node.graph is not None
    return make_constant(node.graph, filled.reshape(()), names.fresh(f"{node.outputs[0].name}_number"))
