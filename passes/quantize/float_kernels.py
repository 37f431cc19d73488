"""Convolutions that run faster as they are than on integers: a few channels fill no register of the integer kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ...compiler.core.graph import array, make_constant, opset
from ...compiler.core.judge import Judge
from ...compiler.core.sites import Site
from .placement import Placement
from .qdq import StoredWeight

__all__ = ["faster_in_float"]

RULE = "quantize-static"
IMAGE = 4
"""Dimensions of what a two-dimensional convolution reads."""
STEP = np.float32(0.05)


def faster_in_float(model: ir.Model, found: Placement, site: Site, weight: StoredWeight, judge: Judge) -> bool:
    """Whether the float kernel of a two-dimensional convolution of floats is measured to be faster than the integer one.

    Both give codes, in the layout that integer kernels have (channels last).
    """
    if site.kind != "Conv" or len(site.shape) != IMAGE or site.data.shape is None or found.result(site.node).shape is None:
        return False
    pieces = [_piece(model, found, site, stored) for stored in (weight, None)]
    return judge.slower(RULE, *pieces) is None


def _piece(model: ir.Model, found: Placement, site: Site, weight: StoredWeight | None) -> ir.Model:
    """The convolution alone: on integers, or (no ``weight``) on floats."""
    data, result, zero = site.data, found.result(site.node), np.zeros((), np.uint8)
    given = ir.Value(name="x", shape=data.shape, type=ir.TensorType(ir.DataType.FLOAT))
    graph = ir.Graph([given], [], nodes=[], opset_imports={"": opset(model)}, name=result.name)
    pen = _Pen(graph)
    steps = pen.constant(np.array(STEP)), pen.constant(zero)
    value = given
    if weight is not None:
        value = pen.node("DequantizeLinear", [pen.node("QuantizeLinear", [value, *steps]), *steps])
    value = _convolved(pen, site, value, weight)
    clamp = found.clamps.get(site.node)
    if clamp is not None and weight is None:
        bounds = [None if one is None else pen.constant(array(one)) for one in clamp.inputs[1:]]
        value = pen.node(clamp.op_type, [value, *bounds])
    codes = pen.node("Transpose", [pen.node("QuantizeLinear", [value, *steps])], perm=[0, 2, 3, 1])
    codes.name = "y"
    codes.type = ir.TensorType(ir.DataType.UINT8)
    outcome = [*result.shape] if result.shape is not None else []
    codes.shape = ir.Shape([outcome[axis] for axis in (0, 2, 3, 1)])
    graph.outputs.append(codes)
    return ir.Model(graph, ir_version=model.ir_version)


def _convolved(pen: _Pen, site: Site, value: ir.Value, weight: StoredWeight | None) -> ir.Value:
    if weight is None:
        kernel = pen.constant(array(site.weight))
    else:
        scales = pen.constant(weight.scales)
        kernel = pen.node("DequantizeLinear", [pen.constant(weight.codes), scales], axis=weight.axis if weight.scales.ndim else None)
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
