"""Conversions of our own: operators that only move data, written with the shapes that our inference found."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from ...compiler.core.dims import add, multiply
from ...compiler.core.graph import array, attribute
from ...compiler.core.shapes import dims_of, known_ints
from ...compiler.core.symbolic.reading import input_at, ints_at
from .limits import clipped, extreme, hard_sigmoid, place_of_extreme, rectified

if TYPE_CHECKING:
    from .importing import Importer

Conversion = Callable[["Importer", ir.Node], Any]
"""Gives the Relax expression of a node; None when TVM's own converter should."""


def reshaped(importer: Importer, node: ir.Node) -> Any:
    """The same numbers in the shape of the output."""
    from tvm import relax

    shape = importer.shape(node.outputs[0])
    source = node.inputs[0]
    return None if shape is None or source is None else relax.op.reshape(importer.tensor(source), relax.ShapeExpr(shape))


def expanded(importer: Importer, node: ir.Node) -> Any:
    """The input broadcast to the shape of the output."""
    from tvm import relax

    shape = importer.shape(node.outputs[0])
    source = node.inputs[0]
    return None if shape is None or source is None else relax.op.broadcast_to(importer.tensor(source), relax.ShapeExpr(shape))


def passed_on(importer: Importer, node: ir.Node) -> Any:
    """The input itself."""
    source = node.inputs[0]
    return None if source is None else importer.tensor(source)


def filled(importer: Importer, node: ir.Node) -> Any:
    """ConstantOfShape: one number everywhere."""
    from tvm import relax

    from .elements import constant_of

    shape = importer.shape(node.outputs[0])
    if shape is None:
        return None
    given = node.attributes.get("value")
    number = given.as_tensor().numpy().reshape(()) if given is not None else np.zeros((), np.float32)
    value = constant_of(np.asarray(number))
    return relax.op.full(relax.ShapeExpr(shape), value, str(value.ty.dtype))


def counted(importer: Importer, node: ir.Node) -> Any:
    """Range of integers with a known start and step: as many as the output has."""
    from tvm import relax

    from .elements import dtype_of

    value = node.outputs[0]
    sizes = importer.shape(value)
    known = [known_ints(input_at(node, place)) for place in (0, 2)]
    if sizes is None or any(one is None or not isinstance(one[0], int) for one in known):
        return None
    start, step = (one[0] for one in known if one is not None)
    dims = dims_of(value)
    end = importer.symbols.size(add(multiply(dims[0], step), start)) if dims is not None else None
    return None if end is None else relax.op.arange(start, end, step, dtype_of(value))


def cut(importer: Importer, node: ir.Node) -> Any:
    """Slice with known starts and steps: as much as the output has."""
    from tvm import relax

    source, value = node.inputs[0], node.outputs[0]
    shape, result = dims_of(source), dims_of(value)
    starts, steps = known_ints(input_at(node, 1)), ints_at(node, 4)
    if source is None or shape is None or result is None or starts is None or (input_at(node, 3) is not None and ints_at(node, 3) is None):
        return None
    axes = [axis % len(shape) for axis in ints_at(node, 3) or range(len(starts))]
    steps = steps if input_at(node, 4) is not None else (1,) * len(axes)
    if steps is None or len(set(axes)) < len(axes):
        return None
    begins, ends = [], []
    for axis, start, step in zip(axes, starts, steps, strict=True):
        size, left = shape[axis], result[axis]
        if step < 1 or not isinstance(start, int):
            return None
        if start < 0 or (isinstance(size, int) and start > size) or not (isinstance(size, int) or start == 0):
            if not isinstance(size, int):
                return None
            start = min(max(start + size if start < 0 else start, 0), size)
        end = importer.symbols.size(add(start, multiply(left, step)))
        if isinstance(size, int) and isinstance(end, int):
            end = min(end, size)
        if end is None or (step > 1 and not isinstance(end, int)):
            return None
        begins.append(start)
        ends.append(end)
    return relax.op.strided_slice(importer.tensor(source), axes, begins, ends, list(steps), assume_inbound=True)


def transposed(importer: Importer, node: ir.Node) -> Any:
    """Transpose."""
    from tvm import relax

    source = node.inputs[0]
    order = attribute(node, "perm")
    return None if source is None else relax.op.permute_dims(importer.tensor(source), list(order) if isinstance(order, (tuple, list)) else None)


def gathered(importer: Importer, node: ir.Node) -> Any:
    """Gather. An index that is out of range reads the nearest place there is: TVM's own conversion reads whatever lies in memory there."""
    from tvm import relax

    from .elements import constant_of

    data, indices = node.inputs[:2]
    shape = dims_of(data)
    if data is None or indices is None or shape is None:
        return None
    axis = int(attribute(node, "axis", 0)) % len(shape)  # type: ignore[call-overload]
    size, known = shape[axis], array(indices)
    if known is not None and isinstance(size, int) and size > 0:
        places = np.clip(np.where(known < 0, known + size, known), 0, size - 1).astype(known.dtype)
        if places.ndim == 0:
            piece = relax.op.strided_slice(importer.tensor(data), [axis], [int(places)], [int(places) + 1], [1], assume_inbound=True)
            return relax.op.squeeze(importer.emit(piece), [axis])
        return relax.op.take(importer.tensor(data), constant_of(places), axis, mode="clip")
    extent = importer.symbols.size(size)
    if extent is None:
        return None
    places = importer.tensor(indices)
    dtype = str(places.ty.dtype)
    whole = relax.const(size, dtype) if isinstance(size, int) else importer.scalar(extent, dtype)
    zero = relax.const(0, dtype)
    settled = importer.emit(relax.op.where(relax.op.less(places, zero), relax.op.add(places, whole), places))
    return relax.op.take(importer.tensor(data), settled, axis, mode="clip")


def resized(importer: Importer, node: ir.Node) -> Any:
    """Resize to a size of which the image's part is known: TVM's own conversion reads no more of it, but wants a constant."""
    from .elements import constant_of

    sizes = node.inputs[3] if len(node.inputs) > 3 else None
    after = dims_of(node.outputs[0])
    if sizes is None or array(sizes) is not None or after is None or not all(isinstance(size, int) for size in after[2:]):
        return None
    with importer.standing_for({sizes: constant_of(np.array([1, 1, *after[2:]], np.int64))}):
        return importer.theirs(node)


def shape_itself(importer: Importer, node: ir.Node) -> Any:
    """Shape of something whose sizes are not known before it runs."""
    from tvm import relax

    source = node.inputs[0]
    if source is None or attribute(node, "start", 0) or node.attributes.get("end") is not None:
        return None
    return relax.op.shape_to_tensor(importer.builder.emit(relax.op.shape_of(importer.tensor(source))))


OWN: dict[str, Conversion] = {
    "Reshape": reshaped,
    "Squeeze": reshaped,
    "Unsqueeze": reshaped,
    "Flatten": reshaped,
    "Expand": expanded,
    "Identity": passed_on,
    "ConstantOfShape": filled,
    "Range": counted,
    "Slice": cut,
    "Transpose": transposed,
    "Shape": shape_itself,
    "Gather": gathered,
    "Resize": resized,
    "Relu": rectified,
    "Clip": clipped,
    "Max": extreme,
    "Min": extreme,
    "HardSigmoid": hard_sigmoid,
    "ArgMax": place_of_extreme,
    "ArgMin": place_of_extreme,
}
"""Standard operator -> our conversion."""
