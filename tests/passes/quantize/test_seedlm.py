"""Blocks made again from seeds."""

from __future__ import annotations

import numpy as np
import pytest

from graphwright.compiler.core.errors import UsageError
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.rtn import Rtn
from graphwright.passes.quantize.seedlm import TAPS, SeedLm, register_cycle


def gaussian(rows: int = 64, columns: int = 16) -> np.ndarray:
    return (0.02 * np.random.default_rng(0).standard_normal((rows, columns))).astype(np.float32)


def distance(found: np.ndarray, weight: np.ndarray) -> float:
    return float(np.linalg.norm(found - weight) / np.linalg.norm(weight))


@pytest.mark.parametrize("bits", TAPS)
def test_a_register_goes_through_every_state(bits: int) -> None:
    states = register_cycle(bits)
    np.testing.assert_array_equal(np.sort(states), np.arange(1, 2**bits))


@pytest.mark.parametrize("bits", [3, 4])
def test_at_equal_bits_it_beats_rtn_with_one_scale(bits: int) -> None:
    weight = gaussian(96, 12)
    found, plain = SeedLm().quantize(weight, None, Grid(bits)), Rtn().quantize(weight, None, Grid(bits, block=-1))
    assert found.stored_bits <= plain.stored_bits
    assert distance(found.matrix(), weight) < distance(plain.matrix(), weight)


def test_more_seeds_and_more_bits_are_nearer() -> None:
    weight = gaussian()
    errors = [distance(SeedLm(seeds).quantize(weight, None, Grid(4)).matrix(), weight) for seeds in (8, 10, 12)]
    assert errors == sorted(errors, reverse=True)
    errors = [distance(SeedLm(10).quantize(weight, None, Grid(bits)).matrix(), weight) for bits in (2, 3, 4)]
    assert errors == sorted(errors, reverse=True)


def test_bits_are_seeds_coefficients_and_exponents() -> None:
    assert SeedLm(12).quantize(gaussian(20, 3), None, Grid(4)).stored_bits == 9 * (12 + 3 * 4 + 4) + 8
    assert SeedLm(8).quantize(gaussian(24, 3), None, Grid(8)).stored_bits == 9 * (8 + 3 * 4 + 4) + 8


def test_the_unit_of_the_weight_does_not_matter() -> None:
    weight = gaussian()
    one, other = (SeedLm(8).quantize(weight * np.float32(scale), None, Grid(4)).matrix() / scale for scale in (1.0, 1024.0))
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_what_has_no_layout_is_refused() -> None:
    with pytest.raises(UsageError, match="no layout for 1 bits"):
        SeedLm(8).quantize(gaussian(), None, Grid(1))
    with pytest.raises(UsageError, match="no register of 9 bits"):
        SeedLm(9).quantize(gaussian(), None, Grid(4))
