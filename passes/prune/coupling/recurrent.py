"""RNN, GRU and LSTM: what may go are places of the hidden state."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....compiler.core.graph import attribute
from .follower import Axis, Follower, Rule

__all__ = ["GATES", "RULES"]

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
STATES_AT = (5, 6)
"""The inputs that are initial states, [directions, B, H]."""
PEEPHOLES_AT = 7


def follow_recurrent(node: ir.Node, follower: Follower) -> None:
    """X [S, B, I], W [D, gates H, I], R [D, gates H, H], B [D, 2 gates H] -> Y [S, D, B, H], Y_h [D, B, H]"""
    gates = GATES[node.op_type]
    data, weight, recurrent = (follower.axes_of(value) for value in node.inputs[:3])
    hidden: Axis = recurrent[2] if len(recurrent) == 3 else None
    if len(data) != 3 or len(weight) != 3 or hidden is None or attribute(node, "layout", 0):
        follower.hold_node(node)
        return
    stacked = np.tile(hidden, gates)
    _tie_all(follower, [(data[2], weight[2]), (weight[1], stacked), (recurrent[1], stacked)])
    follower.hold_axes([weight[0], recurrent[0]])
    if len(node.inputs) > 3:
        _tie_all(follower, zip(follower.axes_of(node.inputs[3]), (None, np.tile(hidden, 2 * gates)), strict=False))
    for place in STATES_AT:
        if len(node.inputs) > place:
            _tie_all(follower, zip(follower.axes_of(node.inputs[place]), (None, None, hidden), strict=False))
    if len(node.inputs) > PEEPHOLES_AT:
        _tie_all(follower, zip(follower.axes_of(node.inputs[PEEPHOLES_AT]), (None, np.tile(hidden, 3)), strict=False))
    for value in node.outputs:
        if value.name:
            follower.give(value, [*follower.held_axes(value)[:-1], hidden])


def _tie_all(follower: Follower, pairs: object) -> None:
    """Tie each pair; an axis with nothing to go by is held. Lengths that differ hold both."""
    for one, other in pairs:  # type: ignore[attr-defined]
        if one is None or other is None or len(one) != len(other):
            follower.hold_axes([one, other])
        else:
            follower.classes.tie(one, other)


RULES: dict[str, Rule] = dict.fromkeys(GATES, follow_recurrent)
