"""Targets promise only kernels that the installed ONNX Runtime has."""

import numpy as np
import onnxruntime
import pytest

from graphwright.backends.ort.backend import OrtBackend
from graphwright.backends.ort.kernels import INTERNAL, cpu_target, cuda_target, kernel_types
from graphwright.backends.ort.reference import open_baseline
from graphwright.compiler.core.errors import BackendMissing
from graphwright.compiler.targets import find_backend, find_target


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
    kernels = kernel_types("CPUExecutionProvider")["com.microsoft::BiasGelu"]
    assert any("tensor(float)" in kernel["T"] for kernel in kernels)
    assert not any("tensor(int64)" in kernel["T"] for kernel in kernels)


def test_cuda_is_missing_without_its_provider():
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("CUDA is here")
    with pytest.raises(BackendMissing, match="pip install"):
        cuda_target()
    with pytest.raises(BackendMissing, match="pip install"):
        OrtBackend("cuda").targets()
    with pytest.raises(BackendMissing, match="ort-cuda needs"):
        find_target("ort-cuda")


def test_onnx_and_ort_cpu_are_served_by_onnx_runtime():
    assert [target.name for target in OrtBackend().targets()] == ["onnx", "ort-cpu"]
    assert find_target("onnx").kernels == frozenset()
    assert isinstance(find_backend("ort-cpu"), OrtBackend)
