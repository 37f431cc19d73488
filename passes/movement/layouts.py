"""Operators that compute the same in any order of their dims, and how each is written for another order.

The layout of a tensor ``v`` is a permutation: it stands for Transpose(v, layout).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.axes import axes_of
from ...compiler.core.build import Build
from ...compiler.core.dims import Dim
from ...compiler.core.graph import array, attribute, constant, is_op
from ...compiler.core.shapes import dims_of
from .cuts import cuts_of, sliced

Layout = tuple[int, ...]

ELEMENTWISE = frozenset({
    "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast", "Ceil",
    "Celu", "Clip", "Cos", "Cosh", "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity",
    "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "Reciprocal",
    "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tan", "Tanh",
    "ThresholdedRelu", "Where", "Xor",
})  # fmt: skip
"""Each element of the result comes from the elements at its place; inputs are broadcast."""
ALONG_AXIS = frozenset({"Concat", "Split", "Softmax", "LogSoftmax", "ArgMax", "ArgMin", "QuantizeLinear", "DequantizeLinear", "Gather"})
"""Operators with one attribute ``axis``."""
REDUCTIONS = frozenset({"ReduceL1", "ReduceL2", "ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceMax", "ReduceMin", "ReduceProd"})
WITH_CONSTANTS = frozenset({"Slice", "Pad", "Tile", "Expand", "Resize"})
"""Operators that say in constants what they do to each axis."""
RANK_CHANGING = frozenset({"Squeeze", "Unsqueeze"})
AGNOSTIC = ELEMENTWISE | ALONG_AXIS | REDUCTIONS | WITH_CONSTANTS | RANK_CHANGING


@dataclass(frozen=True)
class Faces:
    """The layouts in which an operator reads its data and makes its results."""

    inner: Layout
    outer: Layout

    @property
    def moves(self) -> bool:
        """Whether either differs from how the operator is written now."""
        return self.inner != identity(len(self.inner)) or self.outer != identity(len(self.outer))


def identity(rank: int) -> Layout:
    """The layout that everything has."""
    return tuple(range(rank))


def inverse(layout: Layout) -> Layout:
    """The layout that undoes it."""
    return tuple(sorted(range(len(layout)), key=layout.__getitem__))


def after(layout: Layout, perm: Layout) -> Layout:
    """Transpose by ``layout``, then by ``perm``, as one."""
    return tuple(layout[axis] for axis in perm)


def data_slots(node: ir.Node) -> list[int]:
    """Which inputs have the dims of the data; others are scalars, sizes, or narrower and broadcast."""
    if node.op_type in ELEMENTWISE and node.op_type != "Clip":
        rank = len(dims_of(node.outputs[0]) or ())
        return [index for index, value in enumerate(node.inputs) if len(dims_of(value) or ()) == rank]
    return list(range(len(node.inputs))) if node.op_type == "Concat" else [0]


def from_input(node: ir.Node, layout: Layout) -> Faces | None:
    """What the operator would make if it read its data in a layout; None when it cannot."""
    dropped, added = _dropped(node), _added(node)
    if dropped is None or added is None:
        return None
    outer = _without(layout, dropped) if dropped else _with(layout, added)
    return _if_possible(node, Faces(layout, outer))


def from_output(node: ir.Node, layout: Layout) -> Faces | None:
    """What the operator would have to read to make its results in a layout; None when it cannot."""
    dropped, added = _dropped(node), _added(node)
    if dropped is None or added is None:
        return None
    inner = _with(layout, dropped) if dropped else _without(layout, added)
    return _if_possible(node, Faces(inner, layout))


def _without(layout: Layout, axes: list[int]) -> Layout:
    """The layout of what is left when these axes go."""
    kept = [axis for axis in range(len(layout)) if axis not in axes]
    return tuple(kept.index(axis) for axis in layout if axis in kept)


def _with(layout: Layout, axes: list[int]) -> Layout:
    """A layout of a tensor with these axes more, which stay where they are."""
    rank = len(layout) + len(axes)
    kept = [axis for axis in range(rank) if axis not in axes]
    result = [kept[axis] for axis in layout]
    for axis in sorted(axes):
        result.insert(axis, axis)
    return tuple(result)


def _dropped(node: ir.Node) -> list[int] | None:
    """The axes that the result lacks; None when they are not known."""
    rank = len(dims_of(node.inputs[0]) or ())
    if node.op_type == "Squeeze" or (node.op_type in REDUCTIONS and not attribute(node, "keepdims", 1)):
        return axes_of(node, rank) or None
    if node.op_type in ("ArgMax", "ArgMin") and not attribute(node, "keepdims", 1):
        return [int(attribute(node, "axis", 0)) % rank]  # type: ignore[call-overload]
    if node.op_type == "Gather":
        indices = dims_of(node.inputs[1])
        if indices is None or len(indices) > 1:
            return None
        return [] if indices else [int(attribute(node, "axis", 0)) % rank]  # type: ignore[call-overload]
    return []


def _added(node: ir.Node) -> list[int] | None:
    """The axes that the result has beyond the data; None when they are not known."""
    return (axes_of(node, len(dims_of(node.outputs[0]) or ())) or None) if node.op_type == "Unsqueeze" else []


def _if_possible(node: ir.Node, faces: Faces) -> Faces | None:
    """The faces, if the operator can be written for them and its kernel takes them."""
    if not faces.moves or not is_op(node, *AGNOSTIC) or len(dims_of(node.outputs[0]) or ()) != len(faces.outer):
        return None
    if node.op_type not in ELEMENTWISE and len(dims_of(node.inputs[0]) or ()) != len(faces.inner):
        return None
    check = _POSSIBLE.get(node.op_type)
    return faces if check is None or check(node, faces) else None


def _is_per_tensor_or_axis(node: ir.Node, faces: Faces) -> bool:
    scale = dims_of(node.inputs[1])
    return scale is not None and len(scale) <= 1 and not attribute(node, "block_size", 0)


def _has_axes(node: ir.Node, faces: Faces) -> bool:
    return len(node.inputs) < 2 or node.inputs[1] is None or axes_of(node, len(faces.inner)) is not None


def _has_cuts(node: ir.Node, faces: Faces) -> bool:
    return bool(cuts_of(node))


def _has_pads(node: ir.Node, faces: Faces) -> bool:
    axes = node.inputs[3] if len(node.inputs) > 3 else None
    return array(axes) is not None if axes is not None else array(node.inputs[1]) is not None


def _has_constant(node: ir.Node, faces: Faces) -> bool:
    return array(node.inputs[1]) is not None


def _resizes_well(node: ir.Node, faces: Faces) -> bool:
    """Runtimes scale the last two dims of four fast and in every mode, others in the nearest mode only."""
    if any(name in node.attributes for name in ("axes", "antialias")) or attribute(node, "coordinate_transformation_mode") == "tf_crop_and_resize":
        return False
    given = _resize_slot(node)
    if given is None or len(faces.outer) != 4 or attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        return False
    scaled = [axis for axis in range(4) if not _keeps_size(node, given, axis)]
    return {faces.outer.index(axis) for axis in scaled} <= {2, 3} or attribute(node, "mode") == "nearest"


def _resize_slot(node: ir.Node) -> int | None:
    """The input with sizes or scales, when it is constant."""
    found = [index for index in (2, 3) if index < len(node.inputs) and node.inputs[index] is not None and dims_of(node.inputs[index]) != (0,)]
    return found[0] if len(found) == 1 and constant(node.inputs[found[0]]) is not None else None


def _keeps_size(node: ir.Node, slot: int, axis: int) -> bool:
    content = array(node.inputs[slot])
    size = (dims_of(node.inputs[0]) or ())[axis]
    return content is not None and bool(content[axis] == (1 if slot == 2 else size))


_POSSIBLE: Mapping[str, Callable[[ir.Node, Faces], bool]] = {
    "QuantizeLinear": _is_per_tensor_or_axis,
    "DequantizeLinear": _is_per_tensor_or_axis,
    **dict.fromkeys(REDUCTIONS, _has_axes),
    "Slice": _has_cuts,
    "Pad": _has_pads,
    "Tile": _has_constant,
    "Expand": _has_constant,
    "Resize": _resizes_well,
}


def rewritten(op: Build, node: ir.Node, faces: Faces, inputs: list[ir.Value | None]) -> ir.Node:
    """The operator for inputs that are in the layouts it is to read; its results are in those it is to make."""
    make = _REWRITE.get(node.op_type)
    if make is None and node.op_type in REDUCTIONS:
        make = _with_axes
    if make is not None:
        make(op, node, faces, inputs)
    elif node.op_type in ALONG_AXIS and "axis" in _attributes_of(node, faces):
        op.like(node, *inputs, **_attributes_of(node, faces))
    else:
        op.like(node, *inputs)
    return op.nodes[-1]


def _attributes_of(node: ir.Node, faces: Faces) -> dict[str, object]:
    rank = len(faces.inner)
    axis = attribute(node, "axis", 0)
    return {"axis": faces.inner.index(int(axis) % rank)} if rank else {}  # type: ignore[call-overload]


def _with_axes(op: Build, node: ir.Node, faces: Faces, inputs: list[ir.Value | None]) -> None:
    """Reductions, Squeeze and Unsqueeze: the axes are an input."""
    layout = faces.outer if node.op_type == "Unsqueeze" else faces.inner
    axes = axes_of(node, len(layout))
    op.like(node, inputs[0], None if axes is None else op.const(sorted(layout.index(axis) for axis in axes), "axes"))


def _with_cuts(op: Build, node: ir.Node, faces: Faces, inputs: list[ir.Value | None]) -> None:
    cuts = cuts_of(node) or {}
    assert inputs[0] is not None
    sliced(op, inputs[0], {faces.inner.index(axis): cut for axis, cut in cuts.items()})


def _with_pads(op: Build, node: ir.Node, faces: Faces, inputs: list[ir.Value | None]) -> None:
    rank, given = len(faces.inner), array(inputs[3]) if len(inputs) > 3 else None
    if given is not None:
        axes = [faces.inner.index(int(axis) % rank) for axis in given.reshape(-1)]
        op.like(node, *inputs[:3], op.const(axes, "axes"))
        return
    pads = np.asarray(array(inputs[1])).reshape(2, rank)[:, list(faces.inner)]
    op.like(node, inputs[0], op.const(pads.reshape(-1).astype(np.int64), "pads"), *inputs[2:])


def _with_sizes(op: Build, node: ir.Node, faces: Faces, inputs: list[ir.Value | None]) -> None:
    """Tile and Expand: one number for each axis, the last ones where there are fewer."""
    sizes = [int(size) for size in np.asarray(array(node.inputs[1])).reshape(-1)]
    padded = [1] * (len(faces.outer) - len(sizes)) + sizes
    op.like(node, inputs[0], op.const([padded[axis] for axis in faces.outer], "sizes"))


def _with_scales(op: Build, node: ir.Node, faces: Faces, inputs: list[ir.Value | None]) -> None:
    slot = _resize_slot(node) or 0
    content = np.asarray(array(node.inputs[slot]))[list(faces.outer)]
    op.like(node, *(op.const(content, "sizes") if index == slot else value for index, value in enumerate(inputs)))


_REWRITE: Mapping[str, Callable[[Build, ir.Node, Faces, list[ir.Value | None]], None]] = {
    "Squeeze": _with_axes,
    "Unsqueeze": _with_axes,
    "Slice": _with_cuts,
    "Pad": _with_pads,
    "Tile": _with_sizes,
    "Expand": _with_sizes,
    "Resize": _with_scales,
}


def is_trivial(shape: tuple[Dim, ...], layout: Layout) -> bool:
    """Whether only dims of size 1 move, so that a Reshape does it."""
    moved = [axis for axis in layout if shape[axis] != 1]
    return moved == sorted(moved)
