"""Limits keep NaN and infinities as ONNX Runtime does."""

import numpy as np
import pytest

pytest.importorskip("tvm")

from graphwright.backends.ort.backend import OrtBackend
from graphwright.backends.tvm.build import build_model
from graphwright.backends.tvm.machine import this_machine
from graphwright.backends.tvm.options import DEFAULT

STRANGE = np.array([[np.nan, 1, -2, np.inf], [30, -np.inf, -0.0, np.nan]], np.float32)


@pytest.mark.parametrize(
    ("body", "opset"),
    [
        ("y = Relu(x)", 21),
        ("lo = Constant<value_float=-1.0>() hi = Constant<value_float=6.0>() y = Clip(x, lo, hi)", 21),
        ("lo = Constant<value_float=-1.0>() y = Clip(x, lo)", 21),
        ('hi = Constant<value_float=6.0>() y = Clip(x, "", hi)', 21),
        ("y = Clip(x)", 21),
        ("y = Clip<min=-1.0, max=6.0>(x)", 10),
        ("y = HardSigmoid<alpha=0.3, beta=0.4>(x)", 21),
    ],
)
def test_a_limit_keeps_nan(model, body, opset):
    made = model(f"g (float[2,4] x) => (float[2,4] y) {{ {body} }}", opset=opset)
    expected = OrtBackend().reference(made).run({"x": STRANGE})["y"]
    got = build_model(made, DEFAULT, this_machine(), lambda text: None).run({"x": STRANGE})["y"]
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_whole_numbers_are_limited_too(model):
    made = model("g (int32[4] x, int32 lo, int32 hi) => (int32[4] y, int32[4] z) { y = Clip(x, lo, hi) z = Relu(x) }", opset=14)
    feeds = {"x": np.array([-9, -1, 3, 90], np.int32), "lo": np.int32(-2), "hi": np.int32(5)}
    expected = OrtBackend().reference(made).run(feeds)
    got = build_model(made, DEFAULT, this_machine(), lambda text: None).run(feeds)
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value)


@pytest.mark.parametrize("operator", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize(("axis", "keep"), [(0, 0), (1, 1), (-1, 0)])
def test_the_place_of_an_extreme_passes_over_nan_unless_it_comes_first(model, operator, axis, keep):
    made = model(f"g (float[N,5] x) => (int64[{'A,B' if keep else 'A'}] y) {{ y = {operator}<axis={axis}, keepdims={keep}>(x) }}")
    noise = np.random.default_rng(0)
    reference, runner = OrtBackend().reference(made), build_model(made, DEFAULT, this_machine(), lambda text: None)
    for part in (0.0, 0.3, 0.6, 1.0):
        x = noise.integers(-9, 9, (6, 5)).astype(np.float32)
        x[noise.random(x.shape) < part] = np.nan
        np.testing.assert_array_equal(runner.run({"x": x})["y"], reference.run({"x": x})["y"])


@pytest.mark.parametrize("size", [7, 8, 32, 1000])
def test_the_place_of_an_extreme_is_right_at_any_size(model, size):
    made = model(f"g (float[6,{size}] x) => (int64[6] y, int64[6] z) {{ y = ArgMax<axis=1, keepdims=0>(x) z = ArgMin<axis=1, keepdims=0>(x) }}")
    x = np.random.default_rng(size).standard_normal((6, size)).astype(np.float32)
    got = build_model(made, DEFAULT, this_machine(), lambda text: None).run({"x": x})
    np.testing.assert_array_equal(got["y"], x.argmax(1))
    np.testing.assert_array_equal(got["z"], x.argmin(1))
