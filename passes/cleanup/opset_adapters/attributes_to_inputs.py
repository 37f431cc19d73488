"""Numbers that were attributes and are inputs now."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .step import Pen, Refusal, attr, drop, given, ints_of, known_rank, literal, put, raises, set_inputs

REDUCTIONS = "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSumSquare"


@raises("Squeeze Unsqueeze ReduceSum", 13)
@raises(REDUCTIONS, 18)
def axes_to_input(node: ir.Node, op: Pen) -> None:
    """``axes`` became an input; without any, all are meant."""
    axes = attr(node, "axes")
    if axes is None or (not axes.is_ref() and not axes.as_ints()):
        return
    set_inputs(node, node.inputs[0], op.vector(axes))


@raises("Reshape", 5)
def shape_to_input(node: ir.Node, op: Pen) -> None:
    """``shape`` became an input."""
    drop(node, "consumed_inputs")
    shape = attr(node, "shape")
    if shape is None:
        raise Refusal("it has no shape")
    set_inputs(node, node.inputs[0], op.vector(shape))


@raises("Slice", 10)
def slices_to_inputs(node: ir.Node, op: Pen) -> None:
    """``starts``, ``ends`` and ``axes`` became inputs."""
    starts, ends, axes = attr(node, "starts"), attr(node, "ends"), attr(node, "axes")
    if starts is None or ends is None:
        raise Refusal("it has no starts or no ends")
    set_inputs(node, node.inputs[0], op.vector(starts), op.vector(ends), op.vector(axes) if axes is not None else None)


@raises("TopK", 10)
def k_to_input(node: ir.Node, op: Pen) -> None:
    """``k`` became an input of shape [1]."""
    count = literal(node, "k")
    if not isinstance(count, int):
        raise Refusal("it has no k")
    set_inputs(node, node.inputs[0], op.const([count], hint="k"))


@raises("Split", 2)
def split_from_input(node: ir.Node, op: Pen) -> None:
    """Split-1 took the lengths of its parts as an input of the data's dtype, too; the axis had no default yet."""
    if "axis" not in node.attributes:
        raise Refusal("it does not say along which axis, and Split-1 has no default")
    lengths = given(node, 1)
    if lengths is not None:
        put(node, split=ints_of(lengths, "the list of lengths"))
        set_inputs(node, node.inputs[0])


@raises("Split", 13)
def split_to_input(node: ir.Node, op: Pen) -> None:
    """``split`` became an input."""
    lengths = attr(node, "split")
    if lengths is not None:
        set_inputs(node, node.inputs[0], op.vector(lengths))


@raises("Split", 18)
def count_parts(node: ir.Node, op: Pen) -> None:
    """Without lengths, the number of equal parts is said since opset 18."""
    if given(node, 1) is None:
        put(node, num_outputs=len(node.outputs))


@raises("Tile", 6, typed=True)
def repeats_of_all_axes(node: ir.Node, op: Pen) -> None:
    """Tile-1 repeated along one axis; since opset 6 there is one number for each axis."""
    repeats = np.ones(known_rank(node.inputs[0], "the input"), dtype=np.int64)
    (axis,) = ints_of(given(node, 2), "the axis")
    (repeats[axis],) = ints_of(given(node, 1), "the number of tiles")
    set_inputs(node, node.inputs[0], op.const(repeats, hint="repeats"))


@raises("Pad", 2)
def spell_pads(node: ir.Node, op: Pen) -> None:
    """Pad-1 called them ``paddings``."""
    paddings = attr(node, "paddings")
    if paddings is None:
        raise Refusal("it has no paddings")
    node.attributes["pads"] = _renamed(paddings, "pads")


@raises("Pad", 11, typed=True)
def pads_to_input(node: ir.Node, op: Pen) -> None:
    """``pads`` and ``value`` became inputs; a value of 0 is the default."""
    pads, value = attr(node, "pads"), attr(node, "value")
    if pads is None:
        raise Refusal("it has no pads")
    data = node.inputs[0]
    filling = None
    if value is not None and data is not None and (value.is_ref() or np.float32(value.as_float()).tobytes() != bytes(4)):
        filling = op.number(value, data)
    set_inputs(node, data, op.vector(pads), filling)


@raises("DFT", 20)
def axis_to_input(node: ir.Node, op: Pen) -> None:
    """``axis`` became an input, and its default moved."""
    axis = literal(node, "axis", 1)
    set_inputs(node, node.inputs[0], given(node, 1), op.const(np.array(axis, dtype=np.int64), hint="axis"))


def _renamed(found: ir.Attr, name: str) -> ir.Attr:
    if found.is_ref():
        return ir.RefAttr(name, found.ref_attr_name or "", found.type)
    return ir.Attr(name, found.type, found.value)
