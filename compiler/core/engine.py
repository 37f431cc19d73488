"""The rule engine: an index by operator, a worklist, and the checks no rule has to make for itself.

A rewrite only happens when nothing inside the match is needed elsewhere, the match lies in one graph, the target has the kernels,
the replacement has the dtype and shape of what it replaces, and the ledger permits it. Cost is linear in nodes and rewrites: each
rewrite looks at its own neighbourhood again and at nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import onnx_ir as ir

from .build import Build
from .errors import PassError
from .graph import all_graphs, bind_opsets, is_op, node_label, opset, replace, swap_names, sweep, used_outside, users
from .loops import History
from .names import Names
from .order import Order
from .passes import Context
from .pattern import Pattern, Probe, find
from .piece import cut_pieces
from .ranges import Ranges
from .reasons import Skip, skip
from .regular import Forms
from .rule import Match, Rule, match_of, match_of_root
from .shapes import node_inference
from .surroundings import Surroundings, plausible, surroundings
from .target import STANDARD_DOMAINS

MAX_REWRITES_PER_NODE = 20
CANONICAL_OPSET, LATEST_LIFT = 21, 24
"""No operator means anything else in one of these opsets than in another: a canonical model may be lifted to what a replacement needs."""
ALL_OUTPUTS = ("If", "Loop", "Scan", "Split")
"""Operators that make all their outputs, whoever reads them: ONNX Runtime fails on one without a name."""
LIFTED_FROM = "lifted from"
"""Where a graph's ``meta`` says which opset it had before a rule lifted it."""


def apply_rules(model: ir.Model, rules: Sequence[Rule], context: Context) -> int:
    """Rewrite ``model`` in place until no rule fires any more; returns how many rewrites were made.

    Raises PassError when rules undo each other.
    """
    return Engine(model, rules, context).run()


@dataclass
class Engine:
    """Applies rules in the order in which they come up; a subclass may choose another order, and object to a replacement (`objection`)."""

    model: ir.Model
    rules: Sequence[Rule]
    context: Context
    index: dict[tuple[str, str], list[Rule]] = field(default_factory=dict)
    hopeful: dict[tuple[str, str, Surroundings], list[tuple[Rule, tuple[Pattern, ...]]]] = field(default_factory=dict)
    queue: deque[ir.Node] = field(default_factory=deque)
    waiting: set[ir.Node] = field(default_factory=set)
    unsorted: dict[ir.Graph, None] = field(default_factory=dict)
    rewrites: int = 0
    needed: int = 0
    version: int = 0

    def run(self) -> int:
        """Apply the rules until none fires; returns how many rewrites were made."""
        if not self.prepare():
            return 0
        self.push(node for graph in all_graphs(self.model) for node in graph)
        bound = MAX_REWRITES_PER_NODE * len(self.queue) + 1000
        while self.queue:
            node = self.queue.popleft()
            self.waiting.discard(node)
            if node.graph is not None and self._visit(node):
                self.rewrites += 1
                if self.rewrites > bound:
                    raise PassError(f"rewriting does not end: {self.rewrites} rewrites, the last by {self.context.ledger.entries[-1].rule}")
        self.finish()
        return self.rewrites

    def prepare(self) -> bool:
        """Index the rules that the model's opset and the target permit; whether there are any."""
        version = self.version = opset(self.model)
        for item in self.rules:
            if item.opset <= version and self._reachable(item.lifts, version) and all(self._has(kernel) for kernel in item.kernels):
                for anchor in item.anchors:
                    self.index.setdefault(anchor, []).append(item)
        if not self.index:
            return False
        self.names = Names(self.model)
        self.history = History()
        self.order = Order(self.model)
        self.infer = node_inference()
        self.ranges, self.forms = Ranges(), Forms()
        self.reach = {key: max(item.depth for item in found) for key, found in self.index.items()}
        return True

    def finish(self) -> None:
        """Put nodes back into order, and the opset to the least that the replacements need."""
        for graph in self.unsorted:
            graph.sort()
        if self.needed < opset(self.model) != self.version:
            self._set_opset(max(self.needed, self.version))

    def objection(self, match: Match, pen: Build) -> Skip | None:
        """What speaks against a replacement; asked while it stands beside what it would replace, with all shapes known. Nothing, unless overridden."""
        return None

    def _reachable(self, lifts: int, version: int) -> bool:
        return lifts <= version or CANONICAL_OPSET <= version <= lifts <= LATEST_LIFT

    def _set_opset(self, version: int) -> None:
        imports = self.model.graph.opset_imports
        self.model.graph.meta.setdefault(LIFTED_FROM, opset(self.model))
        for domain in STANDARD_DOMAINS:
            if domain in imports:
                imports[domain] = version
        bind_opsets(self.model)

    def _has(self, kernel: str) -> bool:
        domain, _, op_type = kernel.rpartition("::")
        return self.context.target.has(domain, op_type)

    def push(self, nodes: Iterable[ir.Node]) -> None:
        """Queue nodes at which rules may have come to fit."""
        for node in nodes:
            if _key(node) in self.index and node not in self.waiting:
                self.waiting.add(node)
                self.queue.append(node)

    def _visit(self, node: ir.Node) -> bool:
        return any(self._try(item, patterns, node) for item, patterns in self.hopeful_at(node))

    def hopeful_at(self, node: ir.Node) -> list[tuple[Rule, tuple[Pattern, ...]]]:
        """The rules that may start at a node, with those of their patterns that fit what feeds it; all of them when somebody wants reasons."""
        domain = "" if node.domain == "ai.onnx" else node.domain
        if self.context.reasons is not None:
            return [(item, item.patterns) for item in self.index.get((domain, node.op_type), ())]
        key = (domain, node.op_type, surroundings(node))
        found = self.hopeful.get(key)
        if found is None:
            left = [(item, tuple(drawn for drawn in item.patterns if plausible(drawn, key[2]))) for item in self.index.get(key[:2], ())]
            found = self.hopeful[key] = [(item, patterns) for item, patterns in left if patterns or item.roots]
        return found

    def _try(self, item: Rule, patterns: tuple[Pattern, ...], node: ir.Node) -> bool:
        reasons = self.context.reasons
        probe = Probe() if reasons is not None and reasons.wants(item.name) else None
        for match in matches_at(item, patterns, node, probe):
            refusal = self.attempt(item, match)
            if refusal is True:
                return True
            if probe is not None and refusal is not None:
                probe.stop(len(match.nodes), "%s", refusal)
        if probe is not None and reasons is not None and probe.depth > 0:
            reasons.note(item.name, node_label(node), probe.depth, probe.reason)
        return False

    def attempt(self, item: Rule, match: Match) -> Skip | Literal[True] | None:
        """Replace the match as the rule says: True, or why not (None when the rule did not say); the graph is untouched in that case."""
        match.ranges, match.forms, match.fast_math, match.target = self.ranges, self.forms, self.context.fast_math, self.context.target
        pen = Build()
        result = item.build(pen, match)
        refusal = result if result is None or isinstance(result, Skip) else self._commit(item, match, pen, result)
        if refusal is None and result is not None:
            return True
        pen.discard()
        return refusal

    def _commit(self, item: Rule, match: Match, pen: Build, result: ir.Value | tuple[ir.Value, ...]) -> Skip | None:
        """Put the replacement in place of the match, or say why not; the graph is untouched in that case."""
        made = _of_matched(match, result if isinstance(result, tuple) else (result,))
        if len(made) != len(match.outputs):
            raise PassError(f"the rule {item.name} replaces {len(match.outputs)} values by {len(made)}")
        refusal = _refusal(item, match, made) or self.order.refusal(match)
        if refusal is not None:
            return refusal
        if item.lifts > opset(self.model):
            self._set_opset(item.lifts)
        self._insert(match.root, pen)
        refusal = _misfit(match.outputs, made) or self.objection(match, pen) or self._slower(item, match, pen, made)
        if refusal is None and not self.context.ledger.permit(item.name, match.outputs[0].name or ""):
            refusal = skip("it was rolled back here")
        if refusal is not None:
            sweep(reversed(pen.nodes))
            self._drop_constants(pen)
            return refusal
        self.needed = max(self.needed, item.lifts)
        self.history.note(item.name, match, pen.nodes)
        self._replace(match, pen, made)
        self._tidy(match, pen)
        return None

    def _slower(self, item: Rule, match: Match, pen: Build, made: tuple[ir.Value, ...]) -> Skip | None:
        """What the judge says against a rule that only fires where it is measured to pay."""
        if not item.measured or self.context.judge is None:
            return None
        pieces = cut_pieces(self.model, match, pen, made)
        if pieces is None:
            return skip("it holds subgraphs, or not all dtypes around it are known, so it cannot be timed")
        return self.context.judge.refusal(item.name, *pieces, self.context.target.device in item.doubtful)

    def _insert(self, root: ir.Node, pen: Build) -> None:
        graph = root.graph
        assert graph is not None
        for value in pen.constants:
            if value.uses():
                value.name = self.names.fresh(f"{root.outputs[0].name or root.op_type}_{value.meta['hint']}")
                graph.register_initializer(value)
        for node in pen.nodes:
            node.name = self.names.fresh(f"{root.name or root.op_type}_{node.op_type}")
            if node.domain not in self.model.graph.opset_imports:
                self._import(node.domain)
            for output in node.outputs:
                output.name = self.names.fresh(f"{node.name}_out")
            graph.insert_before(root, node)
            self.infer(node)

    def _import(self, domain: str) -> None:
        self.model.graph.opset_imports[domain] = 1
        bind_opsets(self.model)

    def _drop_constants(self, pen: Build) -> None:
        for value in pen.constants:
            if value.is_initializer() and value.graph is not None and not value.uses():
                del value.graph.initializers[value.name or ""]

    def _replace(self, match: Match, pen: Build, made: tuple[ir.Value, ...]) -> None:
        for old, new in zip(match.outputs, made, strict=True):
            if old is new:
                continue
            if new.producer() is not None and old.shape is not None:
                new.shape = _merged(new.shape, old.shape)
            if new.type is None:
                new.type = old.type
            inherits = new.producer() in pen.nodes and not old.is_graph_output() and bool(old.name)
            replace(old, new, self.names)
            if inherits:
                swap_names(old, new, self.names)
        for value in (value for node in pen.nodes if not is_op(node, *ALL_OUTPUTS) for value in node.outputs):
            if value not in made and not value.uses() and not value.is_graph_output():
                value.name = ""
        if len({value.producer() for value in match.outputs}) > 1:
            self.unsorted[match.root.graph] = None  # type: ignore[index]

    def _tidy(self, match: Match, pen: Build) -> None:
        """Remove what the match leaves behind, then queue everything a rule could now see differently."""
        leaves = [value for node in match.nodes for value in node.inputs if value is not None]
        last = list(match.nodes)
        sweep([match.root, *last])
        self._drop_constants(pen)
        self.push(node for node in pen.nodes if node.graph is not None)
        changed = [value for node in pen.nodes for value in node.outputs] + [value for value in leaves if len(value.uses()) <= 2]
        self.push(node for node, steps in _downstream(changed, max(self.reach.values())) if steps <= self.reach.get(_key(node), 0))


def matches_at(item: Rule, patterns: tuple[Pattern, ...], node: ir.Node, probe: Probe | None) -> Iterator[Match]:
    """Every way a rule matches with its root at ``node``."""
    for pattern in patterns:
        for binding in find(pattern, node, probe):
            yield match_of(pattern, node, binding)
    if any(node.op_type == kind and (domain == node.domain or node.domain == "ai.onnx") for domain, kind in item.roots):
        yield match_of_root(node)


def _refusal(item: Rule, match: Match, made: tuple[ir.Value, ...]) -> Skip | None:
    graph = match.root.graph
    for node in match.nodes:
        if node.graph is not graph:
            return skip("%s lies in another graph than the rest of the match", node_label(node))
    if not item.shared:
        for node in match.nodes:
            for value in node.outputs:
                if value not in match.outputs and used_outside(value, match.nodes):
                    return skip("'%s', inside the match, is also needed elsewhere", value.name)
    for old, new in zip(match.outputs, made, strict=True):
        if match.root.op_type == "Identity" and old.is_graph_output() and not _renameable(new, graph):
            return skip("it carries the name of the graph output '%s'", old.name)
    return None


def _renameable(value: ir.Value, graph: ir.Graph | None) -> bool:
    node = value.producer()
    return node is not None and not value.is_graph_output() and (node.graph is None or node.graph is graph)


def _of_matched(match: Match, made: tuple[ir.Value, ...]) -> tuple[ir.Value, ...]:
    """Of a value for each output of the root, those for the outputs that were matched: nobody reads the others."""
    outputs = match.root.outputs
    if len(made) != len(outputs) or len(made) == len(match.outputs) or not all(value in outputs for value in match.outputs):
        return made
    return tuple(made[outputs.index(value)] for value in match.outputs)


def _misfit(olds: tuple[ir.Value, ...], news: tuple[ir.Value, ...]) -> Skip | None:
    for old, new in zip(olds, news, strict=True):
        if old.dtype is not None and new.dtype is not None and old.dtype != new.dtype:
            return skip("the replacement of '%s' would be %s, not %s", old.name, new.dtype, old.dtype)
        if old.shape is None or new.shape is None:
            continue
        fits = len(old.shape) == len(new.shape) and not any(
            isinstance(before, int) and isinstance(after, int) and before != after for before, after in zip(old.shape, new.shape, strict=True)
        )
        if not fits:
            return skip("the replacement of '%s' would have shape %s, not %s", old.name, new.shape, old.shape)
    return None


def _merged(new: ir.Shape | None, old: ir.Shape) -> ir.Shape:
    """What is known from before, and what inference found beyond it."""
    if new is None:
        return old
    return ir.Shape([after if isinstance(after, int) and not isinstance(before, int) else before for before, after in zip(old, new, strict=True)])


def _downstream(values: Iterable[ir.Value], depth: int) -> list[tuple[ir.Node, int]]:
    """The nodes at most ``depth`` steps after ``values``, each with how many steps, nearest first."""
    found: dict[ir.Node, int] = {}
    frontier = list(values)
    for step in range(1, depth + 1):
        nodes = [node for value in frontier for node in users(value) if node not in found]
        found.update(dict.fromkeys(nodes, step))
        frontier = [value for node in nodes for value in node.outputs]
    return list(found.items())


def _key(node: ir.Node) -> tuple[str, str]:
    """What rules are indexed by."""
    return "" if node.domain == "ai.onnx" else node.domain, node.op_type
