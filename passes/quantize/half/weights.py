"""Weights stored in 16 bits, and made wide when the model is loaded: it is half as large and computes as fast as before."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ....compiler.core.graph import STORED, all_graphs, array, constant, make_constant
from ....compiler.core.names import Names
from ....compiler.core.passes import Context
from .reach import loss

__all__ = ["store_halves"]

FEWEST = 256
"""Smaller constants save less than the Cast that each of them needs."""
STEPS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
"""Operators whose float constants runtimes want to see."""


def store_halves(model: ir.Model, dtype: ir.DataType, rule: str, context: Context, spared: frozenset[ir.Value]) -> dict[ir.Value, str]:
    """Store float32 constants in 16 bits, but for those ``spared``; for each other one why it was not stored so, "" where it was."""
    names = Names(model)
    found: dict[ir.Value, str] = {}
    for graph in all_graphs(model):
        for value in list(graph.initializers.values()):
            tensor = constant(value)
            if value in spared or tensor is None or tensor.dtype is not ir.DataType.FLOAT:
                continue
            content = array(value)
            assert content is not None
            found[value] = _refusal(value, tensor.size) or loss(content, dtype) or ""
            if not found[value] and not context.ledger.permit(rule, value.name or ""):
                found[value] = "it was rolled back here"
            if not found[value]:
                _store(graph, value, ir.Tensor(content.astype(dtype.numpy())), names)
    return found


def _refusal(value: ir.Value, size: int) -> str | None:
    readers = [node for node, _ in value.uses()]
    if size < FEWEST:
        return f"it has {size} numbers: what makes them wide again would take as much room"
    if value.is_graph_output() or not readers:
        return "it is handed out as it is"
    return "it is the scale of a quantised value" if any(node.op_type in STEPS for node in readers) else None


def _store(graph: ir.Graph, value: ir.Value, tensor: ir.TensorProtocol, names: Names) -> None:
    """The constant goes on under another name; what its readers read is a Cast of it."""
    uses: Sequence[tuple[ir.Node, int]] = tuple(value.uses())
    stored = make_constant(graph, tensor, names.fresh(f"{value.name}_half"))
    wide = ir.Value(name=names.fresh(f"{value.name}_wide"), type=value.type, shape=value.shape)
    cast = ir.Node("", "Cast", [stored], [ir.AttrInt64("to", ir.DataType.FLOAT.value)], outputs=[wide], name=names.fresh(f"{value.name}_cast"))
    cast.metadata_props[STORED] = "decodes a weight"
    graph.insert_before(graph[0], cast)
    for node, index in uses:
        node.replace_input_with(index, wide)
    del graph.initializers[value.name or ""]
