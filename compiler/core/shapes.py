"""Types and shapes of every value, with symbols for what is not known.

`infer_shapes` gives every unknown dimension a symbol of its own, so that two dimensions with the same symbol are equal at run time:
of one run for the main graph, of one iteration inside a loop's body. Symbols of ours (`is_ours`) mean nothing outside; `forget_ours` takes them
out before a model is written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import onnx_ir as ir

from .dims import UNKNOWN, Dim, free_symbols, fresh_symbol, is_known, is_ours
from .errors import ModelError
from .graph import all_graphs, constant, is_op, node_label
from .symbolic.content_rules import infer_content
from .symbolic.contents import content, forget_content, note_content
from .symbolic.control import ControlFlow, is_control_flow
from .symbolic.layout import shown_positive
from .symbolic.reading import dims_of, note_positive, noted_positive, positive_symbols
from .symbolic.rules import refine
from .symbolic.standard import Outcome, StandardInference

__all__ = [
    "dims_of", "forget_ours", "infer_node", "infer_shapes", "is_ours", "known_bytes", "known_ints", "name_inputs", "never_zero",
    "outward_shape", "settle_shapes", "static_shape",
]

_NAMELESS = frozenset({"", "?", "*", "-1", "None"})
"""Names that exporters write for a dimension about which nothing is known."""
_DECLARED = "declared_outputs"
_UNTYPED = "untyped_values"

PLAIN_TO_SEE = ("QuantizeLinear", "DequantizeLinear")
"""Whoever reads these sees the type and shape of their results: a small quantised model would grow by percents if its file said so."""


def infer_shapes(model: ir.Model) -> None:
    """Work out type and shape of every value of every graph, in order, from the graph inputs and initialisers.

    What the model says about its other values is forgotten, except for outputs of operators that nobody here knows.
    Raises ModelError naming the node when shapes contradict each other.
    """
    name_inputs(model)
    if _DECLARED not in model.graph.meta:
        model.graph.meta[_DECLARED] = {value.name: value.shape.dims for value in model.graph.outputs if value.shape is not None}
    for graph in all_graphs(model):
        for value in graph.initializers.values():
            _type_of_initializer(value)
    given = frozenset[str]().union(*(free_symbols(dim) for value in model.graph.inputs for dim in value.shape or ()))
    positive = noted_positive(model.graph)
    while True:
        for graph in all_graphs(model):
            note_positive(graph, positive)
        walk = _Inference()
        walk.graph(model.graph)
        if walk.positive & given <= positive:
            return
        positive |= walk.positive & given


def name_inputs(model: ir.Model) -> None:
    """Give every unknown dimension of the model's inputs a symbol of its own."""
    for value in model.graph.inputs:
        _name_unknown_dims(value)


def settle_shapes(model: ir.Model) -> None:
    """`infer_shapes`, if there are values without a type that were not there when it was last called here."""
    if _untyped(model) > model.graph.meta.get(_UNTYPED, 0):
        infer_shapes(model)
        model.graph.meta[_UNTYPED] = _untyped(model)


def _untyped(model: ir.Model) -> int:
    return sum(value.type is None for graph in all_graphs(model) for node in graph for value in node.outputs if value.name)


def infer_node(node: ir.Node) -> None:
    """Type and shape of the outputs of one node whose inputs have theirs. Raises ModelError when they contradict it."""
    _Inference().node(node)


def node_inference() -> Callable[[ir.Node], None]:
    """`infer_node` for many nodes, one after the other: it remembers what ONNX answered."""
    lasting = _Inference()

    def infer(node: ir.Node) -> None:
        plain = all(isinstance(attr.value, int | float | str | tuple) for attr in node.attributes.values())
        (lasting if plain else _Inference()).node(node)

    return infer


def known_ints(value: ir.Value | None) -> tuple[Dim, ...] | None:
    """The numbers in a small integer or boolean tensor, flattened: ints, symbols, and an unnamed symbol for each that is not known.

    None when nothing at all is known of them.
    """
    known = content(value)
    return None if known is None else tuple(known.reshape(-1))


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape of ``value`` when every dimension is a number."""
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    return value.shape.numpy()


def known_bytes(value: ir.Value) -> int | None:
    """The room the tensor takes; None when that depends on the inputs, and for strings."""
    shape = static_shape(value)
    if shape is None or value.dtype in (None, ir.DataType.STRING, ir.DataType.UNDEFINED):
        return None
    return math.ceil(math.prod(shape) * value.dtype.itemsize)


def never_zero(node: ir.Node) -> frozenset[str]:
    """The symbols that are known never to be 0 where the node runs."""
    return positive_symbols(node) | (shown_positive(node) if is_op(node, "Reshape") else frozenset())


def outward_shape(value: ir.Value) -> ir.Shape | None:
    """The shape as others may see it: without symbols of ours, and for an output of the model as it was declared where nothing is known."""
    shape = dims_of(value)
    seen = None if shape is None else tuple(UNKNOWN if is_ours(dim) else dim for dim in shape)
    graph = value.graph
    declared = graph.meta.get(_DECLARED, {}).get(value.name) if graph is not None and value.is_graph_output() else None
    if declared is not None:
        seen = _completed(seen, declared)
    return None if seen is None else ir.Shape(seen)


def _completed(shape: tuple[Dim, ...] | None, declared: tuple[Dim, ...]) -> tuple[Dim, ...]:
    if shape is None or len(shape) != len(declared):
        return declared if shape is None else shape
    return tuple(dim if is_known(dim) else before for dim, before in zip(shape, declared, strict=True))


def forget_ours(model: ir.Model) -> None:
    """Give every value its `outward_shape`, in place."""
    for graph in all_graphs(model):
        for value in _values(graph):
            if value.is_graph_output() or any(map(is_ours, value.shape or ())):
                value.shape = outward_shape(value)


def _values(graph: ir.Graph) -> list[ir.Value]:
    return [*graph.inputs, *(value for node in graph for value in node.outputs)]


def _name_unknown_dims(value: ir.Value) -> None:
    """Give each unknown dimension of a tensor a symbol. The tensors of a sequence may differ, so theirs have no name."""
    shape = None if isinstance(value.type, ir.SequenceType) else dims_of(value)
    if shape is not None and any(map(_is_nameless, shape)):
        value.shape = ir.Shape([fresh_symbol() if _is_nameless(dim) else dim for dim in shape])


def _is_nameless(dim: Dim) -> bool:
    return isinstance(dim, ir.SymbolicDim) and (dim.value or "") in _NAMELESS


def _type_of_initializer(value: ir.Value) -> None:
    tensor = value.const_value
    if tensor is None or value.is_graph_input():
        return
    value.type = ir.TensorType(tensor.dtype)
    value.shape = ir.Shape(tensor.shape.numpy())


class _Inference:
    """One walk over a model; remembers what ONNX answered."""

    def __init__(self) -> None:
        self.standard = StandardInference()
        self.control = ControlFlow(self.body)
        self.positive: frozenset[str] = frozenset()

    def graph(self, graph: ir.Graph) -> None:
        """The main graph, all of which runs."""
        for node in graph:
            self.node(node)
            if is_op(node, "Reshape"):
                self.positive |= shown_positive(node)

    def body(self, graph: ir.Graph) -> None:
        """A branch or loop body: it may be one that never runs for these shapes, so a contradiction in it is no error."""
        for node in graph:
            try:
                self.node(node)
            except ModelError:
                for value in node.outputs:
                    _settle(value, (value.type, None))

    def node(self, node: ir.Node) -> None:
        for value in node.outputs:
            forget_content(value)
        outcomes = self.control.outcomes(node) if is_control_flow(node) else self._outcomes(node)
        if outcomes is None:
            for value in node.outputs:
                _name_unknown_dims(value)
            return
        for value, outcome in zip(node.outputs, outcomes, strict=True):
            _settle(value, outcome)
        if node.outputs and constant(node.outputs[0]) is None:
            note_content(node.outputs[0], infer_content(node))

    def _outcomes(self, node: ir.Node) -> Sequence[Outcome] | None:
        standard = self.standard.outcomes(node)
        try:
            return refine(node, standard)
        except ModelError as error:
            raise ModelError(f"the node {node_label(node)} contradicts its inputs: {error}") from error


def _settle(value: ir.Value, outcome: Outcome) -> None:
    kind, dims = outcome
    value.type = kind if kind is not None else value.type
    value.shape = None if dims is None else ir.Shape(dims)
    _name_unknown_dims(value)
