"""What is said where ONNX Runtime cannot use a GPU."""

import pytest

from graphwright.backends.ort.cuda.device import PROVIDER, Machine, driver_devices, why_missing, why_missing_here

GPU_WHEEL = ("onnxruntime-gpu",)


def machine(wheels=GPU_WHEEL, providers=(PROVIDER, "CPUExecutionProvider"), devices=1, unloadable="", refusal=""):
    return Machine(lambda: wheels, lambda: providers, lambda: devices, lambda: unloadable, lambda device: refusal)


def test_nothing_is_said_where_all_is_there():
    assert why_missing(0, machine()) == ""


@pytest.mark.parametrize(
    ("here", "device", "sentence"),
    [
        (machine(("onnxruntime",), ("CPUExecutionProvider",)), 0, "which the installed package has not: pip install"),
        (
            machine(("onnxruntime", "onnxruntime-gpu"), ("CPUExecutionProvider",)),
            0,
            "which overwrite each other, the first came last: pip install --force-reinstall",
        ),
        (machine(devices="there is no NVIDIA driver (libcuda.so.1 is not found)"), 0, "Install NVIDIA's driver"),
        (machine(devices=1), 1, "the GPU 1, and there is 1, counted from 0"),
        (machine(devices=2), 5, "the GPU 5, and there are 2, counted from 0"),
        (machine(unloadable="libcudnn.so.9: cannot open shared object file"), 0, "CUDA and cuDNN of the versions .*libcudnn.so.9"),
        (machine(refusal="CUDA failure 35: driver version is insufficient"), 0, "it refuses GPU 0 .*driver version is insufficient"),
    ],
)
def test_what_is_missing_is_one_sentence_that_says_what_to_do(here, device, sentence):
    import re

    said = why_missing(device, here)
    assert said.startswith("the target ort-cuda needs") and "pip install 'graphwright[gpu]'" in said and "\n" not in said
    assert re.search(sentence, said)


def test_what_comes_first_is_said_first():
    """Without a driver the libraries cannot be loaded either."""
    assert "driver" in why_missing(0, machine(devices="there is no NVIDIA driver", unloadable="libcuda.so.1: cannot open"))


def test_the_driver_is_asked_without_torch():
    found = driver_devices()
    assert isinstance(found, int) or "NVIDIA driver" in found


def test_this_machine_has_an_answer():
    assert why_missing_here() == why_missing(0)
