"""NaN, infinities and zeros of either sign go the way they go in ONNX Runtime."""

import numpy as np
import pytest

pytest.importorskip("tvm")

from graphwright.backends.ort.reference import open_reference
from graphwright.backends.tvm.backend import TvmBackend

STRANGE = np.array([0, -0.0, 1, -1, 0.5, 2.5, -2.5, 3.5, 1e-30, 88, -88, 89, -104, 1e10, -1e10, 3e38, np.inf, -np.inf, np.nan], np.float32)
ONE, OTHER = (array.reshape(-1).copy() for array in np.meshgrid(STRANGE, STRANGE))


def agree(model, feeds):
    with open_reference(model) as reference:
        expected = reference.run(feeds)
    found = TvmBackend().build(model, (), lambda text: None).runner.run(feeds)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("names", [("Celu", "Elu", "Selu", "PRelu", "LeakyRelu", "ThresholdedRelu"), ("Sign", "HardSwish", "Sigmoid", "Tanh", "Erf", "Exp")])
def test_functions_of_one_number(model, names):
    calls = [f"y{place} = {name}(x{', s' if name == 'PRelu' else ''})" for place, name in enumerate(names)]
    outputs = ", ".join(f"float[19] y{place}" for place in range(len(names)))
    agree(model(f"g (float[19] x, float[19] s) => ({outputs}) {{ {' '.join(calls)} }}"), {"x": STRANGE, "s": np.roll(STRANGE, 5)})


def test_the_larger_and_the_smaller_of_several_numbers(model):
    text = "g (float[361] x, float[361] z) => (float[361] a, float[361] b, float[361] c, float[361] d) <float k = {0.25}> {"
    agree(model(text + "a = Max(x, z) b = Min(x, z, k) c = Max(x, k) d = PRelu(x, z) }"), {"x": ONE, "z": OTHER})


@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_quantised_nan_is_the_lowest_number(model, kind):
    x = np.array([0.5, 1.5, -2.5, 127.5, 300, -300, 1e9, np.inf, -np.inf, np.nan], np.float32)
    agree(model(f"g (float[10] x) => ({kind}[10] y) <float s = {{0.5}}, {kind} z = {{3}}> {{ y = QuantizeLinear(x, s, z) }}"), {"x": x})


@pytest.mark.parametrize("shape", [(4, 1000), (300, 7), (5, 33)])
def test_the_largest_of_a_row_passes_over_nan(model, shape):
    rows, width = shape
    text = f"g (float[{rows},{width}] x) => (float[{rows}] r, float[{width}] c) <int64[1] one = {{1}}, int64[1] zero = {{0}}> {{"
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    x[np.random.default_rng(1).random(shape) < 0.1] = np.nan
    made = model(text + " r = ReduceMax<keepdims=0>(x, one) c = ReduceMin<keepdims=0>(x, zero) }")
    found = TvmBackend().build(made, (), lambda text: None).runner.run({"x": x})
    np.testing.assert_array_equal(found["r"], np.fmax.reduce(x, axis=1))
    np.testing.assert_array_equal(found["c"], np.fmin.reduce(x, axis=0))


@pytest.mark.parametrize("channels", [3, 16])
def test_the_largest_of_a_window_passes_over_nan(model, channels):
    text = f"g (float[1,{channels},8,8] x) => (float[1,{channels},4,4] y) {{ r = Neg(x) y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r) }}"
    x = np.random.default_rng(0).normal(size=(1, channels, 8, 8)).astype(np.float32)
    x[..., ::3, 1::4] = np.nan
    found = TvmBackend().build(model(text), (), lambda text: None).runner.run({"x": x})["y"]
    np.testing.assert_array_equal(found, np.fmax.reduce(-x.reshape(1, channels, 4, 2, 4, 2), axis=(3, 5)))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3)])
@pytest.mark.parametrize("biased", [True, False])
def test_gates_with_a_bias_are_never_nan(model, kind, gates, biased):
    text = f"g (float[2,1,3] x, float[1,{gates * 4},3] w, float[1,{gates * 4},4] r, float[1,{gates * 8}] b) => (float[2,1,1,4] y) {{ "
    made = model(text + f"y = {kind}<hidden_size=4>(x, w, r{', b' if biased else ''}) }}")
    random = np.random.default_rng(0)
    feeds = {value.name: random.normal(size=value.shape.numpy()).astype(np.float32) for value in made.graph.inputs}
    feeds["x"][0, 0, 1] = np.nan
    agree(made, feeds)
