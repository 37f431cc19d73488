"""Shape rules of our own: where ONNX's inference loses a symbol, and for operators it does not define."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from .. import dims
from ..dims import Dim
from .standard import Outcome

Dims = tuple[Dim, ...]
ShapeRule = Callable[[ir.Node], Sequence[Dims | None]]


def refine(node: ir.Node, standard: Sequence[Outcome] | None) -> Sequence[Outcome] | None:
    """ONNX's answer with what our own rule for the operator adds to it."""
    return standard
