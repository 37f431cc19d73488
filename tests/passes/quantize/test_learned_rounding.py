"""AdaRound and SignRound: learned rounding on correlated inputs, and where there is nothing to learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from graphwright.compiler.core.errors import InputError, ModelError, UsageError
from graphwright.passes.quantize.adaround import AdaRound
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.method import Method
from graphwright.passes.quantize.rtn import Rtn
from graphwright.passes.quantize.signround import SignRound

Cases = Callable[..., Any]

GRIDS = [Grid(4), Grid(3), Grid(2, False), Grid(2, True, 32), Grid(3, False, 20), Grid(3, True, -1), Grid(4, True, 0, narrow=True)]
LEARNED = [AdaRound(), SignRound()]
BRIEF = [AdaRound(iterations=50), SignRound(iterations=50)]


def name(method: Method) -> str:
    return method.name


@pytest.mark.parametrize("method", LEARNED, ids=name)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_learned_rounding_beats_rounding_to_nearest_in_the_same_bits_on_unseen_rows(planted: Cases, method: Method, grid: Grid) -> None:
    case = planted()
    plain = [Rtn(clipping).quantize(case.weight, None, grid) for clipping in ("minmax", "mse")]
    learned = method.quantize(case.weight, case.statistics, grid)
    assert learned.stored_bits == plain[0].stored_bits
    assert case.error(learned.matrix()) < min(case.error(coded.matrix()) for coded in plain)


@pytest.mark.shared
@pytest.mark.parametrize("method", LEARNED, ids=name)
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_learned_rounding_beats_rtn_on_every_site_of_a_real_decoder(llama_cases: list[Any], method: Method, bits: int) -> None:
    grid = Grid(bits, False, 32)
    for case in llama_cases:
        best = min(case.error(Rtn(clipping).quantize(case.weight, None, grid).matrix()) for clipping in ("minmax", "mse"))
        assert case.error(method.quantize(case.weight, case.statistics, grid).matrix()) < best


def test_adaround_moves_no_weight_by_a_whole_step(planted: Cases) -> None:
    case, grid = planted(), Grid(3, False, 32)
    learned, plain = AdaRound().quantize(case.weight, case.statistics, grid), AdaRound(iterations=0).quantize(case.weight, case.statistics, grid)
    assert np.array_equal(learned.scales, plain.scales)
    inside = (plain.codes > grid.low) & (plain.codes < grid.high)
    assert np.abs(learned.codes - plain.codes)[inside].max() == 1


@pytest.mark.parametrize("method", BRIEF, ids=name)
@pytest.mark.parametrize("grid", [Grid(3), Grid(3, False, 7), Grid(2, True, -1)], ids=str)
def test_learning_never_makes_the_error_on_the_calibration_data_greater(planted: Cases, method: Any, grid: Grid) -> None:
    case = planted(40, 9)
    start, end = (replace(method, iterations=count).quantize(case.weight, case.statistics, grid).matrix() - case.weight for count in (0, 50))
    errors = [np.einsum("km,kl,lm->", away, case.statistics.moment, away) for away in (start, end)]
    assert errors[1] < errors[0]


def test_weights_of_inputs_that_are_always_zero_go_to_the_nearest_code(planted: Cases, case_of: Cases) -> None:
    case = planted(32, 6)
    dead = case_of(case.weight, np.where(np.arange(32) < 16, case.unseen, 0.0))
    start, end = (AdaRound(iterations=count).quantize(dead.weight, dead.statistics, Grid(4)) for count in (0, 100))
    assert np.array_equal(start.codes[16:], end.codes[16:])
    assert not np.array_equal(start.codes[:16], end.codes[:16])


@pytest.mark.parametrize("method", BRIEF, ids=name)
def test_a_site_that_only_ever_saw_zeros_is_rounded_to_nearest(planted: Cases, case_of: Cases, method: Any) -> None:
    case = planted(32, 6)
    silent = case_of(case.weight, np.zeros((10, 32)))
    start, end = (replace(method, iterations=count).quantize(silent.weight, silent.statistics, Grid(4)).matrix() for count in (0, 50))
    if method.name == "adaround":
        assert np.array_equal(start, end)
    assert np.square(end - case.weight).sum() <= np.square(start - case.weight).sum()


@pytest.mark.parametrize("method", BRIEF, ids=name)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("block", [-1, 0, 3])
@pytest.mark.parametrize("weight", [np.zeros((5, 3)), np.full((1, 1), -7.0), np.full((6, 1), 0.25), np.eye(1, 6)], ids=["zeros", "one", "column", "row"])
def test_flat_weights_come_back(case_of: Cases, method: Method, weight: np.ndarray, symmetric: bool, block: int) -> None:
    rows = np.random.default_rng(0).standard_normal((30, len(weight)))
    case = case_of(weight, rows)
    np.testing.assert_allclose(method.quantize(case.weight, case.statistics, Grid(4, symmetric, block)).matrix(), weight, rtol=1e-6)


@pytest.mark.parametrize("method", BRIEF, ids=name)
def test_the_same_data_give_the_same_codes(planted: Cases, method: Method) -> None:
    case = planted(30, 5)
    first, second = (method.quantize(case.weight, case.statistics, Grid(3)) for _ in range(2))
    assert np.array_equal(first.matrix(), second.matrix())


@pytest.mark.parametrize("method", BRIEF, ids=name)
def test_what_cannot_be_learned_from_is_refused(planted: Cases, method: Method) -> None:
    case = planted(8, 3)
    with pytest.raises(UsageError, match=f"{method.name} needs calibration data"):
        method.quantize(case.weight, None, Grid())
    with pytest.raises(InputError, match="does not belong to a weight of 4 input channels"):
        method.quantize(case.weight[:4], case.statistics, Grid())
    with pytest.raises(ModelError, match="NaN or infinite"):
        method.quantize(np.where(case.weight == case.weight[2, 1], np.nan, case.weight), case.statistics, Grid())
    with pytest.raises(UsageError, match="no grid of 0 bits"):
        method.quantize(case.weight, case.statistics, Grid(0))
