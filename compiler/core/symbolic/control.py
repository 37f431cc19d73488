"""Types and shapes through If, Loop and Scan.

A dimension made inside a body may differ between iterations and branches, so it never leaves under its own symbol.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from .. import dims
from ..dims import UNKNOWN, Dim, fresh_symbol
from ..graph import constant, is_op
from .attributes import int_attribute, ints_attribute
from .contents import content, forget_content, only
from .standard import Outcome

Dims = tuple[Dim, ...] | None
_MOST_ROUNDS = 4


def is_control_flow(node: ir.Node) -> bool:
    """Whether the node runs graphs of its own in a way that is understood here."""
    return is_op(node, "If", "Loop", "Scan", "SequenceMap")


class ControlFlow:
    """Infers bodies with ``infer_graph`` and what comes out of their nodes."""

    def __init__(self, infer_graph: Callable[[ir.Graph], None]) -> None:
        self.infer_graph = infer_graph

    def outcomes(self, node: ir.Node) -> Sequence[Outcome] | None:
        """Type and dimensions of each output."""
        return {"If": self._if, "Loop": self._loop, "Scan": self._scan, "SequenceMap": self._map}[node.op_type](node)

    def _if(self, node: ir.Node) -> Sequence[Outcome]:
        branches = [attr.as_graph() for attr in node.attributes.values() if attr.type == ir.AttributeType.GRAPH]
        outside = _Outside()
        for branch in branches:
            self.infer_graph(branch)
        branches = _taken(node) or branches
        return [_either([outside.view(branch.outputs[index]) for branch in branches]) for index in range(len(node.outputs))]

    def _loop(self, node: ir.Node) -> Sequence[Outcome]:
        body = node.attributes["body"].as_graph()
        initial = [_view(value) for value in node.inputs[2:]]
        outside = _Outside()
        kinds = (ir.TensorType(ir.DataType.INT64), ir.TensorType(ir.DataType.BOOL))
        _enter(body.inputs[:2], [(kind, _scalar_or_one(value)) for kind, value in zip(kinds, body.inputs[:2], strict=True)])
        carried = self._carry(outside, body, body.inputs[2:], body.outputs[1 : 1 + len(initial)], initial)
        count = trip_count(node, body)
        stacked = [_stacked(outcome, count, 0) for outcome in map(outside.view, body.outputs[1 + len(initial) :])]
        return [*carried, *stacked]

    def _carry(self, outside: _Outside, body: ir.Graph, entering: Sequence[ir.Value], leaving: Sequence[ir.Value], initial: list[Outcome]) -> list[Outcome]:
        """Infer the body until what comes in covers what goes round; returns the types after any number of rounds."""
        state = initial
        for attempt in range(_MOST_ROUNDS):
            _enter(entering, state)
            self.infer_graph(body)
            merged = [_either([before, outside.view(value)]) for before, value in zip(state, leaving, strict=True)]
            if all(map(_settled, state, merged)):
                return merged
            state = merged if attempt < _MOST_ROUNDS - 2 else [(kind, None) for kind, _ in merged]
        return state

    def _scan(self, node: ir.Node) -> Sequence[Outcome] | None:
        if node.inputs and _is_first_scan(node):
            return None
        body = node.attributes["body"].as_graph()
        scanned = int_attribute(node, "num_scan_inputs")
        states = len(node.inputs) - scanned
        axes = _axes(node, "scan_input_axes", scanned)
        outside = _Outside()
        sliced, lengths = [], []
        for value, axis in zip(node.inputs[states:], axes, strict=True):
            outcome, length = _sliced(value, axis)
            sliced.append(outcome)
            lengths.append(length)
        _enter(body.inputs[states:], sliced)
        carried = self._carry(outside, body, body.inputs[:states], body.outputs[:states], [_view(value) for value in node.inputs[:states]])
        length = next((size for size in lengths if isinstance(size, int)), lengths[0] if lengths else UNKNOWN)
        made = body.outputs[states:]
        out_axes = _axes(node, "scan_output_axes", len(made))
        return [*carried, *(_stacked(outside.view(value), length, axis) for value, axis in zip(made, out_axes, strict=True))]

    def _map(self, node: ir.Node) -> Sequence[Outcome]:
        """Each output is a sequence of what the body makes; the sizes may differ from one tensor to the next."""
        body = node.attributes["body"].as_graph()
        _enter(body.inputs, [(_element(value), None) for value in node.inputs])
        self.infer_graph(body)
        return [(None if value.type is None else ir.SequenceType(value.type), None) for value in body.outputs]


def _scalar_or_one(value: ir.Value) -> tuple[Dim, ...]:
    """A loop's counter and condition are scalars, or vectors of one element where the body declares them so."""
    return (1,) if value.shape is not None and len(value.shape) == 1 else ()


def _element(value: ir.Value | None) -> ir.TypeProtocol | None:
    kind = None if value is None else value.type
    return kind.elem_type if isinstance(kind, ir.SequenceType) else kind


def _taken(node: ir.Node) -> list[ir.Graph] | None:
    """The one branch that an If takes, when what is known of its condition tells."""
    choice = only(content(node.inputs[0]))
    name = ("else_branch", "then_branch")[choice] if isinstance(choice, int) else None
    return [node.attributes[name].as_graph()] if name is not None else None


def trip_count(node: ir.Node, body: ir.Graph) -> Dim:
    """How often a Loop is sure to run: its count, when no condition can stop it earlier."""
    count = only(content(node.inputs[0]))
    if count is None or not _always_true(node.inputs[1]) or not _keeps_going(body):
        return UNKNOWN
    return max(count, 0) if isinstance(count, int) else count if dims.at_least(count, 0) else UNKNOWN


def _always_true(condition: ir.Value | None) -> bool:
    if condition is None:
        return True
    tensor = constant(condition)
    return tensor is not None and tensor.size == 1 and bool(tensor.numpy().reshape(-1)[0])


def _keeps_going(body: ir.Graph) -> bool:
    condition = body.outputs[0]
    while (node := condition.producer()) is not None and is_op(node, "Identity") and node.inputs[0] is not None:
        condition = node.inputs[0]
    return condition is body.inputs[1] or (not condition.is_graph_input() and _always_true(condition))


def _is_first_scan(node: ir.Node) -> bool:
    """Scan-8 has a batch dimension and a leading optional input."""
    return "directions" in node.attributes or node.inputs[0] is None


def _axes(node: ir.Node, name: str, count: int) -> list[int]:
    return list(ints_attribute(node, name) or [0] * count)


def _sliced(value: ir.Value | None, axis: int) -> tuple[Outcome, Dim]:
    kind, shape = _view(value)
    if shape is None or not -len(shape) <= axis < len(shape):
        return (kind, None), UNKNOWN
    rest = list(shape)
    length = rest.pop(axis)
    return (kind, tuple(rest)), length


def _stacked(outcome: Outcome, length: Dim, axis: int) -> Outcome:
    kind, shape = outcome
    if shape is None:
        return kind, None
    rest = list(shape)
    rest.insert(axis if axis >= 0 else axis + len(rest) + 1, length)
    return kind, tuple(rest)


def _enter(values: Sequence[ir.Value], outcomes: Sequence[Outcome]) -> None:
    for value, (kind, shape) in zip(values, outcomes, strict=True):
        forget_content(value)
        if kind is not None and not isinstance(value.type, ir.OptionalType):
            value.type = kind
        value.shape = None if shape is None else ir.Shape([dim if dims.is_known(dim) else fresh_symbol() for dim in shape])


def _view(value: ir.Value | None) -> Outcome:
    return (None, None) if value is None else (value.type, None if value.shape is None else value.shape.dims)


class _Outside:
    """How values of bodies look from outside: a symbol born after this was made was born inside, and has no meaning there."""

    def __init__(self) -> None:
        self.newest = dims.age(fresh_symbol())

    def view(self, value: ir.Value) -> Outcome:
        """Type and dimensions of a body's output."""
        kind, shape = _view(value)
        if shape is None:
            return kind, None
        return kind, tuple(UNKNOWN if dims.age(dim) > self.newest else dim for dim in shape)


def _either(views: Sequence[Outcome]) -> Outcome:
    """What holds whichever of several values it is; an optional that a loop fills is what it is filled with."""
    kinds = [kind for kind, _ in reversed(views) if kind is not None]
    shapes = [shape for _, shape in views]
    known = [shape for shape in shapes if shape is not None]
    if len(known) != len(shapes) or len({len(shape) for shape in known}) != 1:
        return (kinds[0] if kinds else None), None
    merged = tuple(group[0] if all(dims.same(group[0], dim) for dim in group) else UNKNOWN for group in zip(*known, strict=True))
    return (kinds[0] if kinds else None), merged


def _settled(state: Outcome, merged: Outcome) -> bool:
    (kind, before), (other, after) = state, merged
    if kind != other or before is None or after is None:
        return kind == other and before is after
    return all(dims.same(a, b) or not (dims.is_known(a) or dims.is_known(b)) for a, b in zip(before, after, strict=True))
