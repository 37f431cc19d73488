"""Loop detection: rules that undo each other are a bug, and are named."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from .errors import PassError
from .graph import constant, node_label
from .rule import Match

MEMORY = 32
SMALL_CONSTANT_BYTES = 64

Signature = tuple[object, ...]


class History:
    """Which rewrites a node descends from; the same rewrite of the same operands twice in one line of descent is a loop."""

    def __init__(self) -> None:
        self._lines: dict[ir.Node, tuple[tuple[str, Signature], ...]] = {}

    def note(self, rule: str, match: Match, made: Iterable[ir.Node]) -> None:
        """Record a rewrite. Raises PassError naming the rules when it closes a loop."""
        line: tuple[tuple[str, Signature], ...] = max((self._lines.get(node, ()) for node in match.nodes), key=len)
        entry = (rule, _signature(match))
        if entry in line:
            names = sorted({name for name, _ in line[line.index(entry) :]})
            raise PassError(f"the rules {', '.join(names)} undo each other at {node_label(match.root)}")
        extended = (*line[-(MEMORY - 1) :], entry)
        for node in made:
            self._lines[node] = extended


def _signature(match: Match) -> Signature:
    """The matched operators over their operands: equal for the same computation on the same values, whatever the nodes are called."""
    places = {value: (position, index) for position, node in enumerate(match.nodes) for index, value in enumerate(node.outputs)}
    return tuple(
        (node.domain, node.op_type, tuple(_operand(value, places) for value in node.inputs), tuple(str(attr) for attr in node.attributes.values()))
        for node in match.nodes
    )


def _operand(value: ir.Value | None, places: dict[ir.Value, tuple[int, int]]) -> object:
    if value is None or value in places:
        return places.get(value) if value is not None else None
    tensor = constant(value)
    if tensor is not None and tensor.nbytes <= SMALL_CONSTANT_BYTES and tensor.dtype != ir.DataType.STRING:
        return (tensor.dtype, tuple(tensor.shape), tensor.tobytes())
    return value
