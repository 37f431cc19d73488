"""Code for a GPU, generated without one."""

import numpy as np
import pytest

pytest.importorskip("tvm")

from graphwright.backends.tvm.building import fused_module, scheduled
from graphwright.backends.tvm.cuda.backend import GpuBackend
from graphwright.backends.tvm.cuda.building import cuda_source, gpu_executable, left_over, schedule_for_gpu
from graphwright.backends.tvm.cuda.machine import gpu_of, machine, why_missing
from graphwright.backends.tvm.cuda.run_template import program
from graphwright.backends.tvm.package import export
from graphwright.compiler.core.backend import Built, Port
from graphwright.compiler.core.errors import ArtifactError, BackendMissing, TargetError
from graphwright.compiler.targets import find_backend

MODELS = {
    "product": "g (float[4,16,32] x, float[32,64] w, float[64] b) => (float[4,16,64] y) { p = MatMul(x, w) a = Add(p, b) y = Relu(a) }",
    "vector": "g (float[1,512] x, float[512,256] w) => (float[1,256] y) { y = MatMul(x, w) }",
    "half": "g (float16[64,32] x, float16[32,64] w) => (float16[64,64] y) { p = MatMul(x, w) y = Tanh(p) }",
    "softmax": "g (float[N,64] x) => (float[N,64] y) { y = Softmax(x) }",
    "norm": "g (float[8,64] x, float[64] s, float[64] t) => (float[8,64] y) { y = LayerNormalization(x, s, t) }",
    "convolution": "g (float[1,3,16,16] x, float[8,3,3,3] w) => (float[1,8,16,16] y) { c = Conv<pads=[1,1,1,1]>(x, w) y = Relu(c) }",
    "pooling": "g (float[1,3,16,16] x) => (float[1,3,1,1] y) { y = GlobalAveragePool(x) }",
    "movement": "g (float[2,3,4] x) => (float[4,6] y) <int64[2] s = {4,6}> { t = Transpose<perm=[2,0,1]>(x) y = Reshape(t, s) }",
}
ON_GPU = why_missing() == ""


@pytest.mark.parametrize("name", MODELS)
def test_every_kernel_of_a_model_becomes_one_of_cuda(model, name):
    executable = gpu_executable(model(MODELS[name]), machine())
    source = cuda_source(executable)
    assert source.count('extern "C" __global__') >= 1
    assert "threadIdx.x" in source


@pytest.mark.parametrize("name", MODELS)
def test_no_kernel_is_left_without_threads(model, name):
    target = machine()
    module = fused_module(model(MODELS[name]), target=target)
    assert left_over(module)
    assert left_over(scheduled(module, target, lambda fused: schedule_for_gpu(fused, target))) == []


def test_a_rule_that_fails_on_a_kernel_leaves_it_to_the_next(model, monkeypatch):
    from tvm.s_tir import dlight

    def fail(*_):
        raise RuntimeError("There are some consumers of the cache-write stage that are not properly inlined")

    monkeypatch.setattr(dlight.gpu.Matmul, "apply", fail)
    assert "__global__" in cuda_source(gpu_executable(model(MODELS["product"]), machine()))


def test_half_precision_computes_in_half_precision(model):
    assert "half" in cuda_source(gpu_executable(model(MODELS["half"]), machine("sm_80")))


def test_fixed_sizes_are_captured_as_a_cuda_graph_and_open_ones_are_not(model):
    def captured(name, graphs=True):
        return "cuda_graph" in gpu_executable(model(MODELS[name]), machine(), graphs=graphs).as_text()

    two = "g (float[8,64] x, float[64,64] w) => (float[8,64] y) { p = MatMul(x, w) r = Softmax(p) q = MatMul(r, w) y = Softmax(q) }"
    assert "cuda_graph" in gpu_executable(model(two), machine()).as_text()
    assert not captured("softmax") and not captured("product", graphs=False)


def test_a_library_is_linked_without_cuda(model, tmp_path):
    export(gpu_executable(model(MODELS["product"]), machine()), tmp_path / "model.so")
    content = (tmp_path / "model.so").read_bytes()
    assert content.startswith(b"\x7fELF") and b"__global__" in content


def test_the_kernels_are_cuda_that_a_compiler_takes(model):
    nvcc = pytest.importorskip("tvm.support.nvcc")
    try:
        ptx = nvcc.compile_cuda(cuda_source(gpu_executable(model(MODELS["product"]), machine())), target_format="ptx", arch="sm_90", compiler="nvrtc")
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"there is no CUDA compiler (cuda-bindings and CUDA's headers): {str(error).splitlines()[0]}")
    assert b".entry" in bytes(ptx) and b"sm_90" in bytes(ptx)


@pytest.mark.parametrize("architecture", ["hopper", "sm_9", "", "sm_90; rm"])
def test_what_is_no_architecture_is_refused(architecture):
    with pytest.raises(TargetError, match="no architecture of a GPU"):
        machine(architecture)


def test_a_target_names_the_gpu():
    assert [gpu_of(name) for name in ("tvm-cuda", "tvm-cuda:3")] == [0, 3]
    for name in ("tvm-cuda:", "tvm-cuda:x", "tvm-cpu"):
        with pytest.raises(TargetError, match="write tvm-cuda, or tvm-cuda:1"):
            gpu_of(name)


def test_without_a_gpu_it_is_missing_in_one_sentence(model):
    if ON_GPU:
        pytest.skip("a GPU is here")
    with pytest.raises(BackendMissing, match="^the target tvm-cuda needs an NVIDIA GPU that TVM can use, .*pip install 'graphwright"):
        find_backend("tvm-cuda")
    with pytest.raises(BackendMissing, match="tvm-cuda needs"):
        GpuBackend().build(model(MODELS["product"]), (), lambda _: None)


def test_what_was_not_built_here_is_not_packaged(model, tmp_path):
    with pytest.raises(ArtifactError, match="not built by tvm-cuda"):
        GpuBackend().package(Built(model(MODELS["norm"]), object()), tmp_path)
    with pytest.raises(ArtifactError, match="no model.so"):
        GpuBackend().load(tmp_path, {})


def test_the_program_of_a_package_is_python_that_names_the_inputs():
    text = program((Port("x", "tensor(float16)", ("N", 3)),), (Port("y", "tensor(float)", None),))
    compile(text, "run.py", "exec")
    assert "('x', 'float16', [1, 3])" in text and "['y']" in text


@pytest.mark.skipif(not ON_GPU, reason="needs an NVIDIA GPU that TVM can use")
@pytest.mark.parametrize("name", MODELS)
def test_a_gpu_computes_what_onnx_runtime_does(model, name, tmp_path):
    from graphwright.backends.ort.reference import open_reference

    made, backend = model(MODELS[name]), GpuBackend()
    rng = np.random.default_rng(0)
    shapes = {value: [dim if isinstance(dim, int) else 5 for dim in value.shape] for value in made.graph.inputs}
    feeds = {value.name: rng.normal(size=shape).astype(value.dtype.numpy()) for value, shape in shapes.items()}
    built = backend.build(made, (feeds,), lambda _: None)
    backend.package(built, tmp_path)
    expected = open_reference(made).run(feeds)["y"].astype(np.float64)
    rough = 1e-2 if name == "half" else 1e-5
    for runner in (built.runner, backend.load(tmp_path, built.options)):
        np.testing.assert_allclose(runner.run(feeds)["y"].astype(np.float64), expected, rtol=10 * rough, atol=rough)
    assert built.runner.stopwatch(feeds)(2) > 0
