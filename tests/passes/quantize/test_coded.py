"""Coded weights stand for what they should, and take the bits they say."""

from __future__ import annotations

import numpy as np

from graphwright.passes.quantize.coded import Affine, Codebook, LowRank, Sparse, Sum


def test_a_short_last_block_has_its_own_scale() -> None:
    coded = Affine(np.ones((5, 2), np.int8), np.array([[1, 2], [10, 20]], np.float32), np.array([[0, 0], [0, 3]], np.int8), block=3, bits=4)
    expected = np.array([[1, 2]] * 3 + [[10, -40]] * 2, np.float32)
    assert np.array_equal(coded.matrix(), expected)
    assert coded.stored_bits == 10 * 4 + 4 * 32 + 4 * 4


def test_a_codebook_may_be_one_for_each_column() -> None:
    codes = np.array([[0, 1], [1, 0]], np.uint8)
    book = np.array([[1, 10], [2, 20]], np.float32)
    assert np.array_equal(Codebook(codes, book, 1).matrix(), np.array([[1, 20], [2, 10]], np.float32))
    assert np.array_equal(Codebook(codes, book[:, 0], 1).matrix(), np.array([[1, 2], [2, 1]], np.float32))


def test_parts_add_up() -> None:
    left, right = np.array([[1.0], [2.0]], np.float32), np.array([[3.0, 4.0]], np.float32)
    outlier = Sparse((2, 2), np.array([3]), np.array([0.5], np.float32))
    both = Sum((LowRank(left, right), outlier))
    assert np.array_equal(both.matrix(), np.array([[3, 4], [6, 8.5]], np.float32))
    assert both.stored_bits == 4 * 16 + (16 + 32)
