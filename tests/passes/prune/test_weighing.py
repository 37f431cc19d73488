"""An error counts as a share of what it becomes a part of."""

from __future__ import annotations

import numpy as np
import pytest

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.calibration.engine import Engine
from graphwright.compiler.calibration.opening import open_calibration
from graphwright.compiler.core.shapes import settle_shapes
from graphwright.compiler.core.sites import all_sites
from graphwright.passes.prune.weighing import part_of, variations

from .pruned_models import model_of, outputs_of

RESIDUAL = """m (float[N, S, 6] x, float[6, 8] A, float[8] P, float[8, 6] B, float[6] Q, float[6, 4] C) => (float[N, S, 4] y, float[N, S, 6] s) {
    a = MatMul(x, A)
    b = Add(a, P)
    r = Relu(b)
    c = MatMul(r, B)
    d = Add(c, Q)
    s = Add(x, d)
    y = MatMul(s, C) }"""
CONV = """m (float[N, 3, 6, 6] x, float[5, 3, 3, 3] A, float[3, 5, 3, 3] B) => (float[N, 3, 6, 6] y, float[N, 5, 6, 6] a) {
    a = Conv<pads=[1,1,1,1]>(x, A)
    r = Relu(a)
    b = Conv<pads=[1,1,1,1]>(r, B)
    y = Add(b, x) }"""


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize(("text", "shape", "parts", "channel"), [
    (RESIDUAL, (2, 5, 6), {"a": "a", "c": "s", "y": "y"}, -1),
    (CONV, (2, 3, 6, 6), {"a": "a", "b": "y"}, 1),
])  # fmt: skip
def test_it_is_the_variance_of_the_sum_that_an_output_is_added_to(text: str, shape: tuple[int, ...], parts: dict[str, str], channel: int, opset: int) -> None:
    model, random = model_of(text, opset=opset), np.random.default_rng(1)
    settle_shapes(model)
    sites = list(all_sites(model))
    assert {site.name: part_of(site).name for site in sites} == parts
    data = [{"x": random.normal(1.0, 2.0, shape).astype(np.float32)} for _ in range(4)]
    found = variations(model, sites, Engine(open_calibration(data, model), OrtBackend()))
    outputs = dict(zip([value.name for value in model.graph.outputs], zip(*(outputs_of(model, sample) for sample in data), strict=True), strict=True))
    for site, part in parts.items():
        if part in outputs:
            content = np.moveaxis(np.concatenate(outputs[part]).astype(np.float64), channel, -1).reshape(-1, outputs[part][0].shape[channel])
            assert found[site] == pytest.approx(float(content.var(axis=0).sum()), rel=1e-3)
