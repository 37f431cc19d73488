"""A graph in torch: its constants may be replaced, its values looked at and changed, and real models compute what they do elsewhere."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.core.errors import BackendMissing, InputError
from graphwright.compiler.core.graph import bind_opsets
from graphwright.models.catalogue import find
from graphwright.passes.differentiable.graph import TorchGraph
from graphwright.passes.differentiable.straight_through import round_through, rounded_between, sign_through
from graphwright.passes.quantize.activation import rounded_between as rounded_in_numpy

torch = pytest.importorskip("torch")

NET = """<ir_version: 10, opset_import: ["" : 21]>
net (float[n, 3] x) => (float[n, 2] y) <float[3, 4] w = {1,2,3,4, 5,6,7,8, 9,1,2,3}, float[4, 2] v = {1,-1, 2,-2, 3,-3, 4,-4}>
{ k = Constant<value_float = 0.5>() h = MatMul(x, w) a = Relu(h) s = Mul(a, k) y = MatMul(s, v) }"""


def net() -> TorchGraph:
    return TorchGraph.of(ir.from_onnx_text(NET), "cpu")


FEEDS = {"x": torch.tensor([[0.1, -0.2, 0.3], [1.0, 2.0, -3.0]])}


def test_constants_and_inputs_are_known_by_name() -> None:
    graph = net()
    assert set(graph.constants) == {"w", "v", "k"}
    assert [value.name for value in graph.inputs] == ["x"]


@pytest.mark.parametrize("name", ["w", "v", "k"])
def test_a_constant_in_whose_place_another_is_given_gets_a_gradient_and_comes_back(name: str) -> None:
    graph = net()
    before = graph.run(FEEDS)["y"]
    twice = (2 * graph.constants[name]).requires_grad_()
    after = graph.run(FEEDS, {name: twice})["y"]
    torch.testing.assert_close(after, 2 * before)
    after.sum().backward()
    assert twice.grad.shape == graph.constants[name].shape
    torch.testing.assert_close(graph.run(FEEDS)["y"], before)


def test_a_tap_sees_a_value_and_says_what_it_is_from_there_on() -> None:
    seen = []
    found = net().run(FEEDS, taps={"a": lambda value: seen.append(value) or value * 0, "x": lambda value: -value})["y"]
    assert not found.any()
    torch.testing.assert_close(seen[0], torch.relu(-FEEDS["x"] @ net().constants["w"]))


def test_a_part_of_a_model_says_what_it_needs() -> None:
    model = ir.from_onnx_text(NET)
    nodes = list(model.graph)
    graph = TorchGraph(nodes[3:], model.graph.outputs, "cpu")
    assert [value.name for value in graph.inputs] == ["a"]
    with pytest.raises(InputError, match="also needs 'a'"):
        graph.run({})
    whole = net().run(FEEDS)["y"]
    torch.testing.assert_close(graph.run({"a": torch.relu(FEEDS["x"] @ net().constants["w"])})["y"], whole)


def test_an_initialiser_that_is_an_input_too_may_be_fed() -> None:
    text = '<ir_version: 10, opset_import: ["" : 21]> g (float[2] x, float[2] w = {1, 2}) => (float[2] y) { y = Mul(x, w) }'
    graph = TorchGraph.of(ir.from_onnx_text(text), "cpu")
    x = np.array([3, 4], np.float32)
    assert graph.numpy({"x": x})["y"].tolist() == [3, 8]
    assert graph.numpy({"x": x, "w": x})["y"].tolist() == [9, 16]


def test_without_torch_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("graphwright.passes.differentiable.torch_there.find_spec", lambda name: None)
    with pytest.raises(BackendMissing, match=r"needs torch: pip install 'graphwright\[torch\]'"):
        net()


@pytest.mark.shared
@pytest.mark.parametrize(
    "name",
    [
        *("llama_260k", "resnet8_cifar10", "mnist_cnn", "magika_v3_3", "mobilenetv2", "charrnn_bronte", "dtln_1", "g2p_encoder", "g2p_decoder_step"),
        *("silero_vad", "super_resolution", "ultraface_rfb320", "kws_dscnn", "shufflenetv2"),
    ],
)
def test_real_models_compute_what_they_do_in_onnx_runtime(shared: Path, run_onnx: Callable[..., dict[str, Any]], name: str) -> None:
    entry = find(name)
    assert entry.path is not None
    model = ir.load(shared / entry.path)
    bind_opsets(model)
    feeds = next(iter(entry.feeds(1, "report")))
    wanted, found = run_onnx(model, feeds), TorchGraph.of(model, "cpu").numpy(feeds)
    for key, item in wanted.items():
        np.testing.assert_allclose(found[key], item, rtol=0, atol=1e-5 * np.abs(np.asarray(item)).max())


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_fake_quantisation_rounds_as_numpy_does(bits: int, symmetric: bool) -> None:
    x = np.random.default_rng(0).standard_normal((40, 5))
    low, high = np.array([-1.0, -2.0, 0.0, -0.1, -3.0]), np.array([1.0, 0.5, 2.0, 0.0, 3.0])
    found = rounded_between(*(torch.from_numpy(item) for item in (x, low, high)), bits, symmetric)
    np.testing.assert_allclose(found.numpy(), rounded_in_numpy(x, low, high, bits, symmetric), atol=1e-12)


def test_gradients_pass_through_rounding_and_stop_where_it_clips() -> None:
    x = torch.tensor([-3.0, -0.4, 0.4, 3.0], requires_grad=True)
    low, high = torch.tensor(-1.0, requires_grad=True), torch.tensor(1.0, requires_grad=True)
    rounded_between(x, low, high, 4, symmetric=False).sum().backward()
    assert x.grad.tolist() == pytest.approx([0, 1, 1, 0], abs=1e-6)
    assert low.grad.item() == pytest.approx(1, abs=0.2)
    assert high.grad.item() == pytest.approx(1, abs=0.2)


def test_the_gradient_of_a_sign_is_that_of_a_clip() -> None:
    x = torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0], requires_grad=True)
    found = sign_through(x)
    found.sum().backward()
    assert found.tolist() == [-1, -1, 1, 1, 1]
    assert x.grad.tolist() == [0, 1, 1, 1, 0]
    assert round_through(torch.tensor([0.5, 1.5, -2.4])).tolist() == [0, 2, -2]
