"""Parts of a prepared graph that are constant: worked out before anything is planned, so that no kernel is spent on them."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.evaluate import evaluate
from ...compiler.core.graph import constant, make_constant, subgraphs_of, sweep
from ...compiler.core.names import Names
from ...compiler.core.shapes import known_bytes
from ...compiler.core.target import STANDARD_DOMAINS

RANDOM = frozenset({"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"})
LARGEST = 2**28
"""Bytes. A larger result stays what it is: a recipe."""


def fold(model: ir.Model) -> int:
    """Put constants in the place of what is made of constants alone; returns how many nodes went."""
    graph = model.graph
    folded: dict[ir.Value, None] = {}
    nodes = [node for node in graph if _folds(node, folded)]
    inside = set(nodes)
    wanted = [value for value in folded if not value.is_graph_output() and any(user not in inside for user, _ in value.uses())]
    found = evaluate(nodes, wanted) if wanted else {}
    names = Names(model)
    for value, tensor in found.items():
        value.replace_all_uses_with(make_constant(graph, tensor, names.fresh(f"{value.name}_folded")))
    return sweep(reversed(nodes))


def _folds(node: ir.Node, folded: dict[ir.Value, None]) -> bool:
    """Whether a node is made of constants alone; what it makes is then noted in ``folded``."""
    if node.domain not in STANDARD_DOMAINS or node.op_type in RANDOM or node.op_type == "Constant" or subgraphs_of(node):
        return False
    if not node.inputs or not all(value is None or value in folded or constant(value) is not None for value in node.inputs):
        return False
    if any((known_bytes(value) or 0) > LARGEST for value in node.outputs):
        return False
    folded.update(dict.fromkeys(node.outputs))
    return True
