"""Operators whose conversion in TVM misreads an attribute or a type, brought to a form that it reads right."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from ....compiler.core.graph import array, attribute
from ....compiler.core.shapes import dims_of, static_shape
from . import Expansion, Pen

Made = tuple[ir.Value | None, ...] | None
ITS_DEFAULTS = (("strides", 1), ("dilations", 1), ("output_padding", 0))


def padded_explicitly(op: Pen, node: ir.Node) -> Made:
    """A convolution or pooling with ``auto_pad`` says its pads instead; the sizes must be known."""
    mode = attribute(node, "auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        return None
    pads = _pads(node, str(mode))
    if pads is None:
        return None
    made = op.node(node.op_type, tuple(node.inputs), {**node.attributes, "auto_pad": None, "pads": pads}, outputs=len(node.outputs))
    return tuple(made.outputs)


def _pads(node: ir.Node, mode: str) -> list[int] | None:
    x, weights = node.inputs[0], node.inputs[1] if len(node.inputs) > 1 else None
    if x is None or x.shape is None or attribute(node, "ceil_mode", 0):
        return None
    kernel: Any = attribute(node, "kernel_shape", None) or (weights.shape[2:] if weights is not None and weights.shape is not None else None)
    sizes = list(x.shape)[2:]
    if kernel is None or not all(isinstance(size, int) for size in kernel):
        return None
    if mode == "VALID":
        return [0] * 2 * len(sizes)
    if not all(isinstance(size, int) for size in sizes):
        return None
    strides: Any = attribute(node, "strides", None) or [1] * len(sizes)
    dilations: Any = attribute(node, "dilations", None) or [1] * len(sizes)
    totals = [
        max((-(-size // stride) - 1) * stride + (width - 1) * spread + 1 - size, 0)
        for size, width, stride, spread in zip(sizes, kernel, strides, dilations, strict=True)
    ]
    small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return [*small, *large] if mode == "SAME_UPPER" else [*large, *small]


def resized_to(op: Pen, node: ir.Node) -> Made:
    """Resize says the size of its whole result instead of scales or the sizes of some axes: TVM reads nothing else. Images have known sizes."""
    x, (scales, sizes) = node.inputs[0], (*node.inputs[2:4], None, None)[:2]
    before, after = dims_of(x), dims_of(node.outputs[0])
    axes: Any = attribute(node, "axes", None)
    content = array(scales) if scales is not None else None
    if x is None or before is None or after is None or (scales is not None and content is None):
        return None
    scaled = content is not None and content.size > 0
    if (sizes is not None and not scaled and axes is None) or attribute(node, "coordinate_transformation_mode", "") == "tf_crop_and_resize":
        return None
    image = [*before[2:], *after[2:]]
    if not all(isinstance(size, int) for size in image) or (axes is not None and any(axis % len(before) < 2 for axis in axes)):
        return None
    if scaled and content is not None and not _whole(before, after, content, axes):
        return None
    known = [size for size in after if isinstance(size, int)]
    whole = op.const(known) if len(known) == len(after) else op.Concat(op.Shape(x, start=0, end=2), op.const(known[2 - len(after) :]), axis=0)
    made = op.node("Resize", (x, None, None, whole), {**node.attributes, "axes": None})
    return (made.outputs[0],)


def _whole(before: Any, after: Any, scales: np.ndarray, axes: Any) -> bool:
    """Whether scales lead to whole sizes; the batch and the channels stay what they are."""
    places = list(axes) if axes is not None else list(range(len(before)))
    told = {axis % len(before): float(scale) for axis, scale in zip(places, scales.tolist(), strict=True)}
    if any(told.get(axis, 1.0) != 1.0 for axis in (0, 1)):
        return False
    return all(abs(before[axis] * scale - after[axis]) < 1e-5 * after[axis] for axis, scale in told.items() if axis > 1)


def padded_back(op: Pen, node: ir.Node) -> Made:
    """ConvTranspose with the size of its result says pads instead; where the result is larger than what comes out, the rest is at its end."""
    x, weights = node.inputs[:2]
    wanted: Any = attribute(node, "output_shape", None)
    before, kernel = dims_of(x), static_shape(weights)
    if wanted is None or before is None or kernel is None or not all(isinstance(size, int) for size in before[2:]):
        return None
    count = len(kernel) - 2
    strides, spreads, more = (list(attribute(node, name, None) or [usual] * count) for name, usual in ITS_DEFAULTS)  # type: ignore[call-overload]
    pads = [[0, 0] for _ in range(count)]
    for axis, size in enumerate(list(wanted)[-count:]):
        total = strides[axis] * (before[axis + 2] - 1) + more[axis] + (kernel[axis + 2] - 1) * spreads[axis] + 1 - size
        small, large = max(total, 0) // 2, max(total, 0) - max(total, 0) // 2
        pads[axis] = [small, large] if attribute(node, "auto_pad", "NOTSET") == "SAME_UPPER" else [large, small]
        more[axis] += max(-total, 0)
    if any(extra >= stride for extra, stride in zip(more, strides, strict=True)):
        return None
    flat = [*(start for start, _ in pads), *(end for _, end in pads)]
    attributes = {**node.attributes, "auto_pad": None, "output_shape": None, "pads": flat, "output_padding": more}
    return (op.node("ConvTranspose", tuple(node.inputs), attributes).outputs[0],)


def wide_indices(op: Pen, node: ir.Node) -> Made:
    """TVM wants indices of int64."""
    data, indices = node.inputs[:2]
    if indices is None or indices.dtype in (None, ir.DataType.INT64):
        return None
    return (op.node(node.op_type, (data, op.Cast(indices, to=ir.DataType.INT64.value), *node.inputs[2:]), dict(node.attributes)).outputs[0],)


def one_infinity(op: Pen, node: ir.Node) -> Made:
    """IsInf of one sign."""
    x = node.inputs[0]
    positive, negative = attribute(node, "detect_positive", 1), attribute(node, "detect_negative", 1)
    if x is None or x.dtype is None or (positive and negative):
        return None
    if not positive and not negative:
        return (op.And(op.IsInf(x), op.Not(op.IsInf(x))),)
    return (op.Equal(x, op.const(np.array(np.inf if positive else -np.inf).astype(x.dtype.numpy()))),)


def piece(op: Pen, node: ir.Node) -> Made:
    """One part of something that was split into a sequence of known lengths: a slice."""
    sequence, index = node.inputs[:2]
    split = sequence.producer() if sequence is not None else None
    place = array(index)
    if split is None or split.op_type != "SplitToSequence" or place is None:
        return None
    x, lengths = (*split.inputs, None)[:2]
    dims = dims_of(x)
    if dims is None:
        return None
    axis = int(attribute(split, "axis", 0)) % len(dims)  # type: ignore[call-overload]
    sizes = _lengths(dims[axis], lengths)
    if sizes is None:
        return None
    number = int(place) % len(sizes)
    start = sum(sizes[:number])
    part = op.Slice(x, op.const([start]), op.const([start + sizes[number]]), op.const([axis]))
    return (op.Squeeze(part, op.const([axis])) if lengths is None and not attribute(split, "keepdims", 1) else part,)


def _lengths(whole: object, given: ir.Value | None) -> list[int] | None:
    """How long the parts are; one number is the length of all but the last."""
    known = array(given) if given is not None else np.array(1)
    if known is None or not isinstance(whole, int):
        return None if known is None or known.ndim == 0 else [int(size) for size in known]
    step = int(known) if known.ndim == 0 else 0
    return [min(step, whole - start) for start in range(0, whole, step)] if step else [int(size) for size in known]


EXPANSIONS: dict[str, Expansion] = {
    "Conv": padded_explicitly,
    "AveragePool": padded_explicitly,
    "MaxPool": padded_explicitly,
    "LpPool": padded_explicitly,
    "ConvTranspose": padded_back,
    "GatherND": wide_indices,
    "IsInf": one_infinity,
    "Resize": resized_to,
    "SequenceAt": piece,
}
