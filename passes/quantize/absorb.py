"""Scales and shifts of channels, taken up by what makes a value: norms, linear operators and constants before it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from ...compiler.core.dims import same_shape
from ...compiler.core.graph import attribute, constant, is_op, node_label
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.shapes import dims_of
from ...compiler.core.sites import site_of
from ..fold.carrying import carried_up, carrier
from .changes import Changes

__all__ = ["Absorption"]

DEPTH = 16
"""How many operators are crossed at most."""
NORMS = ("LayerNormalization", "RMSNormalization")


@dataclass
class Absorption:
    """Turns a value into ``value * scale + shift`` by changing constants before it; both float64, broadcast against the value, of its rank.

    What is in between may be read by nobody else; the value itself only by ``readers``.
    """

    changes: Changes
    crossed: list[ir.Node] = field(default_factory=list)

    def take(self, value: ir.Value, scale: np.ndarray, shift: np.ndarray) -> Skip | None:
        """Note in `changes` what has to become of which constant; why it cannot be done (`changes` is of no use then)."""
        node = value.producer()
        if node is None:
            return skip("'%s' is an input of the model", value.name)
        if len(self.crossed) > DEPTH:
            return skip("nothing within %s operators takes it up", DEPTH)
        self.crossed.append(node)
        if is_op(node, *NORMS):
            return self._norm(node, value, scale, shift)
        if is_op(node, "Add", "Sub"):
            return self._sum(node, scale, shift)
        if is_op(node, "Mul"):
            return self._product(node, scale, shift)
        if is_op(node, "Gemm", "Conv") or (is_op(node, "MatMul") and site_of(node) is not None):
            return self._linear(node, scale, shift)
        if is_op(node, "Split"):
            return self._part(node, value, scale, shift)
        if is_op(node, "MatMul"):
            return self._mixed(node, 1, scale, shift)
        if is_op(node, "Attention"):
            return self._attended(node, scale, shift)
        return self._carried(node, scale, shift)

    def _on(self, value: ir.Value | None, scale: np.ndarray, shift: np.ndarray) -> Skip | None:
        """Go on with a value that only one operator may read."""
        if value is None or constant(value) is not None:
            return skip("it depends on a constant only")
        if value.is_graph_output() or len(value.uses()) != 1:
            return skip("'%s' is also needed elsewhere", value.name)
        return self.take(value, scale, shift)

    def _norm(self, node: ir.Node, value: ir.Value, scale: np.ndarray, shift: np.ndarray) -> Skip | None:
        rank = scale.ndim
        axis = attribute(node, "axis", -1)
        if value is not node.outputs[0] or not isinstance(axis, int) or axis % rank != rank - 1 or scale.size not in (1, scale.shape[-1]):
            return skip("%s does not normalise the channels alone", node_label(node))
        gain = self.changes.read(node, 1)
        if gain is None:
            return skip("the scale of %s is no constant", node_label(node))
        has_bias = len(node.inputs) > 2 and node.inputs[2] is not None
        bias = self.changes.read(node, 2) if has_bias else None
        if (shift.any() and not has_bias) or (has_bias and bias is None):
            return skip("%s has no constant that a shift could go into", node_label(node))
        refusal = self.changes.write(node, 1, gain * scale.reshape(-1))
        if refusal is None and bias is not None:
            refusal = self.changes.write(node, 2, bias * scale.reshape(-1) + shift.reshape(-1))
        return refusal

    def _sum(self, node: ir.Node, scale: np.ndarray, shift: np.ndarray) -> Skip | None:
        index = next((index for index in (1, 0) if constant(node.inputs[index]) is not None), None)
        if index is None or not _fills(node, 1 - index):
            return skip("%s adds two values that vary", node_label(node))
        term = self.changes.read(node, index)
        if term is None:
            return skip("%s does not add floats", node_label(node))
        sign = -1.0 if node.op_type == "Sub" and index == 1 else 1.0
        refusal = self.changes.write(node, index, _trimmed(term * scale + sign * shift, node.inputs[index]))
        return refusal or self._on(node.inputs[1 - index], scale, np.zeros_like(shift))

    def _product(self, node: ir.Node, scale: np.ndarray, shift: np.ndarray) -> Skip | None:
        if shift.any():
            return skip("%s does not let a shift pass", node_label(node))
        index = next((index for index in (1, 0) if constant(node.inputs[index]) is not None), None)
        if index is not None:
            factor = self.changes.read(node, index)
            if factor is None or not _fills(node, 1 - index):
                return skip("%s spreads what it multiplies", node_label(node))
            return self.changes.write(node, index, _trimmed(factor * scale, node.inputs[index]))
        reason = skip("neither factor of %s takes it", node_label(node))
        before = dict(self.changes.contents), list(self.crossed)
        for index in (1, 0):
            if _fills(node, index) and self._on(node.inputs[index], scale, shift) is None:
                return None
            self.changes.contents, self.crossed = dict(before[0]), list(before[1])
        return reason

    def _linear(self, node: ir.Node, scale: np.ndarray, shift: np.ndarray) -> Skip | None:
        """The columns of the weight, and the bias where there is one."""
        site = site_of(node)
        axis = 1 if is_op(node, "Conv") else scale.ndim - 1
        if site is None or site.weight_at != 1 or any(size != 1 for index, size in enumerate(scale.shape) if index != axis):
            return skip("%s has no column for each channel", node_label(node))
        weight = self.changes.read(node, 1)
        if weight is None or (attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)) != (1.0, 1.0) and is_op(node, "Gemm"):
            return skip("%s scales its product", node_label(node))
        column = [1] * weight.ndim
        column[site.channel_axis] = -1
        refusal = self.changes.write(node, 1, weight * scale.reshape(column))
        bias = self.changes.read(node, 2)
        if bias is None:
            varies = site.bias is not None
            return refusal or (skip("%s has no bias that a shift could go into", node_label(node)) if shift.any() or varies else None)
        return refusal or self.changes.write(node, 2, bias * scale.reshape(-1) + shift.reshape(-1))

    def _part(self, node: ir.Node, value: ir.Value, scale: np.ndarray, shift: np.ndarray) -> Skip | None:
        """One part of a Split: the others keep what they are."""
        axis = int(attribute(node, "axis", 0)) % scale.ndim  # type: ignore[call-overload]
        sizes = [item.shape[axis] if item.shape is not None else None for item in node.outputs]
        if scale.shape[axis] == 1 and shift.shape[axis] == 1:
            return skip("every part of %s would have to take it", node_label(node))
        if not all(isinstance(size, int) for size in sizes):
            return skip("the parts of %s have no fixed size", node_label(node))
        place = node.outputs.index(value)
        start, total = sum(sizes[:place]), sum(sizes)  # type: ignore[arg-type]
        whole = list(scale.shape)
        whole[axis] = total
        around = [slice(None)] * scale.ndim
        around[axis] = slice(start, start + sizes[place])  # type: ignore[operator]
        factor, term = np.ones(whole), np.zeros(whole)
        factor[tuple(around)], term[tuple(around)] = scale, shift
        return self._on(node.inputs[0], factor, term)

    def _mixed(self, node: ir.Node, index: int, scale: np.ndarray, shift: np.ndarray) -> Skip | None:
        """A product of two variables: what scales its columns scales those of the right one."""
        right, whole = dims_of(node.inputs[index]), dims_of(node.outputs[0])
        if shift.any() or scale.ndim < 2 or scale.shape[-2] != 1 or right is None or whole is None or len(right) != len(whole):
            return skip("%s does not let it pass", node_label(node))
        if not same_shape((*right[:-2], right[-1]), (*whole[:-2], whole[-1])):
            return skip("%s uses one value for several heads", node_label(node))
        return self._on(node.inputs[index], scale, shift)

    def _attended(self, node: ir.Node, scale: np.ndarray, shift: np.ndarray) -> Skip | None:
        """softmax(Q K') V: what scales the columns of the result scales those of V."""
        if not same_shape(dims_of(node.inputs[2])[-1:], dims_of(node.outputs[0])[-1:]) or scale.ndim == 4 or shift.any():  # type: ignore[index]
            return skip("%s uses one value for several heads", node_label(node))
        return self._on(node.inputs[2], scale, shift)

    def _carried(self, node: ir.Node, scale: np.ndarray, shift: np.ndarray) -> Skip | None:
        crossing = carrier(node)
        if crossing is None or not crossing.takes(scale, shift):
            return skip("%s does not let it pass", node_label(node))
        moved = [carried_up(node, content) for content in (scale, shift)]
        if moved[0] is None or moved[1] is None:
            return skip("it does not lie along axes that are there before %s", node_label(node))
        return self._on(node.inputs[0], moved[0], moved[1])


def _fills(node: ir.Node, index: int) -> bool:
    """Whether an operand has the shape of the result by itself."""
    return same_shape(dims_of(node.inputs[index]), dims_of(node.outputs[0]))


def _trimmed(content: np.ndarray, old: ir.Value | None) -> np.ndarray:
    """A constant without the leading 1s that the old one has not."""
    rank = len(old.shape) if old is not None and old.shape is not None else content.ndim
    while content.ndim > rank and content.shape[0] == 1:
        content = content[0]
    return content
