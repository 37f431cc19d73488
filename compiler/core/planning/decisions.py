"""Whether an operator joins a block: the table, what a kernel may hold, and a measurement where the table leaves it open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir

from .extended import Facts
from .growth import Growth, arithmetic
from .mapping import Mapping, Verdict, combine
from .operators import is_product
from .plan import Constraints, Profile
from .tiles import has_tiles, tile_bytes

if TYPE_CHECKING:
    import networkx

PLAIN = (Mapping.ONE_TO_ONE, Mapping.REORGANIZE, Mapping.SHUFFLE)
"""Along such an edge each element is read once."""


@dataclass(frozen=True)
class Decision:
    """Whether an operator joins, what the block then is, and why (not)."""

    yes: bool
    mapping: Mapping
    reason: str


class Decider:
    """Decides for one graph. ``picture`` is its extended computational graph."""

    def __init__(self, picture: networkx.DiGraph, constraints: Constraints, profile: Profile | None) -> None:
        self._picture = picture
        self._constraints = constraints
        self._profile = profile
        self._costs: dict[tuple[int, ...], float | None] = {}

    def decide(self, growth: Growth, facts: Facts, behind: bool) -> Decision:
        """Whether ``facts.node``, a neighbour ``behind`` the block or before it, joins."""
        first, second = (growth.mapping, facts.mapping) if behind else (facts.mapping, growth.mapping)
        mapping, verdict = combine(first, second)
        cell = f"{first.title} then {second.title}"
        if any(edge is Mapping.OPAQUE for edge in self._edges(growth, facts.node, behind)):
            return _no(mapping, "what flows between them must be known before the kernel runs")
        promoted = verdict is Verdict.NEVER and facts.mapping is not Mapping.OPAQUE and self._tiled(growth, facts.node, behind)
        if verdict is Verdict.NEVER and not promoted:
            return _no(mapping, f"{cell} is never fused")
        refusal = self._excess(growth, facts, behind)
        if refusal is not None:
            return _no(mapping, refusal)
        if verdict is Verdict.YES:
            refusal = self._repeats(growth, facts, behind)
            return _no(mapping, refusal) if refusal is not None else Decision(True, mapping, f"{cell} is fused")
        measured = self._measured(growth, facts)
        if measured is not None:
            fused, apart = measured
            text = f"{cell}, measured: {fused * 1e6:.1f} us together, {apart * 1e6:.1f} us apart"
            return Decision(fused < apart, Mapping.MANY_TO_MANY if promoted else mapping, text)
        return self._unmeasured(growth, facts, behind, mapping, cell, promoted)

    def _edges(self, growth: Growth, node: ir.Node, behind: bool) -> list[Mapping]:
        pairs = ((inner, node) if behind else (node, inner) for inner in growth.nodes)
        return [self._picture.edges[pair]["mapping"] for pair in pairs if self._picture.has_edge(*pair)]

    def _tiled(self, growth: Growth, node: ir.Node, behind: bool) -> bool:
        """Whether the block with ``node`` works tile by tile, and the intermediate results of one tile are small."""
        axes = growth.axes_with(node, behind)
        inner = growth.inner_values(node)
        if not axes or not any(has_tiles(value, axes) for value in inner):
            return False
        return tile_bytes(inner, axes) <= self._constraints.live_bytes

    def _excess(self, growth: Growth, facts: Facts, behind: bool) -> str | None:
        """What a kernel may not hold."""
        bounds = self._constraints
        if len(growth.nodes) >= bounds.operators:
            return f"a block has at most {bounds.operators} operators"
        if len(facts.node.inputs) > bounds.inputs + sum(len(node.outputs) for node in growth.nodes):
            return f"{facts.node.op_type} reads {len(facts.node.inputs)} values, at most {bounds.inputs} are allowed"
        count = len(growth.inputs_with(facts.node))
        return f"the block would read {count} values, at most {bounds.inputs} are allowed" if count > bounds.inputs else None

    def _repeats(self, growth: Growth, facts: Facts, behind: bool) -> str | None:
        """Why arithmetic would be done again for each time that a product reads its result."""
        node = facts.node
        if behind:
            readers = [node] if is_product(node) else []
        else:
            readers = sorted(growth.products, key=lambda product: growth.nodes[product].position) if arithmetic(node) and not is_product(node) else []
        for product in readers:
            again = growth.arithmetic_before(product, node)
            if again > self._constraints.repeated:
                return f"{product.op_type} reads each element many times, and would have {again} additions done anew each time"
        return None

    def _measured(self, growth: Growth, facts: Facts) -> tuple[float, float] | None:
        """Seconds together and apart, when all was measured."""
        if self._profile is None:
            return None
        costs = (self._cost(growth.ordered(facts)), self._cost(growth.ordered()), self._cost([facts.node]))
        fused, block, alone = costs
        return None if fused is None or block is None or alone is None else (fused, block + alone)

    def _cost(self, nodes: list[ir.Node]) -> float | None:
        assert self._profile is not None
        key = tuple(map(id, nodes))
        if key not in self._costs:
            self._costs[key] = self._profile.cost(nodes)
        return self._costs[key]

    def _unmeasured(self, growth: Growth, facts: Facts, behind: bool, mapping: Mapping, cell: str, promoted: bool) -> Decision:
        """Yes exactly when nothing would be computed twice."""
        whole = Mapping.MANY_TO_MANY if promoted else mapping
        if promoted and (growth.products or is_product(facts.node)):
            return self._deep(growth, facts, behind, cell)
        refusal = self._repeats(growth, facts, behind)
        if refusal is not None:
            return _no(whole, refusal)
        if promoted:
            return Decision(True, whole, f"{cell}: each tile needs one tile")
        tiled = self._tiled(growth, facts.node, behind)
        if self._constraints.deep and growth.products and growth.axes and not tiled and not growth.is_loose(facts.node, behind):
            return _no(whole, f"{cell}: the block would not work tile by tile any more")
        edges = self._edges(growth, facts.node, behind)
        moving = not any(map(arithmetic, growth.nodes)) if behind else not arithmetic(facts.node)
        if all(edge in PLAIN for edge in edges):
            return Decision(True, whole, f"{cell}, not measured: each element is read once")
        if moving:
            return Decision(True, whole, f"{cell}, not measured: only places change")
        if tiled and not is_product(facts.node):
            return Decision(True, whole, f"{cell}, not measured: each tile needs one tile")
        again = sum(map(arithmetic, growth.nodes)) if behind else arithmetic(facts.node)
        if again <= self._constraints.repeated and Mapping.MANY_TO_MANY not in (growth.mapping if behind else facts.mapping,):
            return Decision(True, whole, f"{cell}, not measured: little is computed again")
        return _no(whole, f"{cell}, not measured: would compute {'the block' if behind else facts.node.op_type} again for each reading")

    def _deep(self, growth: Growth, facts: Facts, behind: bool, cell: str) -> Decision:
        """A product and what works on its rows share tiles that are kept."""
        if not self._constraints.deep:
            return _no(Mapping.MANY_TO_MANY, f"{cell} is only fused tile by tile if that was measured")
        if growth.chained_weights(facts.node, behind):
            return _no(Mapping.MANY_TO_MANY, f"{cell}: one product with weights on a path is enough")
        return Decision(True, Mapping.MANY_TO_MANY, f"{cell}: each tile needs one tile, which is kept")


def _no(mapping: Mapping, reason: str) -> Decision:
    return Decision(False, mapping, reason)
