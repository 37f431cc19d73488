"""Static quantisation rounds weights by the method that brings products closest, and as they are where none can."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from graphwright.compiler.core.graph import array
from graphwright.passes.quantize import closest_codes
from graphwright.passes.quantize.static import QuantizeStatic

from .static_models import images, kernel, model_of, quantised, run

STEP = QuantizeStatic(ranges="minmax", equalize=False, spare=False, bias_correction=False)
TEXT = "g (float[N,6,7,7] x) => (float[N,8,5,5] y) { a = Conv<group=6>(x, d) b = Relu(a) y = Conv(b, k) }"
WEIGHTS = {"d": kernel(12, 1, 3, 3), "k": kernel(8, 12, 1, 1, seed=1)}


def test_few_rows_are_rounded_together_and_many_by_gptq(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closest_codes, "FEW_ROWS", 9)
    _, context, _ = quantised(model_of(TEXT, WEIGHTS), images(12, 1, 6, 7, 7), STEP)
    assert {name: record.method for name, record in context.coverage.records.items() if record.method} == {"a": "cdquant", "y": "gptq"}


def test_groups_of_many_rows_are_rounded_to_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closest_codes, "FEW_ROWS", 8)
    _, context, _ = quantised(model_of(TEXT, WEIGHTS), images(12, 1, 6, 7, 7), STEP)
    assert context.coverage.records["a"].method == "rtn"


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


def test_large_weights_are_rounded_to_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closest_codes, "MOST_ROWS", 11)
    _, context, _ = quantised(model_of(TEXT, WEIGHTS), images(4, 1, 6, 7, 7), STEP)
    assert context.coverage.records["y"].method == "rtn"


def test_depthwise_outputs_come_closer_too() -> None:
    text = "g (float[N,6,9,9] x) => (float[N,6,7,7] y) { y = Conv<group=6>(x, k) }"
    feeds = [{"x": np.clip(np.cumsum(one["x"], axis=3), -4, 4).astype(np.float32)} for one in images(16, 1, 6, 9, 9)]
    model, errors = model_of(text, {"k": kernel(6, 1, 3, 3, seed=1)}, opset=21), {}
    for method in ("rtn", "auto"):
        found, _, _ = quantised(model, feeds[:12], replace(STEP, method=method, activations=16))
        errors[method] = sum(float(np.square(run(found, one) - run(model, one)).sum()) for one in feeds[12:])
    assert errors["auto"] < 0.5 * errors["rtn"]


def test_what_comes_out_of_the_last_integer_operator_is_not_cut_off() -> None:
    model = model_of("g (float[N,4,6,6] x) => (float[N,8,6,6] y) { y = Conv(x, k) }", {"k": kernel(8, 4, 1, 1)})
    feeds = images(8, 1, 4, 6, 6)
    feeds[3]["x"][0, 0, 0, 0] = 60.0
    found, _, _ = quantised(model, feeds, replace(STEP, ranges="mse", spare=False))
    (scale,) = {float(array(node.inputs[1])) for node in found.graph if node.op_type == "QuantizeLinear" and node.inputs[0].producer() is not None}  # type: ignore[arg-type]
    reach = max(run(model, one).max() for one in feeds) - min(run(model, one).min() for one in feeds)
    assert scale == pytest.approx(reach / 255, rel=1e-4)
