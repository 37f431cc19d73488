"""Who reads a value."""

from __future__ import annotations

import onnx_ir as ir


def only_reader(value: ir.Value) -> ir.Node | None:
    """The node that alone reads ``value``, once."""
    uses = tuple(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None
