"""Values known from the position alone: each element is an offset plus a step for each dimension times the index in it.

Masks and positions that exporters compute in the graph are such values: an arange is ``0 + 1 * i``, the all-true mask of a model without padding is
``True`` everywhere, whatever the batch. Of an empty tensor anything may be said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from .axes import axes_of
from .dims import Dim, minimum, same
from .graph import array, attribute, is_op, scalar
from .shapes import dims_of, known_ints
from .upstream import settle

LARGEST = 2**63 - 1
MAX_ELEMENTS = 2**16
"""Larger constants are not read."""
COMPARISONS: dict[str, np.ufunc] = {
    "Equal": np.equal, "Less": np.less, "LessOrEqual": np.less_equal, "Greater": np.greater, "GreaterOrEqual": np.greater_equal,
}  # fmt: skip
UNIFORM_ONLY: dict[str, Callable[..., object]] = {
    "Mul": np.multiply, "Max": np.maximum, "Min": np.minimum, "And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor, "Not": np.logical_not,
    "Neg": np.negative, "Abs": np.abs, "Exp": np.exp,
}  # fmt: skip
MOVED = ("GatherND", "GatherElements", "Gather", "Reshape", "Flatten", "Tile")
"""Operators that make a uniform value of a uniform first input."""


@dataclass(frozen=True)
class Form:
    """``offset + sum(steps[k] * index[k])`` for every element."""

    offset: np.generic
    steps: tuple[int, ...]

    @property
    def uniform(self) -> bool:
        """Whether all elements are the same."""
        return not any(self.steps)


class Forms:
    """Forms of values, each found once."""

    def __init__(self) -> None:
        self._known: dict[ir.Value, Form | None] = {}

    def of(self, value: ir.Value | None) -> Form | None:
        """The form of a value; None when none is proven."""
        if value is None:
            return None
        return settle(self._known, value, _operands, self._find)

    def uniform(self, value: ir.Value | None) -> np.generic | None:
        """The number that every element is; None when that is not proven."""
        form = self.of(value)
        return form.offset if form is not None and form.uniform else None

    def _find(self, value: ir.Value) -> Form | None:
        shape = dims_of(value)
        if shape is None or value.dtype is None:
            return None
        content = array(value, MAX_ELEMENTS * 8)
        if content is not None:
            return _of_constant(content)
        node = value.producer()
        found = _finder(node)
        if found is None or node is None or value.index() != 0:
            return None
        return found(node, [self._known.get(item) if item is not None else None for item in node.inputs], shape)


Found = Form | None
Finder = Callable[[ir.Node, list[Found], Sequence[Dim]], Found]


def _operands(value: ir.Value) -> list[ir.Value]:
    node = value.producer()
    return [] if node is None or _finder(node) is None else [item for item in node.inputs if item is not None]


def _finder(node: ir.Node | None) -> Finder | None:
    if node is None or not is_op(node, node.op_type):
        return None
    if node.op_type in COMPARISONS:
        return _compared
    if node.op_type in UNIFORM_ONLY:
        return _uniform
    if node.op_type in MOVED:
        return _moved
    return {
        "Identity": lambda node, forms, shape: forms[0],
        "Range": _range,
        "ConstantOfShape": _filled,
        "Expand": _expanded,
        "Unsqueeze": _unsqueezed,
        "Squeeze": _squeezed,
        "Transpose": _transposed,
        "Slice": _sliced,
        "Concat": _concatenated,
        "Cast": _cast,
        "Add": _added,
        "Sub": _added,
        "Where": _chosen,
        "CumSum": _accumulated,
    }.get(node.op_type)


def _of_constant(content: np.ndarray) -> Found:
    if content.size == 0 or content.size > MAX_ELEMENTS or content.dtype.kind not in "biuf":
        return None
    first = content.reshape(-1)[0]
    if content.dtype.kind == "f":
        same_bits = content.view(f"u{content.itemsize}") == first.view(f"u{content.itemsize}")
        return Form(first, (0,) * content.ndim) if bool(same_bits.all()) else None
    if bool((content == first).all()):
        return Form(first, (0,) * content.ndim)
    if content.dtype != np.int64:
        return None
    steps = tuple(int(np.take(content, 1, axis).reshape(-1)[0]) - int(first) if size > 1 else 0 for axis, size in enumerate(content.shape))
    if abs(int(first)) + sum(abs(step) * (size - 1) for step, size in zip(steps, content.shape, strict=True)) > LARGEST:
        return None
    wanted = int(first) + sum(step * index for step, index in zip(steps, np.indices(content.shape), strict=True))
    return Form(first, steps) if bool((content == wanted).all()) else None


def _range(node: ir.Node, forms: list[Found], shape: Sequence[Dim]) -> Found:
    start, step = scalar(node.inputs[0]), scalar(node.inputs[2])
    if node.outputs[0].dtype != ir.DataType.INT64 or start is None or step is None:
        return None
    return Form(np.int64(start), (int(step),))


def _filled(node: ir.Node, forms: list[Found], shape: Sequence[Dim]) -> Found:
    value = node.attributes.get("value")
    content = value.as_tensor().numpy().reshape(-1) if value is not None else np.zeros(1, np.float32)
    return Form(content[0], (0,) * len(shape)) if content.dtype.kind in "biuf" else None


def _aligned(form: Form, dims: Sequence[Dim] | None, shape: Sequence[Dim]) -> tuple[int, ...] | None:
    """The steps of an operand in the indices of the result it is broadcast to; None when a dimension may or may not be broadcast."""
    if dims is None or len(dims) > len(shape):
        return None
    steps = [0] * (len(shape) - len(dims))
    for step, dim, wide in zip(form.steps, dims, shape[len(shape) - len(dims) :], strict=True):
        if step and dim != 1 and not same(dim, wide):
            return None
        steps.append(0 if dim == 1 else step)
    return tuple(steps)


def _expanded(node: ir.Node, forms: list[Found], shape: Sequence[Dim]) -> Found:
    if forms[0] is None:
        return None
    steps = _aligned(forms[0], dims_of(node.inputs[0]), shape)
    return None if steps is None else Form(forms[0].offset, steps)


def _unsqueezed(node: ir.Node, forms: list[Found], shape: Sequence[Dim]) -> Found:
    axes = axes_of(node, len(shape))
    if forms[0] is None or axes is None:
        return None
    left = iter(forms[0].steps)
    return Form(forms[0].offset, tuple(0 if axis in axes else next(left) for axis in range(len(shape))))


def _squeezed(node: ir.Node, forms: list[Found], shape: Sequence[Dim]) -> Found:
    form = forms[0]
    axes = axes_of(node, len(form.steps)) if form is not None and form.steps else None
    if form is None or axes is None:
        return None
    return Form(form.offset, tuple(step for axis, step in enumerate(form.steps) if axis not in axes))


def _transposed(node: ir.Node, forms: list[Found], shape: Sequence[Dim]) -> Found:
    if forms[0] is None:
        return None
    perm = attribute(node, "perm") or range(len(shape))[::-1]
    return Form(forms[0].offset, tuple(forms[0].steps[axis] for axis in perm))  # type: ignore[attr-defined]


def _sliced(node: ir.Node, forms: list[Found], shape: Sequence[Dim]) -> Found:
    form = forms[0]
    if form is None:
        return None
    starts = known_ints(node.inputs[1])
    axes = known_ints(node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] is not None else tuple(range(len(starts or ())))
    strides = known_ints(node.inputs[4]) if len(node.inputs) > 4 and node.inputs[4] is not None else (1,) * len(starts or ())
    if starts is None or axes is None or strides is None:
        return form if form.uniform else None
    offset, steps = int(form.offset) if form.offset.dtype.kind in "iu" else 0, list(form.steps)
    for start, axis, stride in zip(starts, axes, strides, strict=True):
        if not isinstance(axis, int):
            return form if form.uniform else None
        step = steps[axis % len(shape)]
        if not step:
            continue
        if not isinstance(start, int) or not isinstance(stride, int) or start < 0 or stride < 1:
            return None
        offset, steps[axis % len(shape)] = offset + step * start, step * stride
    return form if form.uniform else Form(form.offset.dtype.type(offset), tuple(steps))


def _concatenated(node: ir.Node, forms: list[Found], shape: Sequence[Dim]) -> Found:
    first = forms[0]
    if first is None or any(form is None for form in forms):
        return None
    if first.uniform and all(form is not None and form.uniform and _same_bits(form.offset, first.offset) for form in forms):
        return first
    return _continued(node, first, forms, shape)


def _continued(node: ir.Node, first: Form, forms: list[Found], shape: Sequence[Dim]) -> Found:
    """A piece of at most one element in front of a ramp that it belongs to: [-1] and [0, 1, 2, ...]."""
    axis, ramp = int(attribute(node, "axis", 0)) % len(shape), forms[-1]  # type: ignore[call-overload]
    if len(forms) != 2 or ramp is None or first.offset.dtype != np.int64 or ramp.offset.dtype != np.int64:
        return None
    head, tail = dims_of(node.inputs[0]), dims_of(node.inputs[1])
    if head is None or tail is None or not _is_one_of(head[axis], tail[axis]):
        return None
    others = [index for index in range(len(shape)) if index != axis]
    if any(first.steps[index] != ramp.steps[index] for index in others) or int(first.offset) + ramp.steps[axis] != int(ramp.offset):
        return None
    return Form(first.offset, ramp.steps)


def _is_one_of(head: Dim, tail: Dim) -> bool:
    """Whether the head has one element, or none together with the tail."""
    return head == 1 or same(head, minimum(1, tail))


def _cast(node: ir.Node, forms: list[Found], shape: Sequence[Dim]) -> Found:
    form, dtype = forms[0], node.outputs[0].dtype
    if form is None or dtype is None or dtype not in (ir.DataType.BOOL, ir.DataType.INT32, ir.DataType.INT64, ir.DataType.FLOAT):
        return None
    if not form.uniform:
        return form if dtype == ir.DataType.INT64 and form.offset.dtype == np.int64 else None
    if form.offset.dtype.kind == "f" and dtype.is_integer():
        return None
    return Form(dtype.numpy().type(form.offset), form.steps)


def _added(node: ir.Node, forms: list[Found], shape: Sequence[Dim]) -> Found:
    left, right = forms
    if left is None or right is None:
        return None
    if left.uniform and right.uniform:
        with np.errstate(all="ignore"):
            return Form((np.subtract if node.op_type == "Sub" else np.add)(left.offset, right.offset), (0,) * len(shape))
    if left.offset.dtype != np.int64:
        return None
    one, two = _aligned(left, dims_of(node.inputs[0]), shape), _aligned(right, dims_of(node.inputs[1]), shape)
    if one is None or two is None:
        return None
    sign = -1 if node.op_type == "Sub" else 1
    return Form(np.int64(int(left.offset) + sign * int(right.offset)), tuple(a + sign * b for a, b in zip(one, two, strict=True)))


def _uniform(node: ir.Node, forms: list[Found], shape: Sequence[Dim]) -> Found:
    numbers = [form.offset if form is not None and form.uniform else None for form in forms]
    absorbing = {"And": False, "Or": True}.get(node.op_type)
    if absorbing is not None and any(number is not None and bool(number) is absorbing for number in numbers):
        return Form(np.bool_(absorbing), (0,) * len(shape))
    if any(number is None for number in numbers) or len(numbers) > 2:
        return None
    if node.op_type in ("Max", "Min") and len(numbers) != 2:
        return None
    with np.errstate(all="ignore"):
        made = UNIFORM_ONLY[node.op_type](*numbers)
    dtype = node.outputs[0].dtype
    return Form(dtype.numpy().type(made), (0,) * len(shape)) if dtype is not None else None


def _compared(node: ir.Node, forms: list[Found], shape: Sequence[Dim]) -> Found:
    left, right = forms
    if left is None or right is None:
        return None
    one, two = _aligned(left, dims_of(node.inputs[0]), shape), _aligned(right, dims_of(node.inputs[1]), shape)
    if one is None or two is None:
        return None
    answer = np.bool_(COMPARISONS[node.op_type](left.offset, right.offset))
    if one == two or (left.offset.dtype == np.int64 and _stays(node.op_type, left.offset, right.offset, [a - b for a, b in zip(one, two, strict=True)])):
        return Form(answer, (0,) * len(shape))
    return None


def _stays(kind: str, left: np.generic, right: np.generic, apart: Sequence[int]) -> bool:
    """Whether the comparison at index 0 holds everywhere: what is larger there only gets larger, and equal may become larger."""
    start = int(left) - int(right)
    if start == 0:
        return (kind in ("GreaterOrEqual", "Less") and min(apart) >= 0) or (kind in ("LessOrEqual", "Greater") and max(apart) <= 0)
    return min(apart) >= 0 if start > 0 else max(apart) <= 0


def _chosen(node: ir.Node, forms: list[Found], shape: Sequence[Dim]) -> Found:
    condition, yes, no = forms
    if condition is not None and condition.uniform:
        index = 1 if condition.offset else 2
        chosen = forms[index]
        steps = _aligned(chosen, dims_of(node.inputs[index]), shape) if chosen is not None else None
        return None if chosen is None or steps is None else Form(chosen.offset, steps)
    if yes is not None and no is not None and yes.uniform and no.uniform and _same_bits(yes.offset, no.offset):
        return Form(yes.offset, (0,) * len(shape))
    return None


def _accumulated(node: ir.Node, forms: list[Found], shape: Sequence[Dim]) -> Found:
    return forms[0] if forms[0] is not None and forms[0].uniform and forms[0].offset.dtype.kind in "iu" and not forms[0].offset else None


def _moved(node: ir.Node, forms: list[Found], shape: Sequence[Dim]) -> Found:
    return Form(forms[0].offset, (0,) * len(shape)) if forms[0] is not None and forms[0].uniform else None


def _same_bits(one: np.generic, other: np.generic) -> bool:
    return one.dtype == other.dtype and one.tobytes() == other.tobytes()
