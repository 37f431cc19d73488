"""The allocator spends a budget as well as trying everything would."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest

from graphwright.compiler import allocation
from graphwright.compiler.allocation import Choice, allocate

WIDTHS = (2, 3, 4, 8, 32)


def some_sites(rng: np.random.Generator, count: int, ways: int) -> list[list[Choice]]:
    return [[Choice(float(cost), float(harm)) for cost, harm in zip(rng.uniform(-1, 9, ways), rng.exponential(1, ways), strict=True)] for _ in range(count)]


def best(sites: list[list[Choice]], budget: float) -> float | None:
    """The least harm within the budget, by trying everything."""
    sums = [(sum(choice.cost for choice in row), sum(choice.harm for choice in row)) for row in itertools.product(*sites)]
    return min((harm for cost, harm in sums if cost <= budget), default=None)


def totals(sites: list[list[Choice]], found: list[int]) -> tuple[float, float]:
    taken = [choices[place] for choices, place in zip(sites, found, strict=True)]
    return sum(choice.cost for choice in taken), sum(choice.harm for choice in taken)


@pytest.mark.parametrize("seed", range(20))
def test_it_finds_what_trying_everything_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sites = some_sites(rng, int(rng.integers(1, 7)), int(rng.integers(1, 6)))
    for budget in rng.uniform(-5, 40, 5):
        found = allocate(sites, budget)
        wanted = best(sites, budget)
        assert (found is None) == (wanted is None)
        if found is not None:
            cost, harm = totals(sites, found)
            assert cost <= budget + 1e-6 and harm == pytest.approx(wanted)


def test_a_budget_that_is_just_met_is_met() -> None:
    sites = [[Choice(0.1, 5.0), Choice(0.2, 1.0)]] * 3
    assert allocate(sites, 0.6) == [1, 1, 1] and allocate(sites, 0.3) == [0, 0, 0] and allocate(sites, 0.29) is None


def test_a_way_that_breaks_the_model_is_never_taken() -> None:
    assert allocate([[Choice(1.0, math.inf), Choice(4.0, 0.0)]], 5.0) == [1]
    assert allocate([[Choice(1.0, math.inf)]], 5.0) is None
    assert allocate([[Choice(1.0, math.nan), Choice(2.0, 1.0)]], 5.0) == [1]


def test_no_sites_need_no_choices() -> None:
    assert allocate([], 1.0) == []


def planted(count: int, seed: int) -> list[list[Choice]]:
    """Sites of unlike size and sensitivity, by the law of uniform quantisation: a bit more is a quarter of the noise."""
    rng = np.random.default_rng(seed)
    sizes, noises = rng.integers(1_000, 1_000_000, count), 10.0 ** rng.uniform(-4, 0, count)
    return [
        [Choice(float(size) * bits / 8, 0.0 if bits == 32 else float(noise) * 4.0 ** (2 - bits)) for bits in WIDTHS]
        for size, noise in zip(sizes, noises, strict=True)
    ]


@pytest.mark.parametrize(("bits", "share"), [(3, 0.5), (4, 0.5), (8, 0.7)])
def test_mixed_bits_harm_less_than_uniform_ones_of_the_same_size(bits: int, share: float) -> None:
    sites = planted(60, 0)
    budget, uniform = totals(sites, [WIDTHS.index(bits)] * len(sites))
    found = allocate(sites, budget)
    assert found is not None
    cost, harm = totals(sites, found)
    assert cost <= budget * (1 + 1e-6) and harm < share * uniform


def test_hundreds_of_sites_take_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    sites = planted(200, 1)
    budget = totals(sites, [WIDTHS.index(4)] * len(sites))[0]
    start = time.process_time()
    found = allocate(sites, budget)
    assert time.process_time() - start < 5
    assert found is not None
    harm = totals(sites, found)[1]
    monkeypatch.setattr(allocation, "MOST_STATES", 1 << 10)
    coarse = allocate(sites, budget)
    assert coarse is not None and totals(sites, coarse)[0] <= budget * (1 + 1e-6) and totals(sites, coarse)[1] <= 1.1 * harm


def test_the_two_sides_can_be_exchanged() -> None:
    sites = planted(5, 2)
    most = 0.5 * totals(sites, [WIDTHS.index(3)] * len(sites))[1]
    found = allocate([[Choice(choice.harm, choice.cost) for choice in choices] for choices in sites], most)
    assert found is not None and totals(sites, found)[1] <= most * (1 + 1e-6)
    rows = [row for row in itertools.product(*sites) if sum(choice.harm for choice in row) <= most]
    assert totals(sites, found)[0] == pytest.approx(min(sum(choice.cost for choice in row) for row in rows))
