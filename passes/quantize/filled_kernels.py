"""Whether a convolution of what comes in is faster with channels of zeros, measured on it alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ...compiler.core.graph import array, is_op, make_constant, opset
from ...compiler.core.judge import Judge
from ...compiler.core.sites import Site
from .filled import can_be_filled, fill_channels
from .placement import Placement
from .qdq import StoredWeight

__all__ = ["RULE", "faster_filled"]

RULE = "quantize-static"
STEP = np.float32(0.05)


def faster_filled(model: ir.Model, found: Placement, site: Site, weight: StoredWeight, judge: Judge) -> bool:
    """Whether the integer kernel of a convolution is measured to be faster on four channels (see `filled`), with what moves an input to it.

    Both give codes, in the layout that integer kernels have (channels last).
    """
    if not can_be_filled(site) or site.data.shape is None or found.result(site.node).shape is None:
        return False
    plain, more = _piece(model, found, site, weight), _piece(model, found, site, weight)
    return bool(fill_channels(more, [node for node in more.graph if is_op(node, "Conv")])) and judge.slower(RULE, plain, more) is None


def _piece(model: ir.Model, found: Placement, site: Site, weight: StoredWeight) -> ir.Model:
    """The convolution alone, on integers, behind what moves them."""
    moves, result, zero = _moves_before(found, site), found.result(site.node), np.zeros((), np.uint8)
    start = moves[0].inputs[0] if moves else site.data
    given = ir.Value(name="x", shape=start.shape if start is not None else None, type=ir.TensorType(ir.DataType.FLOAT))
    graph = ir.Graph([given], [], nodes=[], opset_imports={"": opset(model)}, name=result.name)
    pen = _Pen(graph)
    steps = pen.constant(np.array(STEP)), pen.constant(zero)
    value = _coded(pen.node("QuantizeLinear", [given, *steps]), given)
    for node in moves:
        others = [None if one is None else pen.constant(array(one)) for one in node.inputs[1:]]
        value = _coded(pen.add(ir.Node("", node.op_type, [value, *others], list(node.attributes.values()))), node.outputs[0])
    value = _convolved(pen, site, pen.node("DequantizeLinear", [value, *steps]), weight)
    codes = _coded(pen.node("Transpose", [pen.node("QuantizeLinear", [value, *steps])], perm=[0, 2, 3, 1]), result)
    codes.name = "y"
    codes.shape = ir.Shape([list(result.shape or ())[axis] for axis in (0, 2, 3, 1)])
    graph.outputs.append(codes)
    return ir.Model(graph, ir_version=model.ir_version)


def _coded(value: ir.Value, like: ir.Value) -> ir.Value:
    """A value of codes of the shape of another."""
    value.type, value.shape = ir.TensorType(ir.DataType.UINT8), like.shape
    return value


def _moves_before(found: Placement, site: Site) -> list[ir.Node]:
    """What moves the numbers of an input to where the convolution reads them, first to last."""
    moves: list[ir.Node] = []
    node = site.data.producer()
    while node in found.moves and node is not None and not is_op(node, "Pad") and all(array(one) is not None for one in node.inputs[1:] if one is not None):
        moves.insert(0, node)
        node = node.inputs[0].producer() if node.inputs[0] is not None else None
    return moves if moves and moves[0].inputs[0] is not None and moves[0].inputs[0].shape is not None else []


def _convolved(pen: _Pen, site: Site, value: ir.Value, weight: StoredWeight) -> ir.Value:
    kernel = pen.node("DequantizeLinear", [pen.constant(weight.codes), pen.constant(weight.scales)], axis=weight.axis if weight.scales.ndim else None)
    bias = array(site.bias)
    inputs = [value, kernel] if bias is None else [value, kernel, pen.constant(bias)]
    made = ir.Node("", "Conv", inputs, list(site.node.attributes.values()))
    return pen.add(made)


class _Pen:
    """Adds nodes and constants to a small graph."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._count = 0

    def constant(self, content: np.ndarray | None) -> ir.Value:
        assert content is not None
        self._count += 1
        return make_constant(self._graph, content, f"c{self._count}")

    def node(self, kind: str, inputs: Sequence[ir.Value | None], **attributes: int | list[int] | None) -> ir.Value:
        given = [ir.AttrInt64s(key, item) if isinstance(item, list) else ir.AttrInt64(key, item) for key, item in attributes.items() if item is not None]
        return self.add(ir.Node("", kind, list(inputs), given))

    def add(self, node: ir.Node) -> ir.Value:
        self._count += 1
        node.outputs[0].name = f"v{self._count}"
        self._graph.append(node)
        return node.outputs[0]
