"""Coded weights stand for what they should, and take the bits they say."""

from __future__ import annotations

import numpy as np

from graphwright.passes.quantize.coded import Affine, Binaries, Codebook, LowRank, Rows, Sparse, Sum, Turned


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


def test_binaries_are_scaled_moved_and_stretched() -> None:
    signs = np.array([[[1, -1], [-1, 1]], [[1, 1], [0, -1]]], np.int8)
    scales = np.array([[[2, 4]], [[1, 0.5]]], np.float32)
    plain = Binaries(signs, scales, block=2)
    assert np.array_equal(plain.matrix(), np.array([[3, -3.5], [-2, 3.5]], np.float32))
    assert plain.stored_bits == 8 + 4 * 16
    moved = Binaries(signs, scales, 2, offset=np.array([[1, 0]], np.float32), left=np.array([1, 10], np.float32), sign_bits=1.5)
    assert np.array_equal(moved.matrix(), np.array([[4, -3.5], [-19, 35]], np.float32))
    assert moved.stored_bits == 8 * 1.5 + (4 + 2 + 2) * 16


def test_rows_and_turned_weights_are_decoded() -> None:
    rows = Rows((3, 2), np.array([2]), np.array([[5.0, 6.0]], np.float32))
    assert np.array_equal(rows.matrix(), np.array([[0, 0], [0, 0], [5, 6]], np.float32))
    assert rows.stored_bits == 2 * 16 + 32
    swap, turn = np.eye(3)[[2, 0, 1]], np.array([[0.0, 1.0], [-1.0, 0.0]])
    turned = Turned(rows, swap, turn, seed_bits=64, stretch=np.array([2.0, 1.0, 1.0], np.float32))
    assert np.array_equal(turned.matrix(), np.array([[-3, 2.5], [0, 0], [0, 0]], np.float32))
    assert turned.stored_bits == 2 * 16 + 32 + 64 + 3 * 16


def test_scales_and_books_may_take_fewer_bits() -> None:
    scales = np.ones((1, 2), np.float32)
    assert Affine(np.ones((4, 2), np.int8), scales, None, 4, 3, scale_bits=8.5).stored_bits == 8 * 3 + 2 * 8.5
    assert Codebook(np.zeros((4, 2), np.uint8), np.ones(16, np.float32), 4, scales, 4, scale_bits=16, book_bits=0).stored_bits == 8 * 4 + 2 * 16
