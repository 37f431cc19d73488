"""Where torch has a GPU it computes there, and the numbers are those of the CPU."""

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.core.graph import bind_opsets
from graphwright.passes.differentiable.graph import TorchGraph
from graphwright.passes.differentiable.torch_there import device, full_precision

torch = pytest.importorskip("torch")

CONV = '<ir_version: 10, opset_import: ["" : 21]> g (float[1,3,8,8] x, float[4,3,3,3] w) => (float[1,4] y)' \
       " { c = Conv<pads=[1,1,1,1]>(x, w) r = Relu(c) m = GlobalAveragePool(r) y = Flatten(m) }"  # fmt: skip
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here")


def convolution() -> ir.Model:
    model = ir.from_onnx_text(CONV)
    bind_opsets(model)
    return model


def feeds() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"x": rng.normal(size=(1, 3, 8, 8)).astype(np.float32), "w": rng.normal(size=(4, 3, 3, 3)).astype(np.float32)}


def test_the_device_is_the_one_that_torch_has() -> None:
    assert device() == ("cuda" if torch.cuda.is_available() else "cpu")


def test_convolutions_are_not_rounded_to_ten_bits_and_the_users_setting_comes_back() -> None:
    before = torch.backends.cudnn.allow_tf32
    with full_precision():
        assert torch.backends.cudnn.allow_tf32 is False
    assert torch.backends.cudnn.allow_tf32 == before


@on_a_gpu
def test_a_gpu_computes_what_the_cpu_does() -> None:
    there, here = TorchGraph.of(convolution()), TorchGraph.of(convolution(), "cpu")
    assert there.device == "cuda"
    np.testing.assert_allclose(there.numpy(feeds())["y"], here.numpy(feeds())["y"], rtol=1e-5, atol=1e-6)


@on_a_gpu
def test_gradients_reach_constants_on_a_gpu() -> None:
    graph = TorchGraph.of(convolution())
    weight = torch.tensor(feeds()["w"], device="cuda", requires_grad=True)
    graph.run({"x": torch.tensor(feeds()["x"], device="cuda"), "w": weight})["y"].square().sum().backward()
    assert weight.grad is not None and weight.grad.is_cuda and torch.isfinite(weight.grad).all()
