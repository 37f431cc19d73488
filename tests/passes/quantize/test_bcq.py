"""Sums of sign matrices, with and without an offset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphwright.passes.quantize.bcq import Bcq
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.lut_gemm import LutGemm
from graphwright.passes.quantize.rtn import Rtn

Cases = Callable[..., Any]


def distance(found: np.ndarray, weight: np.ndarray) -> float:
    return float(np.linalg.norm(found - weight) / np.linalg.norm(weight))


@pytest.mark.parametrize("bits", [1, 2, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_bcq_beats_rtn_that_takes_more_bits(bits: int, seed: int) -> None:
    weight = np.random.default_rng(seed).standard_normal((256, 32)).astype(np.float32)
    found, plain = Bcq().quantize(weight, None, Grid(bits, block=128)), Rtn("mse").quantize(weight, None, Grid(bits, block=128 >> bits))
    assert found.stored_bits < plain.stored_bits
    if bits > 1:
        plain = Rtn("mse").quantize(weight, None, Grid(bits, block=128))
    assert distance(found.matrix(), weight) < distance(plain.matrix(), weight)


@pytest.mark.shared
@pytest.mark.parametrize("bits", [2, 3])
def test_both_beat_rtn_on_most_sites_of_a_real_decoder(llama_cases: list[Any], bits: int) -> None:
    plain = [case.error(Rtn("mse").quantize(case.weight, None, Grid(bits, False)).matrix()) for case in llama_cases]
    for method in (Bcq(), LutGemm()):
        found = [case.error(method.quantize(case.weight, case.statistics, Grid(bits)).matrix()) for case in llama_cases]
        assert sum(one < other for one, other in zip(found, plain, strict=True)) >= 3
        assert np.log(found).mean() < np.log(plain).mean()


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("block", [0, 24])
def test_with_an_offset_it_is_never_further_than_an_asymmetric_grid(planted: Cases, bits: int, block: int) -> None:
    weight = planted(96, 16).weight + np.float32(0.1)
    found, plain = LutGemm().quantize(weight, None, Grid(bits, False, block)), Rtn().quantize(weight, None, Grid(bits, False, block))
    assert distance(found.matrix(), weight) < distance(plain.matrix(), weight)


def test_planted_binaries_come_back() -> None:
    random = np.random.default_rng(0)
    signs, scales = random.choice([-1.0, 1.0], (3, 64, 8)), np.array([4.0, 1.5, 0.5])
    weight = np.einsum("ikm,i->km", signs, scales).astype(np.float32)
    np.testing.assert_allclose(Bcq().quantize(weight, None, Grid(3)).matrix(), weight, rtol=1e-3, atol=1e-3)
    even = np.einsum("ikm,i->km", signs, [2.0, 1.0, 0.5]).astype(np.float32) + np.float32(1.75)
    np.testing.assert_allclose(LutGemm().quantize(even, None, Grid(3)).matrix(), even, rtol=1e-3, atol=2e-3)


def test_what_the_inputs_weigh_counts(planted: Cases) -> None:
    case = planted(96, 16)
    blind, seeing = (Bcq().quantize(case.weight, statistics, Grid(2)) for statistics in (None, case.statistics))
    assert case.error(seeing.matrix()) < case.error(blind.matrix())


def test_bits_are_signs_and_half_precision_scales() -> None:
    weight = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    assert Bcq().quantize(weight, None, Grid(3, block=16)).stored_bits == 3 * 200 + 3 * 4 * 4 * 16
    assert LutGemm().quantize(weight, None, Grid(3, block=16)).stored_bits == 3 * 200 + (3 + 1) * 4 * 4 * 16
