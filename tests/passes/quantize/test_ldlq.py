"""Linear feedback from H itself computes what GPTQ computes from its inverse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphwright.passes.quantize.gptq import Gptq
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.ldlq import Ldlq
from graphwright.passes.quantize.rtn import Rtn

Cases = Callable[..., Any]


@pytest.mark.parametrize("grid", [Grid(2, False), Grid(4), Grid(3, False, 32)], ids=str)
def test_ldlq_is_gptq_without_an_order(planted: Cases, grid: Grid) -> None:
    case = planted(150, 20)
    one = Ldlq(sweeps=0).quantize(case.weight, case.statistics, grid)
    other = Gptq(act_order=False, sweeps=0).quantize(case.weight, case.statistics, grid)
    assert np.count_nonzero(one.codes != other.codes) <= 0.001 * one.codes.size  # A tie may fall either way.


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_ldlq_beats_rtn_on_unseen_rows(planted: Cases, bits: int) -> None:
    case = planted()
    assert case.error(Ldlq().quantize(case.weight, case.statistics, Grid(bits)).matrix()) < case.error(
        Rtn("mse").quantize(case.weight, None, Grid(bits)).matrix()
    )


def test_a_weight_on_the_grid_comes_back(planted: Cases) -> None:
    case = planted()
    once = Rtn().quantize(case.weight, None, Grid(4, False, 16)).matrix()
    np.testing.assert_allclose(Ldlq().quantize(once, case.statistics, Grid(4, False, 16)).matrix(), once, rtol=1e-6, atol=1e-9)
