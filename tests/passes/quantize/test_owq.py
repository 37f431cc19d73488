"""Weak rows in half precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphwright.passes.quantize.coded import Rows
from graphwright.passes.quantize.gptq import Gptq
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.owq import Owq
from graphwright.passes.quantize.rtn import Rtn

Cases = Callable[..., Any]


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_it_beats_gptq_over_a_few_seeds_for_less_than_a_fifth_of_a_bit(planted: Cases, bits: int) -> None:
    grid, ratios = Grid(bits, False), []
    for case in (planted(256, 64, seed) for seed in range(4)):
        found, plain = (method.quantize(case.weight, case.statistics, grid) for method in (Owq(), Gptq()))
        assert found.stored_bits < plain.stored_bits + 0.2 * case.weight.size
        ratios.append(case.error(found.matrix()) / case.error(plain.matrix()))
    assert np.log(ratios).mean() < 0


@pytest.mark.shared
@pytest.mark.parametrize("bits", [2, 3])
def test_it_beats_gptq_on_every_site_of_a_real_decoder_for_a_row_in_half_precision(llama_cases: list[Any], bits: int) -> None:
    for case in llama_cases:
        found, plain = (method.quantize(case.weight, case.statistics, Grid(bits, False)) for method in (Owq(), Gptq()))
        assert found.stored_bits - plain.stored_bits <= 2 * (16 * case.weight.shape[1] + 32)
        assert case.error(found.matrix()) < case.error(plain.matrix())


def test_the_inputs_with_outliers_are_the_weak_ones(planted: Cases) -> None:
    case = planted(96, 32, outliers=3)
    loud = np.sort(np.argsort(-np.diagonal(case.statistics.moment))[:3])
    part = Owq(3 / 96).quantize(case.weight, case.statistics, Grid(3)).parts[1]
    assert isinstance(part, Rows)
    np.testing.assert_array_equal(part.rows, loud)


def test_a_share_of_one_is_half_precision(planted: Cases) -> None:
    case = planted(20, 6)
    np.testing.assert_allclose(Owq(1.0).quantize(case.weight, case.statistics, Grid(2)).matrix(), case.weight, rtol=1e-3, atol=1e-4)


def test_a_weight_on_the_grid_comes_back(planted: Cases) -> None:
    case = planted()
    once = Rtn().quantize(case.weight, None, Grid(4, False, 8)).matrix()
    found = Owq().quantize(once, case.statistics, Grid(4, False, 8)).matrix()
    np.testing.assert_allclose(found, once, rtol=1e-3, atol=1e-6)
