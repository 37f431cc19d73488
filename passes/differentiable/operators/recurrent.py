"""Recurrent layers, one step after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .call import Call, Operators, numbers

if TYPE_CHECKING:
    import torch

    Activation = Callable[[torch.Tensor], torch.Tensor]
    State = tuple[torch.Tensor, ...]
    Cell = Callable[[torch.Tensor, State], State]

__all__ = ["operators"]

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
USUAL = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}


def operators() -> Operators:
    """By operator type."""

    def recurrent(
        call: Call, x: torch.Tensor, w: torch.Tensor, r: torch.Tensor, b: torch.Tensor | None = None, lengths: torch.Tensor | None = None,
        h: torch.Tensor | None = None, c: torch.Tensor | None = None, peepholes: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:  # fmt: skip
        import torch

        kind, hidden = call.node.op_type, r.shape[-1]
        if call.number("clip") or peepholes is not None or call.whole("input_forget"):
            raise call.refuse("clip, peepholes or coupled gates")
        x = x.transpose(0, 1) if call.whole("layout") else x
        starts = [_turned(call, item) for item in ((h, c) if kind == "LSTM" else (h,))]
        outputs, ends = [], []
        for direction in range(len(w)):
            bias = b[direction] if b is not None else x.new_zeros(2 * GATES[kind] * hidden)
            state = tuple(x.new_zeros(x.shape[1], hidden) if start is None else start[direction] for start in starts)
            cell = _cell(call, w[direction], r[direction], bias, direction)
            backwards = direction == 1 or call.text("direction", "forward") == "reverse"
            found, end = _unrolled(x, cell, state, backwards, None if lengths is None else numbers(lengths))
            outputs.append(found)
            ends.append(end)
        y = torch.stack(outputs, dim=1)
        last = [torch.stack(parts) for parts in zip(*ends, strict=True)]
        if call.whole("layout"):
            return y.permute(2, 0, 1, 3), *(item.transpose(0, 1) for item in last)
        return y, *last

    return dict.fromkeys(GATES, recurrent)


def _turned(call: Call, start: torch.Tensor | None) -> torch.Tensor | None:
    return start.transpose(0, 1) if start is not None and call.whole("layout") else start


def _unrolled(x: torch.Tensor, cell: Cell, state: State, backwards: bool, lengths: Sequence[int] | None) -> tuple[torch.Tensor, State]:
    """The states [length, batch, hidden], and the last; behind its own length a sequence gives zeros and keeps its state."""
    import torch

    steps: list[torch.Tensor] = [x.new_zeros(0)] * len(x)
    real = None if lengths is None else torch.tensor(lengths, device=x.device)
    for place in reversed(range(len(x))) if backwards else range(len(x)):
        found = cell(x[place], state)
        if real is None:
            state, steps[place] = found, found[0]
            continue
        inside = (place < real)[:, None]
        state = tuple(torch.where(inside, new, old) for new, old in zip(found, state, strict=True))
        steps[place] = torch.where(inside, found[0], torch.zeros_like(found[0]))
    return torch.stack(steps), state


def _cell(call: Call, w: torch.Tensor, r: torch.Tensor, bias: torch.Tensor, direction: int) -> Cell:
    kind, count = call.node.op_type, len(USUAL[call.node.op_type])
    acts = [_activation(call, place + direction * count) for place in range(count)]
    inner, outer = bias.chunk(2)

    def rnn(x: torch.Tensor, state: State) -> State:
        return (acts[0](x @ w.T + state[0] @ r.T + inner + outer),)

    def gru(x: torch.Tensor, state: State) -> State:
        (h,) = state
        z, reset, new = (x @ w.T + inner).chunk(3, dim=-1)
        rz, rr, rn = r.chunk(3)
        bz, br, bn = outer.chunk(3)
        z, reset = acts[0](z + h @ rz.T + bz), acts[0](reset + h @ rr.T + br)
        past = reset * (h @ rn.T + bn) if call.whole("linear_before_reset") else (reset * h) @ rn.T + bn
        return ((1 - z) * acts[1](new + past) + z * h,)

    def lstm(x: torch.Tensor, state: State) -> State:
        h, c = state
        i, o, f, g = (x @ w.T + h @ r.T + inner + outer).chunk(4, dim=-1)
        c = acts[0](f) * c + acts[0](i) * acts[1](g)
        return acts[0](o) * acts[2](c), c

    return {"RNN": rnn, "GRU": gru, "LSTM": lstm}[kind]


def _activation(call: Call, place: int) -> Activation:
    import torch
    from torch.nn import functional

    usual = USUAL[call.node.op_type]
    given = [name.decode() if isinstance(name, bytes) else str(name) for name in call.node.attributes["activations"].value] if call.given("activations") else []
    name = (given or [*usual, *usual])[place]
    known: dict[str, Activation] = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu, "softplus": functional.softplus}
    known |= {"softsign": functional.softsign}
    if name.lower() not in known:
        raise call.refuse(f"the activation {name}")
    return known[name.lower()]
