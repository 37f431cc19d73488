"""What rounding weights does to the mean of each output channel, and taking it back."""

from __future__ import annotations

import numpy as np

from graphwright.compiler.core.statistics import SiteStatistics
from graphwright.passes.quantize.bias_correction import corrected_bias, mean_error
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.rtn import Rtn


def statistics_of(rows: np.ndarray) -> SiteStatistics:
    exact = rows.astype(np.float64)
    ends = exact.min(axis=0), exact.max(axis=0), np.abs(exact).max(axis=0), np.abs(exact).mean(axis=0)
    return SiteStatistics(exact.T @ exact / len(rows), *ends, exact.mean(axis=0), rows.astype(np.float32), len(rows))


def test_the_mean_of_every_channel_comes_back_exactly() -> None:
    generator = np.random.default_rng(0)
    rows, weight = generator.random((200, 12)) + 0.5, generator.standard_normal((2, 6, 5)).astype(np.float32)
    parts = rows[:, :6], rows[:, 6:]
    coarse = np.stack([Rtn().quantize(group, None, Grid(3)).matrix() for group in weight])
    known = [statistics_of(part) for part in parts]
    bias = corrected_bias(np.arange(10.0), coarse - weight, known)
    exact = np.concatenate([part @ group for part, group in zip(parts, weight, strict=True)], axis=1) + np.arange(10.0)
    found = np.concatenate([part @ group for part, group in zip(parts, coarse, strict=True)], axis=1) + bias
    np.testing.assert_allclose(found.mean(axis=0), exact.mean(axis=0), atol=1e-9)
    uncorrected = found - bias + np.arange(10.0)
    assert np.abs(uncorrected.mean(axis=0) - exact.mean(axis=0)).max() > 0.05
    assert np.square(found - exact).sum() < np.square(uncorrected - exact).sum()


def test_weights_that_lost_nothing_need_no_correction() -> None:
    known = [statistics_of(np.ones((3, 4)))]
    np.testing.assert_array_equal(corrected_bias(None, np.zeros((1, 4, 2)), known), np.zeros(2))
    np.testing.assert_array_equal(mean_error(np.ones((1, 4, 2)), known), np.full(2, 4.0))
