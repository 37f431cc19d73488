"""Reading what is known of a node's inputs."""

from __future__ import annotations

import onnx_ir as ir

from ..dims import Dim
from .contents import Content, content

Dims = tuple[Dim, ...]


def dims_of(value: ir.Value | None) -> Dims | None:
    """The dimensions of ``value``, or None when its rank is not known."""
    return None if value is None or value.shape is None else value.shape.dims


def input_at(node: ir.Node, index: int) -> ir.Value | None:
    """The input at ``index``, None when it is left out."""
    return node.inputs[index] if index < len(node.inputs) else None


def shape_at(node: ir.Node, index: int) -> Dims | None:
    """The dimensions of the input at ``index``."""
    return dims_of(input_at(node, index))


def content_at(node: ir.Node, index: int) -> Content | None:
    """The content of the input at ``index``."""
    return content(input_at(node, index))


def entries_at(node: ir.Node, index: int) -> Dims | None:
    """The entries of a one-dimensional integer input; None when its length is not known or nothing is known of it."""
    known = content_at(node, index)
    return tuple(known) if known is not None and known.ndim == 1 else None


def ints_at(node: ir.Node, index: int) -> tuple[int, ...] | None:
    """The entries of a one-dimensional integer input when all are numbers."""
    entries = entries_at(node, index)
    found = tuple(item for item in entries or () if isinstance(item, int))
    return found if entries is not None and len(found) == len(entries) else None


_POSITIVE = "positive_symbols"


def positive_symbols(node: ir.Node) -> frozenset[str]:
    """The symbols that are known never to be 0 wherever the node's model runs."""
    graphs = (node.graph, *(value.graph for value in node.inputs if value is not None))
    return next((noted_positive(graph) for graph in graphs if graph is not None and _POSITIVE in graph.meta), frozenset())


def noted_positive(graph: ir.Graph | ir.Function) -> frozenset[str]:
    """The symbols that were found never to be 0; what showed it may have been rewritten since."""
    found: frozenset[str] = graph.meta.get(_POSITIVE, frozenset())
    return found


def note_positive(graph: ir.Graph, names: frozenset[str]) -> None:
    """Remember for the nodes of a graph which symbols are never 0."""
    graph.meta[_POSITIVE] = names
