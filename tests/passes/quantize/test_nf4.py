"""Normal quantiles, bitsandbytes' 4-bit float, and scales quantised twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.nf4 import Nf4, normal_book, twice_quantised
from graphwright.passes.quantize.rtn import Rtn

Cases = Callable[..., Any]

# The data type as the QLoRA paper prints it (appendix E).
PUBLISHED = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip


def gaussian(seed: int = 0) -> np.ndarray:
    return (0.02 * np.random.default_rng(seed).standard_normal((512, 64))).astype(np.float32)


def distance(found: np.ndarray, weight: np.ndarray) -> float:
    return float(np.linalg.norm(found - weight) / np.linalg.norm(weight))


def test_the_book_is_the_published_one() -> None:
    np.testing.assert_allclose(normal_book(4), PUBLISHED, atol=1e-6)


@pytest.mark.parametrize("bits", [1, 2, 3, 5, 8])
def test_other_widths_rise_from_minus_one_to_one_through_zero(bits: int) -> None:
    book = normal_book(bits)
    assert len(book) == 2**bits
    assert (np.diff(book) > 0).all()
    assert (book[0], book[-1]) == (-1.0, 1.0)
    assert bits == 1 or 0.0 in book


@pytest.mark.parametrize("seed", [0, 1])
def test_on_gaussian_weights_it_beats_rtn_at_equal_bits(seed: int) -> None:
    weight, grid = gaussian(seed), Grid(4, True, 64)
    found, plain = Nf4().quantize(weight, None, grid), Rtn().quantize(weight, None, grid)
    assert found.stored_bits == plain.stored_bits
    assert distance(found.matrix(), weight) < 0.92 * distance(plain.matrix(), weight)


def test_clipped_and_quantised_twice_it_beats_the_best_rtn_that_takes_more_bits() -> None:
    weight = gaussian()
    found = Nf4(twice=True, clip=True).quantize(weight, None, Grid(4, True, 32))
    for symmetric in (True, False):
        plain = Rtn("mse").quantize(weight, None, Grid(4, symmetric, 64))
        assert found.stored_bits < plain.stored_bits
        assert distance(found.matrix(), weight) < distance(plain.matrix(), weight)


@pytest.mark.shared
def test_it_beats_rtn_with_the_same_clipping_on_most_sites_of_a_real_decoder(llama_cases: list[Any]) -> None:
    grid = Grid(4, True, 32)
    wins = [
        case.error(Nf4(twice=True).quantize(case.weight, None, grid).matrix()) < case.error(Rtn().quantize(case.weight, None, grid).matrix())
        for case in llama_cases
    ]
    assert sum(wins) >= 2  # These weights are nearer to evenly spread than to normal ones.


def test_quantising_the_scales_twice_costs_less_than_nine_bits_a_scale_and_hardly_any_error() -> None:
    weight = gaussian()
    once, twice = (Nf4(twice=each).quantize(weight, None, Grid(4, True, 64)) for each in (False, True))
    assert twice.scales is not None
    assert twice.stored_bits <= weight.size * 4 + twice.scales.size * 9
    assert distance(twice.matrix(), weight) < 1.02 * distance(once.matrix(), weight)


def test_scales_that_differ_a_thousandfold_stay_positive() -> None:
    scales = np.geomspace(1e-3, 1.0, 700).reshape(7, 100).astype(np.float32)
    found, bits = twice_quantised(scales)
    assert (found > 0).all()
    assert bits == 8 + 4 * 32 / 700


def test_a_weight_on_the_book_comes_back() -> None:
    random = np.random.default_rng(0)
    codes = random.integers(0, 16, (128, 16))
    codes[::64] = 15
    weight = normal_book(4)[codes] * 0.37
    for clip in (False, True):
        found = Nf4(clip=clip).quantize(weight.astype(np.float32), None, Grid(4, True, 64))
        np.testing.assert_array_equal(found.codes, codes)
        np.testing.assert_allclose(found.matrix(), weight, rtol=1e-6)


def test_fp4_codes_are_bitsandbytes() -> None:
    weight = np.array([[1.0], [0.25], [2 / 3], [-0.5], [0.0], [-1.0]], np.float32)
    found = Nf4("float").quantize(weight, None, Grid(4))
    assert found.codes.ravel().tolist()[:4] == [3, 7, 2, 13]
    np.testing.assert_allclose(found.matrix(), weight, rtol=1e-6)
