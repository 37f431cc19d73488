"""Recurrent networks over a length that is known, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ....compiler.core.graph import array, attribute
from . import Expansion, Pen

LONGEST = 64
"""Steps. Code for more of them would take minutes to generate."""
ACTIVATIONS = {"sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu", "softsign": "Softsign", "softplus": "Softplus"}
DEFAULTS = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
State = tuple[ir.Value, ir.Value | None]
"""What goes from step to step: [batch, hidden], and the cells of an LSTM."""


@dataclass
class _Direction:
    """One direction of a network: projections of the inputs [steps, batch, gates * hidden] done, what is left to do at each step."""

    op: Pen
    node: ir.Node
    hidden: int
    functions: list[Callable[[ir.Value], ir.Value]]
    recurrent: ir.Value
    """[hidden, gates * hidden]"""
    bias: ir.Value | None
    """What is added to the recurrent part, [gates * hidden]; only a GRU keeps it apart from the bias of the inputs."""
    peepholes: list[ir.Value] | None

    def step(self, x: ir.Value, state: State) -> State:
        """The state after one step; ``x`` is its projected input [batch, gates * hidden]."""
        return {"LSTM": self._lstm, "GRU": self._gru, "RNN": self._rnn}[self.node.op_type](x, state)

    def _rnn(self, x: ir.Value, state: State) -> State:
        total = self.op.Add(x, self.op.MatMul(state[0], self.recurrent))
        return self.functions[0](_clipped(self.op, self.node, total)), None

    def _lstm(self, x: ir.Value, state: State) -> State:
        op, (hidden, cells) = self.op, state
        assert cells is not None
        gate, output, forget, new = op.Split(op.Add(x, op.MatMul(hidden, self.recurrent)), _outputs=4, axis=1, num_outputs=4)
        if self.peepholes is not None:
            gate, forget = op.Add(gate, op.Mul(self.peepholes[0], cells)), op.Add(forget, op.Mul(self.peepholes[2], cells))
        sigmoid, tanh, last = self.functions
        gate, forget, new = (sigmoid(_clipped(op, self.node, gate)), sigmoid(_clipped(op, self.node, forget)), tanh(_clipped(op, self.node, new)))
        if attribute(self.node, "input_forget", 0):
            forget = op.Sub(op.const(np.ones((), _dtype(self.node))), gate)
        made = op.Add(op.Mul(forget, cells), op.Mul(gate, new))
        if self.peepholes is not None:
            output = op.Add(output, op.Mul(self.peepholes[1], made))
        return op.Mul(sigmoid(_clipped(op, self.node, output)), last(made)), made

    def _gru(self, x: ir.Value, state: State) -> State:
        op, hidden = self.op, state[0]
        size = self.hidden
        update_x, reset_x, new_x = op.Split(x, _outputs=3, axis=1, num_outputs=3)
        sigmoid, tanh = self.functions
        if attribute(self.node, "linear_before_reset", 0):
            back = op.MatMul(hidden, self.recurrent)
            back = back if self.bias is None else op.Add(back, self.bias)
            update_h, reset_h, new_h = op.Split(back, _outputs=3, axis=1, num_outputs=3)
            update, reset = sigmoid(_clipped(op, self.node, op.Add(update_x, update_h))), sigmoid(_clipped(op, self.node, op.Add(reset_x, reset_h)))
            new = tanh(_clipped(op, self.node, op.Add(new_x, op.Mul(reset, new_h))))
        else:
            gates, rest = op.Split(self.recurrent, op.const([2 * size, size]), _outputs=2, axis=1)
            update_h, reset_h = op.Split(op.MatMul(hidden, gates), _outputs=2, axis=1, num_outputs=2)
            update, reset = sigmoid(_clipped(op, self.node, op.Add(update_x, update_h))), sigmoid(_clipped(op, self.node, op.Add(reset_x, reset_h)))
            new = tanh(_clipped(op, self.node, op.Add(new_x, op.MatMul(op.Mul(reset, hidden), rest))))
        kept = op.Sub(op.const(np.ones((), _dtype(self.node))), update)
        return op.Add(op.Mul(kept, new), op.Mul(update, hidden)), None


def unrolled(op: Pen, node: ir.Node) -> tuple[ir.Value | None, ...] | None:
    """The network step by step. None for lengths that differ within a batch, and for activations and lengths that are not known."""
    inputs = (*node.inputs, *[None] * 8)
    x, weights, recurrent, bias = inputs[:4]
    if x is None or weights is None or recurrent is None or _lengths_differ(node) or x.shape is None or weights.shape is None or x.dtype is None:
        return None
    batch_first = attribute(node, "layout", 0) == 1
    steps, hidden = x.shape[1 if batch_first else 0], attribute(node, "hidden_size", None)
    functions = _functions(op, node)
    directions = weights.shape[0]
    if not isinstance(steps, int) or not 0 < steps <= LONGEST or not isinstance(hidden, int) or functions is None or not isinstance(directions, int):
        return None
    x = op.Transpose(x, perm=[1, 0, 2]) if batch_first else x
    each = len(functions) // directions
    sequences, finals = [], []
    for place in range(directions):
        direction, projected = _prepared(op, node, x, hidden, place, functions[place * each : (place + 1) * each], inputs)
        backwards = place == 1 or attribute(node, "direction", "forward") == "reverse"
        outputs, final = _walk(op, direction, projected, steps, backwards, _initial(op, node, hidden, place, inputs))
        sequences.append(outputs)
        finals.append(final)
    return _gathered(op, node, sequences, finals, batch_first)


def _prepared(
    op: Pen, node: ir.Node, x: ir.Value, hidden: int, place: int, functions: list[Callable[[ir.Value], ir.Value]], inputs: Sequence[ir.Value | None]
) -> tuple[_Direction, ir.Value]:
    gates = GATES[node.op_type]
    weights = op.Transpose(op.Gather(inputs[1], op.const(np.int64(place)), axis=0), perm=[1, 0])
    recurrent = op.Transpose(op.Gather(inputs[2], op.const(np.int64(place)), axis=0), perm=[1, 0])
    projected, apart = op.MatMul(x, weights), None
    if inputs[3] is not None:
        first, second = op.Split(op.Gather(inputs[3], op.const(np.int64(place)), axis=0), _outputs=2, axis=0, num_outputs=2)
        if node.op_type == "GRU" and attribute(node, "linear_before_reset", 0):
            projected, apart = op.Add(projected, first), second
        else:
            projected = op.Add(projected, op.Add(first, second))
    peepholes = None
    if node.op_type == "LSTM" and inputs[7] is not None:
        peepholes = list(op.Split(op.Gather(inputs[7], op.const(np.int64(place)), axis=0), _outputs=3, axis=0, num_outputs=3))
    assert gates
    return _Direction(op, node, hidden, functions, recurrent, apart, peepholes), projected


def _walk(op: Pen, direction: _Direction, projected: ir.Value, steps: int, backwards: bool, state: State) -> tuple[list[ir.Value], State]:
    """The hidden state after each step, in the order of time, and the last state."""
    parts = op.Split(projected, _outputs=steps, axis=0, num_outputs=steps) if steps > 1 else projected
    parts = list(parts) if isinstance(parts, tuple) else [parts]
    outputs: dict[int, ir.Value] = {}
    for step in reversed(range(steps)) if backwards else range(steps):
        state = direction.step(op.Squeeze(parts[step], op.const([0])), state)
        outputs[step] = state[0]
    return [outputs[step] for step in range(steps)], state


def _initial(op: Pen, node: ir.Node, hidden: int, place: int, inputs: Sequence[ir.Value | None]) -> State:
    def one(value: ir.Value | None) -> ir.Value:
        if value is not None:
            axis = 1 if attribute(node, "layout", 0) == 1 else 0
            return op.Gather(value, op.const(np.int64(place)), axis=axis)
        source = node.inputs[0]
        assert source is not None and source.dtype is not None and source.shape is not None
        axis = 0 if attribute(node, "layout", 0) == 1 else 1
        batch = source.shape[axis]
        size = op.const([batch]) if isinstance(batch, int) else op.Shape(source, start=axis, end=axis + 1)
        zero = ir.tensor(np.zeros(1, source.dtype.numpy()))
        return op.ConstantOfShape(op.Concat(size, op.const([hidden]), axis=0), value=zero)

    return one(inputs[5]), one(inputs[6]) if node.op_type == "LSTM" else None


def _gathered(op: Pen, node: ir.Node, sequences: list[list[ir.Value]], finals: list[State], batch_first: bool) -> tuple[ir.Value | None, ...]:
    def stacked(values: Sequence[ir.Value], axis: int) -> ir.Value:
        parts = [op.Unsqueeze(value, op.const([axis])) for value in values]
        return parts[0] if len(parts) == 1 else op.Concat(*parts, axis=axis)

    def wanted(index: int) -> bool:
        return len(node.outputs) > index and (bool(node.outputs[index].uses()) or node.outputs[index].is_graph_output())

    made: list[ir.Value | None] = [None] * len(node.outputs)
    if wanted(0):
        whole = stacked([stacked(one, 0) for one in sequences], 1)
        made[0] = op.Transpose(whole, perm=[2, 0, 1, 3]) if batch_first else whole
    for index in (1, 2):
        if wanted(index):
            last = stacked([state for final in finals if (state := final[index - 1]) is not None], 0)
            made[index] = op.Transpose(last, perm=[1, 0, 2]) if batch_first else last
    return tuple(made)


def _functions(op: Pen, node: ir.Node) -> list[Callable[[ir.Value], ir.Value]] | None:
    """What the network applies, for each direction in turn; None when one of them is unknown here or has parameters."""
    directions = 2 if attribute(node, "direction", "forward") == "bidirectional" else 1
    given = node.attributes.get("activations")
    names = [str(name).lower() for name in given.as_strings()] if given is not None else list(DEFAULTS[node.op_type]) * directions
    if any(name not in ACTIVATIONS for name in names) or len(names) != directions * len(DEFAULTS[node.op_type]):
        return None
    return [_function(op, ACTIVATIONS[name]) for name in names]


def _function(op: Pen, name: str) -> Callable[[ir.Value], ir.Value]:
    return lambda value: getattr(op, name)(value)


def _clipped(op: Pen, node: ir.Node, value: ir.Value) -> ir.Value:
    """Within the limit that the node sets. A gate with a bias is never NaN in ONNX Runtime, which takes it where it is below a limit, else the limit."""
    given = attribute(node, "clip", None)
    limit = given if isinstance(given, float) and given > 0 else None
    if node.op_type != "RNN" and len(node.inputs) > 3 and node.inputs[3] is not None:
        kind = _dtype(node)
        highest = op.const(np.array(np.finfo(kind).max if limit is None else limit, kind))
        value = op.Where(op.Less(value, highest), value, highest)
    return value if limit is None else op.Clip(value, op.const(np.float32(-limit)), op.const(np.float32(limit)))


def _dtype(node: ir.Node) -> np.dtype:
    source = node.inputs[0]
    return source.dtype.numpy() if source is not None and source.dtype is not None else np.dtype(np.float32)


def _lengths_differ(node: ir.Node) -> bool:
    """Whether a sequence of the batch may be shorter than the longest."""
    lengths = node.inputs[4] if len(node.inputs) > 4 else None
    x = node.inputs[0]
    if lengths is None or x is None or x.shape is None:
        return False
    known = array(lengths)
    return known is None or bool((known != x.shape[1 if attribute(node, "layout", 0) == 1 else 0]).any())


EXPANSIONS: dict[str, Expansion] = {"LSTM": unrolled, "GRU": unrolled, "RNN": unrolled}
