"""sparsegpt makes good with what stays; dsnot only swaps when the error falls."""

from __future__ import annotations

import numpy as np
import pytest

from graphwright.passes.prune.unstructured.dsnot import Dsnot
from graphwright.passes.prune.unstructured.pattern import Pattern, within
from graphwright.passes.prune.unstructured.sparsegpt import SparseGpt
from graphwright.passes.prune.unstructured.wanda import Wanda
from graphwright.passes.quantize.hessian import damped, output_error

from .planted import plant

PATTERNS = [Pattern(0.5), Pattern(0.6), Pattern(0.5, 2, 4), Pattern(0.5, 4, 8), Pattern(0.5, 2, 4, run=50)]


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
@pytest.mark.parametrize("inputs", [100, 300])
def test_sparsegpt_errs_at_most_half_as_much_as_wanda(inputs: int, pattern: Pattern) -> None:
    case = plant(inputs, 24)
    assert case.error(SparseGpt().prune(case.weight, case.statistics, pattern)) < 0.5 * case.error(Wanda().prune(case.weight, case.statistics, pattern))


def test_the_weights_that_stay_come_near_the_least_squares_answer() -> None:
    case = plant(48, 6)
    moment = damped(case.statistics.moment)
    found = SparseGpt(sweeps=100).prune(case.weight, case.statistics, Pattern(0.5))
    for column in range(6):
        stays = found[:, column] != 0
        best = np.linalg.solve(moment[np.ix_(stays, stays)], moment[stays] @ case.weight[:, column].astype(np.float64))
        assert np.allclose(found[stays, column], best, atol=2e-3 * np.abs(best).max())


def test_sweeps_do_not_raise_the_error() -> None:
    case = plant(96, 12)
    moment = damped(case.statistics.moment)
    errors = [output_error(SparseGpt(sweeps=sweeps).prune(case.weight, case.statistics, Pattern(0.6)) - case.weight, moment).sum() for sweeps in (0, 1, 4, 16)]
    assert all(later <= earlier * (1 + 1e-6) for earlier, later in zip(errors, errors[1:], strict=False))
    assert errors[-1] < 0.95 * errors[0]


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
@pytest.mark.parametrize("start", ["wanda", "magnitude", "ria"])
def test_dsnot_errs_less_than_its_start_in_every_column(start: str, pattern: Pattern) -> None:
    case = plant(100, 16)
    before = Dsnot(start=start, cycles=0).prune(case.weight, case.statistics, pattern)
    after = Dsnot(start=start).prune(case.weight, case.statistics, pattern)
    assert within(after != 0, pattern)
    assert ((after != 0).sum(axis=0) == (before != 0).sum(axis=0)).all()
    moment = damped(case.statistics.moment)
    old, new = (output_error(found - case.weight, moment) for found in (before, after))
    assert (new <= old * (1 + 1e-6)).all()
    assert new.sum() < 0.9 * old.sum()


def test_dsnot_keeps_account_of_the_error_it_lowers() -> None:
    case = plant(40, 5)
    moment = damped(case.statistics.moment)
    errors = [output_error(Dsnot(cycles=cycles).prune(case.weight, case.statistics, Pattern(0.5)) - case.weight, moment) for cycles in range(8)]
    assert all((later <= earlier * (1 + 1e-6)).all() for earlier, later in zip(errors, errors[1:], strict=False))
