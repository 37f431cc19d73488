"""Static quantisation rounds weights by gptq where that helps, and as they are where it cannot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from graphwright.passes.quantize import closest_codes
from graphwright.passes.quantize.static import QuantizeStatic

from .static_models import images, kernel, model_of, quantised, run

STEP = QuantizeStatic(ranges="minmax", equalize=False, spare=False, bias_correction=False)
TEXT = "g (float[N,6,7,7] x) => (float[N,8,5,5] y) { a = Conv<group=6>(x, d) b = Relu(a) y = Conv(b, k) }"
WEIGHTS = {"d": kernel(12, 1, 3, 3), "k": kernel(8, 12, 1, 1, seed=1)}


def test_dense_sites_are_rounded_by_gptq_and_depthwise_ones_to_nearest() -> None:
    _, context, _ = quantised(model_of(TEXT, WEIGHTS), images(12, 1, 6, 7, 7), STEP)
    assert {name: record.method for name, record in context.coverage.records.items() if record.method} == {"a": "rtn", "y": "gptq"}


def test_weights_that_lie_on_the_grid_stay_as_they_are() -> None:
    codes = np.random.default_rng(2).integers(-127, 128, (8, 12, 1, 1)).astype(np.float32)
    codes[:, 0] = 127
    model = model_of(TEXT, {**WEIGHTS, "k": codes * np.float32(2**-7)})
    _, context, _ = quantised(model, images(12, 1, 6, 7, 7), STEP)
    assert context.coverage.records["y"].method == "rtn"


def test_outputs_come_closer_than_with_rounding_to_nearest() -> None:
    text = "g (float[N,16,6,6] x) => (float[N,8,6,6] y) { y = Conv(x, k) }"
    mixing = kernel(16, 5, seed=7)
    feeds = [{"x": np.einsum("oc,nchw->nohw", mixing, one["x"]).astype(np.float32)} for one in images(16, 1, 5, 6, 6)]
    model, errors = model_of(text, {"k": kernel(8, 16, 1, 1, seed=1)}, opset=21), {}
    for method in ("rtn", "auto"):
        found, _, _ = quantised(model, feeds, replace(STEP, method=method, activations=16))
        errors[method] = sum(float(np.square(run(found, one) - run(model, one)).sum()) for one in feeds)
    assert errors["auto"] < 0.8 * errors["rtn"]


def test_large_weights_are_rounded_to_nearest(monkeypatch: object) -> None:
    monkeypatch.setattr(closest_codes, "MOST_ROWS", 11)  # type: ignore[attr-defined]
    _, context, _ = quantised(model_of(TEXT, WEIGHTS), images(4, 1, 6, 7, 7), STEP)
    assert context.coverage.records["y"].method == "rtn"
