"""How the numbers in small integer tensors follow from each other: ``Shape`` and the arithmetic that models do on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from .. import dims
from ..dims import UNKNOWN, Dim
from ..graph import constant, is_op
from .attributes import int_attribute, ints_attribute
from .contents import LIMITS, MOST_ELEMENTS, Content, content, numbers, objects, only, single, vector
from .slicing import picked, shape_slice, slice_bounds

Inputs = Sequence[Content | None]
ContentRule = Callable[[ir.Node, Inputs], Content | None]


def infer_content(node: ir.Node) -> Content | None:
    """The content of the node's first output, from those of its inputs; None when nothing is known of it."""
    rule = _RULES.get(node.op_type)
    dtype = node.outputs[0].dtype
    if rule is None or not is_op(node, node.op_type) or dtype not in LIMITS:
        return None
    known = rule(node, [content(value) for value in node.inputs])
    if known is None or known.size > MOST_ELEMENTS:
        return None
    known = _each(_within, known, single(LIMITS[dtype]))
    return None if known.size and not any(dims.is_known(item) for item in known.reshape(-1)) else known


def _within(item: Dim, limit: int) -> Dim:
    """The item, unless it is a number that the tensor's dtype cannot hold and that wraps around there."""
    return UNKNOWN if isinstance(item, int) and not -limit <= item < limit else item


def _each(operation: Callable[..., Dim], *parts: Content) -> Content:
    """The operation on every item, the parts broadcast together."""
    return _as_content(np.frompyfunc(operation, len(parts), 1)(*parts))


def _as_content(result: Any) -> Content:
    """numpy hands out the bare item instead of an array without dimensions."""
    return result if isinstance(result, np.ndarray) else single(result)


def _complete(node: ir.Node, known: Inputs) -> list[Content] | None:
    """The contents of all inputs, unknown items where a small one has none; None when an input is too large."""
    parts = [part if part is not None else _unknown_like(value) for part, value in zip(known, node.inputs, strict=True)]
    found = [part for part in parts if part is not None]
    return found if found and len(found) == len(parts) else None


def _unknown_like(value: ir.Value | None) -> Content | None:
    if value is None or value.shape is None or not value.shape.is_static() or math.prod(value.shape.numpy()) > MOST_ELEMENTS:
        return None
    return np.full(value.shape.numpy(), UNKNOWN, dtype=object)


def _output_shape(node: ir.Node) -> tuple[int, ...] | None:
    shape = node.outputs[0].shape
    if shape is None or not shape.is_static() or math.prod(shape.numpy()) > MOST_ELEMENTS:
        return None
    return shape.numpy()


def _shape(node: ir.Node, _: Inputs) -> Content | None:
    source = node.inputs[0]
    if source is None or source.shape is None:
        return None
    return vector(source.shape.dims[shape_slice(node, source.shape.rank())])


def _size(node: ir.Node, _: Inputs) -> Content | None:
    source = node.inputs[0]
    return None if source is None or source.shape is None else single(dims.elements(source.shape))


def _first(_: ir.Node, known: Inputs) -> Content | None:
    return known[0]


def _gather(node: ir.Node, known: Inputs) -> Content | None:
    data, index = known[0], numbers(known[1])
    if data is None or index is None:
        return None
    axis = int_attribute(node, "axis")
    if not -data.ndim <= axis < data.ndim or not np.all((index >= -data.shape[axis]) & (index < data.shape[axis])):
        return None
    return _as_content(np.take(data, index, axis=axis))


def _concat(node: ir.Node, known: Inputs) -> Content | None:
    parts = _complete(node, known)
    if parts is None or any(part.ndim == 0 for part in parts):
        return None
    return np.concatenate(parts, axis=int_attribute(node, "axis"))


def _to_output_shape(node: ir.Node, known: Inputs) -> Content | None:
    shape = _output_shape(node)
    if known[0] is None or shape is None or math.prod(shape) != known[0].size:
        return None
    return known[0].reshape(shape)


def _transpose(node: ir.Node, known: Inputs) -> Content | None:
    return None if known[0] is None else np.transpose(known[0], ints_attribute(node, "perm"))


def _slice(node: ir.Node, known: Inputs) -> Content | None:
    data = known[0]
    bounds = None if data is None else slice_bounds(node, known)
    if data is None or bounds is None:
        return None
    index: list[slice] = [slice(None)] * data.ndim
    for start, end, axis, step in bounds:
        if not isinstance(start, int) or not isinstance(end, int) or not -data.ndim <= axis < data.ndim:
            return None
        index[axis] = picked(start, end, step, data.shape[axis])
    return data[tuple(index)]


def _broadcast(operation: Callable[[Dim, Dim], Dim]) -> ContentRule:
    def rule(node: ir.Node, known: Inputs) -> Content | None:
        parts = _complete(node, known)
        if parts is None:
            return None
        result = parts[0]
        for part in parts[1:]:
            result = _each(operation, result, part)
        return result

    return rule


def _divide(a: Dim, b: Dim) -> Dim:
    """ONNX's integer division drops the fraction; it rounds down where nothing is negative."""
    if isinstance(a, int) and isinstance(b, int):
        return UNKNOWN if b == 0 else (abs(a) // abs(b)) * (1 if (a < 0) == (b < 0) else -1)
    exact = dims.divide_exactly(a, b)
    if exact is not None:
        return exact
    if dims.at_least(a, 0) and dims.at_least(b, 0):
        return dims.floor_divide(a, b)
    if isinstance(b, int) and b > 0 and dims.at_least(a, 1 - b):
        return dims.maximum(dims.floor_divide(a, b), 0)
    return UNKNOWN


def _modulo(node: ir.Node, known: Inputs) -> Content | None:
    return None if int_attribute(node, "fmod") else _broadcast(dims.modulo)(node, known)


def _comparison(decide: Callable[[int], bool]) -> ContentRule:
    """A comparison that is decided by the sign of the difference, where that is proven."""
    return _broadcast(lambda a, b: _compare(a, b, decide))


def _compare(a: Dim, b: Dim, decide: Callable[[int], bool]) -> Dim:
    ahead, behind = dims.subtract(a, b), dims.subtract(b, a)
    if isinstance(ahead, int):
        return int(decide((ahead > 0) - (ahead < 0)))
    if dims.at_least(ahead, 1):
        return int(decide(1))
    if dims.at_least(behind, 1):
        return int(decide(-1))
    if dims.at_least(ahead, 0) and decide(0) == decide(1):
        return int(decide(0))
    if dims.at_least(behind, 0) and decide(0) == decide(-1):
        return int(decide(0))
    return UNKNOWN


def _and(a: Dim, b: Dim) -> Dim:
    if a == 0 or b == 0:
        return 0
    return 1 if a == 1 and b == 1 else UNKNOWN


def _or(a: Dim, b: Dim) -> Dim:
    if a == 1 or b == 1:
        return 1
    return 0 if a == 0 and b == 0 else UNKNOWN


def _elementwise(operation: Callable[[Dim], Dim]) -> ContentRule:
    return lambda _, known: None if known[0] is None else _each(operation, known[0])


def _absolute(item: Dim) -> Dim:
    if isinstance(item, int):
        return abs(item)
    return item if dims.at_least(item, 0) else UNKNOWN


def _choose(condition: Dim, a: Dim, b: Dim) -> Dim:
    if isinstance(condition, int):
        return a if condition else b
    return a if dims.same(a, b) else UNKNOWN


def _where(node: ir.Node, known: Inputs) -> Content | None:
    parts = _complete(node, known)
    return None if parts is None else _each(_choose, *parts)


def _cast(node: ir.Node, known: Inputs) -> Content | None:
    source = node.inputs[0]
    found = known[0] if known[0] is not None else _whole_numbers(source)
    if source is None or found is None:
        return None
    if node.outputs[0].dtype == ir.DataType.BOOL and source.dtype != ir.DataType.BOOL:
        return _each(_is_true, found)
    return found


def _whole_numbers(value: ir.Value | None) -> Content | None:
    """The content of a small constant of another type, when every number in it is whole."""
    tensor = constant(value)
    if tensor is None or tensor.size > MOST_ELEMENTS or tensor.dtype == ir.DataType.STRING or tensor.dtype in LIMITS:
        return None
    found = tensor.numpy()
    if found.dtype.kind == "c":
        return None
    found = found.astype(np.float64)
    whole = np.all(np.abs(found) < 2**53) and np.all(found == np.trunc(found))
    return objects(found.astype(np.int64)) if whole else None


def _is_true(item: Dim) -> Dim:
    if isinstance(item, int):
        return int(item != 0)
    return 1 if dims.at_least(item, 1) else UNKNOWN


def _range(_: ir.Node, known: Inputs) -> Content | None:
    start, limit, delta = map(only, known)
    if not (isinstance(start, int) and isinstance(limit, int) and isinstance(delta, int)) or delta == 0:
        return None
    found = range(start, limit, delta)
    return vector(found) if len(found) <= MOST_ELEMENTS else None


def _filled(node: ir.Node, known: Inputs) -> Content | None:
    shape = _output_shape(node)
    attr = node.attributes.get("value")
    if shape is None or known[0] is None:
        return None
    return np.full(shape, 0 if attr is None else int(attr.as_tensor().numpy().reshape(-1)[0]), dtype=object)


def _expand(node: ir.Node, known: Inputs) -> Content | None:
    shape = _output_shape(node)
    return None if known[0] is None or shape is None else np.broadcast_to(known[0], shape)


def _reduce(operation: Callable[[Dim, Dim], Dim]) -> ContentRule:
    """The reduction of a whole vector."""

    def rule(node: ir.Node, known: Inputs) -> Content | None:
        shape, data = _output_shape(node), known[0]
        if data is None or data.ndim != 1 or not data.size or shape not in ((), (1,)):
            return None
        result = data[0]
        for item in data[1:]:
            result = operation(result, item)
        return single(result).reshape(shape)

    return rule


_RULES: Mapping[str, ContentRule] = {
    "Shape": _shape,
    "Size": _size,
    "Identity": _first,
    "Gather": _gather,
    "Concat": _concat,
    "Slice": _slice,
    "Reshape": _to_output_shape,
    "Squeeze": _to_output_shape,
    "Unsqueeze": _to_output_shape,
    "Flatten": _to_output_shape,
    "Transpose": _transpose,
    "Cast": _cast,
    "CastLike": _cast,
    "Add": _broadcast(dims.add),
    "Sub": _broadcast(dims.subtract),
    "Mul": _broadcast(dims.multiply),
    "Div": _broadcast(_divide),
    "Mod": _modulo,
    "Max": _broadcast(dims.maximum),
    "Min": _broadcast(dims.minimum),
    "Neg": _elementwise(lambda item: dims.subtract(0, item)),
    "Abs": _elementwise(_absolute),
    "Not": _elementwise(lambda item: 1 - item if isinstance(item, int) else UNKNOWN),
    "Equal": _comparison(lambda sign: sign == 0),
    "Greater": _comparison(lambda sign: sign > 0),
    "GreaterOrEqual": _comparison(lambda sign: sign >= 0),
    "Less": _comparison(lambda sign: sign < 0),
    "LessOrEqual": _comparison(lambda sign: sign <= 0),
    "And": _broadcast(_and),
    "Or": _broadcast(_or),
    "Where": _where,
    "Range": _range,
    "ConstantOfShape": _filled,
    "Expand": _expand,
    "ReduceProd": _reduce(dims.multiply),
    "ReduceSum": _reduce(dims.add),
    "ReduceMax": _reduce(dims.maximum),
    "ReduceMin": _reduce(dims.minimum),
}
