"""Targets promise only kernels that the installed ONNX Runtime has."""

import numpy as np
import onnxruntime
import pytest
from onnx_ir import DataType

from graphwright.backends.ort import kernels
from graphwright.backends.ort.backend import OrtBackend
from graphwright.backends.ort.cuda.device import why_missing_here
from graphwright.backends.ort.kernels import INTERNAL, cpu_target, cuda_target, kernel_types
from graphwright.backends.ort.reference import open_baseline
from graphwright.compiler.core.errors import BackendMissing, TargetError
from graphwright.compiler.targets import find_backend, find_target

FLOAT, FLOAT16 = DataType.FLOAT, DataType.FLOAT16


def test_the_cpu_target_has_what_runs_and_not_what_only_has_a_schema(model):
    target = cpu_target()
    assert target.has("com.microsoft", "BiasGelu")
    assert target.has("", "Relu")
    assert not target.has("com.microsoft", "BiasSplitGelu")
    assert not target.has("own", "Relu")
    made = model("g (float[N,4] x, float[4] b) => (float[N,4] y) { y = com.microsoft.BiasGelu(x, b) }")
    assert open_baseline(made).run({"x": np.zeros((1, 4), np.float32), "b": np.zeros(4, np.float32)})["y"].shape == (1, 4)


def test_operators_for_this_very_cpu_are_not_promised():
    assert not [name for name in cpu_target().kernels if name.startswith(tuple(f"{domain}::" for domain in INTERNAL))]


def test_classical_machine_learning_is_served():
    assert cpu_target().has("ai.onnx.ml", "TreeEnsembleRegressor")


def test_kernels_say_which_types_they_take():
    found = kernel_types("CPUExecutionProvider")["com.microsoft::BiasGelu"]
    assert any("tensor(float)" in kernel["T"] for kernel in found)
    assert not any("tensor(int64)" in kernel["T"] for kernel in found)


def test_cuda_kernels_take_half_precision_and_more_operators_than_the_cpu_has():
    target = cuda_target()
    assert target.device == "cuda"
    assert target.has("com.microsoft", "GroupQueryAttention") and not target.has("com.microsoft", "FusedGemm")
    assert target.takes("com.microsoft::BiasGelu", FLOAT16) and target.takes("com.microsoft::BiasGelu", FLOAT)
    assert not target.takes("com.microsoft::FusedConv", FLOAT16) and not target.takes("com.microsoft::GroupQueryAttention", FLOAT)
    assert target.takes("Conv", FLOAT16) and not target.takes("GridSample", FLOAT16)


def test_where_nobody_knows_kernels_take_float():
    assert cpu_target().takes("com.microsoft::BiasGelu", FLOAT)
    assert not cpu_target().takes("com.microsoft::BiasGelu", FLOAT16)
    assert not cpu_target().takes("com.microsoft::BiasGelu", None)


def test_a_build_with_cuda_is_not_asked_for_its_kernels(monkeypatch):
    """It would end the process where CUDA or TensorRT is missing."""
    asked = set(cpu_target().kernels)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(kernels.native, "get_all_opkernel_def", lambda: pytest.fail("it was asked"))
    documented = cpu_target().kernels
    assert {"com.microsoft::BiasGelu", "com.microsoft::MatMulNBits", "ai.onnx.ml::TreeEnsembleRegressor"} <= documented <= asked


def test_cuda_is_missing_in_one_sentence():
    if not why_missing_here():
        pytest.skip("CUDA is here")
    with pytest.raises(BackendMissing, match="^the target ort-cuda needs .*pip install 'graphwright"):
        find_target("ort-cuda")


@pytest.mark.parametrize("name", ["ort-cuda:memory=lots", "ort-cuda:x", "ort-cuda:", "ort-cuda:device=-1"])
def test_a_cuda_target_that_cannot_be_read_says_how_to_write_it(name):
    with pytest.raises(TargetError, match="write ort-cuda"):
        find_backend(name)


@pytest.mark.parametrize("name", ["ort-cpu:fast", "onnx:17"])
def test_a_target_that_takes_nothing_after_a_colon_says_so(name):
    with pytest.raises(TargetError, match="takes nothing after a colon"):
        find_backend(name)


def test_onnx_and_ort_cpu_are_served_by_onnx_runtime():
    assert [target.name for target in OrtBackend().targets()] == ["onnx", "ort-cpu"]
    assert find_target("onnx").kernels == frozenset()
    assert isinstance(find_backend("ort-cpu"), OrtBackend)
