"""loftq, ternarybert and binarybert: the weights that training of few-bit models starts from."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphwright.passes.quantize.binarybert import BinaryBert
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.loftq import LoftQ
from graphwright.passes.quantize.lorc import Lorc
from graphwright.passes.quantize.rtn import Rtn
from graphwright.passes.quantize.ternarybert import TernaryBert, ternary

Cases = Callable[..., Any]


def away(found: Any, weight: np.ndarray) -> float:
    return float(np.linalg.norm(found.matrix() - weight))


@pytest.mark.parametrize("grid", [Grid(4), Grid(3, False, 32), Grid(2), Grid(2, True, -1)], ids=str)
def test_loftq_is_nearer_than_lorc_in_the_same_bits(planted: Cases, grid: Grid) -> None:
    weight = planted().weight
    once, by_turns = Lorc(rank=4).quantize(weight, None, grid), LoftQ(rank=4).quantize(weight, None, grid)
    assert by_turns.stored_bits == once.stored_bits
    assert away(by_turns, weight) < away(once, weight)
    assert np.array_equal(LoftQ(rank=4, turns=1).quantize(weight, None, grid).matrix(), once.matrix())


def test_more_turns_are_never_further(planted: Cases) -> None:
    weight = planted(40, 30).weight
    errors = [away(LoftQ(rank=3, turns=turns).quantize(weight, None, Grid(3)), weight) for turns in (1, 2, 4, 8)]
    assert errors == sorted(errors, reverse=True)


def test_the_ternary_weight_is_the_nearest_of_all() -> None:
    random = np.random.default_rng(0)
    weight, weights = random.standard_normal((6, 3)), random.uniform(0.1, 2.0, 6)
    codes, scales = ternary(weight, weights)
    for column in range(3):
        least = np.inf
        for signs in itertools.product((-1, 0, 1), repeat=6):
            guess = np.array(signs)
            mass = (weights * guess**2).sum()
            scale = (weights * guess * weight[:, column]).sum() / mass if mass else 0.0
            least = min(least, float((weights * (weight[:, column] - scale * guess) ** 2).sum()))
        assert float((weights * (weight[:, column] - scales[column] * codes[:, column]) ** 2).sum()) == pytest.approx(least)


@pytest.mark.parametrize("block", [0, 16, 7, -1])
def test_three_values_are_nearer_than_the_four_of_rtn_at_two_bits(planted: Cases, block: int) -> None:
    weight = planted().weight
    found = TernaryBert().quantize(weight, None, Grid(2, block=block))
    assert set(np.unique(found.codes)) == {-1, 0, 1}
    assert away(found, weight) < away(Rtn().quantize(weight, None, Grid(2, block=block)), weight)


@pytest.mark.parametrize("block", [0, 16, 7])
def test_two_binaries_are_nearer_than_the_ternary_weight_they_come_from(planted: Cases, block: int) -> None:
    case, grid = planted(), Grid(2, block=block)
    assert away(BinaryBert().quantize(case.weight, None, grid), case.weight) < away(TernaryBert().quantize(case.weight, None, grid), case.weight)
    importance = np.diagonal(case.statistics.moment)[:, None]
    found = [method.quantize(case.weight, case.statistics, grid).matrix() for method in (BinaryBert(), TernaryBert())]
    errors = [(importance * (matrix - case.weight) ** 2).sum() for matrix in found]
    assert errors[0] < errors[1]


@pytest.mark.parametrize("block", [0, 16])
def test_the_split_itself_changes_nothing(planted: Cases, block: int) -> None:
    weight, grid = planted().weight, Grid(2, block=block)
    split, whole = BinaryBert(rounds=0).quantize(weight, None, grid), TernaryBert().quantize(weight, None, grid)
    assert set(np.unique(split.signs)) == {-1, 1}
    np.testing.assert_allclose(split.matrix(), whole.matrix(), rtol=2e-3, atol=1e-6)


def test_importance_moves_the_scale_towards_the_rows_that_count(planted: Cases) -> None:
    case = planted(64, 8, outliers=2)
    importance = np.diagonal(case.statistics.moment)[:, None]
    errors = [(importance * (TernaryBert().quantize(case.weight, known, Grid(2)).matrix() - case.weight) ** 2).sum() for known in (case.statistics, None)]
    assert errors[0] < errors[1]


@pytest.mark.shared
def test_on_every_site_of_a_real_decoder(llama_cases: list[Any]) -> None:
    grid = Grid(2, block=32)
    for case in llama_cases:
        rtn, three, two = (method.quantize(case.weight, case.statistics, grid).matrix() for method in (Rtn(), TernaryBert(), BinaryBert()))
        assert case.error(two) < case.error(three) < case.error(rtn)
        assert case.error(LoftQ().quantize(case.weight, None, grid).matrix()) < case.error(rtn)
