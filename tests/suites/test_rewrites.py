"""The catalogue of small graphs through level 2 with every rule, and with nothing rolled back: every one stays right, and fires unless it is known not to."""

from __future__ import annotations

import importlib

import pytest

from graphwright.tests.rewrites import CATEGORIES, TRAPS
from graphwright.tests.rewrites.graphs import Graph, fired
from graphwright.tests.rewrites.known import NOT_FIRED
from graphwright.tests.rewrites.running import every_rule, judge, rewrite

AT_LEAST = 0.95
TARGETS = ("onnx", "ort-cpu")


def graphs(*categories: str) -> list[Graph]:
    return [graph for category in categories for graph in importlib.import_module(f"graphwright.tests.rewrites.{category}").GRAPHS]


def named(found: list[Graph]) -> list:
    return [pytest.param(graph, id=graph.name) for graph in found]


@pytest.mark.parametrize("graph", named(graphs(*CATEGORIES)))
def test_a_graph_that_asks_for_a_rewrite_gets_it_and_stays_right(graph: Graph) -> None:
    model = graph.model()
    referee = judge(model)
    result = rewrite(referee.source, every_rule(graph.target), graph.target)
    assert not referee.fault(result)
    assert fired(graph, model, result) or graph.name in NOT_FIRED


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("graph", named(graphs(*TRAPS)))
def test_a_trap_stays_right(graph: Graph, target: str) -> None:
    referee = judge(graph.model(), graph.samples)
    assert not referee.fault(rewrite(referee.source, every_rule(target), target))


def test_nearly_all_fire() -> None:
    names = [graph.name for graph in graphs(*CATEGORIES)]
    assert set(NOT_FIRED) <= set(names) and len(names) == len(set(names)) >= 130
    assert len(NOT_FIRED) <= (1 - AT_LEAST) * len(names)
