"""Expands that change nothing that their readers would not do by themselves."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.dims import broadcasts_into
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
    """Add(Expand(x), y) -> Add(x, y), where y has the whole shape anyway; a ConstantOfShape is an expanded number"""
    if not is_op(node, "Expand", "ConstantOfShape"):
        return 0
    value = node.outputs[0]
    readers = [reader for reader in users(value) if _broadcasts_anyway(reader, value)]
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


def _broadcasts_anyway(reader: ir.Node, value: ir.Value) -> bool:
    """Whether another input of the reader already has the shape that comes out."""
    if not is_op(reader, *_BROADCASTING) or reader.graph is None or opset(reader.graph) < _ALL_BROADCAST:
        return False
    if is_op(reader, "Expand"):
        return reader.inputs[0] is value and reader.inputs[1] is not value and broadcasts_into(dims_of(value), dims_of(reader.outputs[0]))
    others = [given for given in reader.inputs if given is not None and given is not value]
    return any(broadcasts_into(dims_of(value), dims_of(other)) for other in others)


def _unexpanded(node: ir.Node, names: Names) -> ir.Value:
    if is_op(node, "Expand"):
        source = node.inputs[0]
        assert source is not None
        return source
    number = node.attributes.get("value")
    filled = number.as_tensor().numpy() if number is not None else ir.tensor([0.0], dtype=ir.DataType.FLOAT).numpy()
    assert node.graph is not None
    return make_constant(node.graph, filled.reshape(()), names.fresh(f"{node.outputs[0].name}_number"))
