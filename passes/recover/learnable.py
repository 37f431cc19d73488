"""What of a graph can be learned: the constants that data is multiplied by or that are added to it, and the steps of what is quantised."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from ...compiler.core.graph import constant, is_op
from ...compiler.core.sites import site_of

__all__ = ["Learnable", "learnables"]

Kind = Literal["weight", "vector", "codes", "bias codes", "scale"]
NORMS = ("BatchNormalization", "LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", "GroupNormalization", "InstanceNormalization")
RECURRENT = ("LSTM", "GRU", "RNN")
AFFINE = ("Add", "Sub", "Mul", "Div")
WHOLE = ("INT8", "UINT8", "INT4", "UINT4", "INT16", "UINT16", "INT2", "UINT2")


@dataclass(frozen=True)
class Learnable:
    """A constant and how it is learned.

    A "weight" (of a site) keeps its zeros; a "vector" has one number for each channel. "codes" are whole numbers that ``node``, a DequantizeLinear or a
    Cast, makes numbers of; those of "bias codes" count in steps of the scales ``steps`` multiplied. A "scale" is that of activations or codes.
    """

    value: ir.Value
    kind: Kind
    node: ir.Node
    steps: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The initialiser's."""
        return self.value.name or ""


def learnables(model: ir.Model, tables: bool = False) -> list[Learnable]:
    """Each once, in graph order; the tables of embeddings only where ``tables`` says so, or a product reads them too."""
    found: dict[ir.Value, Learnable] = {}
    fixed: set[ir.Value] = set()
    for node in model.graph:
        for item in _of(node, tables):
            if not _is_open(item.value, model):
                continue
            if item.kind == "bias codes":
                fixed.update(value for value in item.node.inputs[1:2] if value is not None)
            known = found.get(item.value)
            if known is None or item.kind == "bias codes" or (known.kind == "vector" and item.kind == "weight"):
                found[item.value] = item
    return [item for value, item in found.items() if value not in fixed]


def _of(node: ir.Node, tables: bool) -> Iterator[Learnable]:
    site = site_of(node)
    if site is not None and (site.kind != "Gather" or tables):
        yield Learnable(site.weight, "weight", node)
    if is_op(node, "Conv", "ConvTranspose", "Gemm"):
        yield from _constants(node, (2,), "vector")
        yield from _bias_codes(node)
    elif is_op(node, *NORMS):
        yield from _constants(node, (1, 2), "vector")
    elif is_op(node, *RECURRENT):
        yield from _constants(node, (1, 2), "weight")
        yield from _constants(node, (3,), "vector")
    elif is_op(node, "PRelu"):
        yield from _constants(node, (1,), "vector")
    elif is_op(node, *AFFINE):
        yield from (item for item in _constants(node, (0, 1), "vector") if _is_vector(item.value))
    elif is_op(node, "DequantizeLinear", "QuantizeLinear"):
        yield from _quantised(node)
    elif is_op(node, "Cast") and _is_codes(node.inputs[0]):
        yield from (Learnable(value, "codes", node) for value in node.inputs[:1] if value is not None)


def _constants(node: ir.Node, places: tuple[int, ...], kind: Kind) -> Iterator[Learnable]:
    for place in places:
        value = node.inputs[place] if place < len(node.inputs) else None
        if value is not None and constant(value) is not None and value.dtype is not None and value.dtype.is_floating_point():
            yield Learnable(value, kind, node)


def _quantised(node: ir.Node) -> Iterator[Learnable]:
    """The codes of a weight, and the scale of whatever it is; scales of biases follow from others."""
    data = node.inputs[0]
    if is_op(node, "DequantizeLinear") and _is_codes(data) and data is not None:
        yield Learnable(data, "codes", node)
    if data is None or constant(data) is None or _is_codes(data):
        yield from _constants(node, (1,), "scale")


def _bias_codes(node: ir.Node) -> Iterator[Learnable]:
    """A bias in int32 counts in steps of the data's scale times the weight's: that is what integer kernels take it for."""
    makers = [value.producer() if value is not None else None for value in node.inputs[:3]]
    if len(makers) < 3 or not all(maker is not None and is_op(maker, "DequantizeLinear") for maker in makers):
        return
    data, weight, bias = makers
    assert data is not None and weight is not None and bias is not None
    codes, steps = bias.inputs[0], (data.inputs[1], weight.inputs[1])
    if codes is not None and codes.dtype is ir.DataType.INT32 and constant(codes) is not None and all(step is not None and step.name for step in steps):
        yield Learnable(codes, "bias codes", bias, tuple(step.name or "" for step in steps if step is not None))


def _is_codes(value: ir.Value | None) -> bool:
    tensor = constant(value)
    return tensor is not None and tensor.dtype.name in WHOLE and tensor.size > 1 and value is not None and value.is_initializer()


def _is_vector(value: ir.Value) -> bool:
    tensor = constant(value)
    return tensor is not None and tensor.size > 1 and sum(size != 1 for size in tensor.shape.numpy()) == 1


def _is_open(value: ir.Value, model: ir.Model) -> bool:
    """Whether nothing outside the main graph's operators reads it: it is an initialiser that no caller can feed, and no output."""
    free = value.is_initializer() and value not in model.graph.inputs and not value.is_graph_output()
    return free and all(use.node.graph is model.graph for use in value.uses())
