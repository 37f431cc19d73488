"""Whether two graphs compute the same in the same way."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.graph import constant

MOST_BYTES = 2**20
"""Larger constants are the same only when they are one tensor."""
Pairs = dict[ir.Value, ir.Value]


def alike(one: ir.Graph, other: ir.Graph, pairs: Pairs | None = None) -> bool:
    """Whether both have the same nodes in the same order, reading the same values from outside."""
    pairs = {} if pairs is None else pairs
    if len(one.inputs) != len(other.inputs) or len(one.outputs) != len(other.outputs) or len(one) != len(other):
        return False
    pairs.update(zip(one.inputs, other.inputs, strict=True))
    if not all(_same_node(left, right, pairs) for left, right in zip(one, other, strict=True)):
        return False
    return all(_same_value(left, right, pairs) for left, right in zip(one.outputs, other.outputs, strict=True))


def _same_node(one: ir.Node, other: ir.Node, pairs: Pairs) -> bool:
    if one.op_identifier() != other.op_identifier() or len(one.inputs) != len(other.inputs) or len(one.outputs) != len(other.outputs):
        return False
    if not all(_same_value(left, right, pairs) for left, right in zip(one.inputs, other.inputs, strict=True)):
        return False
    if one.attributes.keys() != other.attributes.keys():
        return False
    pairs.update(zip(one.outputs, other.outputs, strict=True))
    return all(_same_attribute(attr, other.attributes[name], pairs) for name, attr in one.attributes.items())


def _same_value(one: ir.Value | None, other: ir.Value | None, pairs: Pairs) -> bool:
    if one is None or other is None:
        return one is other
    if one in pairs:
        return pairs[one] is other
    return one is other or _same_tensor(constant(one), constant(other))


def _same_tensor(one: ir.TensorProtocol | None, other: ir.TensorProtocol | None) -> bool:
    if one is None or other is None or one is other:
        return one is other and one is not None
    if one.dtype != other.dtype or tuple(one.shape) != tuple(other.shape) or one.dtype == ir.DataType.STRING or one.nbytes > MOST_BYTES:
        return False
    return one.tobytes() == other.tobytes()


def _same_attribute(one: ir.Attr, other: ir.Attr, pairs: Pairs) -> bool:
    if one.type != other.type or one.is_ref() or other.is_ref():
        return False
    if one.type == ir.AttributeType.GRAPH:
        return alike(one.as_graph(), other.as_graph(), pairs)
    if one.type == ir.AttributeType.TENSOR:
        return _same_tensor(one.as_tensor(), other.as_tensor())
    simple = (ir.AttributeType.GRAPHS, ir.AttributeType.TENSORS, ir.AttributeType.SPARSE_TENSOR, ir.AttributeType.SPARSE_TENSORS)
    return one.type not in simple and bool(one.value == other.value)
