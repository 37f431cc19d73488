"""One codebook for the bulk, full precision for what lies far out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphwright.passes.quantize.coded import Codebook, Sum
from graphwright.passes.quantize.gobo import Gobo
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.rtn import Rtn

Cases = Callable[..., Any]


@pytest.mark.parametrize("bits", [2, 3])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_beats_rtn_that_takes_more_bits_on_heavy_tailed_weights(planted: Cases, bits: int, seed: int) -> None:
    case = planted(96, 200, seed, outliers=0)
    case.weight[np.random.default_rng(seed).random(case.weight.shape) < 0.002] *= 10.0
    found = Gobo(4.0).quantize(case.weight, None, Grid(bits))
    plain = Rtn("mse").quantize(case.weight, None, Grid(bits, False))
    assert found.stored_bits < plain.stored_bits
    assert case.error(found.matrix()) < case.error(plain.matrix())


@pytest.mark.shared
def test_it_beats_rtn_with_one_scale_on_every_site_of_a_real_decoder(llama_cases: list[Any]) -> None:
    for case in llama_cases:
        plain = Rtn("mse").quantize(case.weight, None, Grid(3, False, -1))
        assert case.error(Gobo().quantize(case.weight, None, Grid(3)).matrix()) < case.error(plain.matrix())


def test_only_what_lies_further_than_the_deviations_is_kept(planted: Cases) -> None:
    weight = np.random.default_rng(0).uniform(-1, 1, (64, 32)).astype(np.float32)
    assert isinstance(Gobo().quantize(weight, None, Grid(3)), Codebook)
    weight[3, 4], weight[9, 9] = 20.0, -30.0
    coded = Gobo().quantize(weight, None, Grid(3))
    assert isinstance(coded, Sum)
    assert coded.parts[1].stored_bits == 2 * (16 + 11)
    assert (coded.matrix()[3, 4], coded.matrix()[9, 9]) == (pytest.approx(20.0, rel=1e-3), pytest.approx(-30.0, rel=1e-3))


def test_a_weight_of_eight_values_comes_back_at_three_bits() -> None:
    values = np.array([-3, -2, -1, 0, 1, 2, 3, 4], np.float32)
    weight = values[np.arange(64 * 8).reshape(64, 8) % 8]
    np.testing.assert_array_equal(Gobo().quantize(weight, None, Grid(3)).matrix(), weight)
