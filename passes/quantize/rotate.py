"""The pass that turns the residual stream, and the values of attention, into a basis without outliers; the model computes the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from ...compiler.core.drift import ROUNDING, Drift
from ...compiler.core.errors import InputError, UsageError
from ...compiler.core.graph import constant, is_op, make_constant, node_label, replace
from ...compiler.core.names import Names
from ...compiler.core.passes import Context, Pass
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.shapes import infer_node, settle_shapes
from ...compiler.core.sites import site_of
from .activation import ActivationGrid
from .changes import Changes
from .following import Edge
from .grid import Grid
from .joint import Precision
from .learned_turn import Case, Learning, learn_turn
from .orthogonal import random_hadamard
from .quarot import keeping_ones
from .readers import more_bias
from .residual_stream import Stream, head_streams, residual_streams

__all__ = ["Rotate", "Turning"]

RULE = "rotate"
METHODS = ("quarot", "spinquant")
ROWS = 192
"""Rows of each input that a rotation is learned from."""


@dataclass(frozen=True)
class Rotate(Pass):
    """Multiplies orthogonal matrices into the weights on both sides of every residual stream, whose norms give their scales to what reads them.

    ``method`` says where the matrix comes from: ``quarot`` draws a randomised Hadamard one by ``seed``; ``spinquant`` goes on from there by gradients of
    what all products that read the stream make of rounded inputs (``input_bits``, a scale for each token) and weights (``bits``), for which it needs
    calibration data and torch. Embeddings that are tied to the last layer are untied, as the two change differently. ``heads`` also turns the values of
    attention, all heads of a layer alike.
    """

    name: ClassVar[str] = RULE
    drift: ClassVar[Drift] = ROUNDING

    method: str = "quarot"
    seed: int = 0
    heads: bool = True
    bits: int = 4
    input_bits: int = 4
    steps: int = 60

    def run(self, model: ir.Model, context: Context) -> int:
        """Change the model in place; returns how many streams were turned. Raises InputError for spinquant without calibration data."""
        if self.method not in METHODS:
            raise UsageError(f"there is no rotation '{self.method}'; there are: {', '.join(METHODS)}")
        if self.method == "spinquant" and context.calibrator is None:
            raise InputError("spinquant learns from activations: give it calibration data (calibration=, --calibration)")
        settle_shapes(model)
        random, names, done = np.random.default_rng(self.seed), Names(model), 0
        found = list(residual_streams(model))
        for item in found:
            if not isinstance(item, Stream):
                _note(context, item[0], item[1])
                continue
            turn = (keeping_ones if item.centred else random_hadamard)(item.width, random)
            if self.method == "spinquant":
                done += self._learn(model, item, turn, names, context)
            else:
                done += self._turn(item, turn, names, context)
        for stream in head_streams(model) if self.heads else ():
            done += self._turn(stream, random_hadamard(stream.width, random), names, context)
        return done

    def _learn(self, model: ir.Model, stream: Stream, drawn: np.ndarray, names: Names, context: Context) -> int:
        """Let the norms give their scales away, then turn the stream by what is learned from there, and from the matrix drawn."""
        if not self._turn(stream, np.eye(stream.width), names, context):
            return 0
        cases, before = self._cases(model, stream.readers, context), self._cases(model, stream.writers, context)
        turn = drawn
        if cases:
            precision = Precision(Grid(self.bits), ActivationGrid(self.input_bits, token=True))
            starts = [np.eye(stream.width), drawn]
            turn, _ = learn_turn(cases, precision, starts, Learning(self.steps), before=before, keeping_ones=stream.centred)
        again = Turning(stream, turn)
        if again.prepare() is None:
            again.apply(names)
        return 1

    def _cases(self, model: ir.Model, edges: Sequence[Edge], context: Context) -> list[Case]:
        """The weights of matrix products, those of one input side by side, with rows of that input."""
        assert context.calibrator is not None
        found = (site_of(edge.node) for edge in dict.fromkeys(edges))
        sites = [site for site in found if site is not None and site.kind in ("MatMul", "Gemm")]
        inputs: dict[ir.Value, Case] = {}
        for site, (statistics, *_) in context.calibrator.sites(model, sites, moments=False, rows=ROWS):
            weight, known = site.matrices()[0], inputs.get(site.data)
            if len(statistics.rows):
                inputs[site.data] = (weight if known is None else np.concatenate([known[0], weight], axis=1), statistics.rows)
        return list(inputs.values())

    def _turn(self, stream: Stream, turn: np.ndarray, names: Names, context: Context) -> int:
        work = Turning(stream, turn)
        refusal = work.prepare()
        if refusal is None and not context.ledger.permit(RULE, stream.name):
            refusal = skip("it was rolled back here")
        if refusal is not None:
            _note(context, stream.name, refusal)
            return 0
        work.apply(names)
        return 1


@dataclass
class Turning:
    """Puts a stream into the basis of an orthogonal matrix ``turn``, float64 [width, width]: ``X -> X (I x turn)``.

    `prepare` works the new constants out and says why that cannot be; `apply` puts them in place.
    """

    stream: Stream
    turn: np.ndarray
    changes: Changes = field(default_factory=lambda: Changes(copies=True))
    added: list[tuple[ir.Node, np.ndarray]] = field(default_factory=list)

    def prepare(self) -> Skip | None:
        """Nothing in the graph is changed yet."""
        for edge in self.stream.readers:
            refusal = self._scaled(edge) if edge.norm is not None else None
            if refusal is not None:
                return refusal
        for edge in (*self.stream.writers, *self.stream.readers):
            content = self.changes.read(edge.node, edge.index)
            if content is None:
                return skip("'%s' is no constant of floats", edge.node.inputs[edge.index].name)  # type: ignore[union-attr]
            refusal = self.changes.write(edge.node, edge.index, self._turned(content, edge))
            if refusal is not None:
                return refusal
        return self._plain_norms()

    def apply(self, names: Names) -> None:
        """Change the graph."""
        self.changes.apply(names)
        for node, vector in self.added:
            _add_after(node, vector, names)

    def _turned(self, content: np.ndarray, edge: Edge) -> np.ndarray:
        """``content`` with blocks along its axis multiplied by the matrix: ``W (I x R)`` for a writer, ``(I x R)' W`` for a reader."""
        axis = edge.axis
        if axis < 0 or content.shape[axis] == 1:
            axis = max(axis, 0)
            width = _width(edge.node)
            content = np.repeat(content.reshape(1) if edge.axis < 0 else content, width, axis=axis)
        moved = np.moveaxis(content, axis, -1)
        blocks = moved.reshape(*moved.shape[:-1], -1, self.stream.width) @ self.turn
        return np.moveaxis(blocks.reshape(moved.shape), -1, axis)

    def _scaled(self, edge: Edge) -> Skip | None:
        """Take the scale and bias of a norm into what reads it."""
        norm, node = edge.norm, edge.node
        assert norm is not None
        gain, content = self.changes.read(norm, 1), self.changes.read(node, edge.index)
        bias = self.changes.read(norm, 2) if len(norm.inputs) > 2 and norm.inputs[2] is not None else None
        if gain is None or content is None or edge.axis >= content.ndim:
            return skip("the scale of %s, or the weight of %s, is no constant of floats", node_label(norm), node_label(node))
        if bias is not None and bias.any():
            if not is_op(node, "MatMul", "Gemm"):
                return skip("%s has no bias that the one of a norm could go into", node_label(node))
            added = np.broadcast_to(bias.reshape(-1), (content.shape[edge.axis],)) @ np.moveaxis(content, edge.axis, 0)
            refusal = more_bias(self.changes, node, added)
            if refusal is not None:
                if any(writer.node is node for writer in self.stream.writers):
                    return refusal
                self.added.append((node, added))
        shape = [1] * content.ndim
        shape[edge.axis] = -1
        return self.changes.write(node, edge.index, content * gain.reshape(shape))

    def _plain_norms(self) -> Skip | None:
        for norm in self.stream.norms:
            for index, number in ((1, 1.0), (2, 0.0)):
                value = norm.inputs[index] if index < len(norm.inputs) else None
                tensor = constant(value)
                refusal = None if tensor is None else self.changes.write(norm, index, np.full(tensor.shape.numpy(), number))
                if refusal is not None:
                    return refusal
        return None


def _width(node: ir.Node) -> int:
    """How many channels the result of an addition has."""
    shape = node.outputs[0].shape
    assert shape is not None and isinstance(shape[-1], int)
    return shape[-1]


def _add_after(node: ir.Node, vector: np.ndarray, names: Names) -> None:
    """A bias for a product that has none."""
    product, graph = node.outputs[0], node.graph
    assert graph is not None and product.dtype is not None
    number = make_constant(graph, vector.astype(product.dtype.numpy()), names.fresh(f"{product.name}_{RULE}_bias"))
    name = names.fresh(f"{product.name}_{RULE}")
    total = ir.Node("", "Add", [product, number], outputs=[ir.Value(name=name)], name=name)
    graph.insert_after(node, total)
    infer_node(total)
    replace(product, total.outputs[0], names)
    total.replace_input_with(0, product)


def _note(context: Context, where: str, reason: Skip) -> None:
    if context.reasons is not None and context.reasons.wants(RULE):
        context.reasons.note(RULE, where, 1, reason)
