"""Error feedback, with and without act-order, and what it makes of inputs that say nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from graphwright.compiler.core.errors import InputError, ModelError, UsageError
from graphwright.passes.quantize.feedback import feed_back
from graphwright.passes.quantize.gptq import Gptq
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.hessian import damped, feedback_factor, output_error
from graphwright.passes.quantize.rtn import Rtn

Cases = Callable[..., Any]

GRIDS = [Grid(4), Grid(3, False), Grid(2, False, 32), Grid(3, True, 20), Grid(4, True, -1)]
VARIANTS = {
    "paper": Gptq(act_order=False, static_groups=False, sweeps=0),
    "static": Gptq(act_order=False, sweeps=0),
    "act-order": Gptq(sweeps=0),
    "sweeps": Gptq(),
}


@pytest.mark.parametrize("method", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("clipping", ["minmax", "mse"])
def test_gptq_beats_rtn_with_the_same_clipping_on_unseen_rows(planted: Cases, method: Gptq, grid: Grid, clipping: Any) -> None:
    case = planted()
    coded, plain = replace(method, clipping=clipping).quantize(case.weight, case.statistics, grid), Rtn(clipping).quantize(case.weight, None, grid)
    assert coded.stored_bits == plain.stored_bits
    assert case.error(coded.matrix()) < case.error(plain.matrix())


@pytest.mark.shared
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_gptq_beats_rtn_on_every_site_of_a_real_decoder(llama_cases: list[Any], bits: int) -> None:
    grid = Grid(bits, False, 32)
    for case in llama_cases:
        best = min(case.error(Rtn(clipping).quantize(case.weight, None, grid).matrix()) for clipping in ("minmax", "mse"))
        assert case.error(Gptq().quantize(case.weight, case.statistics, grid).matrix()) < best


def test_sweeps_never_make_the_error_on_the_calibration_data_greater(planted: Cases) -> None:
    case = planted()
    moment = damped(case.statistics.moment)
    errors = [output_error(Gptq(sweeps=sweeps).quantize(case.weight, case.statistics, Grid(2)).matrix() - case.weight, moment).sum() for sweeps in (0, 1, 2, 8)]
    assert errors == sorted(errors, reverse=True)
    assert errors[1] < errors[0]


def test_the_lazy_blocks_change_nothing(planted: Cases) -> None:
    case = planted(50, 7)
    factor = feedback_factor(case.statistics.moment)
    once, thrice = (feed_back(case.weight, factor, lambda row, ahead: np.rint(ahead[0] * 20) / 20, lazy) for lazy in (50, 17))
    np.testing.assert_allclose(once, thrice, atol=1e-12)


def test_the_factor_is_that_of_the_damped_inverse(planted: Cases) -> None:
    moment = planted().statistics.moment
    factor = feedback_factor(moment, 0.1)
    np.testing.assert_allclose(factor.T @ factor @ damped(moment, 0.1), np.eye(len(moment)), atol=1e-9)
    assert not np.tril(factor, -1).any()


def test_a_moment_that_cannot_be_factored_is_damped_until_it_can(planted: Cases) -> None:
    case = planted(64, 8)
    moment = case.statistics.moment - 0.2 * np.trace(case.statistics.moment) / 64 * np.eye(64)
    assert np.linalg.eigvalsh(moment).min() < 0
    assert np.isfinite(feedback_factor(moment)).all()
    found = Gptq(damp=0.0).quantize(case.weight, replace(case.statistics, moment=moment), Grid(4)).matrix()
    assert np.isfinite(found).all()


def test_uncorrelated_inputs_leave_nothing_to_feed_back(planted: Cases) -> None:
    case = planted(40, 8)
    diagonal = replace(case.statistics, moment=np.diag(np.linspace(0.1, 9.0, 40)))
    found = Gptq("minmax").quantize(case.weight, diagonal, Grid(3))
    np.testing.assert_array_equal(found.codes, Rtn().quantize(case.weight, None, Grid(3)).codes)


@pytest.mark.parametrize("method", VARIANTS.values(), ids=VARIANTS)
def test_channels_that_were_always_zero_are_rounded_to_nearest(planted: Cases, case_of: Cases, method: Gptq) -> None:
    case = planted(40, 8)
    rows = case.statistics.rows.copy()
    rows[:, 10:20] = 0
    dead = case_of(case.weight, rows)
    grid = Grid(4, False)
    found = replace(method, clipping="minmax").quantize(dead.weight, dead.statistics, grid)
    np.testing.assert_array_equal(found.codes[10:20], Rtn().quantize(dead.weight, None, grid).codes[10:20])
    silent = replace(dead.statistics, moment=np.zeros((40, 40)))
    np.testing.assert_array_equal(replace(method, clipping="minmax").quantize(case.weight, silent, grid).codes, Rtn().quantize(case.weight, None, grid).codes)


@pytest.mark.parametrize("method", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_a_weight_on_the_grid_comes_back(planted: Cases, method: Gptq, grid: Grid) -> None:
    case = planted()
    once = Rtn().quantize(case.weight, None, grid).matrix()
    np.testing.assert_allclose(method.quantize(once, case.statistics, grid).matrix(), once, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (1, 5), (5, 1), (33, 3)])
@pytest.mark.parametrize("block", [-1, 0, 2, 32, 64])
def test_small_and_odd_shapes_stay_near(planted: Cases, method: Gptq, inputs: int, outputs: int, block: int) -> None:
    case = planted(inputs, outputs, outliers=0)
    assert case.error(method.quantize(case.weight, case.statistics, Grid(8, False, block)).matrix()) < 0.02


@pytest.mark.parametrize("weight", [np.zeros((6, 4)), np.full((6, 4), 0.5), np.full((6, 4), 65504.0)], ids=["zeros", "constant", "float16-max"])
def test_flat_weights_come_back(planted: Cases, weight: np.ndarray) -> None:
    found = Gptq().quantize(weight.astype(np.float32), planted(6, 4).statistics, Grid(4)).matrix()
    np.testing.assert_allclose(found, weight, rtol=1e-6)


def test_what_cannot_be_used_is_refused(planted: Cases) -> None:
    case = planted(6, 4)
    with pytest.raises(UsageError, match="gptq needs calibration data"):
        Gptq().quantize(case.weight, None, Grid())
    with pytest.raises(InputError, match="does not belong to a weight of 5 input channels"):
        Gptq().quantize(case.weight[:5], case.statistics, Grid())
    with pytest.raises(InputError, match="held NaN or infinite"):
        Gptq().quantize(case.weight, replace(case.statistics, moment=np.full((6, 6), np.nan)), Grid())
    with pytest.raises(ModelError, match="NaN or infinite"):
        Gptq().quantize(np.full((6, 4), np.nan, np.float32), case.statistics, Grid())


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("method", VARIANTS.values(), ids=VARIANTS)
def test_what_was_pruned_stays_zero_and_the_rest_makes_good_for_it(planted: Cases, method: Gptq, grid: Grid) -> None:
    case = planted(96, 24, outliers=0)
    gone = np.random.default_rng(0).random(case.weight.shape) < 0.5
    weight = np.where(gone, 0.0, case.weight).astype(np.float32)
    found = method.quantize(weight, case.statistics, grid).matrix()
    assert not found[gone].any()
    moment = damped(case.statistics.moment)
    assert output_error(found - weight, moment).sum() < output_error(Rtn().quantize(weight, case.statistics, grid).matrix() - weight, moment).sum()
