"""Hadamard and random orthogonal matrices."""

from __future__ import annotations

import numpy as np
import pytest

from graphwright.passes.quantize.orthogonal import hadamard, hadamard_order, random_hadamard, random_orthogonal


@pytest.mark.parametrize("size", [1, 2, 4, 8, 12, 20, 24, 44, 48, 64, 192, 384, 512, 768])
def test_hadamard_matrices_are_signs_with_orthogonal_rows(size: int) -> None:
    matrix = hadamard(size)
    assert set(np.unique(matrix)) <= {-1.0, 1.0}
    np.testing.assert_array_equal(matrix @ matrix.T, size * np.eye(size))


@pytest.mark.parametrize(("size", "order"), [(1, 1), (3, 1), (6, 2), (12, 12), (172, 4), (192, 192), (1000, 1000), (11008, 256), (4096, 4096), (5120, 5120)])
def test_the_greatest_known_order_that_divides_a_size(size: int, order: int) -> None:
    assert size % hadamard_order(size) == 0
    assert hadamard_order(size) >= order


def test_a_size_without_a_hadamard_matrix_is_refused() -> None:
    for size in (0, 3, 6, 172):
        with pytest.raises(ValueError, match=f"size {size}"):
            hadamard(size)


@pytest.mark.parametrize("make", [random_hadamard, random_orthogonal])
@pytest.mark.parametrize("size", [1, 3, 8, 30, 86, 192])
def test_random_ones_are_orthogonal_and_the_same_for_the_same_seed(make: object, size: int) -> None:
    first, second, other = (make(size, np.random.default_rng(seed)) for seed in (1, 1, 2))  # type: ignore[operator]
    np.testing.assert_allclose(first @ first.T, np.eye(size), atol=1e-12)
    np.testing.assert_array_equal(first, second)
    if size > 8:
        assert not np.array_equal(first, other)


@pytest.mark.parametrize("size", [64, 172, 192])
def test_an_outlier_is_spread(size: int) -> None:
    spike = np.zeros(size)
    spike[5] = 1.0
    assert np.abs(random_hadamard(size, np.random.default_rng(0)) @ spike).max() < 0.7
