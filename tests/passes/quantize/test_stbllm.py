"""Fewer signs than weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphwright.compiler.core.errors import UsageError
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.rtn import Rtn
from graphwright.passes.quantize.stbllm import StbLlm

Cases = Callable[..., Any]


@pytest.mark.parametrize("seed", [0, 1])
def test_two_signs_of_eight_take_fewer_bits_than_rtn_of_one_and_are_nearer(planted: Cases, seed: int) -> None:
    case = planted(192, 96, seed)
    found, plain = StbLlm(2).quantize(case.weight, case.statistics, Grid(1)), Rtn("mse").quantize(case.weight, None, Grid(1, False))
    assert found.stored_bits < plain.stored_bits
    assert case.error(found.matrix()) < case.error(plain.matrix())


@pytest.mark.shared
def test_two_signs_of_eight_beat_rtn_at_one_bit_on_every_site_of_a_real_decoder(llama_cases: list[Any]) -> None:
    for case in llama_cases:
        found, plain = StbLlm(2).quantize(case.weight, case.statistics, Grid(1)), Rtn("mse").quantize(case.weight, None, Grid(1, False))
        assert case.error(found.matrix()) < case.error(plain.matrix())


def test_refinement_and_more_signs_help(planted: Cases) -> None:
    case = planted(96, 48)
    errors = [
        case.error(method.quantize(case.weight, case.statistics, Grid(1)).matrix()) for method in (StbLlm(4, rounds=0), StbLlm(4), StbLlm(6))
    ]  # fmt: skip
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize(("keep", "group"), [(2, 4), (2, 8), (5, 8), (8, 8)])
def test_no_group_keeps_more_and_the_mask_is_counted(planted: Cases, keep: int, group: int) -> None:
    case = planted(45, 10)
    found = StbLlm(keep, group).quantize(case.weight, case.statistics, Grid(1))
    for start in range(0, 45, group):
        part = found.signs[0, start : start + group]
        assert (np.count_nonzero(part, axis=0) == min(keep, len(part))).all()
    assert found.stored_bits == pytest.approx(450 * (math.log2(math.comb(group, keep)) + keep) / group + 55 * 16)


def test_a_group_that_cannot_be_kept_so_is_refused(planted: Cases) -> None:
    case = planted(8, 4)
    with pytest.raises(UsageError, match="cannot keep 9 of 8"):
        StbLlm(9).quantize(case.weight, case.statistics, Grid(1))
