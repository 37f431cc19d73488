"""Putting something else in the place of a site, or of another operator with weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import LOSSY
from ...compiler.core.engine import CANONICAL_OPSET, Engine
from ...compiler.core.graph import array, constant, is_op, opset
from ...compiler.core.passes import Context
from ...compiler.core.piece import cut_pieces
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Rule, match_of_root
from ...compiler.core.shapes import settle_shapes
from ...compiler.core.sites import KINDS, Site
from ..fold.readers import only_reader

__all__ = ["Made", "Place", "Recurrent", "Surgery", "Way", "place_of", "stored_bits"]

Made = ir.Value | tuple[ir.Value, ...]
LOOKED = skip("it was only looked at")


@dataclass(frozen=True)
class Place:
    """A site with the addition of a constant bias that follows it, if that alone reads it: both are replaced together."""

    site: Site
    added: ir.Node | None = None
    bias: np.ndarray | None = None

    @property
    def output(self) -> ir.Value:
        """What is replaced."""
        return (self.added or self.site.node).outputs[0]

    @property
    def subject(self) -> Site:
        """What coverage is told about."""
        return self.site

    @property
    def data(self) -> ir.Value:
        """What goes in."""
        return self.site.data

    @property
    def parameters(self) -> int:
        """How many numbers the weight has."""
        return self.site.parameters

    @property
    def rank(self) -> int | None:
        """How many dimensions the data has, where that is known."""
        shape = self.site.data.shape
        return None if shape is None else len(shape)

    def operands(self, data: ir.Value, weight: ir.Value) -> list[ir.Value | None]:
        """The inputs of the site's node with this data and this weight."""
        other = {self.site.weight_at: weight, 1 - self.site.weight_at: data}
        return [other.get(index, value) for index, value in enumerate(self.site.node.inputs)]

    def match(self) -> Match:
        """The nodes that go."""
        found = match_of_root(self.site.node)
        if self.added is not None:
            found.take(self.added)
            found.outputs = (self.output,)
        return found


@dataclass(frozen=True)
class Recurrent:
    """An LSTM, whose weights are no site: ``parameters`` counts their numbers, its bias stays an input."""

    subject: ir.Node
    parameters: int
    bias: np.ndarray | None = None

    @property
    def data(self) -> ir.Value:
        """What goes in."""
        value = self.subject.inputs[0]
        assert value is not None
        return value

    def match(self) -> Match:
        """The node that goes."""
        return match_of_root(self.subject)


@dataclass(frozen=True)
class Way:
    """One way of computing what a place computes: ``compose`` builds it on the data of the place, and needs the default-domain opset ``lifts``.

    ``form`` is what coverage calls it ("int4"). ``dense`` says that the runtime makes the weight dense before it computes: only the file is smaller.
    ``shared`` are the bits of each number of the weight that stand in a constant which is there already.
    """

    form: str
    compose: Callable[[Build, ir.Value], Made]
    lifts: int = 0
    dense: bool = False
    shared: float = 0.0


def place_of(site: Site) -> Place:
    """A MatMul with the bias added to it, a Gemm or convolution with its own, when that is a constant with one number for each column, or for all."""
    width = site.shape[site.channel_axis]
    if site.kind == "MatMul" and site.weight_at == 1:
        return _biased(site, width)
    bias = array(site.bias)
    return Place(site, None, _row(bias, width) if bias is not None and site.kind == "Gemm" else bias)


def _biased(site: Site, width: int) -> Place:
    product = site.node.outputs[0]
    reader = only_reader(product)
    if reader is None or not is_op(reader, "Add") or reader.graph is not site.node.graph or product.shape is None:
        return Place(site)
    other = reader.inputs[1] if reader.inputs[0] is product else reader.inputs[0]
    tensor = constant(other)
    if tensor is None or tensor.size not in (1, width) or len(tensor.shape) > len(product.shape) or other is product:
        return Place(site)
    row = _row(tensor.numpy(), width)
    return Place(site) if row is None else Place(site, reader, row)


def _row(bias: np.ndarray, width: int) -> np.ndarray | None:
    """A bias [width], if the constant is one number for each column, or one for all."""
    if bias.size not in (1, width) or any(size != 1 for size in bias.shape[:-1]):
        return None
    return np.ascontiguousarray(np.broadcast_to(bias.reshape(-1), (width,)))


@dataclass
class Bench(Engine):
    """An engine that can also look at a replacement without keeping it."""

    looking: bool = False
    made: tuple[ir.Value, ...] = ()
    pieces: tuple[ir.Model, ir.Model] | None = None

    def objection(self, match: Match, pen: Build) -> Skip | None:
        """While looking: cut both pieces out, and leave the graph as it is."""
        if not self.looking:
            return None
        self.pieces = cut_pieces(self.model, match, pen, self.made)
        return LOOKED


@dataclass
class Surgery:
    """Replaces places of a model one by one, each noted in the ledger as ``rule`` and checked for its type and shape."""

    model: ir.Model
    context: Context
    rule: str
    bench: Bench = field(init=False)
    item: Rule = field(init=False)

    def __post_init__(self) -> None:
        settle_shapes(self.model)
        self.item = Rule(self.rule, "", _nothing, (), tuple(("", kind) for kind in (*KINDS, "LSTM")), LOSSY)
        self.bench = Bench(self.model, (self.item,), self.context)
        self.bench.prepare()

    def replace(self, place: Place | Recurrent, way: Way, method: str = "") -> Skip | None:
        """Put a way in place and note it in the coverage; why not (noted too), in which case the graph is untouched."""

        def compose(pen: Build, match: Match) -> Made:
            made = way.compose(pen, place.data)
            self.context.coverage.take(place.subject, way.form, stored_bits(pen, place) + way.shared, method)
            return made

        refusal = self._attempt(place, way, compose)
        if refusal is not None:
            self.context.coverage.leave(place.subject, str(refusal))
        return refusal

    def fastest(self, place: Place | Recurrent, ways: Sequence[Way], *, must_gain: bool = False) -> Way | Skip:
        """The way that runs fastest on this machine; the first, where nobody can tell. With ``must_gain``, why none is faster than the place as it is."""
        judge = self.context.judge
        if judge is None or (len(ways) == 1 and not must_gain):
            return ways[0]
        best, reason, fastest = None if must_gain else ways[0], skip("no way is faster"), None
        for way in ways:
            pieces = self._look(place, way)
            if pieces is None:
                reason = skip("it holds subgraphs, or not all dtypes around it are known, so it cannot be timed")
                continue
            before, after = pieces
            against = fastest if fastest is not None else before if must_gain else None
            refusal = judge.slower(self.rule, against, after) if against is not None else None
            if refusal is None:
                best, fastest = way, after
            elif best is None:
                reason = refusal
        return best if best is not None else reason

    def finish(self) -> None:
        """Put the graph into order when all places are done."""
        self.bench.finish()

    def _look(self, place: Place | Recurrent, way: Way) -> tuple[ir.Model, ir.Model] | None:
        """The place as it is and as it would be, as small models."""

        def compose(pen: Build, match: Match) -> Made:
            made = way.compose(pen, place.data)
            self.bench.made = made if isinstance(made, tuple) else (made,)
            return made

        self.bench.looking, self.bench.pieces = True, None
        try:
            self._attempt(place, way, compose)
        finally:
            self.bench.looking, self.bench.made = False, ()
        return self.bench.pieces

    def _attempt(self, place: Place | Recurrent, way: Way, compose: Callable[[Build, Match], Made]) -> Skip | None:
        version = opset(self.model)
        if way.lifts > version < CANONICAL_OPSET:
            return skip("it needs opset %d and the model has %d: put normalise-opset before it", way.lifts, version)
        found = self.bench.attempt(replace(self.item, build=compose, lifts=way.lifts), place.match())
        return None if found is True else found or skip("it was not replaced")


def stored_bits(pen: Build, place: Place | Recurrent) -> float:
    """Bits of all constants of a replacement but the bias, for each number of the weight."""
    width = 0 if place.bias is None else place.bias.nbytes
    total = sum(value.const_value.nbytes for value in pen.constants if value.const_value is not None)
    return 8.0 * (total - width) / place.parameters


def _nothing(pen: Build, match: Match) -> None:
    return None
