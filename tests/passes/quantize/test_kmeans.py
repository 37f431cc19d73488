"""Codebooks by weighted k-means."""

from __future__ import annotations

import numpy as np

from graphwright.passes.quantize.kmeans import book_steps, cluster, nearest_codes


def distance(values: np.ndarray, books: np.ndarray, weights: np.ndarray) -> float:
    found = np.take_along_axis(books, nearest_codes(values, books).astype(np.int64), axis=0)
    return float((weights[:, None] * (values - found) ** 2).sum())


def test_planted_clusters_are_found_in_every_column() -> None:
    random = np.random.default_rng(0)
    centres = np.array([[-3.0, 0.0], [-1.0, 10.0], [2.0, 11.0], [7.0, 40.0]])
    values = centres[random.integers(0, 4, (200, 2)), [0, 1]] + 0.01 * random.standard_normal((200, 2))
    np.testing.assert_allclose(cluster(values, 4), centres, atol=0.01)


def test_the_book_is_at_least_as_good_as_scikit_learns() -> None:
    from sklearn.cluster import KMeans

    random = np.random.default_rng(1)
    values, weights = random.standard_t(4, (300, 3)), random.uniform(0.1, 5.0, 300)
    for column in range(3):
        part = values[:, column : column + 1]
        rival = np.sort(KMeans(8, n_init=3, random_state=0).fit(part, sample_weight=weights).cluster_centers_, axis=0)
        assert distance(part, cluster(part, 8, weights), weights) < 1.05 * distance(part, rival, weights)


def test_weights_draw_the_entries_to_them() -> None:
    values = np.concatenate([np.linspace(-1, 1, 100), np.linspace(5, 6, 100)])[:, None]
    weights = np.concatenate([np.full(100, 1e-6), np.ones(100)])
    assert (cluster(values, 4, weights) > 4.9).sum() >= 3


def test_few_and_equal_values_and_weights_of_zero_do_no_harm() -> None:
    for values in (np.full((5, 2), 3.0), np.array([[1.0, 2.0]]), np.zeros((4, 2))):
        for weights in (None, np.zeros(len(values))):
            books = cluster(values, 8, weights)
            assert books.shape == (8, 2)
            np.testing.assert_allclose(np.take_along_axis(books, nearest_codes(values, books).astype(np.int64), 0), values, atol=1e-12)


def test_codes_are_those_of_the_nearest_entries() -> None:
    random = np.random.default_rng(2)
    values, books = random.standard_normal((50, 4)), np.sort(random.standard_normal((8, 4)), axis=0)
    expected = np.abs(values[:, None] - books[None]).argmin(axis=1)
    np.testing.assert_array_equal(nearest_codes(values, books), expected)
    np.testing.assert_array_equal(nearest_codes(values, books[:, 0]), np.abs(values[:, None] - books[None, :, :1]).argmin(axis=1))
    np.testing.assert_array_equal(book_steps(books)(values[0]), books[expected[0], np.arange(4)])
