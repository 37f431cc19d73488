"""What rounding shifts the channels of a network by is taken off its biases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.calibration.engine import Engine
from graphwright.compiler.calibration.opening import open_calibration
from graphwright.compiler.core.graph import array, is_op
from graphwright.passes.quantize import static
from graphwright.passes.quantize.shifts import means_of, settle
from graphwright.passes.quantize.static import QuantizeStatic

from .static_models import images, kernel, model_of, quantised, run

STEP = QuantizeStatic(ranges="percentile", percentile=99.0, equalize=False)
DEEP = (
    "g (float[N,4,8,8] x) => (float[N,6] y) {"
    " a0 = Conv(x, k0, b0) r0 = Relu(a0) a1 = Conv(r0, k1, b1) r1 = Relu(a1) a2 = Conv(r1, k2, b2) r2 = Relu(a2) a3 = Conv(r2, k3, b3) r3 = Relu(a3)"
    " v = GlobalAveragePool(r3) f = Flatten(v) y = Gemm(f, w, h) }"
)
WEIGHTS = {
    **{f"k{place}": kernel(12, 4 if place == 0 else 12, 1, 1, seed=place, scale=0.5) for place in range(4)},
    **{f"b{place}": kernel(12, seed=9 + place, scale=0.1) for place in range(4)},
    "w": kernel(12, 6, seed=20),
    "h": kernel(6, seed=21),
}


def error(found: ir.Model, exact: ir.Model) -> float:
    """On inputs that were not calibrated with."""
    return sum(float(np.square(run(found, one) - run(exact, one)).sum()) for one in images(6, 1, 4, 8, 8, seed=99))


def test_a_deep_network_answers_closer_once_its_biases_are_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    model, feeds = model_of(DEEP, WEIGHTS), images(24, 1, 4, 8, 8)
    settled, _, _ = quantised(model, feeds, STEP)
    monkeypatch.setattr(static, "settle", lambda *_: {})
    before, _, _ = quantised(model, feeds, STEP)
    assert error(settled, model) < 0.7 * error(before, model)


def test_every_channel_has_the_mean_that_it_had() -> None:
    model, feeds = model_of(DEEP, WEIGHTS), images(24, 1, 4, 8, 8)
    found, _, _ = quantised(model, feeds, replace(STEP, bias_correction=False))
    engine = Engine(open_calibration(feeds, found), OrtBackend())
    exact = means_of(model, ["a0", "a1", "a2", "a3", "y"], Engine(open_calibration(feeds, model), OrtBackend()))
    nodes = dict(zip(exact, (node for node in found.graph if is_op(node, "Conv", "Gemm")), strict=True))
    values = {name: str(node.outputs[0].name) for name, node in nodes.items()}
    before = means_of(found, list(values.values()), engine)
    shifts = settle(found, nodes, exact, engine)
    after = means_of(found, list(values.values()), engine)
    assert set(shifts) == set(exact)
    for name in ("a0", "a1", "a2", "a3"):
        assert np.abs(after[values[name]] - exact[name]).max() < 1e-5
    assert np.abs(before[values["a3"]] - exact["a3"]).max() > 1e-2
    bias = array(nodes["y"].inputs[2].producer().inputs[0])
    assert bias.dtype == np.int32
    steps = array(nodes["y"].inputs[2].producer().inputs[1])
    assert (np.abs(after[values["y"]] - exact["y"]) <= 0.51 * steps + 1e-6).all()


def test_settling_that_would_move_the_outputs_further_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    model, feeds = model_of(DEEP, WEIGHTS), images(24, 1, 4, 8, 8)
    monkeypatch.setattr(static, "settle", lambda trial, nodes, exact, calibrator: {})
    plain, _, _ = quantised(model, feeds, STEP)

    def spoil(trial: ir.Model, nodes: dict[str, ir.Node], exact: dict[str, np.ndarray], calibrator: Engine) -> dict[str, np.ndarray]:
        shifts = settle(trial, nodes, {name: mean + 1.0 for name, mean in exact.items()}, calibrator)
        assert shifts
        return shifts

    monkeypatch.setattr(static, "settle", spoil)
    found, _, _ = quantised(model, feeds, STEP)
    assert [array(value).tobytes() for value in found.graph.initializers.values()] == [array(value).tobytes() for value in plain.graph.initializers.values()]


def test_products_of_three_dimensions_have_no_bias_to_settle() -> None:
    model = model_of("g (float[N,3,4] x) => (float[N,3,5] y) { y = MatMul(x, w) }", {"w": kernel(4, 5)})
    _, _, taken = quantised(model, images(4, 2, 3, 4), STEP)
    assert taken == 1
