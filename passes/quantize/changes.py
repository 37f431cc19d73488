"""New contents for constants, collected first and put in place together."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from ...compiler.core.graph import array, attribute, constant, make_constant, producer, sweep, users
from ...compiler.core.names import Names
from ...compiler.core.reasons import Skip, skip
from ..fold.arithmetic import FLOATS, narrowed
from ..fold.constants import MAX_BYTES

__all__ = ["Changes", "constant_behind"]

Place = tuple[ir.Node, int]
"""An operator and the number of its input."""


@dataclass
class Changes:
    """What constants become, by who reads them: a constant that others read too stays for those. Nothing happens before `apply`.

    A constant may stand behind a Transpose, which is then no longer needed. With ``copies`` a large constant that others go on reading may be changed
    for some, and is stored twice then.
    """

    copies: bool = False
    contents: dict[Place, np.ndarray] = field(default_factory=dict)

    def read(self, node: ir.Node, index: int) -> np.ndarray | None:
        """The constant at an input of a node as it will be, float64; None when it is no constant of floats."""
        if (node, index) in self.contents:
            return self.contents[node, index].astype(np.float64)
        found = constant_behind(node.inputs[index]) if index < len(node.inputs) else None
        content = array(found[0]) if found is not None and found[0].dtype in FLOATS else None
        if content is None or found is None:
            return None
        return (content if found[1] is None else content.transpose(found[1])).astype(np.float64)

    def write(self, node: ir.Node, index: int, content: np.ndarray) -> Skip | None:
        """Give a constant another content, float64; why that cannot be."""
        value = node.inputs[index]
        if value is None or value.dtype is None or constant_behind(value) is None:
            return skip("input %s of %s is no constant", index, node.op_type)
        narrow = narrowed(content, value.dtype.numpy())
        if narrow is None:
            return skip("'%s' would overflow, or lose digits", value.name)
        self.contents[node, index] = narrow
        return None

    def refusal(self) -> Skip | None:
        """A large constant that somebody reads who does not take part: it would be stored twice."""
        for node, index in self.contents:
            value = node.inputs[index]
            assert value is not None
            found = constant_behind(value)
            tensor = None if found is None else constant(found[0])
            if self.copies or tensor is None or tensor.nbytes <= MAX_BYTES:
                continue
            if any((reader, place) not in self.contents for reader, place in value.uses()) or (found is not None and len(found[0].uses()) != len(value.uses())):
                return skip("the weight '%s' is large and needed elsewhere too", value.name)
        return None

    def apply(self, names: Names) -> int:
        """Put the new contents in place; equal ones of one constant stay one. Returns how many constants were made."""
        made: dict[tuple[ir.Value, bytes, ir.Graph], ir.Value] = {}
        for (node, index), content in self.contents.items():
            old = node.inputs[index]
            assert old is not None and node.graph is not None
            key = (old, content.tobytes(), node.graph)
            if key not in made:
                made[key] = make_constant(node.graph, np.ascontiguousarray(content), names.fresh(f"{old.name}_changed"))
            node.replace_input_with(index, made[key])
        for old in dict.fromkeys(old for old, _, _ in made):
            _forget(old)
        return len(made)


def constant_behind(value: ir.Value | None) -> tuple[ir.Value, tuple[int, ...] | None] | None:
    """A constant, and the permutation that a Transpose on the way makes of its axes (None: there is none)."""
    if value is None:
        return None
    if constant(value) is not None:
        return value, None
    node = producer(value, "Transpose")
    source = node.inputs[0] if node is not None else None
    tensor = constant(source)
    if node is None or source is None or tensor is None:
        return None
    return source, tuple(attribute(node, "perm") or range(len(tensor.shape))[::-1])  # type: ignore[arg-type]


def _forget(value: ir.Value) -> None:
    """Take away a constant that nobody reads any more."""
    node = value.producer()
    if node is not None:
        source = node.inputs[0] if node.inputs else None
        sweep([node])
        if source is not None and source.is_initializer():
            _forget(source)
        return
    if value.is_initializer() and not users(value) and not value.is_graph_output() and not value.is_graph_input() and value.graph is not None:
        del value.graph.initializers[value.name or ""]
