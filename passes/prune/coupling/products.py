"""Operators that sum products over an axis: MatMul, Gemm, Einsum, convolutions."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....compiler.core.graph import attribute
from .elementwise import broadcast
from .follower import Axes, Axis, Follower, Rule

__all__ = ["RULES"]


def follow_matmul(node: ir.Node, follower: Follower) -> None:
    """[..., M, K] x [..., K, N] -> [..., M, N]"""
    left, right = (follower.axes_of(value) for value in node.inputs[:2])
    if not left or not right:
        follower.hold_node(node)
        return
    contract(follower, left[-1], right[-2] if len(right) > 1 else right[-1])
    rows, columns = left[-2:-1], right[-1:] if len(right) > 1 else []
    follower.give(node.outputs[0], [*broadcast(follower, [left[:-2], right[:-2]]), *rows, *columns])


def contract(follower: Follower, one: Axis, other: Axis) -> None:
    """Tie two axes that are summed over together: they are never stretched, so that an axis of one index stays."""
    if one is None or other is None or len(one) != len(other):
        follower.hold_axes([one, other])
    else:
        follower.tie(one, other)


def follow_gemm(node: ir.Node, follower: Follower) -> None:
    """A' B' + C"""
    left, right = (follower.axes_of(value) for value in node.inputs[:2])
    if len(left) != 2 or len(right) != 2:
        follower.hold_node(node)
        return
    left = left[::-1] if attribute(node, "transA", 0) else left
    right = right[::-1] if attribute(node, "transB", 0) else right
    contract(follower, left[1], right[0])
    added = follower.axes_of(node.inputs[2]) if len(node.inputs) > 2 else []
    follower.give(node.outputs[0], broadcast(follower, [[left[0], right[1]], added]))


def follow_einsum(node: ir.Node, follower: Follower) -> None:
    """Each letter is one axis."""
    equation = str(attribute(node, "equation", "")).replace(" ", "")
    terms, arrow, result = equation.partition("->")
    operands = [follower.axes_of(value) for value in node.inputs]
    if not arrow or "." in equation or [len(term) for term in terms.split(",")] != list(map(len, operands)):
        follower.hold_node(node)
        return
    letters: dict[str, Axis] = {}
    for term, axes in zip(terms.split(","), operands, strict=True):
        for letter, axis in zip(term, axes, strict=True):
            letters[letter] = follower.tie(letters[letter], axis) if letter in letters else axis
    follower.give(node.outputs[0], [letters[letter] for letter in result])


def follow_conv(node: ir.Node, follower: Follower) -> None:
    """X [N, C, ...], W [O, C / groups, ...], B [O] -> [N, O, ...]"""
    data, weight = (follower.axes_of(value) for value in node.inputs[:2])
    groups = int(attribute(node, "group", 1))  # type: ignore[call-overload]
    if len(data) < 3 or len(data) != len(weight) or data[1] is None or weight[0] is None or weight[1] is None:
        follower.hold_node(node)
        return
    if groups == 1:
        contract(follower, data[1], weight[1])
    else:
        tie_groups(follower, groups, data[1], weight[0], weight[1])
    follower.hold_axes(weight[2:])
    follower.give(node.outputs[0], [data[0], _with_bias(node, follower, weight[0]), *_fresh_places(node, follower)])


def follow_conv_transpose(node: ir.Node, follower: Follower) -> None:
    """X [N, C, ...], W [C, O / groups, ...], B [O] -> [N, O, ...]"""
    data, weight = (follower.axes_of(value) for value in node.inputs[:2])
    groups = int(attribute(node, "group", 1))  # type: ignore[call-overload]
    if len(data) < 3 or len(data) != len(weight) or data[1] is None or weight[0] is None or weight[1] is None:
        follower.hold_node(node)
        return
    contract(follower, data[1], weight[0])
    out = _grouped_outputs(follower, groups, data[1], weight[1]) if groups > 1 else weight[1]
    follower.hold_axes(weight[2:])
    follower.give(node.outputs[0], [data[0], _with_bias(node, follower, out), *_fresh_places(node, follower)])


def tie_groups(follower: Follower, groups: int, data: np.ndarray, out: np.ndarray, inner: np.ndarray) -> None:
    """The channels of a grouped convolution: whole groups go, or the same place of every group, whichever are more."""
    inputs, outputs = data.reshape(groups, -1), out.reshape(groups, -1)
    if groups >= inputs.shape[1]:
        follower.hold(inner if len(inner) > 1 else None)
        follower.classes.tie(inputs, inputs[:, :1])
        follower.classes.tie(outputs, inputs[:, :1])
        return
    follower.classes.tie(inputs, inner[None])
    follower.classes.tie(outputs, outputs[:1])


def _grouped_outputs(follower: Follower, groups: int, data: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The output channels of a transposed convolution in groups, of which only whole groups go."""
    inputs = data.reshape(groups, -1)
    follower.classes.tie(inputs, inputs[:, :1])
    follower.hold(inner)
    return np.repeat(inputs[:, 0], len(inner))


def _with_bias(node: ir.Node, follower: Follower, out: Axis) -> Axis:
    for axis in follower.axes_of(node.inputs[2]) if len(node.inputs) > 2 else []:
        follower.tie(out, axis)
    return out


def _fresh_places(node: ir.Node, follower: Follower) -> Axes:
    return follower.held_axes(node.outputs[0])[2:]


RULES: dict[str, Rule] = {
    "MatMul": follow_matmul,
    "Gemm": follow_gemm,
    "Einsum": follow_einsum,
    "Conv": follow_conv,
    "ConvTranspose": follow_conv_transpose,
}
