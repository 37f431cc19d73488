"""Ranges of activations: where they end, checked against trying every end."""

from __future__ import annotations

import numpy as np
import pytest

from graphwright.compiler.core.errors import UsageError
from graphwright.compiler.core.statistics import Histogram, Range
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.ranges import fit_range, hull

BYTE = Grid(8, symmetric=False)
SIGNED = Grid(8, symmetric=True)


def seen(values: np.ndarray, bins: int = 4096) -> Range:
    counts, edges = np.histogram(values.astype(np.float64), bins)
    return Range(float(values.min()), float(values.max()), Histogram(counts, edges))


def ends(found: Range, grid: Grid, how: str, percentile: float = 99.9, slope: float = 1.0) -> tuple[float, float]:
    steps = fit_range(found, grid, how, percentile, slope)
    zero = 0 if steps.zeros is None else int(steps.zeros[0, 0])
    return (grid.low - zero) * float(steps.scales[0, 0]), (grid.high - zero) * float(steps.scales[0, 0])


def squared_error(values: np.ndarray, low: float, high: float) -> float:
    scale = max((high - low) / 255, 1e-12)
    zero = np.rint(-low / scale)
    codes = np.clip(np.rint(values / scale) + zero, 0, 255)
    return float(np.square((codes - zero) * scale - values).sum())


def heavy(seed: int = 0, count: int = 20_000) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(3, count)


def test_minmax_reaches_both_extremes_and_zero() -> None:
    low, high = ends(seen(np.linspace(2.0, 5.0, 100)), BYTE, "minmax")
    assert low == 0.0
    assert high == pytest.approx(5.0, rel=1e-6)


def test_zero_has_a_code_of_its_own_whatever_the_range() -> None:
    for seed in range(5):
        steps = fit_range(seen(heavy(seed)), BYTE, "mse")
        assert steps.zeros is not None
        assert 0 <= int(steps.zeros[0, 0]) <= 255


def test_squared_error_is_within_two_percent_of_the_best_of_all_pairs_of_ends() -> None:
    values = np.concatenate([heavy(1), np.maximum(heavy(2), 0.0)])
    found = seen(values)
    low, high = ends(found, BYTE, "mse")
    shares = np.geomspace(0.02, 1.0, 60)
    best = min(squared_error(values, found.low * one, found.high * other) for one in shares for other in shares)
    assert squared_error(values, low, high) <= 1.02 * best
    assert squared_error(values, low, high) <= squared_error(values, found.low, found.high)


def test_squared_error_gives_up_a_lone_outlier() -> None:
    values = np.append(np.random.default_rng(6).standard_normal(200_000), 30.0)
    low, high = ends(seen(values), BYTE, "mse")
    assert squared_error(values, low, high) < 0.8 * squared_error(values, values.min(), values.max())


def test_a_percentile_leaves_out_that_share_of_the_numbers() -> None:
    values = heavy(3)
    low, high = ends(seen(values), BYTE, "percentile", 99.0)
    outside = np.mean((values < low) | (values > high))
    assert 0.005 < outside < 0.015


def test_entropy_keeps_what_a_relu_makes_and_drops_a_lone_outlier() -> None:
    values = np.append(np.maximum(np.random.default_rng(4).standard_normal(200_000), 0.0), 100.0)
    _, high = ends(seen(values), BYTE, "entropy")
    assert 2.0 < high < 20.0


def test_what_a_leaky_relu_shrinks_may_be_clipped() -> None:
    values = np.random.default_rng(5).standard_normal(20_000) * 10
    plain = ends(seen(values), BYTE, "mse")
    leaky = ends(seen(values), BYTE, "mse", slope=0.1)
    assert abs(leaky[0]) < 0.8 * abs(plain[0])


def test_a_symmetric_grid_has_its_zero_in_the_middle() -> None:
    steps = fit_range(seen(np.linspace(-1.0, 3.0, 1000)), SIGNED, "minmax")
    assert steps.zeros is None
    assert float(steps.scales[0, 0]) == pytest.approx(3.0 / 127)


@pytest.mark.parametrize("how", ["minmax", "percentile", "mse", "entropy"])
def test_a_value_that_is_always_zero_has_a_usable_scale(how: str) -> None:
    steps = fit_range(Range(0.0, 0.0, Histogram(np.array([5]), np.array([0.0, 0.0]))), BYTE, how)
    assert float(steps.scales[0, 0]) > 0.0


@pytest.mark.parametrize("how", ["minmax", "percentile", "mse", "entropy"])
def test_a_histogram_without_counts_falls_back_to_the_extremes(how: str) -> None:
    empty = Range(-1.0, 2.0, Histogram(np.zeros(8, np.int64), np.linspace(-1, 2, 9)))
    assert ends(empty, BYTE, how)[1] == pytest.approx(2.0, rel=0.01)


def test_an_unknown_way_and_an_impossible_percentile_are_refused() -> None:
    with pytest.raises(UsageError, match="no way 'best'"):
        fit_range(seen(heavy()), BYTE, "best")
    with pytest.raises(UsageError, match="percentile 40"):
        fit_range(seen(heavy()), BYTE, "percentile", 40.0)


def test_the_hull_of_ranges_counts_every_number_once() -> None:
    one, other = seen(np.linspace(-1, 0, 500), 64), seen(np.linspace(0, 4, 700), 32)
    found = hull([one, other])
    assert (found.low, found.high) == (-1.0, 4.0)
    assert found.histogram.counts.sum() == 1200
    middles = (found.histogram.edges[:-1] + found.histogram.edges[1:]) / 2
    assert found.histogram.counts[middles < 0].sum() == pytest.approx(500, abs=20)
