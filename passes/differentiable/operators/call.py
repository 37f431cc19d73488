"""One operator as the functions that compute it see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from ....compiler.core.errors import TargetError
from ....compiler.core.graph import attribute, node_label, opset

if TYPE_CHECKING:
    import torch

__all__ = ["Call", "Operator", "Operators", "numbers", "plain"]

Operator = Callable[..., Any]
"""``(call, *inputs) -> tensor, or a tuple of them``; an input that is left out is None."""
Operators = dict[str, Operator]


@dataclass(frozen=True)
class Call:
    """A node, its attributes read with the defaults of its operator set."""

    node: ir.Node

    @property
    def version(self) -> int:
        """The operator set the node is written in."""
        graph = self.node.graph
        assert graph is not None
        return int(self.node.version or opset(graph, self.node.domain) or 1)

    def given(self, name: str) -> bool:
        """Whether the attribute is written down."""
        return name in self.node.attributes

    def number(self, name: str, default: float = 0.0) -> float:
        """An attribute that is a real number."""
        return float(attribute(self.node, name, default))  # type: ignore[arg-type]

    def whole(self, name: str, default: int = 0) -> int:
        """An attribute that is an integer."""
        return int(attribute(self.node, name, default))  # type: ignore[call-overload]

    def wholes(self, name: str, default: list[int] | None = None) -> list[int]:
        """An attribute that is a list of integers."""
        found = attribute(self.node, name, default or [])
        return [int(item) for item in found]  # type: ignore[attr-defined]

    def text(self, name: str, default: str = "") -> str:
        """An attribute that is a string."""
        found = attribute(self.node, name, default)
        return found.decode() if isinstance(found, bytes) else str(found)

    def refuse(self, what: str) -> TargetError:
        """The error for a variant that is not computed here."""
        return TargetError(f"{what} of {self.node.op_type} cannot be differentiated here ({node_label(self.node)}): leave that part of the model out")


def plain(function: Callable[..., Any]) -> Operator:
    """A torch function that needs the inputs only."""
    return lambda call, *inputs: function(*inputs)


def numbers(tensor: torch.Tensor | None) -> list[int]:
    """The integers in a tensor that says a shape or axes; none for None."""
    return [] if tensor is None else [int(item) for item in tensor.reshape(-1).tolist()]
