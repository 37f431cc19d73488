"""Channels between convolutions that are scaled to reach equally far."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.calibration.engine import Engine
from graphwright.compiler.calibration.opening import open_calibration
from graphwright.compiler.core.graph import array, clone_model
from graphwright.compiler.core.shapes import settle_shapes
from graphwright.compiler.core.sites import all_sites
from graphwright.passes.quantize.cross_layer_equalization import equalise, equalising_scales, pairs
from graphwright.passes.quantize.static import QuantizeStatic

from .static_models import images, kernel, model_of, quantised, run

UNEVEN = (np.geomspace(1.0, 20.0, 6)[:, None, None, None] * np.ones((6, 4, 1, 1))).astype(np.float32)
DENSE = {"k1": kernel(6, 4, 1, 1) * UNEVEN, "b1": kernel(6), "k2": kernel(3, 6, 3, 3, seed=1) / UNEVEN[:, 0, 0, 0][None, :, None, None], "b2": kernel(3)}
CHAIN = "g (float[2,4,6,6] x) => (float[2,3,4,4] y) {{ a = Conv(x, k1, b1) r = {between} y = Conv(r, k2, b2) }}"
MINMAX = QuantizeStatic(ranges="minmax", equalize=False)


def equalised(model: ir.Model, count: int = 6) -> tuple[ir.Model, int]:
    copy = clone_model(model)
    settle_shapes(copy)
    feeds = images(count, 2, 4, 6, 6)
    return copy, equalise(copy, list(all_sites(copy)), Engine(open_calibration(feeds, copy), OrtBackend()))


@pytest.mark.parametrize("between", ["Relu(a)", "LeakyRelu<alpha=0.2>(a)", "Identity(a)"])
def test_the_function_stays_and_channels_reach_closer_together(between: str) -> None:
    model = model_of(CHAIN.format(between=between), DENSE)
    found, count = equalised(model)
    assert count == 1
    feeds = images(1, 2, 4, 6, 6, seed=9)[0]
    np.testing.assert_allclose(run(found, feeds), run(model, feeds), rtol=1e-4, atol=1e-4)
    spreads = []
    for one in (model, found):
        weight = array(next(iter(all_sites(one))).node.inputs[1])
        reach = np.abs(weight).reshape(6, -1).max(axis=1)
        spreads.append(float(reach.max() / reach.min()))
    assert spreads[1] < 0.5 * spreads[0]


@pytest.mark.parametrize("between", ["Clip(a, lo, hi)", "Sigmoid(a)", "Add(a, a)"])
def test_what_does_not_scale_along_keeps_its_channels(between: str) -> None:
    constants = {**DENSE, "lo": np.float32(0).reshape(()), "hi": np.float32(6).reshape(())}
    _, count = equalised(model_of(CHAIN.format(between=between), constants))
    assert count == 0


def test_a_result_that_others_read_too_stays() -> None:
    text = "g (float[2,4,6,6] x) => (float[2,3,4,4] y, float[2,6,6,6] r) { a = Conv(x, k1, b1) r = Relu(a) y = Conv(r, k2, b2) }"
    model = model_of(text, DENSE)
    assert not list(pairs(list(all_sites(model))))


def test_channels_read_by_weights_of_their_own_come_to_reach_exactly_equally_far() -> None:
    text = "g (float[2,4,6,6] x) => (float[2,6,4,4] y) { a = Conv(x, k1, b1) r = Relu(a) y = Conv<group=6>(r, k2) }"
    model = model_of(text, {**DENSE, "b1": np.zeros(6, np.float32), "k2": kernel(6, 1, 3, 3, seed=1)})
    found, count = equalised(model, 40)
    assert count == 1
    feeds = images(40, 2, 4, 6, 6)
    middle = model_of("g (float[2,4,6,6] x) => (float[2,6,6,6] r) { a = Conv(x, k) r = Relu(a) }", {"k": array(next(iter(all_sites(found))).weight)})
    reach = np.max([run(middle, one).max(axis=(0, 2, 3)) for one in feeds], axis=0)
    np.testing.assert_allclose(reach, reach[0], rtol=1e-3)
    np.testing.assert_allclose(run(found, feeds[0]), run(model, feeds[0]), rtol=1e-4, atol=1e-4)


def test_it_beats_plain_rounding_on_uneven_channels() -> None:
    model, feeds = model_of(CHAIN.format(between="Relu(a)"), DENSE), images(12, 2, 4, 6, 6)
    errors = []
    for wanted in (False, True):
        found, _, _ = quantised(model, feeds, replace(MINMAX, equalize=wanted))
        errors.append(sum(float(np.square(run(found, one) - run(model, one)).sum()) for one in feeds))
    assert errors[1] < 0.7 * errors[0]


def test_channels_that_never_speak_or_are_never_read_stay() -> None:
    scales = equalising_scales(np.array([0.0, 2.0, 8.0]), np.array([1.0, 0.0, 2.0]))
    np.testing.assert_allclose(scales, [1.0, 1.0, 1.0])
    np.testing.assert_allclose(equalising_scales(np.zeros(3), None), np.ones(3))
    np.testing.assert_allclose(equalising_scales(np.array([1e-9, 4.0]), None), [0.01, 1.0])
