"""Images with their channels last: nothing is turned inside a chain, and the numbers stay."""

import numpy as np
import pytest

pytest.importorskip("tvm")

from graphwright.backends.ort.reference import open_reference  # noqa: E402
from graphwright.backends.tvm.build import build_model  # noqa: E402
from graphwright.backends.tvm.importing import import_model  # noqa: E402
from graphwright.backends.tvm.machine import this_machine  # noqa: E402
from graphwright.backends.tvm.options import Options  # noqa: E402
from graphwright.backends.tvm.prepare import prepare  # noqa: E402

NETWORK = """g (float[N,3,12,12] x, float[8,3,3,3] w, float[8] b, float[8,1,3,3] d, float[16,8,1,1] e, float[8,1,1] s, float[24,10] f) => (float[N,10] y)
<float half = {0.5}, float[12] columns = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}> {
  c = Conv<pads=[1,1,1,1]>(x, w, b) z = Add(c, columns) r = Clip(z, half) m = Mul(r, s) k = MaxPool<kernel_shape=[2,2], strides=[2,2]>(m)
  dd = Conv<group=8, pads=[1,1,1,1]>(k, d) h = Sigmoid(dd) a = Add(h, k) p = Conv<strides=[1,1], dilations=[1,1]>(a, e)
  q = Concat<axis=1>(p, k) v = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(q) g = GlobalAveragePool(v) t = Flatten(g) y = MatMul(t, f)
}"""
SIZES = {"w": (8, 3, 3, 3), "b": (8,), "d": (8, 1, 3, 3), "e": (16, 8, 1, 1), "s": (8, 1, 1), "f": (24, 10)}


@pytest.fixture(scope="module")
def network(model):
    random = np.random.default_rng(0)
    return model(NETWORK, **{name: random.normal(size=size).astype(np.float32) for name, size in SIZES.items()})


def test_only_the_image_is_turned(network):
    text = str(import_model(prepare(network)).module["main"])
    assert text.count("permute_dims") == 2, text
    assert text.count('data_layout="NHWC"') == 3
    assert text.count('layout="NCHW"') == 0


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_numbers_stay(network, channels_last):
    random = np.random.default_rng(1)
    with build_model(network, Options(channels_last=channels_last), this_machine(), lambda text: None) as runner, open_reference(network) as reference:
        for batch in (1, 3):
            x = random.normal(size=(batch, 3, 12, 12)).astype(np.float32)
            np.testing.assert_allclose(runner.run({"x": x})["y"], reference.run({"x": x})["y"], rtol=1e-4, atol=1e-4)


QUANTISED = """g (float[2,3,9,9] x, float[8,3,3,3] w, float[8,8,1,1] v) => (float[2,8,7,7] y)
<float s = {0.05}, uint8 z = {120}, float[8] cs = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8}, int8[8] cz = {0, 1, 2, 3, -1, -2, -3, 0}> {
  c = Conv(x, w) q = QuantizeLinear(c, s, z) d = DequantizeLinear(q, s, z) r = Relu(d)
  p = QuantizeLinear<axis=1>(r, cs, cz) e = DequantizeLinear<axis=1>(p, cs, cz) y = Conv(e, v)
}"""


def test_quantised_images_keep_their_channels_last(model):
    random = np.random.default_rng(2)
    sizes = {"w": (8, 3, 3, 3), "v": (8, 8, 1, 1)}
    network = model(QUANTISED, **{name: random.normal(size=size).astype(np.float32) for name, size in sizes.items()})
    assert str(import_model(prepare(network)).module["main"]).count("permute_dims") == 2
    feeds = {"x": random.normal(size=(2, 3, 9, 9)).astype(np.float32)}
    with build_model(network, Options(), this_machine(), lambda text: None) as runner, open_reference(network) as reference:
        np.testing.assert_allclose(runner.run(feeds)["y"], reference.run(feeds)["y"], rtol=1e-4, atol=1e-4)
