"""Folding what only depends on constants."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import onnx_ir as ir

from ...compiler.core.drift import ROUNDING, Drift
from ...compiler.core.evaluate import evaluate
from ...compiler.core.graph import STORED, all_graphs, attribute, constant, is_op, make_constant, opset, producer, replace, subgraphs_of, sweep, users
from ...compiler.core.ledger import Ledger
from ...compiler.core.names import Names
from ...compiler.core.passes import Context, Pass
from ...compiler.core.shapes import infer_shapes, known_bytes, settle_shapes, static_shape
from ...compiler.core.target import STANDARD_DOMAINS

MAX_BYTES = 2**20
_MOST_WORKING_BYTES = 2**28
"""No value larger than this is worked out on the way to a result."""
_CHANCE = frozenset({"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"})
_KEPT = frozenset({"Constant", "DequantizeLinear", "ImageDecoder"})
"""Constants already; and dequantised weights, which runtimes compute with as they are stored."""
_ALWAYS_INFERS = 7
"""Before this opset Dropout and BatchNormalization train unless told that they test."""
_UNFIT = frozenset({ir.DataType.STRING, ir.DataType.UNDEFINED})


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Computes what only depends on constants, as ONNX Runtime would, and stores the results.

    A result of more than ``max_bytes`` is stored only when it takes no more room than the constants that it replaces. Even a transposed weight may
    move the numbers: ONNX Runtime packs a constant weight, and adds the products up in another order.
    """

    name: ClassVar[str] = "fold-constants"
    drift: ClassVar[Drift] = ROUNDING

    max_bytes: int = MAX_BYTES

    def run(self, model: ir.Model, context: Context) -> int:
        """Fold until nothing is left: a result whose size only its numbers tell (NonZero's) opens the way for what follows."""
        changes = 0
        settle_shapes(model)
        while True:
            made, sizes_appeared = self._fold_once(model, context.ledger)
            changes += made
            if not (made and sizes_appeared):
                return changes
            infer_shapes(model)

    def _fold_once(self, model: ir.Model, ledger: Ledger) -> tuple[int, bool]:
        plan = _Plan(self.max_bytes)
        for graph in all_graphs(model):
            plan.add(graph)
        chosen = plan.results()
        if not chosen:
            return 0, False
        tensors = evaluate(list(plan.nodes), [value for values in chosen.values() for value in values])
        names = Names(model)
        changes, sizes_appeared = 0, False
        for node, values in chosen.items():
            if all(value in tensors and can_store(value, tensors[value]) for value in values) and ledger.permit(self.name, _where(node)):
                sizes_appeared |= any(static_shape(value) is None for value in values)
                for value in values:
                    store(value, tensors[value], names)
                sweep([node])
                changes += 1
        return changes, sizes_appeared


def _where(node: ir.Node) -> str:
    return next((value.name for value in node.outputs if value.name), "")


def can_store(value: ir.Value, tensor: ir.TensorProtocol) -> bool:
    """Whether nothing divides by the tensor's zeros: ONNX Runtime refuses to load such a model, even where the division never runs."""
    divides = any(index == 1 and is_op(node, "Div", "Mod") for node, index in value.uses())
    return not divides or not tensor.dtype.is_integer() or bool(tensor.numpy().all())


def store(value: ir.Value, tensor: ir.TensorProtocol, names: Names) -> None:
    """Let an initialiser of the same graph take the place of ``value``; its node is left for the caller to remove."""
    graph = value.graph
    assert graph is not None
    if value.is_graph_output():
        made = make_constant(graph, tensor, names.fresh(f"{value.name}_constant"))
        replace(value, made, names)
    else:
        kept, value.name = value.name, names.fresh(f"{value.name}_before")
        value.replace_all_uses_with(make_constant(graph, tensor, kept or ""))


@dataclass
class _Plan:
    """Which nodes can be folded, and which of their outputs are worth storing."""

    max_bytes: int
    nodes: dict[ir.Node, None] = field(default_factory=dict)

    def add(self, candidates: Iterable[ir.Node]) -> None:
        """Take the nodes, given in order, whose inputs are all constants or outputs of nodes taken before."""
        for node in candidates:
            if self._is_foldable(node):
                self.nodes[node] = None

    def _is_foldable(self, node: ir.Node) -> bool:
        if node.domain not in STANDARD_DOMAINS or node.op_type in _CHANCE or node.op_type in _KEPT or STORED in node.metadata_props:
            return False
        if subgraphs_of(node) or _is_kept_identity(node):
            return False
        if any(attr.is_ref() for attr in node.attributes.values()) or _trains(node) or _may_overflow(node):
            return False
        if not all(_is_plain(value) for value in (*node.inputs, *node.outputs) if value is not None):
            return False
        if not all(value is None or value.producer() in self.nodes or constant(value) is not None for value in node.inputs):
            return False
        sizes = [_bytes(value) for value in node.outputs]
        return all(size is not None and (size <= _MOST_WORKING_BYTES or size <= self._replaced(node)) for size in sizes)

    def results(self) -> dict[ir.Node, list[ir.Value]]:
        """The values to store, by node, in order. Later nodes are decided before those that feed them."""
        chosen: list[tuple[ir.Node, list[ir.Value]]] = []
        for node in reversed(list(self.nodes)):
            stored = [value for value in node.outputs if self._is_needed(value)]
            size = sum(_bytes(value) or 0 for value in stored)
            if size > self.max_bytes and size > self._replaced(node):
                del self.nodes[node]
            elif stored:
                chosen.append((node, stored))
        return dict(reversed(chosen))

    def _is_needed(self, value: ir.Value) -> bool:
        return value.is_graph_output() or any(node not in self.nodes for node, _ in value.uses())

    def _replaced(self, node: ir.Node) -> int:
        """The bytes of the node's inputs that nobody needs once it is folded; an input that others fold too counts in part."""
        total = 0
        for value in dict.fromkeys(value for value in node.inputs if value is not None):
            readers = users(value)
            if not value.is_graph_output() and all(reader in self.nodes or reader is node for reader in readers):
                total += (_bytes(value) or 0) // len(readers)
        return total


def _is_kept_identity(node: ir.Node) -> bool:
    """An Identity that hands a constant to a graph output has to stay."""
    return is_op(node, "Identity") and node.outputs[0].is_graph_output() and constant(node.inputs[0]) is not None


def _is_plain(value: ir.Value) -> bool:
    """Whether the value is a tensor of numbers."""
    if value.type is None and value.name == "":
        return True
    return isinstance(value.type, ir.TensorType) and value.dtype not in _UNFIT


def _trains(node: ir.Node) -> bool:
    """Whether the node may run as in training: at random, or giving out new statistics."""
    old = node.graph is not None and opset(node.graph) < _ALWAYS_INFERS
    if is_op(node, "Dropout"):
        return old or (len(node.inputs) > 2 and node.inputs[2] is not None)
    return is_op(node, "BatchNormalization") and (old or len(node.outputs) > 1 or bool(attribute(node, "training_mode", 0)))


def _may_overflow(node: ir.Node) -> bool:
    """Dividing the smallest integer by -1 stops the process, so a divisor must be known not to be -1."""
    if not is_op(node, "Div") or node.outputs[0].dtype not in (ir.DataType.INT32, ir.DataType.INT64, ir.DataType.INT16, ir.DataType.INT8):
        return False
    divisor = constant(node.inputs[1])
    return divisor is None or bool((divisor.numpy() == -1).any())


def _bytes(value: ir.Value) -> int | None:
    """The room a value takes, or may take; None when that is not known."""
    if value.name == "" and value.type is None:
        return 0
    size = known_bytes(value)
    return _most_bytes(value) if size is None else size


def _most_bytes(value: ir.Value) -> int | None:
    """A bound for what picks among numbers: at most it takes them all."""
    node = producer(value, "NonZero", "Compress", "Unique")
    shape = static_shape(node.inputs[0]) if node is not None else None
    return None if shape is None else 8 * math.prod(shape) * max(len(shape), 1)
