"""New contents for constants, collected first and put in place together."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from ...compiler.core.graph import array, constant, make_constant, users
from ...compiler.core.names import Names
from ...compiler.core.reasons import Skip, skip
from ..fold.arithmetic import FLOATS, narrowed
from ..fold.constants import MAX_BYTES

__all__ = ["Changes"]

Place = tuple[ir.Node, int]
"""An operator and the number of its input."""


@dataclass
class Changes:
    """What constants become, by who reads them: a constant that others read too stays for those. Nothing happens before `apply`.

    With ``copies`` a large constant that others go on reading may be changed for some, and is stored twice then.
    """

    copies: bool = False
    contents: dict[Place, np.ndarray] = field(default_factory=dict)

    def read(self, node: ir.Node, index: int) -> np.ndarray | None:
        """The constant at an input of a node as it will be, float64; None when it is no constant of floats."""
        if (node, index) in self.contents:
            return self.contents[node, index]
        tensor = constant(node.inputs[index]) if index < len(node.inputs) else None
        if tensor is None or tensor.dtype not in FLOATS:
            return None
        content = array(node.inputs[index])
        return None if content is None else content.astype(np.float64)

    def write(self, node: ir.Node, index: int, content: np.ndarray) -> Skip | None:
        """Give a constant another content, float64; why that cannot be."""
        value = node.inputs[index]
        tensor = constant(value)
        if value is None or tensor is None:
            return skip("input %s of %s is no constant", index, node.op_type)
        if narrowed(content, tensor.dtype.numpy()) is None:
            return skip("'%s' would overflow, or lose digits", value.name)
        self.contents[node, index] = content
        return None

    def refusal(self) -> Skip | None:
        """A large constant that somebody reads who does not take part: it would be stored twice."""
        for node, index in self.contents:
            value = node.inputs[index]
            tensor = constant(value)
            if self.copies or value is None or tensor is None or tensor.nbytes <= MAX_BYTES:
                continue
            if any((reader, place) not in self.contents for reader, place in value.uses()):
                return skip("the weight '%s' is large and needed elsewhere too", value.name)
        return None

    def apply(self, names: Names) -> int:
        """Put the new contents in place; equal ones of one constant stay one. Returns how many constants were made."""
        made: dict[tuple[ir.Value, bytes], ir.Value] = {}
        for (node, index), content in self.contents.items():
            old = node.inputs[index]
            assert old is not None and old.dtype is not None and node.graph is not None
            narrow = np.ascontiguousarray(content.astype(old.dtype.numpy()))
            key = (old, narrow.tobytes())
            if key not in made or made[key].graph is not node.graph:
                made[key] = make_constant(node.graph, narrow, names.fresh(f"{old.name}_changed"))
            node.replace_input_with(index, made[key])
        for old in {old for old, _ in made}:
            if old.is_initializer() and not users(old) and not old.is_graph_output() and old.graph is not None:
                del old.graph.initializers[old.name or ""]
        return len(made)
