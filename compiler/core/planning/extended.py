"""The extended computational graph: a picture of one graph at one moment, with all that planning needs to know of each operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir

from ..cost import bytes_moved, flops
from ..graph import subgraphs_of
from ..shapes import known_bytes
from .mapping import Mapping
from .variants import mapping_of, pair_mapping

if TYPE_CHECKING:
    import networkx


@dataclass(frozen=True)
class Facts:
    """What is known of an operator.

    ``bytes`` is the size of what it makes (None: it depends on the inputs), ``removable`` whether nothing of it need be stored once all its readers are
    in one kernel with it, ``flops`` and ``moved`` its arithmetic in additions and the bytes that it reads and writes.
    """

    node: ir.Node
    position: int
    mapping: Mapping
    removable: bool
    bytes: int | None
    flops: int | None
    moved: int | None


def extend(graph: ir.Graph) -> networkx.DiGraph:
    """The graph as a ``networkx.DiGraph`` of nodes, each with its `Facts` as "facts".

    An edge has the most complex mapping type of the values that flow along it as "mapping": Opaque when one of them cannot flow inside of a kernel. A node
    that holds graphs depends on what is read in them.
    """
    import networkx

    found = networkx.DiGraph(name=graph.name or "")
    for position, node in enumerate(graph):
        found.add_node(node, facts=_facts(node, position))
    for node in graph:
        for index, value in enumerate(node.inputs):
            maker = value.producer() if value is not None else None
            if maker is not None and maker.graph is graph:
                _add_edge(found, maker, node, pair_mapping(node, index))
        for maker in _captured(node, graph):
            _add_edge(found, maker, node, Mapping.OPAQUE)
    return found


def _add_edge(found: networkx.DiGraph, maker: ir.Node, node: ir.Node, mapping: Mapping) -> None:
    known = found.edges[maker, node]["mapping"] if found.has_edge(maker, node) else mapping
    found.add_edge(maker, node, mapping=max(known, mapping))


def _captured(node: ir.Node, graph: ir.Graph) -> list[ir.Node]:
    """The nodes of ``graph`` whose results the graphs in ``node`` read or give out."""
    values: list[ir.Value | None] = []
    for nested in subgraphs_of(node):
        values.extend(nested.outputs)
        for inner in nested.all_nodes():
            values.extend(inner.inputs)
            values.extend(value for deeper in subgraphs_of(inner) for value in deeper.outputs)
    makers = (value.producer() for value in values if value is not None)
    return list(dict.fromkeys(maker for maker in makers if maker is not None and maker.graph is graph))


def _facts(node: ir.Node, position: int) -> Facts:
    made = [value for value in node.outputs if value.name]
    sizes = [known_bytes(value) for value in made]
    known = None if any(size is None for size in sizes) else sum(size or 0 for size in sizes)
    removable = not any(value.is_graph_output() for value in node.outputs)
    return Facts(node, position, mapping_of(node), removable, known, flops(node), bytes_moved(node))
