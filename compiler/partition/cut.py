"""A graph cut into consecutive parts, each a model of its own that one backend runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from ..core.graph import bind_opsets, subgraphs_of

__all__ = ["Part", "Uncut", "cut", "reads_of", "take_turns"]


class Uncut(Exception):
    """Why a graph cannot be cut, in one sentence."""


@dataclass(frozen=True)
class Part:
    """A run of nodes as a model; its inputs and outputs are called as they are in the whole. ``place`` is the target that runs it."""

    place: str
    model: ir.Model

    @property
    def needs(self) -> tuple[str, ...]:
        """The values it is fed."""
        return tuple(value.name or "" for value in self.model.graph.inputs)

    @property
    def makes(self) -> tuple[str, ...]:
        """The values it gives."""
        return tuple(value.name or "" for value in self.model.graph.outputs)


Group = tuple[str, tuple[ir.Node, ...]]
"""Where nodes run, and the nodes in an order that they can run in."""


def take_turns(graph: ir.Graph, places: Mapping[ir.Node, str]) -> tuple[Group, ...]:
    """The nodes in an order that changes places seldom: as long as any node of the present place can run, it does.

    Every place is tried as the first one, and the order with the fewest groups is taken; the same graph always gives the same answer.
    """
    feeding = {node: _feeding(node, graph) for node in graph}
    tried = [_turns(list(graph), feeding, places, first) for first in sorted(set(places.values()))]
    return min(tried, key=len, default=())


def _turns(nodes: Sequence[ir.Node], feeding: Mapping[ir.Node, set[ir.Node]], places: Mapping[ir.Node, str], first: str) -> tuple[Group, ...]:
    waiting = {node: len(feeding[node]) for node in nodes}
    readers: dict[ir.Node, list[ir.Node]] = {node: [] for node in nodes}
    for node in nodes:
        for before in feeding[node]:
            readers[before].append(node)
    rank = {node: place for place, node in enumerate(nodes)}
    ready: dict[str, list[ir.Node]] = {place: [] for place in (first, *sorted(set(places.values()) - {first}))}
    for node in nodes:
        if not waiting[node]:
            ready[places[node]].append(node)
    groups: list[Group] = []
    place = first
    while any(ready.values()):
        done: list[ir.Node] = []
        while ready[place]:
            node = ready[place].pop(0)
            done.append(node)
            for reader in readers[node]:
                waiting[reader] -= 1
                if not waiting[reader]:
                    ready[places[reader]].append(reader)
        if done:
            groups.append((place, tuple(sorted(done, key=rank.__getitem__))))
        place = max((other for other in ready if other != place), key=lambda other: len(ready[other]), default=place)
    return tuple(groups)


def cut(model: ir.Model, groups: Sequence[Group]) -> tuple[Part, ...]:
    """Groups of nodes, in an order that they can run in, as models. Weights are shared with ``model``, which stays as it is.

    Raises Uncut when an output of the model is an input or a constant, or a value at a border has no type.
    """
    loose = [value.name for value in model.graph.outputs if value.producer() is None]
    if loose:
        raise Uncut(f"its output '{loose[0]}' is not computed")
    holders = {inner: node for node in model.graph for sub in _nested(node) for inner in sub}
    return tuple(Part(place, _part(model, nodes, holders)) for place, nodes in groups)


def _part(model: ir.Model, nodes: Sequence[ir.Node], holders: Mapping[ir.Node, ir.Node]) -> ir.Model:
    inside = set(nodes)
    reads = dict.fromkeys(value for node in nodes for value in reads_of(node, model.graph) if value.producer() not in inside)
    fixed = [value for value in reads if value.is_initializer() and not value.is_graph_input()]
    fed = [value for value in reads if value not in set(fixed)]
    made = [value for node in nodes for value in node.outputs if value.name and _leaves(value, inside, holders)]
    for value in (*fed, *made):
        if value.type is None:
            raise Uncut(f"the type of '{value.name}' is not known")
    view = ir.GraphView(fed, made, nodes=nodes, initializers=fixed, opset_imports=model.graph.opset_imports, name=model.graph.name)
    piece = ir.Model(view.clone(), ir_version=model.ir_version, functions=[function.clone() for function in model.functions.values()])
    bind_opsets(piece)
    return piece


def reads_of(node: ir.Node, graph: ir.Graph) -> list[ir.Value]:
    """The values of ``graph`` that a node reads, in its inputs and from inside its subgraphs."""
    inner = [value for sub in _nested(node) for value in (*(read for one in sub for read in one.inputs), *sub.outputs)]
    return [value for value in (*node.inputs, *inner) if value is not None and value.graph is graph]


def _nested(node: ir.Node) -> list[ir.Graph]:
    """The graphs in a node, and those in their nodes."""
    found, stack = [], subgraphs_of(node)
    while stack:
        graph = stack.pop()
        found.append(graph)
        stack.extend(sub for one in graph for sub in subgraphs_of(one))
    return found


def _feeding(node: ir.Node, graph: ir.Graph) -> set[ir.Node]:
    return {before for value in reads_of(node, graph) if (before := value.producer()) is not None and before is not node}


def _leaves(value: ir.Value, inside: set[ir.Node], holders: Mapping[ir.Node, ir.Node]) -> bool:
    """Whether something outside needs the value: an output of a graph, or a node that is neither in ``inside`` nor held by one that is."""
    return value.is_graph_output() or any(holders.get(user, user) not in inside for user, _ in value.uses())
