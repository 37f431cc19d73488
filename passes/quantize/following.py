"""Following one dimension of a value through a graph: where else it appears, and the constants that would have to change if its basis did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from ...compiler.core.dims import same
from ...compiler.core.graph import array, attribute, constant, is_op, node_label
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.shapes import dims_of
from ..fold.carrying import carried_down, carried_up
from .absorb import NORMS
from .changes import constant_behind

__all__ = ["Edge", "Follower", "Member"]

VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose")
PLAIN = ("Cast", "Identity", "Neg", "Dropout")
REDUCTIONS = ("ReduceMean", "ReduceSum")


@dataclass(frozen=True)
class Edge:
    """A constant at an input of a node whose ``axis`` lies in the dimension that was followed.

    A writer makes the dimension (its ``axis`` counts output channels; below 0, or of size 1, it holds one number for all), a reader sums over it.
    ``norm`` is the norm between the stream and a reader.
    """

    node: ir.Node
    index: int
    axis: int
    norm: ir.Node | None = None


@dataclass(frozen=True)
class Member:
    """Where the dimension lies in a value, as an axis from the front; ``norm`` is the norm after which the value comes, in the same basis."""

    axis: int
    norm: ir.Node | None = None


@dataclass
class Follower:
    """Finds everything that a change of basis of one dimension reaches: ``X -> X (I x R)`` with ``R`` of ``block`` rows, along an axis that it divides.

    `follow` returns why a change is impossible: something on the way that does not commute with it, or an input or output of the model. Otherwise the
    constants to change are ``writers`` (``W (I x R)``) and ``readers`` (``(I x R)' W``), and the norms on the way are ``norms``.
    """

    block: int
    members: dict[ir.Value, Member] = field(default_factory=dict)
    writers: list[Edge] = field(default_factory=list)
    readers: list[Edge] = field(default_factory=list)
    norms: list[ir.Node] = field(default_factory=list)
    _queue: list[ir.Value] = field(default_factory=list)

    def follow(self, value: ir.Value, axis: int) -> Skip | None:
        """Start at an axis of a value."""
        refusal = self.join(value, Member(axis))
        while refusal is None and self._queue:
            refusal = self._around(self._queue.pop())
        self.writers, self.readers = list(dict.fromkeys(self.writers)), list(dict.fromkeys(self.readers))
        return refusal

    def _around(self, value: ir.Value) -> Skip | None:
        member, node = self.members[value], value.producer()
        if node is None:
            return skip("'%s' is an input of the model", value.name)
        if value.is_graph_output():
            return skip("'%s' is an output of the model", value.name)
        refusal = self._visit(node, value, member, None)
        for user, index in value.uses():
            if refusal is None:
                refusal = self._visit(user, value, member, index) if user.graph is value.graph else skip("'%s' is needed in a subgraph", value.name)
        return refusal

    def _visit(self, node: ir.Node, value: ir.Value, member: Member, index: int | None) -> Skip | None:
        """What a node does to a member: its result (``index`` None) or the input of that number."""
        for types, handle in _HANDLERS:
            if is_op(node, *types):
                return handle(self, node, value, member, index)
        return skip("%s does not commute with a change of basis", node_label(node))

    def join_from(self, node: ir.Node, value: ir.Value | None, member: Member, index: int) -> Skip | None:
        """An input of a node that has to be in the basis: a constant there is a writer."""
        if value is not None and constant_behind(value) is not None:
            self.writers.append(Edge(node, index, member.axis))
            return None
        return skip("an input of %s is missing", node_label(node)) if value is None else self.join(value, member)

    def join(self, value: ir.Value, member: Member) -> Skip | None:
        """A value that has to be in the basis."""
        size = _size(value, member.axis)
        if not isinstance(size, int) or size % self.block:
            return skip("'%s' has %s channels, not a multiple of %s", value.name, size, self.block)
        known = self.members.get(value)
        if known is None:
            self.members[value] = member
            self._queue.append(value)
            return None
        if known.axis != member.axis:
            return skip("'%s' would be in the basis along two axes", value.name)
        return None if known.norm is member.norm else skip("'%s' comes after a norm and goes on without it", value.name)


def _size(value: ir.Value | None, axis: int) -> object:
    dims = dims_of(value)
    return dims[axis] if dims is not None and 0 <= axis < len(dims) else None


def _rank(value: ir.Value | None) -> int:
    return len(dims_of(value) or ())


def _sum(self: Follower, node: ir.Node, value: ir.Value, member: Member, index: int | None) -> Skip | None:
    """x + y: both, and the sum."""
    if member.norm is not None:
        return skip("%s adds something to the result of a norm, whose scale does not commute", node_label(node))
    result = node.outputs[0]
    axis = member.axis - _rank(value) + _rank(result)
    refusal = self.join(result, Member(axis))
    for place, item in enumerate(node.inputs):
        own = axis - _rank(result) + _rank(item)
        if own < 0 and axis != _rank(result) - 1:
            return skip("'%s' is spread over the channels", node.inputs[place].name)  # type: ignore[union-attr]
        if refusal is None and item is not None and constant_behind(item) is None and not same(_size(item, own), _size(result, axis)):  # type: ignore[arg-type]
            return skip("'%s' is spread over the channels", item.name)
        refusal = refusal or self.join_from(node, item, Member(own), place)
    return refusal


def _product(self: Follower, node: ir.Node, value: ir.Value, member: Member, index: int | None) -> Skip | None:
    """x * y, where y is the same for all channels."""
    result = node.outputs[0]
    axis = member.axis - _rank(value) + _rank(result)
    full = [place for place, item in enumerate(node.inputs) if _size(item, axis - _rank(result) + _rank(item)) not in (None, 1)]
    if len(full) != 1 or (is_op(node, "Div") and full != [0]):
        return skip("%s scales the channels apart", node_label(node))
    item = node.inputs[full[0]]
    return self.join(result, Member(axis, member.norm)) or self.join_from(node, item, Member(axis - _rank(result) + _rank(item), member.norm), full[0])


def _plain(self: Follower, node: ir.Node, value: ir.Value, member: Member, index: int | None) -> Skip | None:
    return self.join(node.outputs[0], member) or self.join_from(node, node.inputs[0], member, 0)


def _norm(self: Follower, node: ir.Node, value: ir.Value, member: Member, index: int | None) -> Skip | None:
    """A norm over the whole dimension, once its scale and bias are in what reads it."""
    rank, axis = _rank(node.inputs[0]), attribute(node, "axis", -1)
    if index not in (None, 0) or not isinstance(axis, int) or axis % rank != rank - 1 or member.axis != rank - 1 or _size(value, rank - 1) != self.block:
        return skip("%s normalises something else", node_label(node))
    if any(constant(item) is None for item in node.inputs[1:] if item is not None) or any(item.uses() for item in node.outputs[1:]):
        return skip("the scale of %s is no constant", node_label(node))
    if index is None and member.norm is not node:
        return skip("%s makes a stream by itself", node_label(node))
    if index == 0 and member.norm is not None:
        return skip("%s follows another norm", node_label(node))
    if node not in self.norms:
        self.norms.append(node)
    return self.join(node.outputs[0], Member(rank - 1, node)) or self.join_from(node, node.inputs[0], Member(rank - 1), 0)


def _matmul(self: Follower, node: ir.Node, value: ir.Value, member: Member, index: int | None) -> Skip | None:
    last = _rank(value) - 1
    weight = constant_behind(node.inputs[1])
    if member.axis != last:
        return skip("%s multiplies along another axis", node_label(node))
    if index == 0:
        if weight is None or _rank(node.inputs[1]) != 2:
            return skip("%s multiplies two values that vary", node_label(node))
        self.readers.append(Edge(node, 1, 0, member.norm))
        return None
    if member.norm is not None:
        return skip("%s multiplies two values that vary", node_label(node))
    if index == 1:
        return self.join(node.outputs[0], Member(_rank(node.outputs[0]) - 1))
    if constant_behind(node.inputs[0]) is not None:
        return skip("%s has its weight on the left", node_label(node))
    return self.join_from(node, node.inputs[1], Member(_rank(node.inputs[1]) - 1), 1)


def _gemm(self: Follower, node: ir.Node, value: ir.Value, member: Member, index: int | None) -> Skip | None:
    flipped = bool(attribute(node, "transB", 0))
    if constant(node.inputs[1]) is None or attribute(node, "transA", 0) or member.axis != 1 or index not in (None, 0):
        return skip("%s has no constant weight on the right", node_label(node))
    if index == 0:
        self.readers.append(Edge(node, 1, 1 if flipped else 0, member.norm))
        return None
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    refusal = self.join_from(node, node.inputs[1], Member(0 if flipped else 1), 1)
    return refusal or (None if bias is None else self.join_from(node, bias, Member(_rank(bias) - 1), 2))


def _conv(self: Follower, node: ir.Node, value: ir.Value, member: Member, index: int | None) -> Skip | None:
    if constant(node.inputs[1]) is None or int(attribute(node, "group", 1)) != 1 or member.axis != 1 or index not in (None, 0):  # type: ignore[call-overload]
        return skip("%s does not mix all channels by a constant", node_label(node))
    if index == 0:
        self.readers.append(Edge(node, 1, 1, member.norm))
        return None
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return self.join_from(node, node.inputs[1], Member(0), 1) or (None if bias is None else self.join_from(node, bias, Member(0), 2))


def _gather(self: Follower, node: ir.Node, value: ir.Value, member: Member, index: int | None) -> Skip | None:
    data, result = node.inputs[0], node.outputs[0]
    along, wide = int(attribute(node, "axis", 0)) % max(1, _rank(data)), _rank(node.inputs[1])  # type: ignore[call-overload]
    if index == 1 or (index is None and along <= member.axis < along + wide) or (index == 0 and member.axis == along):
        return skip("%s picks among the channels", node_label(node))
    axis = member.axis if index == 0 else member.axis - (wide - 1 if member.axis >= along + wide else 0)
    return self.join(result, Member(axis + (wide - 1 if axis > along else 0), member.norm)) or self.join_from(node, data, Member(axis, member.norm), 0)


def _view(self: Follower, node: ir.Node, value: ir.Value, member: Member, index: int | None) -> Skip | None:
    """A reshape or transpose that leaves the dimension whole, or splits it between its blocks."""
    if index not in (None, 0):
        return skip("%s reads it as a shape", node_label(node))
    probe = np.arange(int(_size(value, member.axis))) % self.block  # type: ignore[call-overload]
    shape = [1] * _rank(value)
    shape[member.axis] = -1
    moved = (carried_up if index is None else carried_down)(node, probe.reshape(shape))
    axes = [] if moved is None else [axis for axis, size in enumerate(moved.shape) if size > 1]
    if moved is None or len(axes) != 1 or not np.array_equal(moved.reshape(-1), np.arange(moved.size) % self.block):
        return skip("%s takes the channels apart", node_label(node))
    other = node.outputs[0] if index == 0 else node.inputs[0]
    target = Member(axes[0], member.norm)
    return self.join_from(node, other, target, 0) if index is None else self.join(node.outputs[0], target)


def _expand(self: Follower, node: ir.Node, value: ir.Value, member: Member, index: int | None) -> Skip | None:
    data, result = node.inputs[0], node.outputs[0]
    axis = member.axis - _rank(value) + _rank(result)
    own = axis - _rank(result) + _rank(data)
    if index == 1 or _size(data, own) != _size(result, axis):
        return skip("%s spreads the channels", node_label(node))
    return self.join(result, Member(axis, member.norm)) or self.join_from(node, data, Member(own, member.norm), 0)


def _slice(self: Follower, node: ir.Node, value: ir.Value, member: Member, index: int | None) -> Skip | None:
    axes = array(node.inputs[3]) if len(node.inputs) > 3 else None
    if index not in (None, 0) or axes is None or member.axis in [int(axis) % _rank(value) for axis in axes]:
        return skip("%s cuts the channels", node_label(node))
    return _plain(self, node, value, member, index)


def _joined(self: Follower, node: ir.Node, value: ir.Value, member: Member, index: int | None) -> Skip | None:
    """Concat and Split along another axis."""
    if int(attribute(node, "axis", 0)) % _rank(value) == member.axis:  # type: ignore[call-overload]
        return skip("%s takes the channels apart", node_label(node))
    if is_op(node, "Split") and index == 1:
        return skip("%s reads it as sizes", node_label(node))
    refusal = None
    for item in node.outputs:
        refusal = refusal or self.join(item, member)
    for place, part in enumerate(node.inputs if is_op(node, "Concat") else node.inputs[:1]):
        refusal = refusal or self.join_from(node, part, member, place)
    return refusal


def _reduced(self: Follower, node: ir.Node, value: ir.Value, member: Member, index: int | None) -> Skip | None:
    axes, rank = array(node.inputs[1]) if len(node.inputs) > 1 else None, _rank(node.inputs[0])
    if axes is None or not axes.size or index not in (None, 0):
        return skip("%s sums over all axes", node_label(node))
    gone = sorted(int(axis) % rank for axis in axes)
    kept = [axis for axis in range(rank) if axis not in gone]
    place = {axis: axis if attribute(node, "keepdims", 1) else kept.index(axis) for axis in kept}
    axis = member.axis if index == 0 else next((before for before, after in place.items() if after == member.axis), -1)
    if axis not in place:
        return skip("%s sums over the channels", node_label(node))
    return self.join(node.outputs[0], Member(place[axis], member.norm)) or self.join_from(node, node.inputs[0], Member(axis, member.norm), 0)


def _attention(self: Follower, node: ir.Node, value: ir.Value, member: Member, index: int | None) -> Skip | None:
    """softmax(Q K') V: the channels of a head of V are those of the result."""
    values, rank = node.inputs[2], _rank(value)
    cached = any(item is not None for item in node.inputs[4:6]) or any(item.uses() or item.is_graph_output() for item in node.outputs[1:])
    heads = 1 if rank == 4 else attribute(node, "kv_num_heads")
    width = _size(values, _rank(values) - 1)
    if index not in (None, 2) or cached or member.axis != rank - 1 or not isinstance(heads, int) or not isinstance(width, int) or width // heads % self.block:
        return skip("%s does not commute with a change of basis", node_label(node))
    return self.join(node.outputs[0], Member(_rank(node.outputs[0]) - 1)) or self.join_from(node, values, Member(_rank(values) - 1), 2)


_Handler = Callable[[Follower, ir.Node, ir.Value, Member, int | None], Skip | None]
_HANDLERS: tuple[tuple[tuple[str, ...], _Handler], ...] = (
    (("Add", "Sub"), _sum),
    (("Mul", "Div"), _product),
    (PLAIN, _plain),
    (NORMS, _norm),
    (("MatMul",), _matmul),
    (("Gemm",), _gemm),
    (("Conv",), _conv),
    (("Gather",), _gather),
    (VIEWS, _view),
    (("Expand",), _expand),
    (("Slice",), _slice),
    (("Concat", "Split"), _joined),
    (REDUCTIONS, _reduced),
    (("Attention",), _attention),
)
