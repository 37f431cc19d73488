"""share-weights: weights that are nearly equal become one, the others stay as they are."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.core.errors import UsageError
from graphwright.passes.factorize.share_weights import clusters_of

from ..prune.pruned_models import feeds_of, model_of, outputs_of
from .low_rank_models import factorised

LAYERS = """m (float[N, 16] x, float[16, 16] A, float[16, 16] B, float[16, 16] C, float[16, 16] D) => (float[N, 16] y) {
    a = MatMul(x, A)
    b = Relu(a)
    c = MatMul(b, B)
    d = Relu(c)
    e = MatMul(d, C)
    f = Relu(e)
    y = MatMul(f, D) }"""


def nearly(noise: float) -> ir.Model:
    """Four layers of which the first, the second and the fourth differ by noise."""
    model = model_of(LAYERS)
    rng = np.random.default_rng(0)
    common = rng.normal(size=(16, 16)) / 4
    for name in "ABD":
        model.graph.initializers[name].const_value = ir.tensor((common + noise / 4 * rng.normal(size=(16, 16))).astype(np.float32), name=name)
    return model


def test_weights_within_the_tolerance_become_one_and_the_answers_stay_near() -> None:
    model = nearly(0.01)
    small, context = factorised(model, "share-weights{tolerance=0.05}")
    assert len(small.graph.initializers) == 2 and context.coverage.taken == 3
    assert context.coverage.records["e"].why == "no other weight is within 0.05 of it"
    feeds = feeds_of(model)
    before, after = outputs_of(model, feeds)[0], outputs_of(small, feeds)[0]
    assert 0 < np.linalg.norm(after - before) < 0.1 * np.linalg.norm(before)


def test_weights_that_differ_more_stay() -> None:
    small, context = factorised(nearly(0.2), "share-weights{tolerance=0.05}")
    assert len(small.graph.initializers) == 4 and context.coverage.taken == 0


def test_no_member_of_a_cluster_is_further_from_its_mean_than_the_tolerance() -> None:
    rng = np.random.default_rng(1)
    weights = [np.array([np.cos(angle), np.sin(angle)]) for angle in np.cumsum(rng.random(30) * 0.1)]
    groups = clusters_of(weights, 0.1)
    assert groups and sorted(place for group in groups for place in group) == sorted({place for group in groups for place in group})
    for group in groups:
        mean = np.mean([weights[place] for place in group], axis=0)
        assert max(float(np.linalg.norm(weights[place] - mean)) for place in group) <= 0.1 + 1e-12


def test_only_keep_strange_and_shared_weights() -> None:
    model = nearly(0.01)
    small, context = factorised(model, "share-weights{keep=a}")
    assert context.coverage.records["a"].why == "it was asked to stay" and context.coverage.taken == 2 and len(small.graph.initializers) == 3
    content = np.array(model.graph.initializers["B"].const_value.numpy())  # type: ignore[union-attr]
    content[0, 0] = np.nan
    model.graph.initializers["B"].const_value = ir.tensor(content, name="B")
    _, context = factorised(model, "share-weights")
    assert "NaN" in context.coverage.records["c"].why and context.coverage.taken == 2


@pytest.mark.parametrize("tolerance", ["0", "1.5"])
def test_a_tolerance_that_is_none_is_refused(tolerance: str) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        factorised(nearly(0.01), f"share-weights{{tolerance={tolerance}}}")
