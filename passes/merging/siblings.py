"""Who stands beside a node, and what follows it."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.graph import attribute, is_op, users
from ..fold.readers import only_reader

MOST = 1000
"""A value with more readers than this is not looked at: the walk would not stay linear."""
REACH = 24
"""How many nodes are looked at on the way to an attention."""
ATTENTION = ("Attention", "MultiHeadAttention", "GroupQueryAttention", "PackedAttention", "DecoderMaskedMultiHeadAttention", "Softmax")
PASSED = (
    "Add", "Sub", "Mul", "Div", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Expand", "RotaryEmbedding", "RMSNormalization", "LayerNormalization",
    "SimplifiedLayerNormalization", "Concat", "Split", "Slice", "Neg", "Cast", "Where", "Gather",
)  # fmt: skip


def siblings(node: ir.Node, value: ir.Value, index: int = 0) -> list[ir.Node]:
    """The nodes of the same operator in the same graph that read ``value`` as input ``index``, ``node`` among them, in order."""
    if len(value.uses()) > MOST:
        return []
    return [reader for reader in users(value) if reader.graph is node.graph and is_op(reader, node.op_type) and reader.inputs[index] is value]


def same_attributes(first: ir.Node, second: ir.Node) -> bool:
    """Whether both are told the same, said or left to the default; subgraphs are never the same."""
    names = {*first.attributes, *second.attributes}
    kinds = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS, ir.AttributeType.TENSOR)
    if any(attr.type in kinds or attr.is_ref() for node in (first, second) for attr in node.attributes.values()):
        return False
    return all(_plain(attribute(first, name)) == _plain(attribute(second, name)) for name in names)


def _plain(content: object) -> object:
    return tuple(content) if isinstance(content, (list, tuple)) else content


def feeds_attention(value: ir.Value) -> bool:
    """Whether ``value`` becomes a query, key or value: what follows leads to an attention, or to a product with a Softmax."""
    stack, seen = [value], {value}
    for _ in range(REACH):
        if not stack:
            return False
        for reader in users(stack.pop()):
            if reader.op_type in ATTENTION:
                return True
            if is_op(reader, "MatMul") and all(part is not None and part.producer() is not None for part in reader.inputs):
                if any(is_op(part.producer(), "Softmax") for part in reader.inputs if part is not None):
                    return True
                following = reader.outputs
            else:
                following = reader.outputs if reader.op_type in PASSED else ()
            fresh = [made for made in following if made not in seen]
            seen.update(fresh)
            stack.extend(fresh)
    return False


def are_joined(values: list[ir.Value]) -> bool:
    """Whether all of them, activated or not, go into one Concat and nowhere else: no Split is needed there."""
    ends = [only_reader(value) for value in values]
    ends = [only_reader(node.outputs[0]) if node is not None and not is_op(node, "Concat") else node for node in ends]
    return ends[0] is not None and is_op(ends[0], "Concat") and all(node is ends[0] for node in ends)
