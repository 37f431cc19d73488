"""The backend of ort-cuda: what it chooses, writes and opens; with a GPU, what it computes there."""

import subprocess
import sys

import numpy as np
import onnxruntime
import pytest

import graphwright
from graphwright.backends.ort.backend import OrtBackend, backend
from graphwright.backends.ort.cuda.backend import CudaBackend
from graphwright.backends.ort.cuda.device import why_missing_here
from graphwright.backends.ort.cuda.options import CudaOptions
from graphwright.backends.ort.cuda.questions import cuda_questions
from graphwright.compiler.core.errors import ArtifactError, BackendMissing, GraphwrightError
from graphwright.compiler.targets import find_backend, find_target

from .conftest import OnCpu

CONV = "g (float[1,2,4,4] x, float[3,2,3,3] w) => (float[1,3,4,4] y) { c = Conv<pads=[1,1,1,1]>(x, w) y = Relu(c) }"
NONZERO = "g (float[N] x) => (int64[1,M] y) { y = NonZero(x) }"
SAMPLE = {"x": np.float32([[1, -2, 3]])}
RELU = "g (float[N,3] x) => (float[N,3] y) { y = Relu(x) }"


def silent(_):
    pass


def on_cpu():
    made = CudaBackend()
    made.options = OnCpu()
    return made


def test_a_target_with_a_colon_opens_the_gpu_that_it_names():
    assert isinstance(backend("ort-cpu"), OrtBackend) and isinstance(backend(), OrtBackend)
    opened = backend("ort-cuda:device=1,memory=2GiB")
    assert isinstance(opened, CudaBackend)
    assert (opened.options.device_id, opened.options.memory_limit) == (1, 2 << 30)


def test_without_a_gpu_nothing_is_opened(model):
    if not why_missing_here():
        pytest.skip("CUDA is here")
    with pytest.raises(BackendMissing, match="ort-cuda needs"):
        CudaBackend().targets()
    with pytest.raises(BackendMissing, match="ort-cuda needs"):
        CudaBackend().baseline(model(RELU))
    with pytest.raises(BackendMissing, match="ort-cuda needs"):
        find_backend("ort-cuda:memory=1GiB")


def test_the_reference_is_the_cpus_even_for_a_gpu(model):
    runner = CudaBackend().reference(model(RELU))
    np.testing.assert_array_equal(runner.run(SAMPLE)["y"], [[1, 0, 3]])
    assert runner.options.device == "cpu" and runner.options.level == "off"


def test_what_only_the_gpu_can_run_is_its_own_reference(model):
    """No CPU kernel takes bfloat16 here."""
    made = model("g (bfloat16[N,4] x, bfloat16[4] b) => (bfloat16[N,4] y) { y = com.microsoft.BiasGelu(x, b) }")
    if not why_missing_here():
        assert CudaBackend().reference(made).options.device == "cuda"
        return
    with pytest.raises(BackendMissing, match="ort-cuda needs"):
        CudaBackend().reference(made)


def test_a_graph_is_asked_for_first_and_convolutions_have_their_own_questions():
    changed = [[one for question in cuda_questions(operators, uncaptured) for one in question(CudaOptions())] for operators, uncaptured in
               (({"MatMul"}, ""), ({"Conv"}, ""), ({"MatMul"}, "it branches"))]  # fmt: skip
    assert changed[0][0].graph and not any(one.nhwc or one.search != "exhaustive" for one in changed[0])
    assert any(one.nhwc for one in changed[1]) and {one.search for one in changed[1]} == {"exhaustive", "heuristic", "default"}
    assert not any(one.graph for one in changed[2])
    assert not any(one.tf32 for options in changed for one in options)


def test_the_limit_and_the_device_that_were_asked_for_stay_whatever_is_chosen():
    start = CudaOptions(device_id=1, memory_limit=9)
    assert all((one.device_id, one.memory_limit) == (1, 9) for question in cuda_questions({"Conv"}, "") for one in question(start))


def test_building_races_the_options_of_a_gpu(model):
    built = on_cpu().build(model(CONV, w=np.ones((3, 2, 3, 3), np.float32)), ({"x": np.ones((1, 2, 4, 4), np.float32)},), silent)
    changed = [set(trial["changed"]) for trial in built.trials]
    assert {"graph"} in changed and {"nhwc"} in changed and {"search"} in changed
    assert set(built.options) == set(CudaOptions().to_dict())
    np.testing.assert_array_equal(built.runner.run({"x": np.ones((1, 2, 4, 4), np.float32)})["y"][0, 0, 1, 1], 18)


def test_a_graph_that_would_be_wrong_is_named_in_the_report_and_not_tried(model):
    built = on_cpu().build(model(NONZERO), ({"x": np.float32([1, 0, 2])},), silent)
    refused = [trial for trial in built.trials if "graph" in trial["changed"]]
    assert len(refused) == 1 and not refused[0]["chosen"]
    assert refused[0]["failure"].startswith("no CUDA graph: NonZero") and built.options["graph"] is False


def test_a_package_is_the_model_and_a_program_that_refuses_to_run_without_the_gpu(model, tmp_path):
    made = on_cpu()
    built = made.build(model(RELU), (), silent)
    files = made.package(built, tmp_path)
    assert {path.name for path in files} == {"model.onnx", "run.py"}
    text = (tmp_path / "run.py").read_text()
    assert "CPUExecutionProvider" in text and "enable_cuda_graph" not in text
    runner = made.load(tmp_path, built.options) if not why_missing_here() else None
    if runner is None:
        with pytest.raises(BackendMissing, match="ort-cuda needs"):
            made.load(tmp_path, built.options)
        done = subprocess.run([sys.executable, tmp_path / "run.py"], capture_output=True, text=True)
        assert done.returncode == 1 and "cannot use the GPU" in done.stderr and "Traceback" not in done.stderr
    with pytest.raises(ArtifactError, match="no model.onnx"):
        made.load(tmp_path / "nowhere", built.options)


@pytest.mark.gpu
def test_a_gpu_computes_what_the_cpu_does(model):
    made = CudaBackend()
    weights = np.random.default_rng(0).normal(size=(3, 2, 3, 3)).astype(np.float32)
    feed = {"x": np.random.default_rng(1).normal(size=(1, 2, 4, 4)).astype(np.float32)}
    both = model(CONV, w=weights)
    built = made.build(both, (feed,), silent)
    np.testing.assert_allclose(built.runner.run(feed)["y"], made.reference(both).run(feed)["y"], rtol=1e-5, atol=1e-6)
    assert "CUDAExecutionProvider" in built.runner._session.get_providers()


@pytest.mark.gpu
def test_a_graph_on_a_gpu_is_captured_and_replayed(model):
    from graphwright.backends.ort.session import open_skeleton
    from graphwright.backends.ort.skeleton import skeleton_of

    runner = open_skeleton(skeleton_of(model(RELU)), CudaOptions(graph=True))
    for seed in range(4):
        feed = {"x": np.random.default_rng(seed).normal(size=(2 + seed % 2, 3)).astype(np.float32)}
        np.testing.assert_array_equal(runner.run(feed)["y"], np.maximum(feed["x"], 0))
    assert runner.uncaptured == ""


@pytest.mark.gpu
def test_a_limit_of_memory_holds_on_a_gpu(model):
    small = CudaBackend("ort-cuda:memory=16MiB").baseline(model("g (float[N] x) => (float[N] y) { a = Exp(x) y = Add(a, a) }"))
    with pytest.raises(GraphwrightError):
        small.run({"x": np.zeros(64 << 20, np.float32)})


@pytest.mark.gpu
def test_half_precision_compiles_for_a_gpu_end_to_end(model, tmp_path):
    rng = np.random.default_rng(0)
    text = "g (float[8,64] x, float[64,64] w, float[64] b) => (float[8,64] y) { p = MatMul(x, w) a = Add(p, b) y = Relu(a) }"
    made = model(text, w=(rng.normal(size=(64, 64)) / 8).astype(np.float32), b=rng.normal(size=64).astype(np.float32))
    feed = {"x": rng.normal(size=(8, 64)).astype(np.float32)}
    artifact = graphwright.compile(made, feed, target="ort-cuda", precision="fp16", output=tmp_path / "out")
    assert artifact.report.compression is not None and artifact.report.target == "ort-cuda"
    np.testing.assert_allclose(artifact.runner.run(feed)["y"], CudaBackend().reference(made).run(feed)["y"], rtol=2e-2, atol=2e-2)


@pytest.mark.gpu
def test_the_documented_kernels_are_there():
    assert find_target("ort-cuda").has("com.microsoft", "SkipLayerNormalization")
    assert "CUDAExecutionProvider" in onnxruntime.get_available_providers()
