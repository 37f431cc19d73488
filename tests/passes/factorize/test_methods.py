"""Methods of factorisation as numerics: what each is better at than what it refines, and that no statistics break one."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from graphwright.compiler.core.errors import ModelError, UsageError
from graphwright.compiler.core.statistics import SiteStatistics
from graphwright.passes.factorize.basis_sharing import BasisSharing
from graphwright.passes.factorize.method import LowRank, MatrixMethod, SharingMethod, find_method, methods
from graphwright.passes.factorize.ranks import Curve, rank_at, spend
from graphwright.passes.factorize.relaxed_recursive import RelaxedRecursive
from graphwright.passes.prune.unstructured.method import find_sparsifier
from graphwright.passes.prune.unstructured.pattern import Pattern
from graphwright.passes.quantize.hessian import output_error

MATRIX_METHODS = sorted(name for name, kind in methods().items() if issubclass(kind, MatrixMethod))
WHITENED = ("svd_llm", "drone", "afm", "losparse")


def statistics_of(rows: np.ndarray) -> SiteStatistics:
    wide = rows.astype(np.float64)
    return SiteStatistics(
        wide.T @ wide / len(wide), wide.min(axis=0), wide.max(axis=0), np.abs(wide).max(axis=0), np.abs(wide).mean(axis=0), wide.mean(axis=0), rows, len(rows)
    )


def outliers(inputs: int, seed: int, mix_seed: int = 0) -> np.ndarray:
    """Rows that vary along few directions, some channels far more than others, as inputs of decoders do."""
    mix = np.random.default_rng(mix_seed).normal(size=(inputs // 2, inputs)) * np.exp(np.random.default_rng(mix_seed + 1).normal(0, 1.2, inputs))
    draw = np.random.default_rng(seed)
    return (draw.normal(size=(1000, inputs // 2)) @ mix + 0.05 * draw.normal(size=(1000, inputs))).astype(np.float32)


def weight_of(inputs: int, outputs: int, seed: int = 5) -> np.ndarray:
    """A weight with falling singular values and a few large numbers."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(inputs, outputs)) * 0.3 + rng.normal(size=(inputs, 6)) @ rng.normal(size=(6, outputs))
    return base + (rng.random((inputs, outputs)) < 0.02) * rng.normal(0, 4, (inputs, outputs))


def lost(weight: np.ndarray, other: np.ndarray, rows: np.ndarray, bias: np.ndarray | float = 0.0) -> float:
    """The share of the outputs' energy that is lost on other rows."""
    wide = rows.astype(np.float64)
    return float(np.square(wide @ (weight - other) - bias).sum() / np.square(wide @ weight).sum())


@pytest.mark.parametrize("shape", [(40, 60), (60, 40)])
@pytest.mark.parametrize("method", ["asvd", *WHITENED])
def test_a_method_that_looks_at_the_inputs_loses_less_than_svd(method: str, shape: tuple[int, int]) -> None:
    weight, room = weight_of(*shape), int(0.4 * shape[0] * shape[1])
    known, unseen = statistics_of(outliers(shape[0], 1)), outliers(shape[0], 2)
    plain = find_method("svd")().factor(weight, None, room)  # type: ignore[attr-defined]
    found = find_method(method)().factor(weight, known, room)  # type: ignore[attr-defined]
    assert found.numbers <= room
    assert lost(weight, found.matrix(), unseen, 0.0 if found.bias is None else found.bias) < lost(weight, plain.matrix(), unseen)


@pytest.mark.parametrize("share", [0.15, 0.5, 0.9])
def test_asvd_scales_by_what_loses_least_at_the_rank_that_is_kept(share: float) -> None:
    weight, rows = weight_of(40, 60), outliers(40, 1)
    known, room = statistics_of(rows), int(share * weight.size)
    tried = [find_method("asvd")(alpha=alpha).factor(weight, known, room).matrix() for alpha in (0.25, 0.5, 0.75, 1.0)]  # type: ignore[attr-defined,call-arg]
    plain = find_method("svd")().factor(weight, None, room).matrix()  # type: ignore[attr-defined]
    found = find_method("asvd")().factor(weight, known, room).matrix()  # type: ignore[attr-defined]
    assert lost(weight, found, rows) == pytest.approx(min(lost(weight, one, rows) for one in (*tried, plain)), rel=1e-6)


def test_svd_llm_and_drone_find_the_best_truncation_there_is() -> None:
    weight, rows = weight_of(30, 50), outliers(30, 1)
    known = statistics_of(rows)
    best = np.linalg.svd(rows.astype(np.float64) @ weight, compute_uv=False)
    floor = float(np.square(best[10:]).sum() / np.square(best).sum())
    for method in (find_method("svd_llm")(damp=0.0), find_method("drone")(floor=1e-12)):  # type: ignore[call-arg]
        found = method.factor(weight, known, 10 * 80)  # type: ignore[attr-defined]
        assert lost(weight, found.matrix(), rows) == pytest.approx(floor, rel=1e-6)


def test_afm_gives_outputs_that_hardly_vary_no_rank() -> None:
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(500, 4)) @ rng.normal(size=(4, 30)) + 7 * rng.normal(size=30)).astype(np.float32)
    weight = rng.normal(size=(30, 20))
    found = find_method("afm")().factor(weight, statistics_of(rows), 4 * 50 + 20)  # type: ignore[attr-defined]
    plain = find_method("svd_llm")().factor(weight, statistics_of(rows), 4 * 50 + 20)  # type: ignore[attr-defined]
    assert found.bias is not None
    assert lost(weight, found.matrix(), rows, found.bias) < 1e-8 < lost(weight, plain.matrix(), rows)


@pytest.mark.parametrize("share", [0.4, 0.5])
def test_oats_loses_less_than_wanda_and_svd_at_equal_size(share: float) -> None:
    weight, known, unseen = weight_of(48, 64), statistics_of(outliers(48, 1)), outliers(48, 2)
    room = int(share * weight.size)
    found = find_method("oats")().factor(weight, known, room)  # type: ignore[attr-defined]
    assert found.numbers <= room
    wanda = find_sparsifier("wanda")().prune(weight.astype(np.float32), known, Pattern(1 - share))
    plain = find_method("svd")().factor(weight, known, room)  # type: ignore[attr-defined]
    assert lost(weight, found.matrix(), unseen) < min(lost(weight, wanda, unseen), lost(weight, plain.matrix(), unseen))


@pytest.mark.parametrize("shape", [(48, 64), (64, 48)])
@pytest.mark.parametrize("share", [0.4, 0.5])
def test_two_sparse_factors_lose_less_than_sparsegpt_at_equal_size(share: float, shape: tuple[int, int]) -> None:
    weight, known, unseen = weight_of(*shape), statistics_of(outliers(shape[0], 1)), outliers(shape[0], 2)
    room = int(share * weight.size)
    found = find_method("double_sparse")().factor(weight, known, room)  # type: ignore[attr-defined]
    assert found.numbers <= room
    sparse = find_sparsifier("sparsegpt")().prune(weight.astype(np.float32), known, Pattern(1 - share))
    assert lost(weight, found.matrix(), unseen) < lost(weight, sparse, unseen)


STRANGE = {
    "never anything": np.zeros((50, 12)),
    "one direction": np.outer(np.arange(50.0), np.ones(12)),
    "constant": np.ones((50, 12)),
    "some channels never": np.random.default_rng(0).normal(size=(50, 12)) * (np.arange(12) % 3 > 0),
    "huge and tiny": np.random.default_rng(0).normal(size=(50, 12)) * 10.0 ** np.arange(-9, 3),
    "one row": np.random.default_rng(0).normal(size=(1, 12)),
}


@pytest.mark.parametrize("rows", STRANGE.values(), ids=STRANGE)
@pytest.mark.parametrize("method", MATRIX_METHODS)
def test_no_statistics_make_factors_that_are_not_finite(method: str, rows: np.ndarray) -> None:
    weight, known = weight_of(12, 9), statistics_of(rows.astype(np.float32))
    found = find_method(method)().factor(weight, known, 80)  # type: ignore[attr-defined]
    assert all(np.isfinite(part).all() for part in found.chain) and np.isfinite(found.matrix()).all()
    assert found.rest is None or np.isfinite(found.rest).all()


@pytest.mark.parametrize("weight", [np.zeros((12, 9)), np.ones((12, 9)), np.ones((12, 1)), np.ones((1, 9)), np.eye(12, 9) * 1e-30], ids=str)
@pytest.mark.parametrize("method", MATRIX_METHODS)
def test_weights_of_zeros_of_one_row_or_of_one_column_are_no_trap(method: str, weight: np.ndarray) -> None:
    known = statistics_of(np.random.default_rng(0).normal(size=(60, len(weight))).astype(np.float32))
    found = find_method(method)().factor(weight, known, max(weight.size // 2, sum(weight.shape)))  # type: ignore[attr-defined]
    assert np.isfinite(found.matrix()).all() and found.matrix().shape == weight.shape


@pytest.mark.parametrize("method", MATRIX_METHODS)
def test_a_weight_that_is_not_finite_is_refused(method: str) -> None:
    weight = weight_of(12, 9)
    weight[2, 3] = np.inf
    with pytest.raises(ModelError, match="NaN or infinities"):
        find_method(method)().factor(weight, statistics_of(outliers(12, 1)), 80)  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", [name for name in MATRIX_METHODS if methods()[name].calibrated()])
def test_a_method_that_looks_at_the_inputs_needs_them(method: str) -> None:
    with pytest.raises(UsageError, match="calibration data"):
        find_method(method)().factor(weight_of(12, 9), None, 80)  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", sorted(name for name, kind in methods().items() if issubclass(kind, LowRank)))
def test_what_is_lost_is_told_at_each_rank(method: str) -> None:
    weight, known = weight_of(20, 30), statistics_of(outliers(20, 1))
    found = find_method(method)().decompose(weight, known)  # type: ignore[attr-defined]
    assert found.lost[0] == 1 and (np.diff(found.lost) <= 1e-12).all() and found.lost[-1] == pytest.approx(0, abs=1e-9)
    assert rank_at(found.lost, 1 - found.lost[7] - 1e-9) == 7


def test_layers_alike_share_a_basis_and_lose_less_than_apart() -> None:
    rng = np.random.default_rng(3)
    span = rng.normal(size=(40, 12))
    weights = [span @ rng.normal(size=(12, 40)) + 0.05 * rng.normal(size=(40, 40)) for _ in range(3)]
    known = [statistics_of(outliers(40, seed)) for seed in range(3)]
    found = BasisSharing(group=3).factor(weights, known, 0.4)
    assert all(part.chain[0] is found[0].chain[0] for part in found)
    assert found[0].chain[0].size + sum(part.chain[1].size for part in found) <= 0.4 * 3 * 1600
    for weight, part, one in zip(weights, found, known, strict=True):
        plain = find_method("svd_llm")().factor(weight, one, int(0.4 * 1600))  # type: ignore[attr-defined]
        assert output_error(weight - part.matrix(), one.moment).sum() < output_error(weight - plain.matrix(), one.moment).sum()


def test_layers_that_have_nothing_in_common_get_a_basis_each() -> None:
    weights = [weight_of(40, 30, seed) for seed in (1, 2)]
    known = [statistics_of(outliers(40, seed, mix_seed=10 * seed)) for seed in (1, 2)]
    found = BasisSharing().factor(weights, known, 0.5)
    assert found[0].chain[0] is not found[1].chain[0]


def test_layers_that_are_nearly_equal_become_one_with_small_differences() -> None:
    rng = np.random.default_rng(3)
    common = rng.normal(size=(40, 40))
    weights = [common + 0.2 * rng.normal(size=(40, 2)) @ rng.normal(size=(2, 40)) for _ in range(2)]
    known = [statistics_of(outliers(40, seed)) for seed in range(2)]
    found = RelaxedRecursive().factor(weights, known, 0.7)
    assert found[0].rest is found[1].rest
    for weight, part, one in zip(weights, found, known, strict=True):
        plain = find_method("svd")().factor(weight, None, int(0.7 * 1600))  # type: ignore[attr-defined]
        assert lost(weight, part.matrix(), one.rows) < 0.1 * lost(weight, plain.matrix(), one.rows)


@pytest.mark.parametrize(("count", "share"), [(1, 0.5), (2, 0.5), (3, 0.5), (2, 0.8)])
def test_layers_that_have_nothing_in_common_share_no_weight_and_keep_their_room(count: int, share: float) -> None:
    rng = np.random.default_rng(3)
    weights = [rng.normal(size=(40, 40)) for _ in range(count)]
    known = [statistics_of(outliers(40, seed)) for seed in range(count)]
    for weight, part, one in zip(weights, RelaxedRecursive().factor(weights, known, share), known, strict=True):
        assert part.rest is None and part.numbers <= share * 1600
        plain = find_method("svd")().factor(weight, None, int(share * 1600))  # type: ignore[attr-defined]
        assert lost(weight, part.matrix(), one.rows) < lost(weight, plain.matrix(), one.rows)


@pytest.mark.parametrize("method", sorted(name for name, kind in methods().items() if issubclass(kind, SharingMethod)))
def test_shared_factors_of_strange_statistics_are_finite(method: str) -> None:
    for rows in STRANGE.values():
        known = [statistics_of(rows.astype(np.float32))] * 2
        found = find_method(method)().factor([weight_of(12, 9, seed) for seed in (1, 2)], known, 0.7)  # type: ignore[attr-defined]
        assert all(np.isfinite(part.matrix()).all() for part in found)


def test_a_budget_is_spent_as_well_as_by_trying_all_ranks() -> None:
    rng = np.random.default_rng(0)
    curves = []
    for _ in range(3):
        values = np.sort(rng.random(5))[::-1]
        left = np.concatenate([[values.sum()], values.sum() - np.cumsum(values)]) / values.sum()
        curves.append(Curve(np.maximum(left, 0), float(rng.integers(2, 5)), 30.0, float(rng.random() + 0.1)))
    for budget in (12.0, 20.0, 30.0):
        found = spend(curves, budget)
        assert sum(curve.cost(rank) for curve, rank in zip(curves, found, strict=True)) <= budget
        tried = [ranks for ranks in itertools.product(range(1, 6), repeat=3) if sum(r * c.unit for r, c in zip(ranks, curves, strict=True)) <= budget]
        best = min(sum(c.matters * c.lost[r] for r, c in zip(ranks, curves, strict=True)) for ranks in tried)
        mine = sum(c.matters * c.lost[r] for r, c in zip(found, curves, strict=True) if r is not None)
        step = max(c.matters * float(-np.diff(c.lost).min()) for c in curves)
        assert mine <= best + step


def test_a_weight_that_would_cost_as_much_stays_whole() -> None:
    flat = Curve(np.linspace(1, 0, 11), 20.0, 100.0)
    steep = Curve(np.array([1.0, 0.01, *[0.0] * 9]), 20.0, 100.0)
    assert spend([flat, steep], 130.0) == [None, 1]
    assert spend([dataclasses.replace(flat, matters=0.0)], 10.0) == [1]
