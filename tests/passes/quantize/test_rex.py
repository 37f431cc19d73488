"""Orders of residual quantisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphwright.passes.quantize.coded import Affine, Sum
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.rex import Rex
from graphwright.passes.quantize.rtn import Rtn

Cases = Callable[..., Any]


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_every_order_divides_the_error_of_rtn_of_that_width(planted: Cases, bits: int) -> None:
    case = planted()
    errors = [case.error(Rex(orders).quantize(case.weight, None, Grid(bits)).matrix()) for orders in (1, 2, 3)]
    assert errors[0] == case.error(Rtn().quantize(case.weight, None, Grid(bits)).matrix())
    assert errors[1] < errors[0] / 2 ** (bits - 1)
    assert errors[2] < max(errors[1] / 2 ** (bits - 1), 1e-6)


@pytest.mark.shared
def test_a_second_order_beats_rtn_on_every_site_of_a_real_decoder(llama_cases: list[Any]) -> None:
    for case in llama_cases:
        assert case.error(Rex().quantize(case.weight, None, Grid(4)).matrix()) < 0.2 * case.error(Rtn().quantize(case.weight, None, Grid(4)).matrix())


def test_a_share_of_the_rows_takes_a_share_of_the_bits_and_goes_to_those_that_count(planted: Cases) -> None:
    case = planted(100, 20)
    full, part = (Rex(share=share).quantize(case.weight, case.statistics, Grid(4)) for share in (1.0, 0.2))
    blind = Rex(share=0.2).quantize(case.weight, None, Grid(4))
    assert part.stored_bits == (100 + 20) * 20 * 4 + 2 * 20 * 32 + 20 * 32
    assert case.error(full.matrix()) < case.error(part.matrix()) < case.error(blind.matrix())


def test_one_order_or_no_rows_is_rtn(planted: Cases) -> None:
    case = planted(10, 4)
    for method in (Rex(1), Rex(share=0.0)):
        assert isinstance(method.quantize(case.weight, None, Grid(4)), Affine)
    assert isinstance(Rex().quantize(np.zeros((3, 2), np.float32), None, Grid(4)), Sum)
