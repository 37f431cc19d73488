"""Refined binarisation with an offset and a second layer where it counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphwright.passes.quantize.arb_llm import ArbLlm
from graphwright.passes.quantize.coded import Binaries
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.onebit import OneBit
from graphwright.passes.quantize.rtn import Rtn

Cases = Callable[..., Any]


@pytest.mark.parametrize("seed", [0, 1])
def test_every_part_of_it_helps_and_all_beat_rtn(planted: Cases, seed: int) -> None:
    case = planted(96, 64, seed)
    plain = case.error(Rtn("mse").quantize(case.weight, None, Grid(1, False)).matrix())
    start, refined, salient = (
        case.error(method.quantize(case.weight, case.statistics, Grid(1)).matrix()) for method in (ArbLlm(0.0, 0), ArbLlm(0.0), ArbLlm(0.1))
    )  # fmt: skip
    assert salient < refined < start < plain


@pytest.mark.shared
def test_it_beats_rtn_at_one_bit_and_onebit_for_a_salient_tenth_on_a_real_decoder(llama_cases: list[Any]) -> None:
    found, one = ([case.error(method.quantize(case.weight, case.statistics, Grid(1)).matrix()) for case in llama_cases] for method in (ArbLlm(), OneBit()))
    plain = [case.error(Rtn("mse").quantize(case.weight, None, Grid(1, False)).matrix()) for case in llama_cases]
    assert all(each < other for each, other in zip(found, plain, strict=True))
    assert np.log(found).mean() < np.log(one).mean()


def test_bits_are_signs_and_three_numbers_a_column(planted: Cases) -> None:
    case = planted(100, 20)
    plain, salient = (ArbLlm(share).quantize(case.weight, case.statistics, Grid(1)) for share in (0.0, 0.1))
    assert isinstance(plain, Binaries)
    assert plain.stored_bits == 2000 + 2 * 20 * 16
    assert salient.stored_bits == plain.stored_bits + 10 * 20 + 20 * 16 + 10 * 32


def test_planted_signs_come_back(planted: Cases) -> None:
    case = planted(40, 8, outliers=0)
    weight = (np.random.default_rng(0).choice([-0.5, 0.5], (40, 8)) + 0.125).astype(np.float32)
    np.testing.assert_allclose(ArbLlm(0.0).quantize(weight, case.statistics, Grid(1)).matrix(), weight, rtol=5e-3, atol=2e-3)
