"""Rounding to nearest, its clippings and its edge cases."""

from __future__ import annotations

import numpy as np
import pytest

from graphwright.compiler.core.errors import ModelError, UsageError
from graphwright.passes.quantize.clipping import Clipping, fit_steps
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.rtn import Rtn

CLIPPINGS: tuple[Clipping, ...] = ("minmax", "percentile", "mse", "entropy")
GRIDS = [Grid(bits, symmetric, block) for bits in (2, 3, 4, 8) for symmetric in (True, False) for block in (-1, 0, 7, 16)]


def heavy_tailed(rows: int = 64, columns: int = 24, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(4, (rows, columns)).astype(np.float32)


def error(found: np.ndarray, weight: np.ndarray) -> float:
    return float(np.linalg.norm(found - weight) / np.linalg.norm(weight))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_no_number_moves_further_than_half_a_step_plus_the_zero_points_own_rounding(grid: Grid) -> None:
    weight = heavy_tailed()
    coded = Rtn().quantize(weight, None, grid)
    steps = fit_steps(weight, grid)
    scales = steps.scales if len(steps.scales) == 1 else np.repeat(steps.scales, grid.block or 64, axis=0)[:64]
    assert np.abs(coded.matrix() - weight).max() <= (1.0 + 1e-4) * scales.max() * (0.5 if grid.symmetric else 1.0)
    assert coded.codes.min() >= grid.low
    assert coded.codes.max() <= grid.high


@pytest.mark.parametrize("clipping", CLIPPINGS)
@pytest.mark.parametrize("grid", [grid for grid in GRIDS if grid.bits in (2, 4, 8)], ids=str)
def test_a_weight_on_the_grid_comes_back(grid: Grid, clipping: Clipping) -> None:
    once = Rtn().quantize(heavy_tailed(), None, grid).matrix()
    if clipping in ("percentile", "entropy") and grid.bits == 8:
        return  # Both cut the far ends off on purpose.
    again = Rtn(clipping, percentile=100.0).quantize(once, None, grid).matrix()
    np.testing.assert_allclose(again, once, rtol=1e-6, atol=0)


@pytest.mark.parametrize("grid", [grid for grid in GRIDS if grid.bits <= 4], ids=str)
def test_clipping_by_squared_error_is_nearer_than_the_extremes(grid: Grid) -> None:
    weight = heavy_tailed(200, 32)
    assert error(Rtn("mse").quantize(weight, None, grid).matrix(), weight) < error(Rtn().quantize(weight, None, grid).matrix(), weight)


@pytest.mark.parametrize("clipping", ["percentile", "entropy"])
def test_the_other_clippings_are_nearer_than_the_extremes_at_three_bits_per_tensor(clipping: Clipping) -> None:
    weight, grid = heavy_tailed(200, 96), Grid(3, block=-1)
    assert error(Rtn(clipping).quantize(weight, None, grid).matrix(), weight) < error(Rtn().quantize(weight, None, grid).matrix(), weight)


def test_the_importance_of_rows_moves_the_clipping_towards_them() -> None:
    weight = heavy_tailed(128, 8)
    importance = np.where(np.abs(weight).max(axis=1) > 4, 0.0, 1.0)
    grid = Grid(3)
    plain, weighted = (fit_steps(weight, grid, "mse", importance=each).rounded(weight) for each in (None, importance))
    assert (importance[:, None] * (weighted - weight) ** 2).sum() < (importance[:, None] * (plain - weight) ** 2).sum()


@pytest.mark.parametrize("clipping", CLIPPINGS)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("block", [-1, 0, 4])
@pytest.mark.parametrize(
    "weight",
    [np.zeros((5, 3)), np.full((5, 3), 0.25), np.full((1, 1), -7.0), np.full((6, 1), 65504.0), np.full((1, 6), 1e-41), np.full((3, 2), 3e38)],
    ids=["zeros", "constant", "one", "float16-max", "subnormal", "huge"],
)
def test_flat_weights_come_back(weight: np.ndarray, clipping: Clipping, symmetric: bool, block: int) -> None:
    weight = weight.astype(np.float32)
    found = Rtn(clipping).quantize(weight, None, Grid(4, symmetric, block)).matrix()
    np.testing.assert_allclose(found, weight, rtol=1e-6, atol=1e-37)


def test_a_finer_grid_is_never_further() -> None:
    weight = heavy_tailed()
    errors = [error(Rtn("mse").quantize(weight, None, Grid(bits)).matrix(), weight) for bits in (2, 3, 4, 6, 8)]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("strange", [np.nan, np.inf])
def test_strange_numbers_are_refused(strange: float) -> None:
    weight = heavy_tailed()
    weight[3, 4] = strange
    with pytest.raises(ModelError, match="1 of 1536 elements of the weight are NaN or infinite"):
        Rtn().quantize(weight, None, Grid())


def test_grids_and_clippings_that_do_not_exist_are_refused() -> None:
    weight = heavy_tailed()
    for grid in (Grid(0), Grid(17), Grid(4, block=-2)):
        with pytest.raises(UsageError, match="there is no"):
            Rtn().quantize(weight, None, grid)
    with pytest.raises(UsageError, match="there is no clipping 'best'"):
        Rtn("best").quantize(weight, None, Grid())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="percentile 40 leaves nothing"):
        Rtn("percentile", 40.0).quantize(weight, None, Grid())
