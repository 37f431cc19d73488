"""Shapes of operators that move data about: Reshape, Expand, Slice, Concat, Split, Pad and their like."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence

import onnx_ir as ir

from .. import dims
from ..dims import UNKNOWN, Dim
from ..errors import ModelError
from ..graph import array, attribute
from .attributes import axis_of, int_attribute, ints_attribute
from .contents import only
from .reading import Dims, content_at, entries_at, input_at, ints_at, positive_symbols, shape_at
from .slicing import picked, shape_slice, slice_bounds

Shapes = Sequence[Dims | None]
_ENDLESS = 2**31 - 1
"""Exporters write this, or more, for "to the end"."""
_MOST_ELEMENTS = 2**40
_MOST_CASES = 6


def reshape(node: ir.Node) -> Shapes:
    """Reshape, with 0 (copy), -1 (what is left) and ``allowzero``."""
    data = shape_at(node, 0)
    target = ints_attribute(node, "shape") if "shape" in node.attributes else entries_at(node, 1)
    if target is None:
        return [_unknowns(shape_at(node, 1))]
    return [reshaped(data, target, bool(int_attribute(node, "allowzero")), positive_symbols(node))]


def shown_positive(node: ir.Node) -> frozenset[str]:
    """The symbols that cannot be 0 wherever this Reshape runs.

    It fails when it finds 0, which asks for a copy, beyond the rank of the data, and when a size has to be worked out beside an empty dimension.
    """
    data, target = shape_at(node, 0), entries_at(node, 1)
    if data is None or target is None or int_attribute(node, "allowzero"):
        return frozenset()
    found: set[str] = set()
    for index, entry in enumerate(target):
        if index >= len(data):
            found |= dims.factors(entry)
        elif -1 in target and entry == 0:
            found |= dims.factors(data[index])
        elif -1 in target and dims.same(entry, data[index]):
            found |= dims.factors(entry)
    return frozenset(found)


def _unknowns(vector: Dims | None) -> Dims | None:
    """A shape of as many unknowns as a vector is long."""
    return (UNKNOWN,) * vector[0] if vector is not None and len(vector) == 1 and isinstance(vector[0], int) else None


def reshaped(data: Dims | None, target: Dims, allowzero: bool, positive: frozenset[str] = frozenset()) -> Dims:
    """The shape that Reshape makes of ``data`` for ``target``, whose entries may be symbols; those in ``positive`` are never 0."""
    result = [_entry(data, index, entry, allowzero) for index, entry in enumerate(target)]
    if data is not None and not allowzero:
        for index in _misread_zeros(data, target, positive):
            result[index] = UNKNOWN
    for index, entry in enumerate(target):
        if entry == -1:
            result[index] = _left_over(data, [dim for other, dim in enumerate(result) if other != index])
    return tuple(result)


def _entry(data: Dims | None, index: int, entry: Dim, allowzero: bool) -> Dim:
    if entry == 0 and not allowzero:
        return UNKNOWN if data is None else data[index] if index < len(data) else _beyond(index, data)
    if isinstance(entry, int) and entry < -1:
        raise ModelError(f"the target shape has {entry} at {index}")
    may_be_minus_one = not isinstance(entry, int) and not dims.at_least(entry, 0)
    return UNKNOWN if entry == -1 or may_be_minus_one else entry


def _beyond(index: int, data: Dims) -> Dim:
    raise ModelError(f"the target shape copies dimension {index} of a tensor that has {len(data)}")


def _left_over(data: Dims | None, others: list[Dim]) -> Dim:
    total, taken = dims.elements(data), dims.elements(others)
    if not (dims.is_known(total) and dims.is_known(taken)) or taken == 0:
        return UNKNOWN
    if isinstance(total, int) and isinstance(taken, int) and total % taken:
        raise ModelError(f"{total} elements do not divide into {taken}")
    return dims.floor_divide(total, taken)


def _misread_zeros(data: Dims, target: Dims, positive: frozenset[str]) -> list[int]:
    """Entries that may be 0 at run time and are then read as "copy", giving another size than the entry says.

    Tries every choice of which symbols are 0; a choice that the elements' count rules out does not occur.
    """
    suspects = [i for i, entry in enumerate(target) if not isinstance(entry, int) and not dims.at_least(entry, 1)]
    suspects = [i for i in suspects if i >= len(data) or not dims.same(data[i], target[i])]
    if not suspects:
        return []
    names = sorted(set().union(*(dims.free_symbols(dim) for dim in (*data, *target))) - positive)
    if len(names) > _MOST_CASES:
        return suspects
    wrong: set[int] = set()
    for chosen in itertools.product((False, True), repeat=len(names)):
        wrong.update(_wrong_in_case(data, target, suspects, dict(zip(names, chosen, strict=True))))
    return sorted(wrong)


def _wrong_in_case(data: Dims, target: Dims, suspects: list[int], zero: dict[str, bool]) -> list[int]:
    source = [_is_zero(dim, zero) for dim in data]
    asked = [entry == 0 or (entry != -1 and _is_zero(entry, zero)) for entry in target]
    made = [(source[i] if i < len(source) else None) if asked[i] is True else asked[i] for i in range(len(target))]
    if None not in source and None not in asked and None not in made:
        fixed = [made[i] for i in range(len(target)) if target[i] != -1]
        possible = not any(fixed) if -1 in target else any(source) == any(fixed)
        if not possible:
            return []
    return [i for i in suspects if asked[i] is not False and (i >= len(source) or source[i] is not True)]


def _is_zero(dim: Dim, zero: dict[str, bool]) -> bool | None:
    """Whether a dimension is 0 when exactly these symbols are; None when that depends on more."""
    return dims.is_zero_when(dim, frozenset(name for name, is_zero in zero.items() if is_zero))


def flatten(node: ir.Node) -> Shapes:
    """Flatten to two dimensions."""
    data = shape_at(node, 0)
    if data is None:
        return [(UNKNOWN, UNKNOWN)]
    axis = int_attribute(node, "axis", 1)
    axis += len(data) if axis < 0 else 0
    return [(dims.elements(data[:axis]), dims.elements(data[axis:]))]


def expand(node: ir.Node) -> Shapes:
    """Expand: the data broadcast against the target."""
    target = entries_at(node, 1) or _unknowns(shape_at(node, 1))
    if target is None and shape_at(node, 1) == (0,):
        target = ()
    return [None if target is None else dims.broadcast(shape_at(node, 0), target)]


def constant_of_shape(node: ir.Node) -> Shapes:
    """ConstantOfShape: the target itself."""
    target = entries_at(node, 0)
    return [_unknowns(shape_at(node, 0)) if target is None else tuple(dim if dims.at_least(dim, 0) else UNKNOWN for dim in target)]


def slice_(node: ir.Node) -> Shapes:
    """Slice; bounds may be symbols."""
    data = shape_at(node, 0)
    if data is None:
        return [None]
    bounds = slice_bounds(node, [content_at(node, index) for index in range(len(node.inputs))])
    if bounds is None:
        axes = ints_at(node, 3)
        cut = range(len(data)) if axes is None else [axis % len(data) for axis in axes if -len(data) <= axis < len(data)]
        return [tuple(UNKNOWN if axis in cut else dim for axis, dim in enumerate(data))]
    result = list(data)
    for start, end, axis, step in bounds:
        place = axis_of(axis, len(data))
        if place is None:
            raise ModelError(f"there is no axis {axis} in a tensor with {len(data)}")
        others = math.prod(dim for other, dim in enumerate(data) if other != place and isinstance(dim, int))
        result[place] = _cut(data[place], _endless(start, others), _endless(end, others), step)
    return [tuple(result)]


def _endless(position: Dim, others: int) -> Dim:
    """A position beyond what any memory holds, with this many elements at each, is the end."""
    return _ENDLESS if isinstance(position, int) and position * max(others, 1) >= _MOST_ELEMENTS else position


def _cut(size: Dim, start: Dim, end: Dim, step: int) -> Dim:
    """How many entries Slice keeps of ``size``."""
    if step < 0:
        whole = isinstance(start, int) and isinstance(end, int) and (start >= _ENDLESS or start == -1) and end <= -_ENDLESS
        return dims.ceil_divide(size, -step) if whole else _cut_backwards(size, start, end, step)
    if isinstance(start, int) and start < 0 and isinstance(end, int) and end >= _ENDLESS:
        length = dims.minimum(size, -start)
    else:
        length = dims.maximum(dims.subtract(_bound(size, end), _bound(size, start)), 0)
    return dims.ceil_divide(length, step)


def _cut_backwards(size: Dim, start: Dim, end: Dim, step: int) -> Dim:
    if not (isinstance(size, int) and isinstance(start, int) and isinstance(end, int)):
        return UNKNOWN
    return len(range(size)[picked(start, end, step, size)])


def _bound(size: Dim, position: Dim) -> Dim:
    """A slice position counted from the start and held inside 0..size."""
    if isinstance(position, int) and position >= _ENDLESS:
        return size
    if dims.at_least(position, 0):
        return dims.minimum(position, size)
    if dims.at_least(dims.subtract(-1, position), 0):
        return dims.maximum(dims.add(size, position), 0)
    return UNKNOWN


def concat(node: ir.Node) -> Shapes:
    """Concat: sizes along the axis add up; the others are equal wherever the node runs."""
    shapes = [shape_at(node, index) for index in range(len(node.inputs))]
    known = [shape for shape in shapes if shape is not None]
    if not known:
        return [None]
    axis = axis_of(int_attribute(node, "axis", 1), len(known[0]))
    if axis is None or any(len(shape) != len(known[0]) for shape in known):
        raise ModelError(f"shapes {[str(ir.Shape(shape)) for shape in known]} cannot be joined")
    result = [_agreed([shape[place] for shape in known]) for place in range(len(known[0]))]
    result[axis] = functools.reduce(dims.add, [UNKNOWN if shape is None else shape[axis] for shape in shapes])
    return [tuple(result)]


def _agreed(group: Sequence[Dim]) -> Dim:
    """One of several dimensions that are equal wherever the node runs."""
    return next((dim for dim in group if isinstance(dim, int)), next((dim for dim in group if dims.is_known(dim)), UNKNOWN))


def split(node: ir.Node) -> Shapes:
    """Split into given sizes, or evenly."""
    data, count = shape_at(node, 0), len(node.outputs)
    if data is None:
        return [None] * count
    axis = axis_of(int_attribute(node, "axis"), len(data))
    if axis is None:
        return [None] * count
    sizes = ints_attribute(node, "split") or (entries_at(node, 1) if input_at(node, 1) is not None else _even(data[axis], count))
    sizes = sizes if sizes is not None and len(sizes) == count else (UNKNOWN,) * count
    return [(*data[:axis], size, *data[axis + 1 :]) for size in sizes]


def _even(size: Dim, count: int) -> Dims:
    """Even parts; where it does not come out even the last is smaller."""
    exact = dims.divide_exactly(size, count)
    if exact is not None:
        return (exact,) * count
    part = dims.ceil_divide(size, count)
    return (part,) * (count - 1) + (dims.subtract(size, dims.multiply(part, count - 1)),)


def tile(node: ir.Node) -> Shapes:
    """Tile: every dimension times its repeats."""
    data, repeats = shape_at(node, 0), entries_at(node, 1)
    if data is None:
        return [None]
    if repeats is None or len(repeats) != len(data):
        return [(UNKNOWN,) * len(data)]
    return [tuple(map(dims.multiply, data, repeats))]


def pad(node: ir.Node) -> Shapes:
    """Pad: begin and end are added, and may be negative."""
    data = shape_at(node, 0)
    if data is None:
        return [None]
    pads = ints_attribute(node, "pads") or ints_attribute(node, "paddings") or entries_at(node, 1)
    axes = ints_at(node, 3) if input_at(node, 3) is not None else tuple(range(len(data)))
    if pads is None or axes is None or len(pads) != 2 * len(axes):
        return [(UNKNOWN,) * len(data)]
    result = list(data)
    for index, axis in enumerate(axes):
        place = axis_of(axis, len(data))
        if place is None:
            return [(UNKNOWN,) * len(data)]
        result[place] = dims.add(dims.add(result[place], pads[index]), pads[index + len(axes)])
    return [tuple(result)]


def range_(node: ir.Node) -> Shapes:
    """Range: as many numbers as fit."""
    start, limit, delta = (only(content_at(node, index)) for index in range(3))
    if start is None or limit is None or not isinstance(delta, int) or delta < 1:
        return [(UNKNOWN,)]
    return [(dims.ceil_divide(dims.maximum(dims.subtract(limit, start), 0), delta),)]


def shape(node: ir.Node) -> Shapes:
    """Shape: one entry for each dimension between ``start`` and ``end``."""
    data = shape_at(node, 0)
    if data is None:
        return [(UNKNOWN,)]
    return [(len(data[shape_slice(node, len(data))]),)]


def one_hot(node: ir.Node) -> Shapes:
    """OneHot: the depth as a new dimension."""
    indices, depth = shape_at(node, 0), only(content_at(node, 1))
    if indices is None:
        return [None]
    axis = axis_of(int_attribute(node, "axis", -1), len(indices) + 1)
    if axis is None:
        return [None]
    return [(*indices[:axis], UNKNOWN if depth is None else depth, *indices[axis:])]


def top_k(node: ir.Node) -> Shapes:
    """TopK: k entries along the axis."""
    data, count = shape_at(node, 0), only(content_at(node, 1))
    if data is None:
        return [None, None]
    axis = axis_of(int_attribute(node, "axis", -1), len(data))
    size: Dim = int_attribute(node, "k") if "k" in node.attributes else UNKNOWN if count is None else count
    result = tuple(size if place == axis else dim for place, dim in enumerate(data))
    return [result, result]


def resize(node: ir.Node) -> Shapes:
    """Resize and Upsample: the sizes asked for, or whole-number scales."""
    data = shape_at(node, 0)
    if data is None or "axes" in node.attributes or attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        return [None if data is None else (UNKNOWN,) * len(data)]
    sizes = entries_at(node, 3)
    if sizes is not None and len(sizes) == len(data):
        return [sizes]
    scales = _scales(node)
    if scales is None or len(scales) != len(data):
        return [(UNKNOWN,) * len(data)]
    return [tuple(dims.multiply(dim, int(scale)) if scale == int(scale) else UNKNOWN for dim, scale in zip(data, scales, strict=True))]


def _scales(node: ir.Node) -> tuple[float, ...] | None:
    if "scales" in node.attributes:
        return tuple(node.attributes["scales"].as_floats())
    given = array(input_at(node, 2 if len(node.inputs) > 2 else 1), max_bytes=256)
    return None if given is None or given.dtype.kind != "f" or attribute(node, "coordinate_transformation_mode", "") == "tf_crop_and_resize" else tuple(given)


def depth_to_space(node: ir.Node) -> Shapes:
    """DepthToSpace: channels become pixels."""
    data, block = shape_at(node, 0), int_attribute(node, "blocksize")
    if data is None or len(data) != 4:
        return [None]
    n, c, h, w = data
    return [(n, dims.floor_divide(c, block * block), dims.multiply(h, block), dims.multiply(w, block))]


def space_to_depth(node: ir.Node) -> Shapes:
    """SpaceToDepth: pixels become channels."""
    data, block = shape_at(node, 0), int_attribute(node, "blocksize")
    if data is None or len(data) != 4:
        return [None]
    n, c, h, w = data
    return [(n, dims.multiply(c, block * block), dims.floor_divide(h, block), dims.floor_divide(w, block))]


def same_as_first(node: ir.Node) -> Shapes:
    """Every output has the shape of the first input."""
    return [shape_at(node, 0)] * len(node.outputs)


def broadcasting(node: ir.Node) -> Shapes:
    """All inputs broadcast together; before opset 7 the second was fitted into the first."""
    if "broadcast" in node.attributes:
        return [shape_at(node, 0)]
    return [dims.broadcast(*(shape_at(node, index) for index in range(len(node.inputs))))]


def matmul(node: ir.Node) -> Shapes:
    """MatMul of at least two-dimensional operands."""
    a, b = shape_at(node, 0), shape_at(node, 1)
    if a is None or b is None or len(a) < 2 or len(b) < 2:
        return [None]
    batch = dims.broadcast(a[:-2], b[:-2])
    return [None if batch is None else (*batch, a[-2], b[-1])]
