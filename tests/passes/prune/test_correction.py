"""Correction: what is left is fitted, in turn, to what the model gave before."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.calibration.engine import Engine
from graphwright.compiler.calibration.opening import open_calibration
from graphwright.compiler.core.sites import all_sites
from graphwright.compiler.core.statistics import PairStatistics
from graphwright.passes.prune.beside import beside
from graphwright.passes.prune.refit import RIDGES, error_of, refit, together

from .pruned_models import model_of, outputs_of
from .test_structured import CONV, DEEP, error, pruned, samples

RESIDUAL = """m (float[N, 24] x, float[24, 40] E, float[40] P, float[40, 64] A, float[64] B, float[64, 40] C, float[40] D, float[40, 64] F, float[64] G,
    float[64, 40] H, float[40] I, float[40, 10] O) => (float[N, 10] y) {
    e = MatMul(x, E)
    p = Add(e, P)
    a = MatMul(p, A)
    b = Add(a, B)
    c = Relu(b)
    d = MatMul(c, C)
    d1 = Add(d, D)
    r = Add(p, d1)
    f = MatMul(r, F)
    g = Add(f, G)
    h = Relu(g)
    i = MatMul(h, H)
    i1 = Add(i, I)
    s = Add(r, i1)
    y = MatMul(s, O) }"""
CUT = "prune-structured{ratio=0.4,of=members,uniform=true,score=magnitude"


def statistics(rows: np.ndarray, targets: np.ndarray) -> PairStatistics:
    count = len(rows)
    return PairStatistics(
        rows.T @ rows / count, rows.T @ targets / count, rows.mean(axis=0), targets.mean(axis=0), np.square(targets).mean(axis=0), count
    )


def drawn(seed: int, count: int, width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = rng.normal(1, 1, (count, width))
    return rows, rows @ np.random.default_rng(0).normal(size=(width, 3)) + 2 + rng.normal(0, 0.1, (count, 3))


def test_both_versions_of_a_model_compute_beside_each_other_what_they_compute_alone() -> None:
    model = model_of(DEEP)
    small, _ = pruned(model, f"{CUT},refit=false}}")
    both = beside(model, small)
    both.model.graph.outputs.append(both.of("y"))  # type: ignore[arg-type]
    feeds = samples((8, 24), 1, 1)[0]
    before, after = outputs_of(both.model, feeds)
    np.testing.assert_array_equal(before, outputs_of(model, feeds)[0])
    np.testing.assert_array_equal(after, outputs_of(small, feeds)[0])


@pytest.mark.parametrize(("text", "site", "shape"), [(DEEP, "d", (8, 24)), (CONV, "c", (2, 3, 12, 12))])
def test_pairs_are_the_moments_of_what_a_site_reads_and_of_what_belongs_to_each_row(text: str, site: str, shape: tuple[int, ...]) -> None:
    model, data = model_of(text), samples(shape, 6, 1)
    (found,) = [item for item in all_sites(model) if item.name == site]
    engine = Engine(open_calibration(data, model), OrtBackend())
    ((_, parts),) = list(engine.pairs(model, [found], [site], parts=2))
    assert [part.count for part in parts] == [3 * 8] * 2 if text is DEEP else parts[0].count == parts[1].count
    known, weight = together(parts), found.matrices()[0].astype(np.float64)
    np.testing.assert_allclose(known.cross, known.moment @ weight, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(known.target_mean, known.mean @ weight, rtol=1e-4, atol=1e-5)


def test_the_error_by_moments_is_the_error_of_the_rows() -> None:
    rows, targets = drawn(1, 50)
    known, bias = statistics(rows, targets), np.array([0.5, -1, 0])
    found = refit(np.zeros((6, 3)), bias, [known, known], biased=True)
    assert found is not None
    missed = targets - rows @ found.weight - bias - found.bias
    assert error_of(found, bias, known) == pytest.approx(np.square(missed).sum(axis=1).mean(), rel=1e-6)


def test_a_fit_finds_what_the_inputs_tell_of_the_targets() -> None:
    parts = [statistics(*drawn(seed, 400)) for seed in (1, 2, 3)]
    found = refit(np.zeros((6, 3)), np.zeros(3), parts, biased=True)
    assert found is not None
    assert error_of(found, np.zeros(3), statistics(*drawn(9, 400))) < 0.05


def test_what_samples_it_was_not_fitted_on_do_not_confirm_is_left_as_it_is() -> None:
    rows, targets = drawn(1, 8)
    other = np.random.default_rng(5).normal(size=(200, 6))
    weight = np.random.default_rng(0).normal(size=(6, 3))
    parts = [statistics(rows, targets + 5 * np.random.default_rng(3).normal(size=targets.shape)), statistics(other, other @ weight)]
    assert refit(weight, np.zeros(3), parts, biased=False) is None
    assert refit(weight, np.zeros(3), parts[:1], biased=False) is None
    assert len(RIDGES) > 1


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_went_wrong_before_a_sum_is_made_up_for_behind_it(seed: int) -> None:
    model, data, other = model_of(RESIDUAL, seed=seed), samples((8, 24), 40, 1), samples((8, 24), 10, 2)
    plain, _ = pruned(model, f"{CUT},refit=false}}", data)
    fitted, _ = pruned(model, f"{CUT}}}", data)
    assert error(model, fitted, other) < 0.25 * error(model, plain, other)


def test_a_site_that_two_products_share_is_not_fitted_to_one_of_them() -> None:
    text = "m (float[N, 24] x, float[24, 64] A, float[64, 24] C, float[24, 5] O) => (float[N, 5] y) {\n" + "\n".join(
        f"a{place} = MatMul({'x' if not place else f'c{place - 1}'}, A)\nr{place} = Relu(a{place})\nc{place} = MatMul(r{place}, C)" for place in range(2)
    )
    model, data = model_of(text + "\ny = MatMul(c1, O) }"), samples((8, 24), 10, 1)
    small, _ = pruned(model, f"{CUT}}}", data)
    again, _ = pruned(model, f"{CUT},refit=false}}", data)
    np.testing.assert_array_equal(content(small, "C"), content(again, "C"))


def content(model: ir.Model, name: str) -> np.ndarray:
    return np.asarray(model.graph.initializers[name].const_value.numpy())
