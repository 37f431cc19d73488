"""Several products in one nest: all that a band of the last one needs is computed for that band, and no number changes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

tvm = pytest.importorskip("tvm")

from graphwright.backends.ort.reference import open_reference  # noqa: E402
from graphwright.backends.tvm.build import build_model  # noqa: E402
from graphwright.backends.tvm.building import fused_module, kernels_of, scheduled  # noqa: E402
from graphwright.backends.tvm.machine import this_machine  # noqa: E402
from graphwright.backends.tvm.options import Options  # noqa: E402

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'
DEPTHWISE = "Conv<kernel_shape=[3,3], pads=[1,1,1,1], group={c}, strides=[{s},{s}]>(x, d)"


def model_of(size: tuple[int, int, int, int], body: str, filters: int = 24) -> ir.Model:
    """A graph over an image x with weights drawn at random: d depthwise, p pointwise, k 3 x 3, b a bias."""
    batch, channels, height, width = size
    shapes = {"d": (channels, 1, 3, 3), "p": (filters, channels, 1, 1), "k": (channels, channels, 3, 3), "b": (channels,)}
    used = {name: shape for name, shape in shapes.items() if f"{name})" in body or f"{name}," in body}
    weights = ", ".join(f"float[{','.join(map(str, shape))}] {name}" for name, shape in used.items())
    model = ir.from_onnx_text(f"{HEADER}g (float[{batch},{channels},{height},{width}] x, {weights}) => (float[N,M,H,W] y) {{ {body} }}")
    random = np.random.default_rng(0)
    for value in list(model.graph.inputs[1:]):
        model.graph.inputs.remove(value)
        value.const_value = ir.tensor(random.standard_normal(used[str(value.name)], dtype=np.float32) / 4, name=value.name)
        model.graph.register_initializer(value)
    return model


def nests(model: ir.Model) -> list[int]:
    """How many loops share their steps between threads, in each kernel."""
    module = scheduled(fused_module(model), this_machine())
    return [str(function.script()).count("T.parallel(") for name, function in module.functions_items() if name.name_hint in set(kernels_of(module))]


def agrees(model: ir.Model, x: np.ndarray) -> None:
    with build_model(model, Options(), this_machine(), lambda text: None) as runner, open_reference(model) as reference:
        found, expected = runner.run({"x": x})["y"], reference.run({"x": x})["y"]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


CASES = {
    "depthwise and pointwise": ((1, 32, 28, 28), DEPTHWISE.format(c=32, s=1)),
    "odd sizes": ((1, 40, 21, 27), DEPTHWISE.format(c=40, s=1)),
    "stride 2": ((1, 32, 31, 29), DEPTHWISE.format(c=32, s=2)),
    "several images": ((3, 24, 18, 14), DEPTHWISE.format(c=24, s=1)),
    "a prime number of rows": ((1, 32, 29, 30), DEPTHWISE.format(c=32, s=1)),
    "one column": ((1, 64, 300, 1), DEPTHWISE.format(c=64, s=1)),
    "dilation": ((1, 32, 28, 28), "Conv<kernel_shape=[3,3], pads=[2,2,2,2], dilations=[2,2], group=32>(x, d)"),
    "uneven frames": ((1, 32, 28, 28), "Conv<kernel_shape=[3,3], pads=[0,1,2,0], group=32>(x, d)"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_depthwise_and_a_pointwise_convolution_in_one_nest(name: str) -> None:
    size, first = CASES[name]
    model = model_of(size, f"a = {first} r = Relu(a) y = Conv(r, p)")
    found = nests(model)
    assert len(found) < len(kernels_of(fused_module(model, Options(fusion="own"))))
    agrees(model, np.random.default_rng(1).standard_normal(size, dtype=np.float32))


POOLED = "c = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, k, b) r = Relu(c) y = {pool}<kernel_shape=[2,2], strides=[2,2]>(r)"


@pytest.mark.parametrize("pool", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("size", [(1, 16, 32, 32), (1, 16, 33, 31), (2, 8, 24, 20)])
def test_a_convolution_and_a_pool_in_one_nest(pool: str, size: tuple[int, int, int, int]) -> None:
    agrees(model_of(size, POOLED.format(pool=pool)), np.random.default_rng(2).standard_normal(size, dtype=np.float32))


def test_two_convolutions_that_are_added_in_one_nest() -> None:
    size = (1, 16, 24, 24)
    model = model_of(size, "a = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, k) c = Conv<kernel_shape=[1,1]>(x, p) s = Add(a, c) y = Relu(s)", filters=16)
    agrees(model, np.random.default_rng(3).standard_normal(size, dtype=np.float32))


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_spreads_as_far_as_under_onnx_runtime(special: float) -> None:
    size = (1, 32, 28, 28)
    x = np.random.default_rng(4).standard_normal(size, dtype=np.float32)
    x[0, 5, 13, 7] = special
    agrees(model_of(size, f"a = {CASES['depthwise and pointwise'][1]} y = Conv(a, p)"), x)


def test_threads_share_the_bands_and_nothing_inside_them() -> None:
    size = (1, 64, 64, 64)
    model = model_of(size, f"a = {DEPTHWISE.format(c=64, s=1)} r = Relu(a) y = Conv(r, p)", filters=32)
    module = scheduled(fused_module(model), this_machine())
    (kernel,) = (str(module[name].script()) for name in dict.fromkeys(kernels_of(module)) if "conv2d" in name or "block" in name)
    bands = kernel[kernel.rindex("T.parallel(") :]
    assert bands.count('_update")') == 2, "both products are computed inside of the last loop that threads share"
