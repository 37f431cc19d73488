"""Two versions of a model side by side in one graph, on the same inputs: what one gives can be compared with what the other gave, value by value."""

from __future__ import annotations

from itertools import zip_longest

import onnx_ir as ir

from ...compiler.core.graph import all_graphs, clone_model
from ...compiler.core.names import Names

__all__ = ["Beside", "beside"]


class Beside:
    """``model`` holds both; `of` finds a value of the later version by the name that it has there, `before` one of the earlier version."""

    def __init__(self, model: ir.Model, later: dict[str, ir.Value], before: dict[str, ir.Value]) -> None:
        self.model = model
        self._later = later
        self._before = before
        self._names = {value: name for name, value in later.items()}

    def of(self, name: str) -> ir.Value | None:
        """A value of the later version; None where it has none of this name."""
        return self._later.get(name)

    def name_of(self, value: ir.Value) -> str:
        """What a value of the later version is called there; "" for one of the earlier version and for inputs."""
        return self._names.get(value, "")

    def before(self, name: str) -> ir.Value | None:
        """A value of the earlier version."""
        return self._before.get(name)


def beside(earlier: ir.Model, later: ir.Model) -> Beside:
    """Copies of both, their nodes in turns; they share the inputs and the constants' tensors. The outputs are those of the earlier one."""
    model, other = clone_model(earlier), clone_model(later)
    names, found = Names(model), _values(other)
    before = _values(model)
    for value in list(found.values()):
        _rename(value, names)
    for node in other.graph.all_nodes():
        node.name = names.fresh(node.name or node.op_type)
    for mine, theirs in zip(model.graph.inputs, other.graph.inputs, strict=True):
        if not theirs.is_initializer():
            theirs.replace_all_uses_with(mine)
    _move(other.graph, model.graph)
    return Beside(model, found, before)


def _values(model: ir.Model) -> dict[str, ir.Value]:
    """Everything that a node makes and every constant, by name, subgraphs included."""
    graphs = list(all_graphs(model))
    made = [value for graph in graphs for node in graph for value in node.outputs]
    held = [value for graph in graphs for value in graph.initializers.values()]
    return {value.name: value for value in (*made, *held) if value.name}


def _rename(value: ir.Value, names: Names) -> None:
    fresh = names.fresh(f"{value.name}.after")
    graph = value.graph if value.is_initializer() else None
    if graph is not None and value.name is not None:
        del graph.initializers[value.name]
        value.name = fresh
        graph.initializers[fresh] = value
    else:
        value.name = fresh


def _move(source: ir.Graph, target: ir.Graph) -> None:
    """Put constants and nodes of a graph into another, a node of the one after each of the other, so that neither runs far ahead."""
    mine, theirs = list(target), list(source)
    source.outputs.clear()
    for name, value in list(source.initializers.items()):
        del source.initializers[name]
        target.initializers[name] = value
    source.inputs.clear()
    source.remove(theirs)
    last = mine[0] if mine else None
    for anchor, node in zip_longest(mine, theirs):
        last = anchor if anchor is not None else last
        if node is None:
            break
        if last is None:
            target.append(node)
        else:
            target.insert_after(last, node)
        last = node
