"""Weights in 8-, 6- and 4-bit floating point."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphwright.compiler.core.errors import UsageError
from graphwright.passes.quantize.fp8 import FORMATS, Format, Fp8, float_book
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.rtn import Rtn


def distance(found: np.ndarray, weight: np.ndarray) -> float:
    return float(np.linalg.norm(found - weight) / np.linalg.norm(weight))


@pytest.mark.parametrize(("form", "greatest", "least"), [("e4m3", 448.0, 2.0**-9), ("e5m2", 57344.0, 2.0**-16), ("e2m1", 6.0, 0.5), ("e3m2", 28.0, 2.0**-4)])
def test_books_are_those_of_the_standards(form: Format, greatest: float, least: float) -> None:
    book = float_book(form)
    book = book[np.isfinite(book)]
    assert book.max() == greatest
    assert book[book > 0].min() == least


@pytest.mark.parametrize("form", FORMATS)
def test_codes_are_bit_patterns_and_numbers_of_the_format_come_back(form: Format) -> None:
    book = float_book(form)
    codes = np.flatnonzero(np.isfinite(book)).astype(np.uint8)
    weight = (book[codes] * 0.125)[:, None].astype(np.float32)
    found = Fp8(form).quantize(weight, None, Grid(8))
    np.testing.assert_array_equal(found.matrix(), weight)
    same = found.codes[:, 0] == codes
    assert same[weight[:, 0] != 0].all()  # Both zeros may have either code.


@pytest.mark.parametrize("form", ["e4m3", "e5m2"])
def test_small_numbers_beside_a_large_one_are_nearer_than_on_an_even_grid(form: Format) -> None:
    weight = (0.01 * np.random.default_rng(0).standard_normal((64, 8))).astype(np.float32)
    weight[5] = 20.0
    found, plain = Fp8(form).quantize(weight, None, Grid(8)), Rtn().quantize(weight, None, Grid(8))
    assert found.stored_bits == plain.stored_bits
    small = np.arange(64) != 5
    assert distance(found.matrix()[small], weight[small]) < 0.2 * distance(plain.matrix()[small], weight[small])


def test_no_number_moves_further_than_half_a_step_of_the_mantissa() -> None:
    weight = np.random.default_rng(1).standard_normal((256, 4)).astype(np.float32)
    found = Fp8().quantize(weight, None, Grid(8)).matrix()
    assert (np.abs(found - weight) <= np.maximum(np.abs(weight) * 2.0**-4, 1e-4) * (1 + 1e-5)).all()


def test_a_searched_scale_is_never_worse() -> None:
    weight = np.random.default_rng(2).standard_t(4, (128, 16)).astype(np.float32)
    plain, clipped = (Fp8("e2m1", clip).quantize(weight, None, Grid(4, True, 32)).matrix() for clip in (False, True))
    assert distance(clipped, weight) < distance(plain, weight)


def test_a_format_that_does_not_exist_is_refused() -> None:
    form: Any = "e1m6"
    with pytest.raises(UsageError, match="there is no format 'e1m6'"):
        Fp8(form).quantize(np.ones((2, 2), np.float32), None, Grid())
