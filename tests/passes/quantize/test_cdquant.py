"""Weights of few rows rounded together."""

from __future__ import annotations

import numpy as np
import pytest

from graphwright.compiler.core.statistics import SiteStatistics
from graphwright.passes.quantize.cdquant import descend_columns
from graphwright.passes.quantize.gptq import Gptq
from graphwright.passes.quantize.grid import Grid

GRID = Grid(8, True, 0)


def neighbours(groups: int, width: int, seed: int = 0) -> np.ndarray:
    """Second moments [G, K, K] of inputs that are alike, as pixels side by side are."""
    random = np.random.default_rng(seed)
    rows = random.standard_normal((groups, 300, width)) + 2 * random.standard_normal((groups, 300, 1))
    return np.einsum("gnk,gnl->gkl", rows, rows) / 300


def loss(found: np.ndarray, weight: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """[G, M]."""
    error = found - weight
    return np.asarray((error * (moments @ error)).sum(axis=1))


@pytest.mark.parametrize(("groups", "width", "columns"), [(40, 9, 1), (3, 25, 4), (1, 16, 12)])
def test_it_is_closer_than_gptq_where_rows_are_few(groups: int, width: int, columns: int) -> None:
    moments = neighbours(groups, width)
    weight = np.random.default_rng(1).standard_normal((groups, width, columns)).astype(np.float32)
    codes, scales = descend_columns(weight, moments, GRID)
    ours = loss(codes * scales[:, None, :], weight, moments).sum()
    none = np.zeros(width)
    known = [SiteStatistics(moment, none, none, none, none, none, np.zeros((0, width), np.float32), 300) for moment in moments]
    theirs = sum(loss(Gptq().quantize(*pair, GRID).matrix()[None], pair[0][None], pair[1].moment[None]).sum() for pair in zip(weight, known, strict=True))
    assert ours < theirs


def test_codes_lie_on_the_grid_and_scales_are_float32() -> None:
    weight = np.random.default_rng(2).standard_normal((5, 9, 2)).astype(np.float32)
    codes, scales = descend_columns(weight, neighbours(5, 9), GRID)
    assert codes.dtype == np.int32 and GRID.low <= codes.min() and codes.max() <= GRID.high
    assert np.array_equal(scales, scales.astype(np.float32))


def test_independent_inputs_are_rounded_at_least_as_well_as_to_nearest() -> None:
    weight = np.random.default_rng(3).standard_normal((4, 9, 3)).astype(np.float32)
    moments = np.broadcast_to(np.eye(9), (4, 9, 9))
    codes, scales = descend_columns(weight, moments, GRID)
    plain = np.abs(weight).max(axis=1) / GRID.high
    nearest = np.rint(weight / plain[:, None, :]) * plain[:, None, :]
    assert (loss(codes * scales[:, None, :], weight, moments) <= loss(nearest, weight, moments) * (1 + 1e-4)).all()


def test_weights_and_inputs_of_nothing_but_zeros_are_coded_as_zeros() -> None:
    codes, scales = descend_columns(np.zeros((2, 9, 1), np.float32), np.zeros((2, 9, 9)), GRID)
    assert not codes.any() and np.isfinite(scales).all() and (scales > 0).all()
