"""Which rewrite goes first: within a stretch of algebraic operators the one that saves most (DNNFusion, PLDI 2021, section 4.2)."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.cost import bytes_moved, flops
from ...compiler.core.engine import Engine, matches_at
from ...compiler.core.graph import all_graphs, constant, node_label, used_outside, users
from ...compiler.core.loops import History
from ...compiler.core.passes import Context
from ...compiler.core.pattern import Operand, Pattern, Probe, ValuePattern
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Rule

Saving = tuple[int, int, int]
"""Additions, bytes and operators that a rewrite saves."""

SYMBOL = 64
"""What a symbol counts as where savings are compared."""
_WEIGHED = skip("it was only weighed")


def apply_greedily(model: ir.Model, rules: Sequence[Rule], context: Context) -> int:
    """Rewrite ``model`` in place until no rule saves anything any more; returns how many rewrites were made.

    The graph is cut at operators that no rule mentions; in each piece the rewrite with the largest saving goes first: of arithmetic, then of bytes,
    then of operators. As every rewrite lowers what is left of these, the end comes by itself. Only what a rewrite touched is weighed again.
    """
    return Selection(model, rules, context).run()


@dataclass(frozen=True, order=True)
class Candidate:
    """A rewrite that may happen, best first: the ``position``-th match of a rule at a node, as of the node's ``version``."""

    cost: Saving
    serial: int
    node: ir.Node = field(compare=False)
    rule: Rule = field(compare=False)
    patterns: tuple[Pattern, ...] = field(compare=False)
    position: int = field(compare=False)
    version: int = field(compare=False)


class Unwatched(History):
    """Every rewrite lowers a cost, so that none can be undone; the same one may come up again along a chain, as in f(f(f(x)))."""

    def note(self, rule: str, match: Match, made: Iterable[ir.Node]) -> None:
        """Nothing to look out for."""


@dataclass
class Selection(Engine):
    """The engine, taking the best of a stretch first."""

    attempts: int = 0
    """How many matches were tried, weighed ones included."""
    weighed: Saving | None = None
    weighing: bool = False
    versions: dict[ir.Node, int] = field(default_factory=dict)
    refused: set[tuple[str, ir.Node]] = field(default_factory=set)
    candidates: list[Candidate] = field(default_factory=list)
    serial: int = 0

    def run(self) -> int:
        """Apply the rules until none saves anything; returns how many rewrites were made."""
        if not self.prepare():
            return 0
        self.history = Unwatched()
        for stretch in stretches(self.model, self.rules):
            self.push(stretch)
            self._weigh_queued()
            while self.candidates:
                best = heapq.heappop(self.candidates)
                if best.version == self.versions.get(best.node) and best.node.graph is not None:
                    self._take(best)
        self.finish()
        return self.rewrites

    def _take(self, best: Candidate) -> None:
        """Make the rewrite; where that is refused after all, look for the node's next best one."""
        matches = matches_at(best.rule, best.patterns, best.node, None)
        chosen = next((match for position, match in enumerate(matches) if position == best.position), None)
        self.attempts += 1
        if chosen is not None and self.attempt(best.rule, chosen) is True:
            self.rewrites += 1
        else:
            self.refused.add((best.rule.name, best.node))
            self.push([best.node])
        self._weigh_queued()

    def _weigh_queued(self) -> None:
        while self.queue:
            node = self.queue.popleft()
            self.waiting.discard(node)
            self.versions[node] = self.versions.get(node, 0) + 1
            found = min(self._weigh(node), default=None) if node.graph is not None else None
            if found is not None:
                heapq.heappush(self.candidates, found)

    def _weigh(self, node: ir.Node) -> Iterator[Candidate]:
        for item, patterns in self.hopeful_at(node):
            if (item.name, node) not in self.refused:
                yield from self._weigh_rule(item, patterns, node)

    def _weigh_rule(self, item: Rule, patterns: tuple[Pattern, ...], node: ir.Node) -> Iterator[Candidate]:
        reasons = self.context.reasons
        probe = Probe() if reasons is not None and reasons.wants(item.name) else None
        for position, match in enumerate(matches_at(item, patterns, node, probe)):
            self.weighed, self.weighing = None, True
            refusal = self.attempt(item, match)
            self.weighing = False
            self.attempts += 1
            if self.weighed is not None:
                self.serial += 1
                cost = (-self.weighed[0], -self.weighed[1], -self.weighed[2])
                yield Candidate(cost, self.serial, node, item, patterns, position, self.versions[node])
            elif probe is not None and isinstance(refusal, Skip):
                probe.stop(len(match.nodes), "%s", refusal)
        if probe is not None and reasons is not None and probe.depth > 0:
            reasons.note(item.name, node_label(node), probe.depth, probe.reason)

    def objection(self, match: Match, pen: Build) -> Skip | None:
        """That a replacement saves nothing; while weighing, what it saves is noted and nothing happens."""
        saved = saving(match, pen)
        if not pays(saved):
            return skip("it saves %s additions, %s bytes and %s operators", *saved)
        if self.weighing:
            self.weighed = saved
            return _WEIGHED
        return None


def pays(saved: Saving) -> bool:
    """Whether arithmetic, else bytes, else operators are saved; arithmetic is not bought with more bytes than it saves additions."""
    return saved > (0, 0, 0) and saved[0] + saved[1] >= 0


def saving(match: Match, pen: Build) -> Saving:
    """What a replacement saves; nodes that only depend on constants cost nothing, as they are folded later."""
    old = [_cost(node) for node in _replaced(match)]
    new = [_cost(node) for node in _running(pen)]
    return tuple(sum(cost[index] for cost in old) - sum(cost[index] for cost in new) for index in range(3))  # type: ignore[return-value]


def _cost(node: ir.Node) -> Saving:
    return flops(node, SYMBOL) or 0, bytes_moved(node, SYMBOL) or 0, 1


def _replaced(match: Match) -> list[ir.Node]:
    """The matched nodes that nobody needs any more afterwards."""
    kept = {node for node in match.nodes if any(value not in match.outputs and used_outside(value, match.nodes) for value in node.outputs)}
    stack = list(kept)
    while stack:
        above = {value.producer() for value in stack.pop().inputs if value is not None}
        needed = [node for node in above if node in match.nodes and node not in kept]
        kept.update(needed)
        stack.extend(needed)
    return [node for node in match.nodes if node not in kept]


def _running(pen: Build) -> list[ir.Node]:
    fixed: set[ir.Value] = set(pen.constants)
    running = []
    for node in pen.nodes:
        if all(value is None or value in fixed or constant(value) is not None for value in node.inputs):
            fixed.update(node.outputs)
        else:
            running.append(node)
    return running


def stretches(model: ir.Model, rules: Sequence[Rule]) -> list[list[ir.Node]]:
    """The nodes that rules mention, in pieces connected by nothing else, each in the order of the graph."""
    mentioned = frozenset(kind for item in rules for kind in _mentioned(item))
    found = []
    for graph in all_graphs(model):
        seen: set[ir.Node] = set()
        place = {node: index for index, node in enumerate(graph)}
        for node in graph:
            if node not in seen and node.op_type in mentioned:
                found.append(sorted(_connected(node, mentioned, seen), key=place.__getitem__))
    return found


def _connected(start: ir.Node, mentioned: frozenset[str], seen: set[ir.Node]) -> list[ir.Node]:
    piece, stack = [], [start]
    seen.add(start)
    while stack:
        node = stack.pop()
        piece.append(node)
        beside = [value.producer() for value in node.inputs if value is not None] + [user for value in node.outputs for user in users(value)]
        for other in beside:
            if other is not None and other not in seen and other.graph is start.graph and other.op_type in mentioned:
                seen.add(other)
                stack.append(other)
    return piece


def _mentioned(item: Rule) -> Iterator[str]:
    """The operators a rule starts at or draws."""
    yield from (kind for _, kind in item.anchors)
    stack: list[Operand] = [value for pattern in item.patterns for value in pattern.outputs]
    while stack:
        operand = stack.pop()
        if isinstance(operand, ValuePattern):
            yield from operand.node.types
            stack.extend(operand.node.inputs)
