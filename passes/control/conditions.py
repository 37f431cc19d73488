"""Branches on the same condition, or on its contrary."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import EXACT
from ...compiler.core.graph import is_op, producer, subgraphs_of, users
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from .bodies import branches_of, captured, copy_of, rebind

NAMES = ("then_branch", "else_branch")
MOST_NODES = 128
"""In a merged branch; branches are copied whenever one more is merged in."""
FIRST = "y = If(c) <then_branch = t () => (float[N] a) { h = Relu(x) a = Exp(h) }, else_branch = e () => (float[N] b) { b = Neg(x) }>"
SECOND = "z = If(c) <then_branch = u () => (float[N] p) {{ p = Sin({v}) }}, else_branch = v () => (float[N] q) {{ q = Abs({v}) }}>"


@rule(
    "If",
    drift=EXACT,
    examples=[f"g (float[N] x, bool d) => (float[N] y) {{ c = Not(d) {FIRST} }}"],
    leaves=[f"g (float[N] x, bool c) => (float[N] y) {{ {FIRST} }}"],
)
def drop_negated_condition(op: Build, m: Match) -> Result:
    """If(not c) { a } else { b } -> If(c) { b } else { a }"""
    negation = producer(m.root.inputs[0], "Not")
    if negation is None or negation.inputs[0] is None:
        return skip("its condition is not negated")
    attributes: dict[str, object] = {name: ir.AttrGraph(name, copy_of(branch)) for name, branch in zip(NAMES, reversed(branches_of(m.root)), strict=True)}
    return tuple(op.node("If", (negation.inputs[0],), attributes, outputs=len(m.root.outputs)).outputs)


@rule(
    "If",
    drift=EXACT,
    examples=[
        f"g (float[N] x, bool c) => (float[N] y, float[N] z) {{ {FIRST} {SECOND.format(v='x')} }}",
        f"g (float[N] x, bool c) => (float[N] y, float[N] w) {{ {FIRST} {SECOND.format(v='y')} w = Relu(z) }}",
        f"g (float[N] x, bool c) => (float[N] y, float[N] z) {{ {FIRST} r = Tan(x) {SECOND.format(v='r')} }}",
    ],
    leaves=[
        f"g (float[N] x, bool c) => (float[N] y, float[N] z) {{ {FIRST} r = Tan(y) {SECOND.format(v='r')} }}",
        f"g (float[N] x, bool c, bool d) => (float[N] y, float[N] z) {{ {FIRST} {SECOND.format(v='x').replace('If(c)', 'If(d)')} }}",
    ],
)
def merge_branches(op: Build, m: Match) -> Result:
    """If(c) { a } else { b }, If(c) { d } else { e } -> If(c) { a, d } else { b, e }"""
    condition = m.root.inputs[0]
    if condition is None:
        return None
    others = [node for node in users(condition) if node is not m.root and node.graph is m.root.graph and is_op(node, "If")]
    refusal: Skip | None = None
    for other in others:
        refusal = _apart(m.root, other)
        if refusal is None:
            m.also(*other.outputs)
            return _merged(op, m.root, other)
    return refusal if others else skip("no other If in its graph has its condition")


def _apart(first: ir.Node, second: ir.Node) -> Skip | None:
    """Why the second cannot be run together with the first."""
    read = {value for branch in branches_of(first) for value in captured(branch)}
    if any(value in read for value in second.outputs):
        return skip("it needs what the other makes")
    for one, other in zip(branches_of(first), branches_of(second), strict=True):
        if len(one) + len(other) > MOST_NODES:
            return skip("together they would have %s nodes, more than %s", len(one) + len(other), MOST_NODES)
        if _names(one) & _names(other):
            return skip("its values and the other's share names")
    return None


def _names(graph: ir.Graph) -> set[str | None]:
    inner = list(graph.all_nodes())
    graphs = [graph, *(below for node in inner for below in subgraphs_of(node))]
    made = [value for node in inner for value in node.outputs if value.name]
    return {value.name for value in (*made, *(value for below in graphs for value in (*below.inputs, *below.initializers.values())))}


def _merged(op: Build, first: ir.Node, second: ir.Node) -> tuple[ir.Value, ...]:
    attributes: dict[str, object] = {}
    for name, one, other in zip(NAMES, branches_of(first), branches_of(second), strict=True):
        branch, added = copy_of(one), copy_of(other)
        rebind(added, dict(zip(first.outputs, branch.outputs, strict=True)))
        constants, nodes, results = list(added.initializers.values()), list(added), list(added.outputs)
        added.outputs.clear()
        added.initializers.clear()
        added.remove(nodes)
        for value in constants:
            branch.register_initializer(value)
        branch.extend(nodes)
        branch.outputs.extend(results)
        attributes[name] = ir.AttrGraph(name, branch)
    return tuple(op.node("If", (first.inputs[0],), attributes, outputs=len(first.outputs) + len(second.outputs)).outputs)
