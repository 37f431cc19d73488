"""What holds for every method of unstructured pruning, whatever its weight and inputs are."""

from __future__ import annotations

import numpy as np
import pytest

from graphwright.compiler.core.errors import GraphwrightError, ModelError, UsageError
from graphwright.passes.prune.unstructured.method import Sparsifier, find_sparsifier, sparsifiers
from graphwright.passes.prune.unstructured.pattern import Pattern, within

from .planted import Case, case_of, plant

ALL = sorted(sparsifiers())
COMPENSATES = ("sparsegpt", "obs")
PATTERNS = (Pattern(0.5), Pattern(0.7), Pattern(0.5, 2, 4), Pattern(0.5, 4, 8), Pattern(0.75, 1, 4, run=10))


def method(name: str) -> Sparsifier:
    return find_sparsifier(name)()


def prune(name: str, case: Case, pattern: Pattern) -> np.ndarray:
    return method(name).prune(case.weight, case.statistics, pattern, case.slopes)


def test_all_that_were_promised_are_there() -> None:
    assert {"magnitude", "wanda", "ria", "e-sparse", "sparsegpt", "obd", "obs", "isc", "gblm", "pruner-zero", "dsnot"} <= set(ALL)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
def test_the_pattern_holds_exactly(name: str, pattern: Pattern) -> None:
    case = plant(160, 24)
    found = prune(name, case, pattern)
    assert found.dtype == np.float32
    assert within(found != 0, pattern)
    if not pattern.of:
        assert abs((found == 0).mean() - pattern.ratio) < 0.01


@pytest.mark.parametrize("name", [name for name in ALL if name not in COMPENSATES])
def test_what_stays_is_as_it_was(name: str) -> None:
    case = plant()
    found = prune(name, case, Pattern(0.5))
    assert np.array_equal(found[found != 0], case.weight[found != 0])


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (1, 5), (7, 1), (37, 5), (130, 3)])
@pytest.mark.parametrize("pattern", PATTERNS[1:4], ids=lambda pattern: pattern.name)
def test_odd_shapes_keep_the_pattern_and_stay_finite(name: str, inputs: int, outputs: int, pattern: Pattern) -> None:
    found = prune(name, plant(inputs, outputs), pattern)
    assert found.shape == (inputs, outputs)
    assert np.isfinite(found).all()
    if pattern.of:
        assert within(found != 0, pattern)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("content", [0.0, 0.5, 1e30, 1e-30], ids=str)
def test_weights_that_are_all_the_same_lose_their_share(name: str, content: float) -> None:
    case = plant(32, 8)
    found = method(name).prune(np.full((32, 8), content, np.float32), case.statistics, Pattern(0.5, 2, 4), case.slopes)
    assert np.isfinite(found).all()
    assert within(found != 0, Pattern(0.5, 2, 4))
    assert content == 0 or found.any()


@pytest.mark.parametrize("name", ["wanda", "e-sparse", "obd", "gblm", "pruner-zero"])
def test_weights_of_inputs_that_were_always_zero_go_first(name: str) -> None:
    case = plant(32, 8)
    rows = case.unseen.copy()
    rows[:, 8:16] = 0.0
    found = prune(name, case_of(case.weight, rows), Pattern(0.25))
    assert not found[8:16].any()
    assert found[:8].all()


@pytest.mark.parametrize("name", ALL)
def test_inputs_that_are_all_zero_or_fewer_than_channels_do_no_harm(name: str) -> None:
    case = plant(48, 6)
    for rows in (np.zeros((20, 48), np.float32), case.unseen[:5], np.ones((20, 48), np.float32), np.repeat(case.unseen[:, :1], 48, axis=1)):
        found = prune(name, case_of(case.weight, rows), Pattern(0.5))
        assert np.isfinite(found).all()
        assert (found == 0).mean() == 0.5


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf])
def test_a_weight_with_strange_numbers_is_refused(name: str, strange: float) -> None:
    case = plant(16, 4)
    weight = case.weight.copy()
    weight[3, 2] = strange
    with pytest.raises(ModelError, match="NaN or infinities"):
        method(name).prune(weight, case.statistics, Pattern(0.5), case.slopes)


@pytest.mark.parametrize("name", [name for name in ALL if find_sparsifier(name).calibrated()])
def test_what_needs_data_says_so_without(name: str) -> None:
    with pytest.raises(UsageError, match="needs"):
        method(name).prune(plant(16, 4).weight, None, Pattern(0.5))


@pytest.mark.parametrize("name", [name for name in ALL if find_sparsifier(name).calibrated()])
def test_statistics_of_another_site_are_refused(name: str) -> None:
    with pytest.raises(GraphwrightError, match="does not belong"):
        method(name).prune(plant(16, 4).weight, plant(17, 4).statistics, Pattern(0.5), plant(17, 4).slopes)


def test_a_method_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(UsageError, match="there are: dsnot, e-sparse, gblm"):
        find_sparsifier("lottery")


@pytest.mark.parametrize("name", [name for name in ALL if name != "pruner-zero"])
@pytest.mark.parametrize("pattern", [Pattern(0.5), Pattern(0.6), Pattern(0.5, 2, 4)], ids=lambda pattern: pattern.name)
def test_it_errs_less_than_magnitude_on_inputs_of_different_size(name: str, pattern: Pattern) -> None:
    if name == "magnitude":
        return
    errors = [(case.error(prune(name, case, pattern)), case.error(prune("magnitude", case, pattern))) for case in (plant(seed=seed) for seed in range(3))]
    assert all(own < other for own, other in errors)
