"""BatchNormalization, GroupNormalization and Dropout: training modes, masks, and what belongs to a channel."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....compiler.core.graph import constant
from .step import Pen, Refusal, drop, is_used, known_dtype, known_rank, literal, put, raises, set_inputs


@raises("BatchNormalization Dropout", 7)
def only_at_test(node: ir.Node, op: Pen) -> None:
    """Up to opset 6 ``is_test = 0``, the default, meant training."""
    if not literal(node, "is_test", 0):
        raise Refusal("is_test is 0: it trains, on random or batch data")


@raises("BatchNormalization", 9, typed=True)
def flatten_activations(node: ir.Node, op: Pen) -> None:
    """spatial = 0 (one scale per activation, [C, D1, ...]) -> the same over the C*D1*... channels of a matrix."""
    spatial = literal(node, "spatial", 1)
    data, *parameters = node.inputs
    if spatial or data is None:
        return
    if known_rank(parameters[0], "the scale") != known_rank(data, "the input") - 1:
        raise Refusal("spatial is 0, but the scale is not one per activation")
    _refuse_training(node)
    matrix = op.node("Flatten", (data,), {"axis": 1}).outputs[0]
    line = op.const([-1], hint="line")
    flat = [op.node("Reshape", (item, line), {}).outputs[0] for item in parameters]
    inner = op.node("BatchNormalization", (matrix, *flat), {"epsilon": literal(node, "epsilon", 1e-5)}).outputs[0]
    shape = op.node("Shape", (data,), {}).outputs[0]
    drop(node, "momentum")
    node.resize_outputs(1)
    node.op_type = "Reshape"
    set_inputs(node, inner, shape)


@raises("BatchNormalization", 14)
def one_output(node: ir.Node, op: Pen) -> None:
    """Up to opset 13 more than one output meant training; since then an attribute says so, and the formula changed."""
    _refuse_training(node)
    node.resize_outputs(1)


def _refuse_training(node: ir.Node) -> None:
    if any(value.name for value in node.outputs[1:]):
        raise Refusal("it trains: more outputs than the first are named")


@raises("GroupNormalization", 21, typed=True)
def scale_per_channel(node: ir.Node, op: Pen) -> None:
    """Scale and bias of shape [groups] -> [C]; GroupNormalization-18 computed in the dtype of its input."""
    data, scale, bias = node.inputs
    groups = node.attributes.get_int("num_groups")
    if data is None or groups is None:
        raise Refusal("it does not say how many groups")
    put(node, stash_type=int(known_dtype(data, "the input")))
    set_inputs(node, data, _spread(scale, data, groups, op), _spread(bias, data, groups, op))


def _spread(per_group: ir.Value | None, data: ir.Value, groups: int, op: Pen) -> ir.Value:
    """[groups] -> [C]: each group's number once for every channel of the group."""
    channels = data.shape[1] if data.shape is not None and len(data.shape) > 1 else None
    held = constant(per_group)
    if held is not None and isinstance(channels, int):
        return op.const(np.repeat(held.numpy(), channels // groups), hint="per_channel")
    amount = op.node("Shape", (data,), {"start": 1, "end": 2}).outputs[0]
    size = op.node("Div", (amount, op.const([groups], hint="groups")), {}).outputs[0]
    target = op.node("Concat", (op.const([groups], hint="groups"), size), {"axis": 0}).outputs[0]
    column = op.node("Unsqueeze", (per_group, op.const([1], hint="axes")), {}).outputs[0]
    table = op.node("Expand", (column, target), {}).outputs[0]
    return op.node("Reshape", (table, op.const([-1], hint="line")), {}).outputs[0]


@raises("Dropout", 10, typed=True)
def mask_of_the_data(node: ir.Node, op: Pen) -> int:
    """Up to opset 9 the mask had the dtype of the data, and was all zeros in ONNX Runtime."""
    drop(node, "ratio")
    if len(node.outputs) > 1 and is_used(node.outputs[1]):
        dtype = known_dtype(node.inputs[0], "the input") if node.inputs[0] is not None else ir.DataType.FLOAT
        _stand_in_for_mask(node, op, dtype)
    _mask_is_boolean(node)
    return 12


@raises("Dropout", 12)
def nothing_dropped(node: ir.Node, op: Pen) -> None:
    """Up to opset 11 Dropout never trained: its ratio had no effect. ONNX Runtime gave an all-false mask then, and an all-true one since."""
    drop(node, "ratio")
    if len(node.outputs) > 1 and is_used(node.outputs[1]):
        _stand_in_for_mask(node, op, ir.DataType.BOOL)
    _mask_is_boolean(node)


def _mask_is_boolean(node: ir.Node) -> None:
    """Whatever was known of the mask's type was known of the old operator's."""
    if len(node.outputs) > 1:
        node.outputs[1].type = ir.TensorType(ir.DataType.BOOL)


def _stand_in_for_mask(node: ir.Node, op: Pen, dtype: ir.DataType) -> None:
    shape = op.node("Shape", (node.inputs[0],), {}).outputs[0]
    nothing = ir.tensor(np.zeros(1, dtype=dtype.numpy()), name="value")
    mask = op.node("ConstantOfShape", (shape,), {"value": ir.AttrTensor("value", nothing)}).outputs[0]
    mask.type = ir.TensorType(dtype)
    op.replaced.append((node.outputs[1], mask))
