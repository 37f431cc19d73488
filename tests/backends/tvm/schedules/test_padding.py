"""What follows a convolution in its kernel and writes more than it reads is written whole."""

import numpy as np
import pytest

pytest.importorskip("tvm")

from graphwright.backends.ort.backend import OrtBackend
from graphwright.backends.tvm.build import build_model
from graphwright.backends.tvm.machine import this_machine
from graphwright.backends.tvm.options import Options


@pytest.mark.parametrize(("channels", "size"), [((8, 16), 6), ((7, 9), 5), ((16, 32), 28)])
@pytest.mark.parametrize("fusion", ["plan", "own"])
def test_what_pad_adds_after_a_convolution_is_written(model, channels, size, fusion):
    before, after = channels
    text = f"""g (float[1,{before},{size},{size}] x, float[{after},{before},1,1] w) => (float[1,{after},{size + 1},{size + 2}] y) {{
        c = Conv(x, w) r = Relu(c) p = Constant<value_ints=[0,0,0,1,0,0,1,1]>() y = Pad(r, p)
    }}"""
    noise = np.random.default_rng(0)
    made = model(text, w=noise.standard_normal((after, before, 1, 1)).astype(np.float32))
    runner, reference = build_model(made, Options(fusion=fusion), this_machine(), lambda text: None), OrtBackend().reference(made)
    for _ in range(3):
        feeds = {"x": noise.standard_normal((1, before, size, size)).astype(np.float32)}
        np.testing.assert_allclose(runner.run(feeds)["y"], reference.run(feeds)["y"], rtol=1e-5, atol=1e-5)
