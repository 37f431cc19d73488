"""What holds for every method of weight quantisation: nothing that a weight or its inputs can be breaks it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from graphwright.compiler.core.errors import GraphwrightError, ModelError
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.method import Method, find_method, methods
from graphwright.passes.quantize.seedlm import SeedLm

Cases = Callable[..., Any]
ALL = sorted(methods())
NEVER_EXACT = ("seedlm", "stbllm")
"""One has a random basis, one leaves weights out."""
FLAT = {"zeros": np.zeros((6, 4)), "constant": np.full((6, 4), 0.5), "float16-max": np.full((6, 4), 65504.0), "tiny": np.full((6, 4), 1e-12)}


def method(name: str) -> Method:
    return SeedLm(8) if name == "seedlm" else find_method(name)()  # Its search over all seeds takes seconds.


@pytest.mark.parametrize("name", ALL)
def test_what_it_refines_is_a_method(name: str) -> None:
    assert find_method(name).refines is None or find_method(name).refines in ALL


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (1, 5), (7, 1), (37, 5)])
@pytest.mark.parametrize("block", [0, 8, 64])
def test_odd_shapes_and_blocks_give_finite_matrices_of_the_same_shape(planted: Cases, name: str, inputs: int, outputs: int, block: int) -> None:
    case = planted(inputs, outputs, outliers=0)
    coded = method(name).quantize(case.weight, case.statistics, Grid(4, block=block))
    found = coded.matrix()
    assert found.shape == case.weight.shape
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert coded.stored_bits > 0


@pytest.mark.parametrize("name", [name for name in ALL if name not in NEVER_EXACT])
@pytest.mark.parametrize("kind", FLAT)
def test_flat_weights_come_back_nearly(planted: Cases, name: str, kind: str) -> None:
    weight = FLAT[kind].astype(np.float32)
    found = method(name).quantize(weight, planted(6, 4, outliers=0).statistics, Grid(8)).matrix()
    assert np.abs(found - weight).max() <= 0.05 * np.abs(weight).max()


@pytest.mark.parametrize("name", ALL)
def test_a_column_and_a_row_of_zeros_do_no_harm(planted: Cases, name: str) -> None:
    case = planted(24, 6)
    case.weight[:, 2], case.weight[5] = 0.0, 0.0
    found = method(name).quantize(case.weight, case.statistics, Grid(4)).matrix()
    assert np.isfinite(found).all()
    assert case.error(found) < 1.0


@pytest.mark.parametrize("name", ALL)
def test_inputs_that_were_always_zero_do_no_harm(planted: Cases, case_of: Cases, name: str) -> None:
    case = planted(24, 6)
    rows = case.statistics.rows.copy()
    rows[:, 3:9] = 0.0
    for dead, silent in ((case_of(case.weight, rows), slice(3, 9)), (case_of(case.weight, np.zeros_like(rows)), slice(None))):
        found = method(name).quantize(dead.weight, dead.statistics, Grid(4)).matrix()
        assert np.isfinite(found).all()
        assert np.linalg.norm(found[silent] - case.weight[silent]) < np.linalg.norm(case.weight[silent])


@pytest.mark.parametrize("name", ALL)
def test_fewer_samples_than_inputs_do_no_harm(planted: Cases, case_of: Cases, name: str) -> None:
    case = planted(24, 6)
    few = case_of(case.weight, case.statistics.rows[:5])
    found = method(name).quantize(few.weight, few.statistics, Grid(4)).matrix()
    assert np.isfinite(found).all()
    assert few.error(found) < 0.7


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("strange", [np.nan, np.inf])
def test_strange_weights_are_refused_with_a_sentence(planted: Cases, name: str, strange: float) -> None:
    case = planted(12, 4)
    weight = case.weight.copy()
    weight[3, 1] = strange
    with pytest.raises(ModelError, match="NaN or infinite"):
        method(name).quantize(weight, case.statistics, Grid(4))


@pytest.mark.parametrize("name", [name for name in ALL if find_method(name).moments])
def test_second_moments_that_are_not_there_or_not_finite_are_refused(planted: Cases, name: str) -> None:
    case = planted(12, 4)
    with pytest.raises(GraphwrightError, match="calibration data"):
        method(name).quantize(case.weight, None, Grid(4))
    with pytest.raises(GraphwrightError, match="NaN or infinite"):
        method(name).quantize(case.weight, replace(case.statistics, moment=np.full((12, 12), np.nan)), Grid(4))


@pytest.mark.parametrize("name", ALL)
def test_it_is_the_same_every_time_and_leaves_the_weight_alone(planted: Cases, name: str) -> None:
    case = planted(24, 6)
    before = case.weight.copy()
    first, second = (method(name).quantize(case.weight, case.statistics, Grid(3, False, 8)).matrix() for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(case.weight, before)
