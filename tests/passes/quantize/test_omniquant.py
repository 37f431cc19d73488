"""Learned clipping and learned equivalent transforms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from graphwright.compiler.core.errors import BackendMissing, ModelError, UsageError
from graphwright.passes.quantize.activation import ActivationGrid
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.hessian import damped
from graphwright.passes.quantize.joint import Precision, find_joint
from graphwright.passes.quantize.omniquant import LearnedClipping, OmniQuant
from graphwright.passes.quantize.rtn import Rtn

Cases = Callable[..., Any]

PRECISIONS = [
    Precision(Grid(4), ActivationGrid(4, token=True)),
    Precision(Grid(4), ActivationGrid(8)),
    Precision(Grid(3, False, 20), ActivationGrid(6, symmetric=True)),
    Precision(Grid(4, True, -1), ActivationGrid(6, token=True)),
]


def product_error(case: Any, name: str, precision: Precision, **settings: int) -> float:
    """Of the output on unseen rows, relative."""
    product = find_joint(name)(**settings).apply(case.weight, case.statistics, precision)
    wanted = case.unseen @ case.weight.astype(np.float64)
    return float(np.linalg.norm(product.output(case.unseen) - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize("precision", PRECISIONS, ids=str)
def test_a_learned_transform_beats_rtn_and_smoothquant_on_unseen_rows(planted: Cases, precision: Precision) -> None:
    pytest.importorskip("torch")
    case = planted(64, 32)
    assert product_error(case, "omniquant", precision) < min(product_error(case, name, precision) for name in ("rtn", "smoothquant"))


@pytest.mark.shared
def test_a_learned_transform_beats_smoothquant_on_every_site_of_a_real_decoder(llama_cases: list[Any]) -> None:
    pytest.importorskip("torch")
    precision = PRECISIONS[0]
    for case in llama_cases:
        assert product_error(case, "omniquant", precision, iterations=60) < min(product_error(case, name, precision) for name in ("rtn", "smoothquant"))


@pytest.mark.parametrize("grid", [Grid(4), Grid(3), Grid(2, False), Grid(2, True, 32), Grid(3, False, 20), Grid(3, True, -1)], ids=str)
def test_learned_clipping_beats_rtn_whatever_its_clipping(planted: Cases, grid: Grid) -> None:
    case = planted(outliers=0)
    plain = [Rtn(clipping).quantize(case.weight, None, grid) for clipping in ("minmax", "mse")]
    learned = LearnedClipping().quantize(case.weight, case.statistics, grid)
    assert learned.stored_bits == plain[0].stored_bits
    assert case.error(learned.matrix()) < min(case.error(coded.matrix()) for coded in plain)


def test_a_transform_leaves_the_product_as_it_is(planted: Cases) -> None:
    pytest.importorskip("torch")
    case = planted(24, 8)
    found = OmniQuant(iterations=20).find(case.weight, case.statistics, PRECISIONS[1])
    output = found.inputs(case.unseen) @ found.weight(case.weight).astype(np.float64) + found.added(case.weight)
    np.testing.assert_allclose(output, case.unseen @ case.weight.astype(np.float64), rtol=1e-4, atol=1e-4 * np.abs(output).max())
    again = OmniQuant(iterations=20).find(case.weight, case.statistics, PRECISIONS[1])
    assert np.array_equal(found.scale, again.scale)
    assert np.array_equal(found.shift, again.shift)


@pytest.mark.parametrize("precision", PRECISIONS, ids=str)
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (1, 5), (7, 1), (5, 3)])
def test_small_and_silent_sites_come_through(case_of: Cases, precision: Precision, inputs: int, outputs: int) -> None:
    pytest.importorskip("torch")
    random = np.random.default_rng(0)
    weight, rows = random.standard_normal((inputs, outputs)), random.standard_normal((40, inputs))
    rows[:, -1] = 0.0
    for inner in (weight, np.zeros_like(weight)):
        for some in (rows, rows[:3], np.full_like(rows, 2.5)):
            case = case_of(inner, some)
            output = OmniQuant(iterations=10).apply(case.weight, case.statistics, precision).output(some)
            assert np.isfinite(output).all()
            assert np.abs(output - some @ case.weight).max() <= 0.5 * max(1.0, np.abs(some @ weight).max())


def test_without_torch_or_data_the_error_says_so(planted: Cases, monkeypatch: pytest.MonkeyPatch) -> None:
    case = planted(8, 3)
    with pytest.raises(UsageError, match="omniquant needs calibration data"):
        LearnedClipping().quantize(case.weight, None, Grid())
    with pytest.raises(ModelError, match="NaN or infinite"):
        OmniQuant().apply(np.full_like(case.weight, np.nan), case.statistics, PRECISIONS[0])
    monkeypatch.setattr("graphwright.passes.differentiable.torch_there.find_spec", lambda name: None)
    with pytest.raises(BackendMissing, match="the method omniquant needs torch"):
        OmniQuant().apply(case.weight, case.statistics, PRECISIONS[0])
    assert LearnedClipping().quantize(case.weight, case.statistics, Grid()).codes.shape == (8, 3)


def test_learning_never_makes_the_error_on_the_calibration_data_greater(planted: Cases) -> None:
    case = planted(40, 9, outliers=0)
    moment = damped(case.statistics.moment)
    errors = []
    for count in (0, 60):
        away = replace(LearnedClipping(), iterations=count).quantize(case.weight, case.statistics, Grid(3, False, 7)).matrix() - case.weight
        errors.append(np.einsum("km,kl,lm->", away, moment, away))
    assert errors[1] < errors[0]
