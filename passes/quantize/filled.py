"""Convolutions of one to three channels, given channels of zeros: the fastest integer kernels take channels by fours."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from ...compiler.core.graph import array, make_constant, producer, sweep
from ...compiler.core.names import Names
from ...compiler.core.sites import Site

__all__ = ["can_be_filled", "fill_channels"]

FOURS = 4
IMAGE = 4
"""Dimensions of the weight of a two-dimensional convolution."""


def can_be_filled(site: Site) -> bool:
    """Whether it is a convolution of an image of so few channels."""
    return site.kind == "Conv" and site.groups == 1 and len(site.shape) == IMAGE and site.shape[1] < FOURS


def fill_channels(model: ir.Model, nodes: Collection[ir.Node]) -> int:
    """Conv(d(q), d(w)) -> Conv(d(Pad(q)), d([w 0])), q and w filled up to four channels with what stands for 0; for how many that could be done.

    Exact, for codes of 8 bits. ONNX Runtime multiplies pixels of four channels where they lie (MlasConvSym), and those of three by copying each patch.
    """
    names = Names(model)
    done = sum(_fill(model.graph, node, names) for node in nodes)
    if done:
        model.graph.sort()
    return done


def _fill(graph: ir.Graph, node: ir.Node, names: Names) -> bool:
    data, weight = producer(node.inputs[0], "DequantizeLinear"), producer(node.inputs[1], "DequantizeLinear")
    codes = array(weight.inputs[0]) if weight is not None else None
    if data is None or weight is None or codes is None or len(data.inputs) < 3 or codes.itemsize > 1:
        return False
    lack = -codes.shape[1] % FOURS
    padded = _padded(graph, data.inputs[0], data.inputs[2], lack, names)
    number = _node(graph, ir.Node("", "DequantizeLinear", [padded, *data.inputs[1:]]), data.outputs[0], names.fresh("d"))
    zero = array(weight.inputs[2]) if len(weight.inputs) > 2 else None
    empty = np.full((codes.shape[0], lack, *codes.shape[2:]), 0 if zero is None else zero.reshape(-1)[0], codes.dtype)
    stored = make_constant(graph, np.concatenate([codes, empty], axis=1), names.fresh("w"))
    wide = ir.Node("", "DequantizeLinear", [stored, *weight.inputs[1:]], list(weight.attributes.values()))
    node.replace_input_with(0, number)
    node.replace_input_with(1, _node(graph, wide, stored, names.fresh("d"), ir.DataType.FLOAT))
    sweep([data, weight])
    return True


def _padded(graph: ir.Graph, codes: ir.Value | None, zero: ir.Value | None, lack: int, names: Names) -> ir.Value:
    """Codes with more channels. Rows and columns go as one where their sizes are known: through that the runtime moves no transposition, and whole channels
    are copied instead of pixels."""
    assert codes is not None
    sizes = [size for size in list(codes.shape)[2:] if isinstance(size, int)] if codes.shape is not None else []
    known = len(sizes) == IMAGE - 2
    before, after = [[0, FOURS - lack, sizes[0] * sizes[1]]] if known else [], [[0, FOURS, *sizes]] if known else []
    value = codes
    for kind, content in (*(("Reshape", shape) for shape in before), ("Pad", _pads(lack, 3 if known else IMAGE)), *(("Reshape", shape) for shape in after)):
        given = make_constant(graph, np.array(content, np.int64), names.fresh("n"))
        made = ir.Node("", kind, [value, given, zero] if kind == "Pad" else [value, given])
        value = _node(graph, made, codes, names.fresh("q"))
        if known and content is not after[0]:
            value.shape = None
    return value


def _pads(lack: int, rank: int) -> list[int]:
    return [0] * (rank + 1) + [lack] + [0] * (rank - 2)


def _node(graph: ir.Graph, made: ir.Node, like: ir.Value | None, name: str, dtype: ir.DataType | None = None) -> ir.Value:
    """Add a node that makes something of the type and, but for channels, the shape of ``like``."""
    assert like is not None
    value = made.outputs[0]
    value.name, value.type = name, ir.TensorType(dtype) if dtype is not None else like.type
    shape = list(like.shape) if like.shape is not None else None
    if shape is not None:
        shape[1] = FOURS
        value.shape = ir.Shape(shape)
    graph.append(made)
    made.name = ""
    return value
