"""Integer or float, site by site."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphwright.passes.quantize.activation import ActivationGrid
from graphwright.passes.quantize.coded import Affine, Codebook
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.joint import Plain, Precision, product_error
from graphwright.passes.quantize.mofq import FloatInputs, Mofq, MofqInputs, input_format
from graphwright.passes.quantize.rtn import Rtn

Cases = Callable[..., Any]


@pytest.mark.parametrize("bits", [3, 4, 6, 8])
@pytest.mark.parametrize("seed", [0, 1])
def test_it_takes_the_bits_of_rtn_and_is_never_worse_on_the_calibration_data(planted: Cases, bits: int, seed: int) -> None:
    case = planted(96, 32, seed)
    found, plain = Mofq().quantize(case.weight, case.statistics, Grid(bits)), Rtn().quantize(case.weight, None, Grid(bits))
    assert found.stored_bits == plain.stored_bits
    errors = [np.linalg.norm(case.statistics.rows @ (each.matrix() - case.weight)) for each in (found, plain)]
    assert errors[0] <= errors[1] * (1 + 1e-6)


def test_even_weights_take_integers_and_those_with_a_large_one_floats(planted: Cases) -> None:
    case = planted(64, 16)
    even = np.random.default_rng(0).uniform(-1, 1, (64, 16)).astype(np.float32)
    assert isinstance(Mofq().quantize(even, case.statistics, Grid(4)), Affine)
    spread = np.exp(3 * np.random.default_rng(0).standard_normal((64, 16))).astype(np.float32)
    assert isinstance(Mofq().quantize(spread, case.statistics, Grid(4)), Codebook)


@pytest.mark.shared
def test_it_beats_rtn_at_four_bits_on_every_site_of_a_real_decoder(llama_cases: list[Any]) -> None:
    for case in llama_cases:
        found, plain = Mofq().quantize(case.weight, case.statistics, Grid(4)), Rtn().quantize(case.weight, None, Grid(4))
        assert case.error(found.matrix()) < case.error(plain.matrix())


def test_an_input_with_outliers_takes_a_float_and_an_even_one_integers(case_of: Cases) -> None:
    random = np.random.default_rng(0)
    weight = random.standard_normal((32, 8))
    even = random.uniform(-1, 1, (500, 32))
    assert input_format(case_of(weight, even).statistics, weight) is None
    even[:, 3] *= 2000.0
    weight[3] = 0.0
    assert input_format(case_of(weight, even).statistics, weight) in ("e4m3", "e5m2")


@pytest.mark.parametrize("token", [False, True])
def test_inputs_with_outliers_beat_integers_as_floats_and_even_ones_are_integers(case_of: Cases, token: bool) -> None:
    random = np.random.default_rng(1)
    weight = random.standard_normal((32, 8)).astype(np.float32)
    grid = ActivationGrid(8, token=token)
    for factor, floats in ((1.0, False), (2000.0, True)):
        rows = random.uniform(-1, 1, (400, 32)).astype(np.float32)
        rows[:, 3] *= factor
        weight[3] = 1.0 / factor
        case = case_of(weight, rows[:200])
        unseen, products = rows[200:], [kind().apply(weight, case.statistics, Precision(Grid(8), grid)) for kind in (MofqInputs, Plain)]
        errors = [product_error(product, weight, unseen) for product in products]
        assert isinstance(products[0], FloatInputs) == floats
        assert errors[0] < 0.2 * errors[1] if floats else errors[0] == errors[1]
