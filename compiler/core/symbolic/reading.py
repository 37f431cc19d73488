"""Reading what is known of a node's inputs."""

from __future__ import annotations

import onnx_ir as ir

from ..dims import Dim
from ..graph import attribute
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
    return entries if entries is not None and all(isinstance(item, int) for item in entries) else None  # type: ignore[return-value]


def ints_attribute(node: ir.Node, name: str) -> tuple[int, ...] | None:
    """A list attribute, None when absent."""
    found = attribute(node, name, None)
    return None if found is None else tuple(int(item) for item in found)  # type: ignore[attr-defined]


def axis_of(axis: int, rank: int) -> int | None:
    """A position counted from the start, None when out of range."""
    return axis % rank if -rank <= axis < rank else None


_POSITIVE = "positive_symbols"


def positive_symbols(node: ir.Node) -> frozenset[str]:
    """The symbols that are known never to be 0 wherever the node's model runs."""
    graphs = (node.graph, *(value.graph for value in node.inputs if value is not None))
    found: frozenset[str] = next((graph.meta[_POSITIVE] for graph in graphs if graph is not None and _POSITIVE in graph.meta), frozenset())
    return found


def note_positive(graph: ir.Graph, names: frozenset[str]) -> None:
    """Remember for the nodes of a graph which symbols are never 0."""
    graph.meta[_POSITIVE] = names
