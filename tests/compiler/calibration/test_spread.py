"""A histogram that widens never loses a number, nor how they are spread."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphwright.compiler.calibration.spread import BINS, Spread


def collected(*arrays: np.ndarray) -> Spread:
    """A spread of several arrays."""
    spread = Spread()
    for array in arrays:
        spread.add(array)
    return spread


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20), min_size=1, max_size=8))
def test_every_number_is_counted_in_the_bin_it_lies_in(batches: list[list[float]]) -> None:
    found = collected(*(np.array(batch, np.float32) for batch in batches)).range()
    assert found is not None
    numbers = np.concatenate([np.array(batch, np.float32) for batch in batches]).astype(np.float64)
    assert (found.low, found.high) == (numbers.min(), numbers.max())
    counts, edges = found.histogram.counts, found.histogram.edges
    assert counts.sum() == len(numbers) and len(edges) == len(counts) + 1
    assert edges[0] <= found.low and edges[-1] >= found.high
    slack = 2e-3 * (edges[1:] - edges[:-1]).max() + 1e-30
    for below in range(len(counts) + 1):
        reached = int(counts[:below].sum())
        assert (numbers < edges[below] - slack).sum() <= reached <= (numbers <= edges[below] + slack).sum()


def test_the_range_of_many_numbers_has_thousands_of_bins() -> None:
    rng = np.random.default_rng(0)
    found = collected(*(rng.standard_normal(1000, dtype=np.float32) * scale for scale in (0.01, 1, 0.1, 3))).range()
    assert found is not None
    assert BINS / 2 < len(found.histogram.counts) <= BINS


def test_percentiles_are_those_of_the_numbers() -> None:
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal(20_000, dtype=np.float32) for _ in range(5)]
    found = collected(*arrays).range()
    assert found is not None
    share = np.cumsum(found.histogram.counts) / found.histogram.counts.sum()
    read = np.interp([0.001, 0.5, 0.999], share, found.histogram.edges[1:])
    width = found.histogram.edges[1] - found.histogram.edges[0]
    np.testing.assert_allclose(read, np.quantile(np.concatenate(arrays), [0.001, 0.5, 0.999]), atol=2 * width)


def test_what_is_no_number_is_left_out_and_counted() -> None:
    found = collected(np.array([1, np.nan, 3, np.inf, -np.inf], np.float32), np.array([np.nan], np.float32)).range()
    assert found is not None
    assert (found.low, found.high, found.strange, found.histogram.counts.sum()) == (1, 3, 4, 2)


def test_a_constant_has_one_bin() -> None:
    found = collected(np.full(7, 0.1, np.float32), np.full(5, 0.1, np.float32)).range()
    assert found is not None
    assert found.low == found.high == float(np.float32(0.1)) and found.histogram.counts.tolist() == [12]


@pytest.mark.parametrize("arrays", [[], [np.zeros((0, 3), np.float32)], [np.full(3, np.nan)]])
def test_without_a_finite_number_there_is_no_range(arrays: list[np.ndarray]) -> None:
    assert collected(*arrays).range() is None


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16, np.int8, np.uint8, np.int64, np.bool_])
def test_every_type_of_number_is_taken(dtype: type) -> None:
    found = collected(np.array([[0, 1], [1, 1]]).astype(dtype)).range()
    assert found is not None
    assert (found.low, found.high) == (0, 1) and found.histogram.counts[-1] == 3


def test_numbers_of_any_size_stand_beside_each_other() -> None:
    found = collected(*(np.array([number]) for number in (1e-300, -3e38, 1e200, 0.0, 5e-324))).range()
    assert found is not None
    assert (found.low, found.high, found.histogram.counts.sum()) == (-3e38, 1e200, 5)
