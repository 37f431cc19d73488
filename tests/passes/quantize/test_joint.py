"""Methods that round weights and inputs together: each beats what it refines where it should, and nothing that comes in breaks one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from graphwright.compiler.core.errors import GraphwrightError, ModelError, UsageError
from graphwright.compiler.core.statistics import SiteStatistics
from graphwright.passes.quantize.activation import ActivationGrid, Ranges, rounded_between
from graphwright.passes.quantize.equivalent import Equivalent, find_equivalence
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.joint import JointMethod, Precision, find_joint, joint_methods
from graphwright.passes.quantize.learned_turn import Learning, learn_turn
from graphwright.passes.quantize.qllm import Qllm
from graphwright.passes.quantize.quarot import Rotation, keeping_ones, kurtosis
from graphwright.passes.quantize.rptq import clusters_of

Cases = Callable[..., Any]
LEARNED = {"spinquant": {"steps": 15}, "ostquant": {"steps": 15}}
"""Settings that make learning short."""
ALL = sorted(set(joint_methods()) - {"outlier-suppression", "omniquant"})
W8A8 = Precision(Grid(8), ActivationGrid(8))
W4A8 = Precision(Grid(4), ActivationGrid(8))
W4A4 = Precision(Grid(4), ActivationGrid(4, token=True))


def make(name: str) -> JointMethod:
    return find_joint(name)(**LEARNED.get(name, {}))


def statistics_of(rows: np.ndarray) -> SiteStatistics:
    wide = rows.astype(np.float64)
    moment = wide.T @ wide / len(rows)
    return SiteStatistics(moment, wide.min(0), wide.max(0), np.abs(wide).max(0), np.abs(wide).mean(0), wide.mean(0), rows[:256].astype(np.float32), len(rows))


class Plan:
    """A site: its weight, what calibration knows of its input, and rows of that which it has not seen."""

    def __init__(self, weight: np.ndarray, rows: np.ndarray) -> None:
        self.weight, self.unseen = weight.astype(np.float32), rows[len(rows) // 2 :].astype(np.float32)
        self.statistics = statistics_of(rows[: len(rows) // 2])

    def error(self, name: str, precision: Precision) -> float:
        """``||Y' - X W|| / ||X W||`` on unseen rows."""
        truth = self.unseen.astype(np.float64) @ self.weight
        found = make(name).apply(self.weight, self.statistics, precision).output(self.unseen)
        return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))


def site(*, inputs: int = 64, outputs: int = 48, outliers: int = 3, factor: float = 40.0, taken_back: bool = True, off: float = 0.0, seed: int = 0) -> Plan:
    """Correlated inputs, a few channels ``factor`` times as large; the weight takes that back, or does not. ``off`` shifts channels by so many ranges."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(1024, inputs)) @ (0.5 * np.eye(inputs) + 0.7 * random.normal(size=(inputs, inputs)) / np.sqrt(inputs))
    weight = random.normal(size=(inputs, outputs)) / np.sqrt(inputs)
    chosen = random.choice(inputs, outliers, replace=False)
    rows[:, chosen] *= factor
    if taken_back:
        weight[chosen] /= factor
    return Plan(weight, rows + off * random.normal(size=inputs) * np.abs(rows).max(axis=0))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("name", "than", "precision", "share"),
    [
        ("smoothquant", "rtn", W8A8, 0.1), ("llm.int8", "rtn", W8A8, 0.1), ("outlier-suppression+", "rtn", W8A8, 0.1), ("awq", "rtn", W8A8, 0.1),
        ("zeroquant", "rtn", W8A8, 0.8), ("rptq", "rtn", W8A8, 0.5), ("rptq", "rtn", W4A4, 0.9), ("olive", "rtn", W4A4, 0.8), ("fptq", "rtn", W4A8, 0.6),
        ("qllm", "rtn", W4A8, 0.5),
    ],
)  # fmt: skip
def test_planted_outliers_cost_less_than_when_rounded_to_nearest(name: str, than: str, precision: Precision, share: float, seed: int) -> None:
    plan = site(seed=seed)
    assert plan.error(name, precision) < share * plan.error(than, precision)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_shift_helps_where_channels_lie_off_zero(seed: int) -> None:
    plan = site(off=1.0, seed=seed)
    for precision in (W8A8, W4A8):
        assert plan.error("outlier-suppression+", precision) < 0.7 * plan.error("smoothquant", precision)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("precision", "share"), [(W4A8, 0.97), (W4A4, 0.9)])
def test_a_rotation_helps_where_outliers_weigh_in_the_output(precision: Precision, share: float, seed: int) -> None:
    plan = site(outliers=8, factor=6.0, taken_back=False, seed=seed)
    rtn, quarot = plan.error("rtn", precision), plan.error("quarot", precision)
    assert quarot < share * rtn
    assert plan.error("spinquant", precision) < quarot
    assert plan.error("ostquant", precision) < quarot


@pytest.mark.parametrize(
    ("name", "than", "precision", "share"),
    [("rrs", "quarot", W8A8, 0.95), ("qllm", "smoothquant", W4A4, 0.98), ("llm.int8", "rtn", W8A8, 0.1), ("awq", "rtn", W4A8, 0.7)],
)
def test_one_channel_that_weighs_in_the_output_costs_less(name: str, than: str, precision: Precision, share: float) -> None:
    plans = [site(inputs=256, outliers=1, factor=60.0, taken_back=False, seed=seed) for seed in range(3)]
    assert sum(plan.error(name, precision) for plan in plans) < share * sum(plan.error(than, precision) for plan in plans)


def test_kurtosis_falls_when_the_inputs_are_turned() -> None:
    plan = site()
    product = make("quarot").apply(plan.weight, plan.statistics, W4A4)
    assert kurtosis(plan.unseen) > 50
    assert kurtosis(product.change.inputs(plan.unseen)) < 5  # type: ignore[attr-defined]


def test_qllm_keeps_the_width_and_what_it_computes_without_rounding() -> None:
    plan = site(factor=6.0, taken_back=False)
    product = Qllm().apply(plan.weight, plan.statistics, Precision(Grid(16), ActivationGrid(16, token=True)))
    assert product.change.inputs(plan.unseen).shape == plan.unseen.shape  # type: ignore[attr-defined]
    assert plan.error("qllm", W4A4) <= 1.02 * plan.error("smoothquant", W4A4)


@pytest.mark.parametrize("name", ALL)
def test_sixteen_bits_on_both_sides_change_next_to_nothing(name: str) -> None:
    plan = site(outliers=0)
    if name in ("qllm", "olive"):
        pytest.skip("merging channels, and giving neighbours up, is no rounding")
    assert plan.error(name, Precision(Grid(16), ActivationGrid(16, token=True))) < 2e-3


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (1, 4), (5, 1), (33, 3)])
def test_odd_shapes_give_finite_outputs(name: str, inputs: int, outputs: int) -> None:
    random = np.random.default_rng(0)
    plan = Plan(random.normal(size=(inputs, outputs)), random.normal(size=(64, inputs)))
    for precision in (W8A8, W4A4):
        product = make(name).apply(plan.weight, plan.statistics, precision)
        found = product.output(plan.unseen)
        assert found.shape == (len(plan.unseen), outputs) and np.isfinite(found).all()
        assert product.stored_bits > 0


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("kind", ["dead channels", "all zero", "constant", "dead weights"])
def test_dead_and_constant_inputs_do_no_harm(name: str, kind: str) -> None:
    random = np.random.default_rng(0)
    rows, weight = random.normal(size=(64, 12)), random.normal(size=(12, 5))
    if kind == "dead channels":
        rows[:, [1, 7]] = 0.0
    elif kind == "dead weights":
        weight[[2, 3]], weight[:, 4] = 0.0, 0.0
    else:
        rows[:] = 0.0 if kind == "all zero" else 0.75
    plan = Plan(weight, rows)
    found = make(name).apply(plan.weight, plan.statistics, W8A8).output(plan.unseen)
    truth = plan.unseen.astype(np.float64) @ plan.weight
    assert np.isfinite(found).all()
    assert np.linalg.norm(found - truth) <= 0.2 * np.linalg.norm(truth) + 1e-9


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("where", ["weight", "input"])
def test_what_is_not_finite_is_refused(name: str, where: str) -> None:
    plan = site(inputs=12, outputs=4)
    weight, statistics = plan.weight.copy(), plan.statistics
    if where == "weight":
        weight[3, 2] = np.inf
    else:
        broken = statistics.abs_max.copy()
        broken[4] = np.nan
        statistics = replace(statistics, abs_max=broken)
    with pytest.raises(ModelError, match="NaN or infinite"):
        make(name).apply(weight, statistics, W8A8)


@pytest.mark.parametrize("name", ALL)
def test_statistics_of_another_site_are_refused(name: str) -> None:
    with pytest.raises(GraphwrightError):
        make(name).apply(site(inputs=12).weight, site(inputs=9).statistics, W8A8)


@pytest.mark.parametrize("name", ALL)
def test_what_a_method_refines_is_there(name: str) -> None:
    refined = find_joint(name).refines
    assert refined is None or refined in joint_methods()


def test_the_scale_of_a_norm_is_needed_to_move_it() -> None:
    plan = site()
    with pytest.raises(UsageError, match="no norm makes this input"):
        make("outlier-suppression").apply(plan.weight, plan.statistics, W8A8)
    gain = np.linspace(0.5, 2.0, len(plan.weight))
    change = find_equivalence("outlier-suppression")().find(plan.weight, plan.statistics, W8A8, gain)
    np.testing.assert_allclose(change.scale / change.scale[0], gain / gain[0])


def test_an_equivalent_transform_leaves_the_product_and_tells_the_statistics_of_its_inputs() -> None:
    plan = site(off=0.5)
    random = np.random.default_rng(5)
    change = Equivalent(random.uniform(0.1, 10, len(plan.weight)), random.normal(size=len(plan.weight)))
    rows = plan.unseen
    np.testing.assert_allclose(
        change.inputs(rows) @ change.weight(plan.weight) + change.added(plan.weight), rows.astype(np.float64) @ plan.weight, rtol=1e-4, atol=1e-3
    )
    known, expected = change.statistics(statistics_of(rows[:256])), statistics_of(change.inputs(rows[:256]))
    for field in ("moment", "low", "high", "abs_max", "abs_mean", "mean"):
        np.testing.assert_allclose(getattr(known, field), getattr(expected, field), rtol=1e-5, atol=1e-5)


def test_a_rotation_tells_the_statistics_of_its_inputs() -> None:
    rows = site().unseen[:256]
    turn = Rotation(keeping_ones(rows.shape[1], np.random.default_rng(0)))
    known, expected = turn.statistics(statistics_of(rows)), statistics_of(turn.inputs(rows))
    for field in ("moment", "low", "high", "abs_max", "abs_mean", "mean"):
        np.testing.assert_allclose(getattr(known, field), getattr(expected, field), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_a_rotation_that_keeps_the_ones_does(size: int) -> None:
    turn = keeping_ones(size, np.random.default_rng(3))
    np.testing.assert_allclose(turn @ turn.T, np.eye(size), atol=1e-12)
    np.testing.assert_allclose(np.ones(size) @ turn, np.ones(size), atol=1e-12)


def test_a_learned_rotation_is_orthogonal_and_keeps_the_ones_when_told_to() -> None:
    pytest.importorskip("torch")
    plan = site(inputs=16, outputs=12, outliers=2, factor=6.0, taken_back=False)
    before = (np.random.default_rng(1).normal(size=(5, 16)).astype(np.float32), plan.unseen[:, :5])
    for keeping in (False, True):
        turn, scale = learn_turn([(plan.weight, plan.unseen)], W4A4, [np.eye(16)], Learning(8, rate=0.05), before=[before], keeping_ones=keeping)
        np.testing.assert_allclose(turn @ turn.T, np.eye(16), atol=1e-12)
        np.testing.assert_array_equal(scale, 1.0)
        assert np.abs(turn - np.eye(16)).max() > 0.01
        assert np.allclose(np.ones(16) @ turn, 1.0, atol=1e-5) == keeping


@pytest.mark.parametrize("symmetric", [False, True])
def test_rounding_moves_a_number_by_half_a_step_at_most_and_keeps_zero(symmetric: bool) -> None:
    values = np.random.default_rng(0).uniform(-3, 5, (40, 9))
    found = rounded_between(values, np.array([-3.0]), np.array([5.0]), 4, symmetric)
    step = 5 / 7 if symmetric else 8 / 15
    assert np.abs(found - values).max() <= step / 2 + (0 if symmetric else step / 2)
    assert rounded_between(np.zeros((1, 1)), np.array([-3.0]), np.array([5.0]), 4, symmetric)[0, 0] == 0
    with pytest.raises(UsageError, match="grid of 1 bits"):
        ActivationGrid(1).rounded(values, Ranges(np.zeros(1), np.ones(1)))


def test_clusters_hold_channels_of_like_range() -> None:
    high = np.array([1.0, 50.0, 1.1, 48.0, 0.9, 5.0])
    labels = clusters_of(-high, high, 3)
    assert labels[0] == labels[2] == labels[4] != labels[1] == labels[3]
    assert labels[5] not in (labels[0], labels[1])
    assert set(clusters_of(np.zeros(4), np.zeros(4), 8)) <= {0, 1, 2, 3}


def test_a_method_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match="there is no method 'nothing'"):
        find_joint("nothing")
