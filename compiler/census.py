"""What a model consists of: nodes, operators, weights, dimensions."""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir

from .core.graph import all_graphs, is_op, opset
from .core.target import STANDARD_DOMAINS
from .report import ModelEntry


def census(model: ir.Model) -> ModelEntry:
    """Count a model, subgraphs included; model-local functions count as the node that calls them."""
    counts = Counter(operator(node) for graph in all_graphs(model) for node in graph)
    return ModelEntry(nodes=counts.total(), weight_bytes=weight_bytes(model), opset=opset(model), operators=dict(sorted(counts.items())))


def operator(node: ir.Node) -> str:
    """``Add``, or ``com.microsoft::BiasGelu`` outside the default domain."""
    return node.op_type if node.domain in STANDARD_DOMAINS else f"{node.domain}::{node.op_type}"


def weight_bytes(model: ir.Model) -> int:
    """The size of all initialisers and Constant nodes together; a tensor shared by several counts once."""
    tensors: dict[int, int] = {}
    for graph in all_graphs(model):
        held = [value.const_value for value in graph.initializers.values()]
        held += [node.attributes["value"].as_tensor() for node in graph if is_op(node, "Constant") and "value" in node.attributes]
        tensors.update((id(tensor), tensor.nbytes) for tensor in held if tensor is not None)
    return sum(tensors.values())


def symbols(model: ir.Model) -> dict[str, list[str]]:
    """Each symbolic dimension of the inputs, and where it stands: {"batch": ["ids[0]", "mask[0]"]}."""
    found: dict[str, list[str]] = {}
    for value in model.graph.inputs:
        for axis, dim in enumerate(value.shape or ()):
            if isinstance(dim, ir.SymbolicDim) and dim.value is not None:
                found.setdefault(str(dim.value), []).append(f"{value.name}[{axis}]")
    return found
