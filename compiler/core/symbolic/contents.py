"""What is known about the numbers in small integer tensors: ``Shape`` and the arithmetic that models do on it.

A content is an array of Python ints and symbols (booleans as 0 and 1) with the tensor's own shape; `UNKNOWN` stands where a number is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from .. import dims
from ..dims import UNKNOWN, Dim
from ..graph import attribute, constant, is_op

Content: TypeAlias = np.ndarray
Inputs = Sequence[Content | None]

MOST_ELEMENTS = 256
_KEY = "known_ints"
_LIMITS = {ir.DataType.INT64: 2**63, ir.DataType.INT32: 2**31, ir.DataType.BOOL: 2}
_KINDS = frozenset(_LIMITS)


def content(value: ir.Value | None) -> Content | None:
    """The content of ``value`` as an object array, if it is a small integer or boolean tensor of which anything is known."""
    if value is None or value.dtype not in _KINDS:
        return None
    if _KEY not in value.meta:
        value.meta[_KEY] = _of_constant(value)
    known: Content | None = value.meta[_KEY]
    return known


def note_content(value: ir.Value, known: Content | None) -> None:
    """Remember what a value holds."""
    value.meta[_KEY] = known


def forget_content(value: ir.Value) -> None:
    """Let the content be worked out again."""
    value.meta.pop(_KEY, None)


def _of_constant(value: ir.Value) -> Content | None:
    tensor = constant(value)
    if tensor is None or tensor.size > MOST_ELEMENTS:
        return None
    return objects(tensor.numpy())


def objects(array: np.ndarray) -> Content:
    """An array of numbers as one of Python ints."""
    result = np.empty(array.shape, dtype=object)
    result.reshape(-1)[:] = [int(item) for item in array.reshape(-1)]
    return result


def infer_content(node: ir.Node) -> Content | None:
    """The content of the node's (first) output, from those of its inputs; None when nothing is known of it."""
    rule = _RULES.get(node.op_type)
    if rule is None or not is_op(node, node.op_type) or node.outputs[0].dtype not in _KINDS:
        return None
    known = rule(node, [content(value) for value in node.inputs])
    if known is None or known.size > MOST_ELEMENTS:
        return None
    known = _as_array(np.frompyfunc(_within, 2, 1)(known, _LIMITS[node.outputs[0].dtype]))
    return None if known.size and all(item is UNKNOWN for item in known.flat) else known


def _within(item: Dim, limit: int) -> Dim:
    """The item, unless it is a number that the tensor's dtype cannot hold and that wraps around there."""
    return UNKNOWN if isinstance(item, int) and not -limit <= item < limit else item


def _vector(items: Sequence[Dim]) -> Content:
    result = np.empty(len(items), dtype=object)
    result[:] = list(items)
    return result


def _scalar(item: Dim) -> Content:
    result = np.empty((), dtype=object)
    result[()] = item
    return result


def shape_slice(node: ir.Node, rank: int) -> slice:
    """Which dimensions a Shape node with its ``start`` and ``end`` yields; none when start is beyond end."""
    start, end = int(attribute(node, "start", 0) or 0), attribute(node, "end", None)
    first = _clamped(start, rank)
    last = rank if end is None else _clamped(int(end), rank)
    return slice(first, max(first, last))


def _clamped(position: int, rank: int) -> int:
    return min(max(position + rank if position < 0 else position, 0), rank)


def _shape(node: ir.Node, _: Inputs) -> Content | None:
    source = node.inputs[0]
    if source is None or source.shape is None:
        return None
    return _vector(source.shape.dims[shape_slice(node, source.shape.rank())])


def _size(node: ir.Node, _: Inputs) -> Content | None:
    source = node.inputs[0]
    if source is None or source.shape is None:
        return None
    return _scalar(dims.elements(source.shape))


def _first(node: ir.Node, known: Inputs) -> Content | None:
    return known[0]


def _numbers(known: Content | None) -> np.ndarray | None:
    """A content without symbols as an integer array."""
    if known is None or not all(isinstance(item, int) for item in known.flat):
        return None
    return known.astype(np.int64)


def _gather(node: ir.Node, known: Inputs) -> Content | None:
    data, index = known[0], _numbers(known[1])
    if data is None or index is None:
        return None
    axis = int(attribute(node, "axis", 0))
    if not -data.ndim <= axis < data.ndim or not np.all((index >= -data.shape[axis]) & (index < data.shape[axis])):
        return None
    return _as_array(np.take(data, index, axis=axis))


def _as_array(result: object) -> Content:
    return result if isinstance(result, np.ndarray) else _scalar(result)


def _concat(node: ir.Node, known: Inputs) -> Content | None:
    parts = [part if part is not None else _unknown_like(value) for part, value in zip(known, node.inputs, strict=True)]
    if any(part is None or part.ndim == 0 for part in parts):
        return None
    return np.concatenate(parts, axis=int(attribute(node, "axis", 0)))


def _unknown_like(value: ir.Value | None) -> Content | None:
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    shape = value.shape.numpy()
    return np.full(shape, UNKNOWN, dtype=object) if int(np.prod(shape, dtype=np.int64)) <= MOST_ELEMENTS else None


def _to_output_shape(node: ir.Node, known: Inputs) -> Content | None:
    shape = node.outputs[0].shape
    if known[0] is None or shape is None or not shape.is_static() or int(np.prod(shape.numpy(), dtype=np.int64)) != known[0].size:
        return None
    return known[0].reshape(shape.numpy())


def _transpose(node: ir.Node, known: Inputs) -> Content | None:
    return None if known[0] is None else np.transpose(known[0], attribute(node, "perm", None))


def _slice(node: ir.Node, known: Inputs) -> Content | None:
    data = known[0]
    if data is None:
        return None
    bounds = slice_bounds(node, known)
    if bounds is None:
        return None
    index: list[slice] = [slice(None)] * data.ndim
    for start, end, axis, step in bounds:
        if not isinstance(start, int) or not isinstance(end, int) or not -data.ndim <= axis < data.ndim:
            return None
        index[axis] = _python_slice(start, end, step, data.shape[axis])
    return data[tuple(index)]


def _python_slice(start: int, end: int, step: int, size: int) -> slice:
    """The Python slice that picks what ONNX's Slice does."""
    start = start + size if start < 0 else start
    end = end + size if end < 0 else end
    if step > 0:
        return slice(min(max(start, 0), size), min(max(end, 0), size), step)
    first, last = min(max(start, 0), size - 1), min(max(end, -1), size - 1)
    return slice(first, None if last < 0 else last, step)


def slice_bounds(node: ir.Node, known: Inputs) -> list[tuple[Dim, Dim, int, int]] | None:
    """(start, end, axis, step) for each axis a Slice cuts; starts and ends may be symbols. None when axes or steps are not known."""
    if "starts" in node.attributes:
        starts, ends = list(attribute(node, "starts")), list(attribute(node, "ends"))
        axes = list(attribute(node, "axes", None) or range(len(starts)))
        return list(zip(starts, ends, axes, [1] * len(starts), strict=True)) if len(starts) == len(ends) == len(axes) else None
    given = [*node.inputs, None, None][:5]
    axes_known, steps_known = (_numbers(part) for part in [*known, None, None][3:5])
    count = next((len(part) for part in known[1:3] if part is not None and part.ndim == 1), None)
    if count is None or (given[3] is not None and axes_known is None) or (given[4] is not None and steps_known is None):
        return None
    starts, ends = ([UNKNOWN] * count if part is None else list(part) for part in known[1:3])
    axes = list(range(count)) if axes_known is None else [int(axis) for axis in axes_known]
    steps = [1] * count if steps_known is None else [int(step) for step in steps_known]
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        return None
    return list(zip(starts, ends, axes, steps, strict=True))


def _arithmetic(operation: Callable[[Dim, Dim], Dim]) -> Callable[[ir.Node, Inputs], Content | None]:
    vectorised = np.frompyfunc(operation, 2, 1)

    def rule(node: ir.Node, known: Inputs) -> Content | None:
        parts = [part if part is not None else _unknown_like(value) for part, value in zip(known, node.inputs, strict=True)]
        if not parts or any(part is None for part in parts):
            return None
        result = parts[0]
        for part in parts[1:]:
            result = _as_array(vectorised(result, part))
        return result

    return rule


def _divide(a: Dim, b: Dim) -> Dim:
    """ONNX's integer division drops the fraction; it rounds down where nothing is negative."""
    if isinstance(a, int) and isinstance(b, int):
        return UNKNOWN if b == 0 else (abs(a) // abs(b)) * (1 if (a < 0) == (b < 0) else -1)
    exact = dims.divide_exactly(a, b)
    if exact is not None:
        return exact
    return dims.floor_divide(a, b) if dims.at_least(a, 0) and dims.at_least(b, 0) else UNKNOWN


def _modulo(node: ir.Node, known: Inputs) -> Content | None:
    return None if attribute(node, "fmod", 0) else _arithmetic(dims.modulo)(node, known)


def _compare(a: Dim, b: Dim, decide: Callable[[int], bool | None]) -> Dim:
    """1 or 0 when ``decide`` can tell from the sign of a - b (None: it is zero or has this sign), else unknown."""
    difference = dims.subtract(a, b)
    if isinstance(difference, int):
        return int(bool(decide((difference > 0) - (difference < 0))))
    if dims.at_least(difference, 1):
        return int(bool(decide(1)))
    if dims.at_least(dims.subtract(b, a), 1):
        return int(bool(decide(-1)))
    if dims.at_least(difference, 0) and decide(0) == decide(1):
        return int(bool(decide(0)))
    if dims.at_least(dims.subtract(b, a), 0) and decide(0) == decide(-1):
        return int(bool(decide(0)))
    return UNKNOWN


def _comparison(decide: Callable[[int], bool]) -> Callable[[ir.Node, Inputs], Content | None]:
    return _arithmetic(lambda a, b: _compare(a, b, decide))


def _and(a: Dim, b: Dim) -> Dim:
    if a == 0 or b == 0:
        return 0
    return 1 if a == 1 and b == 1 else UNKNOWN


def _or(a: Dim, b: Dim) -> Dim:
    if a == 1 or b == 1:
        return 1
    return 0 if a == 0 and b == 0 else UNKNOWN


def _elementwise(operation: Callable[[Dim], Dim]) -> Callable[[ir.Node, Inputs], Content | None]:
    vectorised = np.frompyfunc(operation, 1, 1)
    return lambda node, known: None if known[0] is None else _as_array(vectorised(known[0]))


def _choose(condition: Dim, a: Dim, b: Dim) -> Dim:
    if isinstance(condition, int):
        return a if condition else b
    return a if dims.same(a, b) else UNKNOWN


def _where(node: ir.Node, known: Inputs) -> Content | None:
    parts = [part if part is not None else _unknown_like(value) for part, value in zip(known, node.inputs, strict=True)]
    if any(part is None for part in parts):
        return None
    return _as_array(np.frompyfunc(_choose, 3, 1)(*parts))


def _cast(node: ir.Node, known: Inputs) -> Content | None:
    source = node.inputs[0]
    found = known[0] if known[0] is not None else _whole_numbers(source)
    if source is None or found is None:
        return None
    if node.outputs[0].dtype == ir.DataType.BOOL and source.dtype != ir.DataType.BOOL:
        return _as_array(np.frompyfunc(_is_true, 1, 1)(found))
    return found


def _whole_numbers(value: ir.Value | None) -> Content | None:
    """The content of a small constant of another type, when every number in it is whole."""
    tensor = constant(value)
    if tensor is None or tensor.size > MOST_ELEMENTS or tensor.dtype == ir.DataType.STRING or value is None or value.dtype in _KINDS:
        return None
    numbers = tensor.numpy().astype(np.float64)
    return objects(numbers.astype(np.int64)) if np.all(np.abs(numbers) < 2**53) and np.all(numbers == np.trunc(numbers)) else None


def _is_true(item: Dim) -> Dim:
    if isinstance(item, int):
        return int(item != 0)
    return 1 if dims.at_least(item, 1) else UNKNOWN


def _range(node: ir.Node, known: Inputs) -> Content | None:
    bounds = [_numbers(part) for part in known]
    if any(bound is None or bound.size != 1 for bound in bounds):
        return None
    start, limit, delta = (int(bound.reshape(())) for bound in bounds)
    if delta == 0 or len(range(start, limit, delta)) > MOST_ELEMENTS:
        return None
    return _vector(list(range(start, limit, delta)))


def _filled(node: ir.Node, known: Inputs) -> Content | None:
    shape = _numbers(known[0])
    if shape is None or np.any(shape < 0) or int(np.prod(shape)) > MOST_ELEMENTS:
        return None
    attr = node.attributes.get("value")
    return np.full(tuple(shape), int(attr.as_tensor().numpy().reshape(-1)[0]) if attr is not None else 0, dtype=object)


def _expand(node: ir.Node, known: Inputs) -> Content | None:
    shape = node.outputs[0].shape
    if known[0] is None or shape is None or not shape.is_static() or int(np.prod(shape.numpy(), dtype=np.int64)) > MOST_ELEMENTS:
        return None
    return np.broadcast_to(known[0], shape.numpy())


def _reduce(operation: Callable[[Dim, Dim], Dim]) -> Callable[[ir.Node, Inputs], Content | None]:
    vectorised = np.frompyfunc(operation, 2, 1)

    def rule(node: ir.Node, known: Inputs) -> Content | None:
        shape = node.outputs[0].shape
        if known[0] is None or known[0].ndim != 1 or not known[0].size or shape is None or shape.rank() > 1 or shape.dims not in ((), (1,)):
            return None
        result = _as_array(vectorised.reduce(known[0]))
        return result.reshape(shape.numpy())

    return rule


_RULES: dict[str, Callable[[ir.Node, Inputs], Content | None]] = {
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
    "Add": _arithmetic(dims.add),
    "Sub": _arithmetic(dims.subtract),
    "Mul": _arithmetic(dims.multiply),
    "Div": _arithmetic(_divide),
    "Mod": _modulo,
    "Max": _arithmetic(dims.maximum),
    "Min": _arithmetic(dims.minimum),
    "Neg": _elementwise(lambda item: dims.subtract(0, item)),
    "Abs": _elementwise(lambda item: abs(item) if isinstance(item, int) else item if dims.at_least(item, 0) else UNKNOWN),
    "Not": _elementwise(lambda item: 1 - item if isinstance(item, int) else UNKNOWN),
    "Equal": _comparison(lambda sign: sign == 0),
    "Greater": _comparison(lambda sign: sign > 0),
    "GreaterOrEqual": _comparison(lambda sign: sign >= 0),
    "Less": _comparison(lambda sign: sign < 0),
    "LessOrEqual": _comparison(lambda sign: sign <= 0),
    "And": _arithmetic(_and),
    "Or": _arithmetic(_or),
    "Where": _where,
    "Range": _range,
    "ConstantOfShape": _filled,
    "Expand": _expand,
    "ReduceProd": _reduce(dims.multiply),
    "ReduceSum": _reduce(dims.add),
    "ReduceMax": _reduce(dims.maximum),
    "ReduceMin": _reduce(dims.minimum),
}
