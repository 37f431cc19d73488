"""A low-rank part of the error, plain and whitened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphwright.passes.quantize.coded import LowRank
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.loftq import LoftQ
from graphwright.passes.quantize.lorc import Lorc
from graphwright.passes.quantize.lqer import Lqer
from graphwright.passes.quantize.rtn import Rtn

Cases = Callable[..., Any]


@pytest.mark.parametrize("bits", [2, 4])
def test_lorc_is_nearer_than_rtn_and_a_greater_rank_nearer_still(planted: Cases, bits: int) -> None:
    case, grid = planted(96, 80, outliers=0), Grid(bits)
    errors = [np.linalg.norm(Rtn("mse").quantize(case.weight, None, grid).matrix() - case.weight)]
    errors += [np.linalg.norm(Lorc(rank).quantize(case.weight, None, grid).matrix() - case.weight) for rank in (1, 4, 16, 64)]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("whiten", ["moment", "magnitude"])
@pytest.mark.parametrize("seed", [0, 1])
def test_lqer_beats_lorc_at_equal_bits_on_unseen_rows(planted: Cases, whiten: Any, seed: int) -> None:
    case, grid = planted(96, 80, seed), Grid(4)
    found = Lqer(4, whiten=whiten).quantize(case.weight, case.statistics, grid)
    plain = Lorc(4).quantize(case.weight, None, grid)
    assert found.stored_bits == plain.stored_bits
    assert case.error(found.matrix()) < case.error(plain.matrix())


def test_lqer_beats_smaller_blocks_that_take_more_bits(planted: Cases) -> None:
    case = planted(512, 256)
    found, plain = Lqer().quantize(case.weight, case.statistics, Grid(4)), Rtn("mse").quantize(case.weight, None, Grid(4, True, 64))
    assert found.stored_bits < plain.stored_bits
    assert case.error(found.matrix()) < case.error(plain.matrix())


@pytest.mark.shared
def test_both_beat_rtn_on_every_site_of_a_real_decoder(llama_cases: list[Any]) -> None:
    for case in llama_cases:
        plain, lorc, lqer = (
            case.error(method.quantize(case.weight, case.statistics, Grid(4)).matrix()) for method in (Rtn("mse"), Lorc(4), Lqer(4))
        )  # fmt: skip
        assert lqer < lorc < plain


def test_the_whole_rank_gives_the_weight_back(planted: Cases) -> None:
    case = planted(24, 10, outliers=0)
    for method in (Lorc(100), Lqer(100)):
        np.testing.assert_allclose(method.quantize(case.weight, case.statistics, Grid(2)).matrix(), case.weight, atol=3e-3 * np.abs(case.weight).max())


def test_rank_zero_is_what_a_quarter_of_a_bit_pays_for(planted: Cases) -> None:
    case = planted(256, 256)
    part = Lorc().quantize(case.weight, None, Grid(4)).parts[1]
    assert isinstance(part, LowRank)
    assert part.stored_bits == 0.25 * case.weight.size


@pytest.mark.parametrize(("shape", "bits"), [((64, 64), 0.5), ((9, 1), 0), ((27, 16), 0), ((64, 32), 0)])
def test_a_low_rank_part_takes_at_most_half_a_bit_unless_it_is_asked_for(planted: Cases, shape: tuple[int, int], bits: float) -> None:
    case, grid = planted(*shape, outliers=0), Grid(4)
    codes = Rtn("mse").quantize(case.weight, None, grid).stored_bits
    for method in (Lorc(), Lqer(), LoftQ()):
        found = method.quantize(case.weight, case.statistics, grid)
        assert found.stored_bits == codes + bits * case.weight.size
        assert case.error(found.matrix()) > 0
    assert Lorc(1).quantize(case.weight, None, grid).stored_bits > codes


def test_a_weight_on_the_grid_comes_back(planted: Cases) -> None:
    case = planted()
    once = Rtn().quantize(case.weight, None, Grid(4)).matrix()
    for method in (Lorc(), Lqer()):
        np.testing.assert_allclose(method.quantize(once, case.statistics, Grid(4)).matrix(), once, rtol=1e-5, atol=1e-7)
