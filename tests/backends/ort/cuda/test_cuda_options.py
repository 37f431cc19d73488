"""How a GPU is used, as data."""

import pytest

from graphwright.backends.ort.cuda.options import CudaOptions, options_of_target, read_size
from graphwright.backends.ort.options import Options, read_kind, read_options
from graphwright.compiler.core.errors import ArtifactError, TargetError


def test_tensor_float_32_is_off_and_everything_else_is_onnx_runtimes_own():
    assert CudaOptions().provider_options() == {
        "device_id": "0",
        "arena_extend_strategy": "kNextPowerOfTwo",
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "use_tf32": "0",
    }


def test_what_is_chosen_reaches_the_provider():
    options = CudaOptions(device_id=1, memory_limit=1 << 30, growth="as-requested", search="heuristic", nhwc=True, tf32=True, graph=True)
    assert options.provider_options() == {
        "device_id": "1",
        "gpu_mem_limit": str(1 << 30),
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "prefer_nhwc": "1",
        "use_tf32": "1",
        "enable_cuda_graph": "1",
    }
    assert options.providers()[1] == "CPUExecutionProvider"


def test_options_survive_a_manifest():
    options = CudaOptions(level="basic", memory_limit=7, search="default", graph=True, without=("A",))
    assert read_kind(CudaOptions, options.to_dict()) == options


@pytest.mark.parametrize("stored", [{"search": "slow"}, {"graph": 1}, {"memory_limit": -1}, {"device": "cuda"}, {"growth": ["as-requested"]}])
def test_options_that_do_not_fit_are_refused(stored):
    with pytest.raises(ArtifactError, match="option"):
        read_kind(CudaOptions, stored)


def test_a_cpu_has_no_options_of_a_gpu():
    with pytest.raises(ArtifactError, match="no session option 'graph'"):
        read_options({"graph": True})
    assert Options().providers() == ["CPUExecutionProvider"]


@pytest.mark.parametrize(
    ("target", "device", "memory"),
    [("ort-cuda", 0, 0), ("ort-cuda:2", 2, 0), ("ort-cuda:memory=2GiB", 0, 2 << 30), ("ort-cuda:device=1,memory=512M", 1, 512 << 20)],
)
def test_a_target_names_the_gpu_and_how_much_of_it(target, device, memory):
    options = options_of_target(target)
    assert (options.device_id, options.memory_limit) == (device, memory)


@pytest.mark.parametrize("target", ["ort-cuda:", "ort-cuda:memory=0", "ort-cuda:memory=much", "ort-cuda:speed=1", "ort-cpu", "ort-cuda:1.5"])
def test_a_target_that_cannot_be_read_says_how_it_is_written(target):
    with pytest.raises(TargetError, match="write ort-cuda, ort-cuda:1"):
        options_of_target(target)


@pytest.mark.parametrize(("text", "size"), [("1", 1), ("2KiB", 2048), ("1.5g", 3 << 29), ("3 MB", 3 << 20), ("", None), ("0", None), ("2X", None)])
def test_sizes_are_read_with_their_units(text, size):
    assert read_size(text) == size
