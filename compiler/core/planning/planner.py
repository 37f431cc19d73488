"""The planner of DNNFusion (PLDI 2021, section 4): blocks grow from seeds, the table says what may join, and a measurement decides where the table does not.

Beyond the paper: the graph of blocks stays free of cycles, what moves data only is seeded second and what is left last, equal seeds go by position, unknown
sizes come last, and operators that work tile by tile may join although the table says never (Deep-Fusion).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import onnx_ir as ir

from ..graph import all_graphs
from .bands import Joiner
from .contraction import Contraction
from .decisions import Decider, Decision
from .extended import Facts, extend
from .growth import Growth
from .mapping import Mapping
from .operators import is_product
from .plan import Block, Constraints, Plan, Profile, is_constant

if TYPE_CHECKING:
    import networkx

MOVING = (Mapping.REORGANIZE, Mapping.SHUFFLE)
SEEDINGS = (
    ((Mapping.ONE_TO_ONE,), "the One-to-One operator with the smallest result that was left"),
    (MOVING, "moves data, and no block took it"),
    ((Mapping.ONE_TO_MANY,), "no block took it"),
    ((Mapping.MANY_TO_MANY,), "no block took it"),
)
"""What seeds grow from, in this order, and why."""


def plan(graph: ir.Graph | ir.Model, constraints: Constraints | None = None, profile: Profile | None = None) -> Plan:
    """Blocks for the nodes of one graph (the main one of a model); graphs nested in it are left to plans of their own (`plan_model`).

    Types and shapes are taken as they are: infer them first (`shapes.infer_shapes`), an unknown shape makes a plan cautious. Without a profile, and where
    it knows nothing, "profile" in the table counts as yes exactly when nothing would be computed twice. The same graph gives the same plan.
    """
    whole = graph.graph if isinstance(graph, ir.Model) else graph
    return _Planner(whole, constraints or Constraints(), profile).run()


def plan_model(model: ir.Model, constraints: Constraints | None = None, profile: Profile | None = None) -> tuple[Plan, ...]:
    """A plan for the main graph, then one for each graph nested in it."""
    return tuple(plan(graph, constraints, profile) for graph in all_graphs(model))


class _Planner:
    def __init__(self, graph: ir.Graph, constraints: Constraints, profile: Profile | None) -> None:
        self.graph = graph
        self.constraints = constraints
        self.picture: networkx.DiGraph = extend(graph)
        self.facts: dict[ir.Node, Facts] = {node: data["facts"] for node, data in self.picture.nodes(data=True)}
        self.units: Contraction[ir.Node] = Contraction(self.facts, self.picture.edges())
        self.decider = Decider(self.picture, constraints, profile)
        self.profile = profile
        self.grown: dict[ir.Node, Growth] = {}

    def run(self) -> Plan:
        for mappings, reason in SEEDINGS:
            if self.constraints.deep and mappings == MOVING:
                self._grow_rows()
            for seed in self._seeds(mappings):
                if seed.node not in self.grown:
                    self._grow(seed, reason)
        if self.constraints.bands:
            self._join()
        for facts in self.facts.values():
            if facts.node not in self.grown:
                self.grown[facts.node] = Growth(facts, "holds a constant" if is_constant(facts.node) else "Opaque operators are never fused")
        first = {id(growth): next(iter(growth.nodes)) for growth in self.grown.values()}
        growths = {id(growth): growth for growth in self.grown.values()}
        ordered = sorted(growths, key=lambda key: self.units.place(first[key]))
        return Plan(self.graph, tuple(self._block(growths[key]) for key in ordered), self.constraints)

    def _block(self, growth: Growth) -> Block:
        return growth.block()

    def _seeds(self, mappings: tuple[Mapping, ...]) -> list[Facts]:
        """Smallest result first; those of unknown size last; among equals the first in the graph."""
        found = [facts for facts in self.facts.values() if facts.mapping in mappings]
        return sorted(found, key=lambda facts: (facts.bytes is None, facts.bytes or 0, facts.position))

    def _grow_rows(self) -> None:
        """Let what works on whole rows grow before what only moves data, which would take the products beside it out of its reach."""
        for seed in self._seeds((Mapping.MANY_TO_MANY,)):
            if seed.node not in self.grown and not is_product(seed.node):
                self._grow(seed, "works on rows, and no block took it")

    def _grow(self, seed: Facts, reason: str) -> None:
        growth = self.grown[seed.node] = Growth(seed, reason)
        self._walk(growth, seed.node, behind=True)
        before = list(growth.nodes)
        for node in before:
            self._walk(growth, node, behind=False)
        if self.constraints.deep:
            for node in list(growth.nodes)[len(before) :]:
                self._walk(growth, node, behind=True)

    def _join(self) -> None:
        """Let blocks take in those before them, in the order of the graph, until none can."""
        joiner = Joiner(self.constraints, self.profile)
        waiting = [growth.block().nodes[-1] for growth in {id(growth): growth for growth in self.grown.values()}.values()]
        for last in sorted(waiting, key=lambda node: self.facts[node].position):
            growth = self.grown[last]
            asked: set[int] = set()
            while (before := self._before(growth, asked)) is not None:
                asked.add(id(before))
                verdict = joiner.judge(before, growth)
                if not verdict.yes:
                    growth.refusals[before.ordered()[-1]] = verdict.reason
                elif not self.units.merge(next(iter(growth.nodes)), next(iter(before.nodes))):
                    growth.refusals[before.ordered()[-1]] = "a path through another operator leads from one to the other"
                else:
                    growth.absorb(before, verdict.reason)
                    self.grown.update(dict.fromkeys(before.nodes, growth))

    def _before(self, growth: Growth, asked: set[int]) -> Growth | None:
        """A block that this one reads from and that was not asked yet, the nearest first."""
        makers = {maker for node in growth.nodes for maker in self.picture.predecessors(node)}
        found = [self.grown[maker] for maker in sorted(makers, key=lambda node: -self.facts[node].position) if maker in self.grown]
        return next((one for one in found if one is not growth and id(one) not in asked), None)

    def _walk(self, growth: Growth, start: ir.Node, behind: bool) -> None:
        """Take neighbours in one direction, and theirs, depth first."""
        stack = [self._neighbours(start, behind)]
        while stack:
            node = next(stack[-1], None)
            if node is None:
                stack.pop()
            elif node not in self.grown and self._take(growth, node, behind):
                stack.append(self._neighbours(node, behind))

    def _neighbours(self, node: ir.Node, behind: bool) -> Iterator[ir.Node]:
        found = self.picture.successors(node) if behind else self.picture.predecessors(node)
        return iter(sorted(found, key=lambda other: self.facts[other].position))

    def _take(self, growth: Growth, node: ir.Node, behind: bool) -> bool:
        facts = self.facts[node]
        decision: Decision = self.decider.decide(growth, facts, behind)
        if not decision.yes:
            growth.refusals[node] = decision.reason
            return False
        if not self.units.merge(next(iter(growth.nodes)), node):
            growth.refusals[node] = "a path through another operator leads from one to the other"
            return False
        growth.take(facts, behind, decision.mapping, decision.reason)
        self.grown[node] = growth
        return True
