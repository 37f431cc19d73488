"""Compiling for a GPU from end to end, the GPU played by the CPU: ONNX Runtime runs its half-precision operators there through casts."""

import json

import numpy as np
import onnx_ir as ir
import pytest

import graphwright
from graphwright.backends.ort import tune
from graphwright.backends.ort.cuda import backend as cuda_backend
from graphwright.backends.ort.cuda.options import CudaOptions
from graphwright.compiler import compilation, search
from graphwright.compiler.driver import compile_model
from graphwright.compiler.request import Request
from graphwright.compiler.timing import Comparison

LAYER = """g (float[2,6,16] x, float[16,16] WQ, float[16,16] WK, float[16,16] WV, float[16,16] WO, float[16] BQ, float[16] BO, float[16,32] W1, float[32] B1,
    float[32,16] W2, float[16] B2, float[16] S1, float[16] T1, float[16] S2, float[16] T2) => (float[2,6,16] y)
    <int64[4] split = {0,0,2,8}, int64[3] merge = {0,0,16}, float scale = {0.35355339}> {
    q0 = MatMul(x, WQ) q1 = Add(q0, BQ) k1 = MatMul(x, WK) v1 = MatMul(x, WV)
    q2 = Reshape(q1, split) q = Transpose<perm=[0,2,1,3]>(q2) k2 = Reshape(k1, split) k = Transpose<perm=[0,2,3,1]>(k2)
    v2 = Reshape(v1, split) v = Transpose<perm=[0,2,1,3]>(v2)
    scores = MatMul(q, k) scaled = Mul(scores, scale) weights = Softmax(scaled) o = MatMul(weights, v)
    ot = Transpose<perm=[0,2,1,3]>(o) om = Reshape(ot, merge) p0 = MatMul(om, WO) p = Add(p0, BO)
    r1 = Add(p, x) n1 = LayerNormalization(r1, S1, T1)
    h0 = MatMul(n1, W1) h1 = Add(h0, B1) h = Gelu(h1) f0 = MatMul(h, W2) f = Add(f0, B2)
    r2 = Add(f, n1) y = LayerNormalization(r2, S2, T2)
}"""


class Yes:
    """Lets every kernel in: which is faster on a CPU says nothing here."""

    timings: list = []

    def __init__(self, *_, **__):
        pass

    def begin(self, *_):
        pass

    def refusal(self, *_, **__):
        return None

    slower = refusal


@pytest.fixture
def played(monkeypatch):
    """The CPU in the place of GPU 0."""
    monkeypatch.setattr(CudaOptions, "missing", lambda self: "")
    monkeypatch.setattr(CudaOptions, "place", property(lambda self: ("cpu", 0)))
    monkeypatch.setattr(CudaOptions, "providers", lambda self: ["CPUExecutionProvider"])
    monkeypatch.setattr(cuda_backend, "device_name", lambda device: "a GPU")
    monkeypatch.setattr(compilation, "KernelChoice", Yes)
    monkeypatch.setattr(tune, "RACE_SECONDS", 0.02)
    monkeypatch.setattr(search, "compare_runners", faster)


def faster(*_, **__):
    return Comparison(1.0, 2.0, 0.5, 0.5, 0.5, 9)


def layer(model):
    rng = np.random.default_rng(0)
    inputs = ir.from_onnx_text(f'<ir_version: 10, opset_import: ["" : 20]>\n{LAYER}').graph.inputs
    weights = {value.name: (rng.normal(size=list(value.shape)) / 4).astype(np.float32) for value in inputs if value.name.isupper()}
    return model(LAYER, opset=20, **weights)


def test_a_transformer_in_half_precision_gets_the_kernels_of_a_gpu(model, played, tmp_path):
    feed = {"x": np.random.default_rng(1).normal(size=(2, 6, 16)).astype(np.float32)}
    request = Request(target="ort-cuda:memory=1GiB", precision="fp16", cache=False, output=tmp_path / "out")
    artifact = compile_model(layer(model), feed, request)
    found = artifact.report.after.operators
    assert found["com.microsoft::SkipLayerNormalization"] == 2 and found["com.microsoft::BiasGelu"] == 1
    assert found.get("com.microsoft::Attention") == 1 and found["Cast"] == 2
    assert not {"LayerNormalization", "Softmax", "Gelu", "Add"} & set(found)
    assert not artifact.report.verification.worst.broken
    assert artifact.report.options["memory_limit"] == 1 << 30 and artifact.report.options["tf32"] is False
    assert any("graph" in trial["changed"] for trial in artifact.report.tuning)
    plain = cuda_backend.CudaBackend().reference(layer(model)).run(feed)["y"]
    np.testing.assert_allclose(artifact.runner.run(feed)["y"], plain, rtol=2e-2, atol=2e-2)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["target"] == {"name": "ort-cuda:memory=1GiB", "backend": "ort", "device": "cuda"}
    with graphwright.load(tmp_path / "out") as again:
        np.testing.assert_array_equal(again.runner.run(feed)["y"], artifact.runner.run(feed)["y"])


def test_single_precision_is_fused_too_and_stays_within_rounding(model, played):
    feed = {"x": np.random.default_rng(1).normal(size=(2, 6, 16)).astype(np.float32)}
    artifact = compile_model(layer(model), feed, Request(target="ort-cuda", cache=False))
    assert artifact.report.target == "ort-cuda" and not artifact.report.verification.worst.broken
    plain = cuda_backend.CudaBackend().reference(layer(model)).run(feed)["y"]
    np.testing.assert_allclose(artifact.runner.run(feed)["y"], plain, rtol=1e-4, atol=1e-5)
