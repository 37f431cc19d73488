"""Operators that stay in float between others that compute on integers, kept so by the runtime too."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from ...compiler.core.graph import array, attribute, is_op, make_constant, producer, scalar, users
from ...compiler.core.names import Names

__all__ = ["keep_floats", "keep_pools"]

ROUNDED = ("Conv", "ConvTranspose", "Gemm")
BOUNDS = ("Relu", "Clip")


def keep_floats(model: ir.Model, integer: Collection[ir.Node], names: Names) -> int:
    """Decode what operators outside ``integer`` read with a scale for each channel, all equal; returns for how many that was needed.

    ONNX Runtime 1.32 (its WeightBiasQuantization) rounds the weights of a convolution or Gemm by itself, with one scale for all channels, where the
    data was decoded with a single scale and the result is quantised next. The same numbers from a scale for each channel it leaves alone.
    """
    found = [node for node in model.graph if is_op(node, *ROUNDED) and node not in integer and _would_be_rounded(node)]
    return sum(_decode_by_channel(node, names) for node in found)


def keep_pools(model: ir.Model, names: Names) -> int:
    """Quantise what a MaxPool of floats makes with a scale for each channel, all equal; returns for how many that was needed.

    ONNX Runtime 1.32 (its QDQPropagation) moves a QuantizeLinear with a single scale to before the MaxPool, which then runs on bytes, channel by
    channel: many times as long as on floats.
    """
    found = [node for node in model.graph if is_op(node, "QuantizeLinear") and producer(node.inputs[0], "MaxPool") is not None]
    return sum(_spread(node, names) for node in found if _runs_on_floats(node))


def _runs_on_floats(node: ir.Node) -> bool:
    pool = producer(node.inputs[0], "MaxPool")
    return pool is not None and pool.inputs[0] is not None and producer(pool.inputs[0], "DequantizeLinear") is None


def _spread(node: ir.Node, names: Names) -> bool:
    """A scale and a zero point for each channel of what the node quantises."""
    value, pair = node.inputs[0], [array(one) for one in node.inputs[1:]]
    channels = value.shape[1] if value is not None and value.shape is not None and len(value.shape) > 1 else None
    if not isinstance(channels, int) or not isinstance(node.graph, ir.Graph) or any(one is None or one.size != 1 for one in pair):
        return False
    for index, one in enumerate(pair, start=1):
        assert one is not None
        node.replace_input_with(index, make_constant(node.graph, np.full(channels, one.reshape(()), one.dtype), names.fresh("each")))
    node.attributes["axis"] = ir.AttrInt64("axis", 1)
    return True


def _would_be_rounded(node: ir.Node) -> bool:
    decoded = producer(node.inputs[0], "DequantizeLinear")
    if decoded is None or scalar(decoded.inputs[1]) is None:
        return False
    result = node.outputs[0]
    while len(readers := users(result)) == 1 and is_op(readers[0], *BOUNDS) and not result.is_graph_output():
        result = readers[0].outputs[0]
    return len(readers) == 1 and is_op(readers[0], "QuantizeLinear") and not result.is_graph_output()


def _decode_by_channel(node: ir.Node, names: Names) -> bool:
    """A DequantizeLinear of its own for the data of a node."""
    decoded, channels = producer(node.inputs[0], "DequantizeLinear"), _channels(node)
    graph = node.graph
    if decoded is None or channels is None or not isinstance(graph, ir.Graph):
        return False
    pair = [array(value) for value in decoded.inputs[1:]]
    spread = [make_constant(graph, np.full(channels, one.reshape(()), one.dtype), names.fresh("each")) for one in pair if one is not None]
    made = ir.Node("", "DequantizeLinear", [decoded.inputs[0], *spread], [ir.AttrInt64("axis", 1)])
    like, value = decoded.outputs[0], made.outputs[0]
    value.name, value.type, value.shape = names.fresh("d"), like.type, like.shape
    graph.insert_before(node, made)
    made.name = ""
    node.replace_input_with(0, value)
    if not like.uses() and not like.is_graph_output():
        graph.remove(decoded, safe=True)
    return True


def _channels(node: ir.Node) -> int | None:
    """How many channels the data has; None where the shape of the weight does not tell, or they are not its second dimension."""
    weight = node.inputs[1]
    if weight is None or weight.shape is None or not weight.shape.is_static() or attribute(node, "transA", 0):
        return None
    sizes = weight.shape.numpy()
    if is_op(node, "Conv"):
        return int(sizes[1]) * int(attribute(node, "group", 1))  # type: ignore[call-overload]
    return int(sizes[1] if attribute(node, "transB", 0) else sizes[0])
