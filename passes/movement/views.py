"""Operators that only give a tensor another shape, and writing one shape as the target of a Reshape."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import Dim, same_shape
from ...compiler.core.errors import ModelError
from ...compiler.core.graph import attribute, constant, users
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.shapes import dims_of, known_ints, never_zero
from ...compiler.core.symbolic.layout import reshaped as shape_reshaped
from ..fold.reshape import constant_target

VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
"""Row-major order stays as it is."""


def reshaped(op: Build, x: ir.Value, made: tuple[Dim, ...] | None, positive: frozenset[str]) -> ir.Value | Skip:
    """``x`` with the shape ``made``: itself if it has it, else by one Reshape to a constant target."""
    data = dims_of(x)
    if data is None or made is None:
        return skip("the shape of '%s' or of the result is not known", x.name)
    if same_shape(data, made):
        return x
    target = constant_target(data, made, positive)
    if target is None:
        return skip("no constant target reshapes %s to %s", ir.Shape(data), ir.Shape(made))
    return op.Reshape(x, op.const(target, "shape"))  # type: ignore[return-value]


def reshaped_like(op: Build, x: ir.Value, view: ir.Node) -> ir.Value | Skip:
    """``x`` with the shape that ``view`` makes; its own target is used again where that says the same for ``x``."""
    if same_shape(dims_of(x), dims_of(view.outputs[0])):
        return x
    if view.op_type == "Reshape" and (_stands_alone(view) or _says_the_same(view, x)):
        return op.like(view, x, view.inputs[1])  # type: ignore[return-value]
    return reshaped(op, x, dims_of(view.outputs[0]), never_zero(view))


def _says_the_same(view: ir.Node, x: ir.Value) -> bool:
    """Whether the target, in which symbols may be 0 and then copy a dim, makes the same shape of ``x``."""
    entries = known_ints(view.inputs[1])
    if entries is None or constant(view.inputs[1]) is not None:
        return False
    try:
        made = shape_reshaped(dims_of(x), entries, bool(attribute(view, "allowzero", 0)), never_zero(view))
    except ModelError:
        return False
    return same_shape(made, dims_of(view.outputs[0]))


def _stands_alone(view: ir.Node) -> bool:
    """Whether the target means the same for all data of as many elements: it copies no dimension."""
    sizes = known_ints(view.inputs[1])
    return sizes is not None and all(isinstance(size, int) and (size != 0 or attribute(view, "allowzero", 0) == 1) for size in sizes)


def only_reader(value: ir.Value | None, reader: ir.Node) -> bool:
    """Whether nothing else needs the value."""
    return value is not None and not value.is_graph_output() and users(value) == [reader]
