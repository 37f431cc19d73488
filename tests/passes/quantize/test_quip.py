"""Turning a weight before it is rounded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from graphwright.passes.quantize.gptq import Gptq
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.quip import Quip

Cases = Callable[..., Any]


def spiky(planted: Cases, seed: int = 0) -> Any:
    """A case whose weight has a few large numbers, each in a column of its own."""
    case = planted(96, 64, seed)
    random = np.random.default_rng(seed)
    case.weight[random.integers(0, 96, 24), random.integers(0, 64, 24)] *= 12.0
    return case


@pytest.mark.parametrize("bits", [2, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_quip_beats_gptq_where_weights_stick_out(planted: Cases, bits: int, seed: int) -> None:
    case = spiky(planted, seed)
    grid = Grid(bits, False)
    turned = Quip(rescale="never").quantize(case.weight, case.statistics, grid)
    plain = Gptq().quantize(case.weight, case.statistics, grid)
    assert turned.stored_bits <= plain.stored_bits + 64
    assert case.error(turned.matrix()) < case.error(plain.matrix())


@pytest.mark.shared
@pytest.mark.parametrize("bits", [2, 3])
def test_quip_beats_the_published_gptq_on_most_sites_of_a_real_decoder(llama_cases: list[Any], bits: int) -> None:
    grid = Grid(bits, False)
    published = Gptq(act_order=False, sweeps=0)
    wins = [
        case.error(Quip().quantize(case.weight, case.statistics, grid).matrix()) < case.error(published.quantize(case.weight, case.statistics, grid).matrix())
        for case in llama_cases
    ]
    assert sum(wins) >= 3


@pytest.mark.parametrize("turn", ["hadamard", "orthogonal"])
def test_many_bits_give_the_weight_back(planted: Cases, turn: Any) -> None:
    case = planted(60, 30)
    found = Quip(turn).quantize(case.weight, case.statistics, Grid(12)).matrix()
    np.testing.assert_allclose(found, case.weight, atol=2e-3 * np.abs(case.weight).max())


def test_the_rescaling_is_stored_where_it_is_cheap(planted: Cases) -> None:
    for outputs, stretched in ((64, False), (320, True)):
        case = planted(32, outputs)
        assert (Quip().quantize(case.weight, case.statistics, Grid(2)).stretch is not None) == stretched


def test_the_seed_chooses_the_turn(planted: Cases) -> None:
    case = planted(32, 16)
    one, other = (replace(Quip(), seed=seed).quantize(case.weight, case.statistics, Grid(2)).matrix() for seed in (0, 1))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_two_bits_about_zero_beat_two_bits_with_zero_among_them_on_normal_weights(planted: Cases, seed: int) -> None:
    """Of the four codes of a symmetric grid one is zero and two are below it: turned weights are as often above zero as below."""
    case = planted(96, 64, seed, outliers=0)
    found, plain = (method.quantize(case.weight, case.statistics, Grid(2)) for method in (Quip(), Gptq()))
    assert found.stored_bits <= plain.stored_bits + 64
    assert case.error(found.matrix()) < 0.97 * case.error(plain.matrix())


def test_more_draws_cost_nothing_on_the_data_they_are_chosen_by(planted: Cases) -> None:
    case = planted(48, 24)
    moment = case.statistics.moment
    errors = [np.trace((off := Quip(draws=draws).quantize(case.weight, case.statistics, Grid(3)).matrix() - case.weight).T @ moment @ off) for draws in (1, 4)]
    assert errors[1] <= errors[0]
