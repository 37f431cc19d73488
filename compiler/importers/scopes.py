"""Checks on who makes and who uses each value of a model file."""

from __future__ import annotations

from onnx import FunctionProto, GraphProto, ModelProto, NodeProto

from ..core.errors import ModelError
from .structure import label, subgraphs


def check_scopes(model: ModelProto) -> None:
    """Raise ModelError unless every value is made once, where its users can see it, and every graph output exists."""
    _Scope(model.graph, "the graph").check()
    for function in model.functions:
        _Scope(function, f"the function '{function.name}'").check()


class _Scope:
    """What can be seen in one graph: ``made`` is its own; ``earlier`` is what its owner's nodes made before the node that holds it."""

    def __init__(self, body: GraphProto | FunctionProto, what: str, outer: _Scope | None = None) -> None:
        self.body = body
        self.what = what
        self.outer = outer
        self.made: dict[str, str] = {}
        self.earlier: set[str] = set()

    def check(self) -> None:
        self._declare_all()
        for node in self.body.node:
            for name in node.input:
                if name and not self.sees(name):
                    raise ModelError(f"the node {label(node)} uses '{name}', which nothing in the model makes")
            for number, graph in enumerate(subgraphs(node)):
                _Scope(graph, f"subgraph {number} of the node {label(node)}", self).check()
            self.earlier.update(node.output)
        outputs = self.body.output if isinstance(self.body, FunctionProto) else [info.name for info in self.body.output]
        for name in outputs:
            if name not in self.made:
                raise ModelError(f"the output '{name}' of {self.what} is made by none of its nodes")

    def sees(self, name: str) -> bool:
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.made:
                return True
            scope = scope.outer
        return False

    def _declare_all(self) -> None:
        if isinstance(self.body, FunctionProto):
            for name in self.body.input:
                self._declare(name, "an input")
        else:
            for info in self.body.input:
                self._declare(info.name, "an input")
            self._declare_initializers(self.body)
        self.earlier.update(self.made)
        for node in self.body.node:
            for name in node.output:
                if name:
                    self._declare_output(name, node)

    def _declare_initializers(self, graph: GraphProto) -> None:
        own = set()
        for tensor in graph.initializer:
            if tensor.name in own:
                raise ModelError(f"two initialisers of {self.what} are called '{tensor.name}'")
            own.add(tensor.name)
            if self.made.get(tensor.name) != "an input":
                self._declare(tensor.name, "an initialiser")

    def _declare(self, name: str, what: str) -> None:
        if not name:
            raise ModelError(f"{what} of {self.what} has no name")
        if name in self.made:
            raise ModelError(f"two values of {self.what} are called '{name}': {self.made[name]} and {what}")
        self.made[name] = what

    def _declare_output(self, name: str, node: NodeProto) -> None:
        self._declare(name, f"an output of {label(node)}")
        scope = self.outer
        while scope is not None:
            if name in scope.earlier:
                raise ModelError(f"the output '{name}' of {label(node)} in {self.what} has the name of a value outside it: which one is meant is not clear")
            scope = scope.outer
