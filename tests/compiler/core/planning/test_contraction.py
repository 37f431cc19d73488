"""Contraction: points merge unless that would close a cycle, and the order stays topological."""

from __future__ import annotations

import networkx
import numpy as np
import pytest

from graphwright.compiler.core.planning.contraction import Contraction


def test_the_ends_of_a_chain_do_not_merge_around_its_middle() -> None:
    points = Contraction("abc", [("a", "b"), ("b", "c"), ("a", "c")])
    assert not points.merge("a", "c")
    assert points.merge("a", "b") and points.merge("a", "c")


def test_two_blocks_that_would_need_each_other_do_not_both_come_to_be() -> None:
    points = Contraction("abcd", [("a", "b"), ("c", "d")])
    assert points.merge("a", "d")
    assert not points.merge("b", "c")


@pytest.mark.parametrize("seed", range(6))
def test_merging_agrees_with_a_search_of_the_whole_graph(seed: int) -> None:
    random = np.random.default_rng(seed)
    size = 24
    edges = [(one, other) for one in range(size) for other in range(one + 1, size) if random.random() < 0.12]
    points = Contraction(range(size), edges)
    graph = networkx.DiGraph(edges)
    graph.add_nodes_from(range(size))
    alive = list(range(size))
    for _ in range(200):
        one, other = (int(item) for item in random.choice(alive, 2, replace=False))
        merged = networkx.contracted_nodes(graph, one, other, self_loops=False, copy=True)
        expected = networkx.is_directed_acyclic_graph(merged)
        assert points.merge(one, other) is expected
        if expected:
            graph = merged
            alive.remove(other)
        places = {point: points.place(point) for point in alive}
        assert all(places[before] < places[after] for before, after in graph.edges)
        if len(alive) < 3:
            break
