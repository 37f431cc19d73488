"""Small blocks with coarse scales, and single weights kept apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from graphwright.passes.quantize.coded import Affine, Sum
from graphwright.passes.quantize.gptq import Gptq
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.spqr import Spqr

Cases = Callable[..., Any]


@pytest.mark.parametrize("bits", [2, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_it_beats_gptq_that_takes_more_bits(planted: Cases, bits: int, seed: int) -> None:
    case = planted(512, 48, seed)
    found = Spqr().quantize(case.weight, case.statistics, Grid(bits, False, 16))
    plain = Gptq().quantize(case.weight, case.statistics, Grid(bits, False, 32))
    assert found.stored_bits < plain.stored_bits
    assert case.error(found.matrix()) < case.error(plain.matrix())


@pytest.mark.shared
@pytest.mark.parametrize("bits", [2, 3])
def test_it_beats_gptq_with_equal_blocks_and_fewer_bits_on_every_site_of_a_real_decoder(llama_cases: list[Any], bits: int) -> None:
    for case in llama_cases:
        found = Spqr(0.002).quantize(case.weight, case.statistics, Grid(bits, False, 16))
        plain = Gptq().quantize(case.weight, case.statistics, Grid(bits, False, 16))
        assert found.stored_bits < plain.stored_bits
        assert case.error(found.matrix()) < 1.03 * case.error(plain.matrix())


def test_weights_that_cost_too_much_are_kept(planted: Cases) -> None:
    case = planted(64, 16)
    case.weight[20, 3] = 9.0
    found = Spqr(0.002).quantize(case.weight, case.statistics, Grid(3, False, 16))
    assert isinstance(found, Sum)
    assert found.matrix()[20, 3] == pytest.approx(9.0, rel=1e-2)
    apart = Spqr(0.0).quantize(case.weight, case.statistics, Grid(3, False, 16))
    assert isinstance(apart, Affine)
    assert case.error(found.matrix()) < case.error(apart.matrix())


def test_coarse_scales_take_fewer_bits_and_stay_positive(planted: Cases) -> None:
    case = planted(512, 8)
    coarse = Spqr(0.0).quantize(case.weight, case.statistics, Grid(3, False, 16))
    assert isinstance(coarse, Affine)
    assert coarse.scale_bits == 4 + 32 * 2 / 32
    assert (coarse.scales > 0).all()
