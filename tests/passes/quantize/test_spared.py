"""Small sites that make much of the noise stay in float, and the coverage says so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from graphwright.passes.quantize.noisy import LOUD, SMALL
from graphwright.passes.quantize.static import QuantizeStatic

from .static_models import Feeds, images, kernel, model_of, quantised, run

STEP = QuantizeStatic(ranges="minmax", equalize=False)
TEXT = "g (float[N,2,6,6] x) => (float[N,M,6,6] y) { a = Conv(x, s) b = Relu(a) c = Conv(b, k) d = Relu(c) y = Conv(d, l) }"
STEM = np.array([[1 / 300, 0.0], [0.0, 1.0], [0.0, -1.0]], np.float32).reshape(3, 2, 1, 1)
"""Brings both channels of `far_apart` to the same size."""
LARGE = {"s": STEM, "k": kernel(40, 3, 1, 1, seed=1), "l": kernel(40, 40, 3, 3, seed=2)}
LITTLE = {"s": STEM, "k": kernel(8, 3, 1, 1, seed=1), "l": kernel(6, 8, 1, 1, seed=2)}


def far_apart(count: int) -> list[Feeds]:
    """Images whose one channel is three hundred times as loud as the other: one scale for both loses the other."""
    return [{"x": one["x"] * np.array([300.0, 1.0], np.float32).reshape(1, 2, 1, 1)} for one in images(count, 1, 2, 6, 6)]


def noise(found: ir.Model, exact: ir.Model, feeds: list[Feeds]) -> float:
    pairs = [(run(found, one), run(exact, one)) for one in feeds]
    return sum(float(np.square(new - old).sum()) for new, old in pairs) / sum(float(np.square(old).sum()) for _, old in pairs)


def test_a_loud_site_without_weights_to_speak_of_stays_in_float() -> None:
    model, feeds = model_of(TEXT, LARGE), far_apart(20)
    found, context, taken = quantised(model, feeds, STEP)
    plain, _, every = quantised(model, feeds, replace(STEP, spare=False))
    assert (taken, every) == (2, 3)
    assert STEM.size <= SMALL * 14_526
    assert context.coverage.records["a"].why.endswith(f"of the noise that all rounded sites together do, and it has {STEM.size} of 14,526 weights")
    assert noise(found, model, feeds) < 0.01 < noise(plain, model, feeds)


def test_where_noise_comes_from_everywhere_nothing_is_spared() -> None:
    _, context, taken = quantised(model_of(TEXT, LARGE), images(100, 1, 2, 6, 6), replace(STEP, bias_correction=False))
    assert taken == 3
    assert all(record.form for record in context.coverage.records.values())


def test_a_loud_site_that_holds_much_is_quantised_all_the_same() -> None:
    model, feeds = model_of(TEXT, LITTLE), far_apart(20)
    found, _, taken = quantised(model, feeds, STEP)
    assert noise(found, model, feeds) > 10 * LOUD
    assert taken == 3


def test_sites_named_by_the_user_are_quantised() -> None:
    _, _, taken = quantised(model_of(TEXT, LARGE), far_apart(20), replace(STEP, only=("a",)))
    assert taken == 1
