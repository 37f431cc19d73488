"""Sensitivity-weighted codebooks with a sparse part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from graphwright.passes.quantize.coded import Codebook, Sum
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.rtn import Rtn
from graphwright.passes.quantize.squeezellm import SqueezeLlm

Cases = Callable[..., Any]


@pytest.mark.parametrize(("bits", "block"), [(2, 32), (3, 32)])
def test_it_beats_rtn_that_takes_more_bits(planted: Cases, bits: int, block: int) -> None:
    case = planted(512, 128)
    found = SqueezeLlm().quantize(case.weight, case.statistics, Grid(bits))
    plain = Rtn("mse").quantize(case.weight, None, Grid(bits, False, block))
    assert found.stored_bits < plain.stored_bits
    assert case.error(found.matrix()) < case.error(plain.matrix())


@pytest.mark.shared
def test_it_beats_rtn_at_two_bits_on_every_site_of_a_real_decoder(llama_cases: list[Any]) -> None:
    for case in llama_cases:
        found = SqueezeLlm(sensitive=0.0, outliers=0.0, books="tensor").quantize(case.weight, case.statistics, Grid(2))
        plain = Rtn("mse").quantize(case.weight, None, Grid(2, False))
        assert found.stored_bits < plain.stored_bits
        assert case.error(found.matrix()) < case.error(plain.matrix())


def test_the_sensitivity_of_rows_pays(planted: Cases) -> None:
    case = planted(512, 16)
    blind = np.full(512, 1.0)
    weighted = SqueezeLlm(0.0, 0.0).quantize(case.weight, case.statistics, Grid(3))
    plain = SqueezeLlm(0.0, 0.0).quantize(case.weight, replace(case.statistics, moment=np.diag(blind)), Grid(3))
    assert weighted.stored_bits == plain.stored_bits
    assert case.error(weighted.matrix()) < case.error(plain.matrix())


def test_outliers_are_kept_in_half_precision(planted: Cases) -> None:
    case = planted(128, 32)
    case.weight[7, 3] = 50.0
    found = SqueezeLlm(books="column").quantize(case.weight, case.statistics, Grid(3))
    assert isinstance(found, Sum)
    assert found.matrix()[7, 3] == pytest.approx(50.0, rel=1e-3)
    without = SqueezeLlm(0.0, 0.0, "column").quantize(case.weight, case.statistics, Grid(3))
    assert isinstance(without, Codebook)
    assert without.stored_bits == 128 * 32 * 3 + 8 * 32 * 16


def test_a_weight_of_eight_values_comes_back_at_three_bits(planted: Cases) -> None:
    case = planted(128, 8)
    values = np.array([-1.5, -0.75, -0.25, 0.125, 0.5, 1.0, 2.0, 3.0], np.float32)
    weight = values[np.random.default_rng(0).integers(0, 8, (128, 8))]
    np.testing.assert_array_equal(SqueezeLlm(0.0, 0.0, "column").quantize(weight, case.statistics, Grid(3)).matrix(), weight)
