"""Gradients without labels: they see what the answers of a model see."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.calibration.engine import Engine
from graphwright.compiler.calibration.opening import open_calibration
from graphwright.compiler.core.sites import all_sites
from graphwright.passes.prune.unstructured.slopes import slopes_of

from ..pruned_models import model_of

pytest.importorskip("torch")

HEAD = "m (float[N, 24] x, float[24, 20] A, float[20, 6] B, float[6] D) => (float[N, 6] y) { a = MatMul(x, A) b = Relu(a) s = MatMul(b, B) y = Add(s, D) }"
SURE = np.array([3.0, 3.0, 3.0, -60.0, -60.0, -60.0], np.float32)


def squares(text: str, bias: np.ndarray) -> np.ndarray:
    """The mean square slope of each column of the last weight."""
    model = model_of(text)
    model.graph.initializers["D"].const_value = ir.tensor(bias, name="D")
    random = np.random.default_rng(0)
    data = [{"x": random.normal(size=(16, 24)).astype(np.float32)} for _ in range(4)]
    found = slopes_of(model, list(all_sites(model)), Engine(open_calibration(data, model), OrtBackend()))
    return np.asarray(np.square(found["s"][0]).mean(axis=0))


@pytest.mark.parametrize("end", ["", "softmax"])
def test_weights_of_classes_that_are_never_likely_matter_less(end: str) -> None:
    text = HEAD if not end else HEAD.replace("=> (float[N, 6] y)", "=> (float[N, 6] z)").replace("y = Add(s, D) }", "y = Add(s, D) z = Softmax(y) }")
    likely, never = np.split(squares(text, SURE), 2)
    assert never.max() < 0.1 * likely.min()


def test_numbers_that_are_no_scores_all_matter() -> None:
    text = HEAD.replace("y = Add(s, D) }", "y = Add(s, D) z = Tanh(y) }").replace("=> (float[N, 6] y)", "=> (float[N, 6] z)")
    found = squares(text, np.zeros(6, np.float32))
    assert found.min() > 0.1 * found.max()


def test_the_fisher_information_is_that_of_the_model_s_own_classes() -> None:
    """Of y = x B it is E[x^2] p (1 - p) for each class, plus what the signs add: compared with 2 classes of unlike likelihood, where p (1 - p) is the same."""
    likely = squares(HEAD, np.array([4.0, 0.0, -60.0, -60.0, -60.0, -60.0], np.float32))
    assert likely[0] == pytest.approx(likely[1], rel=0.3)
    assert likely[2:].max() < 0.3 * likely[1]


def test_a_single_sample_is_drawn_for_often_enough() -> None:
    """All columns of a product that is the output have the same mean square slope: what tells them apart is how few draws there were."""
    model = model_of("m (float[N, 24] x, float[24, 200] A) => (float[N, 200] z) { p = MatMul(x, A) z = Tanh(p) }")
    data = [{"x": np.random.default_rng(0).normal(size=(16, 24)).astype(np.float32)}]
    for value in model.graph.initializers.values():
        value.const_value = ir.tensor(1e-3 * value.const_value.numpy(), name=value.name)  # type: ignore[union-attr]
    (found,) = slopes_of(model, list(all_sites(model)), Engine(open_calibration(data, model), OrtBackend())).values()
    assert (found[0].std(axis=1) / found[0].mean(axis=1)).max() < 0.15
