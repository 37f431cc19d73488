"""What is left in float inside a quantised network computes in float when ONNX Runtime is done with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from graphwright.compiler.core.wellformed import check
from graphwright.compiler.serialize import to_bytes
from graphwright.passes.quantize import qdq
from graphwright.passes.quantize.static import QuantizeStatic

from .static_models import images, kernel, kinds, model_of, quantised, run

STEP = QuantizeStatic(ranges="minmax", equalize=False, keep=("b",))
BODIES = {
    "Conv": "b = Conv(r, k, h)",
    "Conv without bias": "b = Conv(r, k)",
    "depthwise Conv": "b = Conv<group=6>(r, d, h)",
    "ConvTranspose": "b = ConvTranspose(r, k, h)",
}
TEXT = "g (float[N,3,8,8] x) => (float[N,M,A,B] y) {{ a = Conv(x, f) r = Relu(a) {body} {after} y = Conv({last}, l) }}"
WEIGHTS = {"f": kernel(6, 3, 1, 1), "k": kernel(6, 6, 3, 3, seed=1), "d": kernel(6, 1, 3, 3, seed=2), "h": kernel(6, seed=3), "l": kernel(5, 6, 1, 1, seed=4)}
AFTER = {"": "b", "s = Relu(b)": "s", "s = Clip(b, zero, six)": "s"}
GEMMS = "g (float[N,6] x) => (float[N,5] y) { a = Gemm(x, f) b = Gemm<transB=1>(a, k, h) s = Relu(b) y = Gemm(s, l) }"


def as_run(model: object, feeds: dict[str, np.ndarray], place: Path) -> tuple[np.ndarray, onnx.GraphProto]:
    """What a model gives with ONNX Runtime's optimisations, and what these make of it."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(place / "optimised.onnx")
    options.log_severity_level = 3
    session = ort.InferenceSession(to_bytes(model), options, providers=["CPUExecutionProvider"])  # type: ignore[arg-type]
    return session.run(None, feeds)[0], onnx.load(options.optimized_model_filepath).graph


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("body", BODIES)
def test_a_convolution_that_is_kept_stays_in_float(body: str, after: str, tmp_path: Path) -> None:
    constants = {**WEIGHTS, "zero": np.array(0, np.float32), "six": np.array(6, np.float32)}
    model = model_of(TEXT.format(body=BODIES[body], after=after, last=AFTER[after]), constants)
    feeds = images(6, 2, 3, 8, 8)
    found, _, taken = quantised(model, feeds, STEP)
    check(found)
    assert taken == 2
    output, graph = as_run(found, feeds[0], tmp_path)
    assert {node.op_type for node in graph.node} & {"Conv", "FusedConv", "ConvTranspose", "NhwcFusedConv"}
    assert [node.op_type for node in graph.node].count("QLinearConv") == 2
    np.testing.assert_allclose(output, run(found, feeds[0]), atol=0.02 * np.abs(output).max())


def test_without_that_the_runtime_rounds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qdq, "keep_floats", lambda *_: 0)
    model, feeds = model_of(TEXT.format(body=BODIES["Conv"], after="", last="b"), WEIGHTS), images(6, 2, 3, 8, 8)
    found, _, _ = quantised(model, feeds, STEP)
    _, graph = as_run(found, feeds[0], tmp_path)
    assert [node.op_type for node in graph.node].count("QLinearConv") == 3, "ONNX Runtime leaves it alone now: keep_floats can go"


def test_a_gemm_that_is_kept_stays_in_float(tmp_path: Path) -> None:
    model = model_of(GEMMS, {"f": kernel(6, 6), "k": kernel(6, 6, seed=1), "h": kernel(6), "l": kernel(6, 5, seed=2)})
    feeds = images(6, 3, 6)
    found, _, taken = quantised(model, feeds, STEP)
    assert taken == 2
    _, graph = as_run(found, feeds[0], tmp_path)
    assert any(node.op_type in ("Gemm", "FusedGemm") for node in graph.node)


def test_numbers_are_the_same_with_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    model, feeds = model_of(TEXT.format(body=BODIES["Conv"], after="s = Relu(b)", last="s"), WEIGHTS), images(6, 2, 3, 8, 8)
    step = replace(STEP, bias_correction=False)
    found, _, _ = quantised(model, feeds, step)
    monkeypatch.setattr(qdq, "keep_floats", lambda *_: 0)
    plain, _, _ = quantised(model, feeds, step)
    assert run(found, feeds[0]).tobytes() == run(plain, feeds[0]).tobytes()
    assert kinds(found).count("DequantizeLinear") == kinds(plain).count("DequantizeLinear")


POOLS = "g (float[N,3,8,8] x) => (float[N,5,4,4] y) { a = Conv(x, f) r = Relu(a) b = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r) y = Conv(b, l) }"


@pytest.mark.parametrize("kept", [True, False])
def test_floats_are_pooled_as_floats(kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not kept:
        monkeypatch.setattr(qdq, "keep_pools", lambda *_: 0)
    model, feeds = model_of(POOLS, {"f": WEIGHTS["f"], "l": WEIGHTS["l"]}), images(6, 2, 3, 8, 8)
    found, _, taken = quantised(model, feeds, replace(STEP, keep=("a",)))
    check(found)
    assert taken == 1
    output, graph = as_run(found, feeds[0], tmp_path)
    order = [node.op_type for node in graph.node if node.op_type in ("MaxPool", "NhwcMaxPool", "QuantizeLinear")]
    assert (order == ["MaxPool", "QuantizeLinear"]) == kept, "ONNX Runtime leaves them alone now: keep_pools can go"
    np.testing.assert_allclose(output, run(found, feeds[0]), atol=0.02 * np.abs(output).max())


def test_pooled_numbers_are_the_same_with_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    model, feeds = model_of(POOLS, {"f": WEIGHTS["f"], "l": WEIGHTS["l"]}), images(6, 2, 3, 8, 8)
    step = replace(STEP, keep=("a",))
    found, _, _ = quantised(model, feeds, step)
    monkeypatch.setattr(qdq, "keep_pools", lambda *_: 0)
    plain, _, _ = quantised(model, feeds, step)
    assert run(found, feeds[0]).tobytes() == run(plain, feeds[0]).tobytes()
