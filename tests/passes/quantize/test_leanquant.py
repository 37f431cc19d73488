"""Steps where the loop of error feedback needs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphwright.passes.quantize.coded import Affine, Codebook
from graphwright.passes.quantize.gptq import Gptq
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.hessian import output_error
from graphwright.passes.quantize.leanquant import LeanQuant

Cases = Callable[..., Any]


@pytest.mark.parametrize("bits", [2, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_free_steps_beat_gptq_that_takes_more_bits(planted: Cases, bits: int, seed: int) -> None:
    case = planted(512, 32, seed)
    found = LeanQuant("free").quantize(case.weight, case.statistics, Grid(bits))
    plain = Gptq().quantize(case.weight, case.statistics, Grid(bits, False, 128))
    assert isinstance(found, Codebook)
    assert found.stored_bits < plain.stored_bits
    assert case.error(found.matrix()) < case.error(plain.matrix())


@pytest.mark.parametrize("bits", [2, 3])
def test_even_steps_beat_gptq_at_equal_bits_over_a_few_seeds(planted: Cases, bits: int) -> None:
    ratios, grid = [], Grid(bits)
    for case in (planted(128, 32, seed) for seed in range(4)):
        found, plain = (method.quantize(case.weight, case.statistics, grid) for method in (LeanQuant("even"), Gptq()))
        assert found.stored_bits == plain.stored_bits
        ratios.append(case.error(found.matrix()) / case.error(plain.matrix()))
    assert np.log(ratios).mean() < 0


@pytest.mark.parametrize("block", [0, 32])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_no_column_is_further_off_than_with_the_steps_of_one_weighting(planted: Cases, bits: int, symmetric: bool, block: int) -> None:
    case, grid = planted(96, 24), Grid(bits, symmetric, block)
    moment = case.statistics.moment
    found = output_error(LeanQuant("even").quantize(case.weight, case.statistics, grid).matrix() - case.weight, moment)
    plain = output_error(LeanQuant("even", power=4.0, sweeps=3).quantize(case.weight, case.statistics, grid).matrix() - case.weight, moment)
    gptq = output_error(Gptq().quantize(case.weight, case.statistics, grid).matrix() - case.weight, moment)
    assert (found <= plain * (1 + 1e-6)).all()
    assert (found <= gptq * (1 + 1e-6)).all()
    assert found.sum() < 0.999 * gptq.sum()


@pytest.mark.shared
@pytest.mark.parametrize("bits", [2, 3])
def test_free_steps_beat_even_ones_on_every_site_of_a_real_decoder(llama_cases: list[Any], bits: int) -> None:
    for case in llama_cases:
        free, even = (LeanQuant(steps).quantize(case.weight, case.statistics, Grid(bits, False)) for steps in ("free", "even"))  # type: ignore[arg-type]
        assert case.error(free.matrix()) < case.error(even.matrix())


def test_a_book_that_would_cost_more_than_an_eighth_of_a_bit_is_left_out(planted: Cases) -> None:
    case = planted(512, 12)
    assert isinstance(LeanQuant().quantize(case.weight, case.statistics, Grid(2)), Codebook)
    assert isinstance(LeanQuant().quantize(case.weight, case.statistics, Grid(3)), Affine)


def test_a_weight_of_eight_values_comes_back_at_three_bits(planted: Cases) -> None:
    case = planted(128, 8)
    values = np.array([-1.5, -0.75, -0.25, 0.125, 0.5, 1.0, 2.0, 3.0], np.float32)
    weight = values[np.random.default_rng(0).integers(0, 8, (128, 8))]
    np.testing.assert_array_equal(LeanQuant("free").quantize(weight, case.statistics, Grid(3)).matrix(), weight)
