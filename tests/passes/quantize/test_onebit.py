"""Signs between two vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.onebit import OneBit, fit_columns, fit_rows
from graphwright.passes.quantize.rtn import Rtn

Cases = Callable[..., Any]


@pytest.mark.parametrize("seed", [0, 1])
def test_it_beats_rtn_at_one_bit_and_every_refinement_helps(planted: Cases, seed: int) -> None:
    case = planted(96, 64, seed)
    plain = Rtn("mse").quantize(case.weight, None, Grid(1, False))
    start, refined = (OneBit(rounds).quantize(case.weight, case.statistics, Grid(1)) for rounds in (0, 4))
    assert refined.stored_bits == 96 * 64 + (96 + 64) * 16
    assert case.error(refined.matrix()) < case.error(start.matrix()) < case.error(plain.matrix())


@pytest.mark.shared
def test_it_beats_rtn_at_one_bit_on_every_site_of_a_real_decoder(llama_cases: list[Any]) -> None:
    for case in llama_cases:
        plain, found = Rtn("mse").quantize(case.weight, None, Grid(1, False)), OneBit().quantize(case.weight, case.statistics, Grid(1))
        assert found.stored_bits == case.weight.size + 16 * sum(case.weight.shape)
        assert case.error(found.matrix()) < case.error(plain.matrix())


def test_planted_signs_and_vectors_come_back(planted: Cases) -> None:
    case = planted(40, 30, outliers=0)
    random = np.random.default_rng(0)
    weight = (random.choice([-1.0, 1.0], (40, 30)) * np.outer(random.uniform(0.5, 2, 40), random.uniform(0.5, 2, 30))).astype(np.float32)
    np.testing.assert_allclose(OneBit().quantize(weight, case.statistics, Grid(1)).matrix(), weight, rtol=5e-3)


def test_each_vector_is_the_best_for_the_other(planted: Cases) -> None:
    case = planted(12, 7)
    moment, random = case.statistics.moment, np.random.default_rng(0)
    basis = random.standard_normal((12, 7))
    columns, rows = fit_columns(case.weight, basis, moment), fit_rows(case.weight, basis, moment, np.ones(12))

    def loss(found: np.ndarray) -> float:
        return float(np.trace((case.weight - found).T @ moment @ (case.weight - found)))

    for nudge in 0.01 * random.standard_normal((20, 19)):
        assert loss(basis * columns) <= loss(basis * (columns + nudge[:7])) + 1e-12
        assert loss(basis * rows[:, None]) <= loss(basis * (rows + nudge[7:])[:, None]) + 1e-9
