"""Whether ONNX Runtime can use an NVIDIA GPU here, and in one sentence why not.

ONNX Runtime itself says nothing: a session that asks for CUDA and cannot have it runs on the CPU.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.metadata
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

PROVIDER = "CUDAExecutionProvider"
DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
WHEELS = ("onnxruntime", "onnxruntime-gpu")
FETCH = "pip install 'graphwright[gpu]'"
NEEDS = "the target ort-cuda needs"
REPAIR = "pip install --force-reinstall --no-deps onnxruntime-gpu"


def installed_wheels() -> tuple[str, ...]:
    """The packages of ONNX Runtime that are installed; both write to the same folder, so there should be one."""
    found = []
    for name in WHEELS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            importlib.metadata.version(name)
            found.append(name)
    return tuple(found)


def offered_providers() -> Sequence[str]:
    """The execution providers that the installed ONNX Runtime was built with."""
    import onnxruntime as ort

    return list(ort.get_available_providers())


def driver_devices() -> int | str:
    """How many GPUs the NVIDIA driver has, or why it cannot be asked."""
    driver = _driver()
    if driver is None:
        return f"there is no NVIDIA driver ({DRIVER} is not found)"
    code = driver.cuInit(0)
    if code:
        return f"the NVIDIA driver finds no GPU that it can use (its error {code})"
    count = ctypes.c_int()
    code = driver.cuDeviceGetCount(ctypes.byref(count))
    return f"the NVIDIA driver cannot count its GPUs (its error {code})" if code else count.value


def device_name(device_id: int) -> str:
    """What the driver calls a GPU ("NVIDIA H100 80GB HBM3"), "" where it cannot tell."""
    driver, name = _driver(), ctypes.create_string_buffer(256)
    if driver is None or driver.cuInit(0):
        return ""
    handle = ctypes.c_int()
    if driver.cuDeviceGet(ctypes.byref(handle), device_id) or driver.cuDeviceGetName(name, len(name), handle):
        return ""
    return name.value.decode(errors="replace")


def _driver() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(DRIVER)
    except OSError:
        return None


def unloadable() -> str:
    """What keeps the CUDA part of ONNX Runtime from being loaded ("libcudnn.so.9: cannot open ..."), "" for nothing."""
    import onnxruntime as ort

    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
        ort.preload_dlls()  # It finds what pip installed beside it or with torch; it prints what it does not find.
    folder = Path(ort.__file__).parent / "capi"
    names = ("onnxruntime_providers_shared", "onnxruntime_providers_cuda")
    for name in names:
        path = folder / (f"{name}.dll" if sys.platform == "win32" else f"lib{name}.so")
        try:
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            return str(error).replace(f"{folder}/", "")
    return ""


def refusal(device_id: int) -> str:
    """What ONNX Runtime says when a session for the GPU is made, "" when it is made and uses it."""
    import onnxruntime as ort
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "probe", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=[(PROVIDER, {"device_id": str(device_id)})], enable_fallback=0)
    except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
        return str(error).strip().splitlines()[0][:200]
    return "" if PROVIDER in session.get_providers() else "it leaves the GPU alone without saying why"


@dataclass(frozen=True)
class Machine:
    """How to find out; the defaults ask this machine."""

    wheels: Callable[[], Sequence[str]] = installed_wheels
    providers: Callable[[], Sequence[str]] = offered_providers
    devices: Callable[[], int | str] = driver_devices
    unloadable: Callable[[], str] = unloadable
    refusal: Callable[[int], str] = refusal


def why_missing(device_id: int = 0, machine: Machine | None = None) -> str:
    """Why ONNX Runtime cannot use a GPU, and what to do, in one sentence; "" when it can."""
    asked = machine or Machine()
    if PROVIDER not in asked.providers():
        if len(asked.wheels()) > 1:
            both = "of the packages onnxruntime and onnxruntime-gpu, which overwrite each other, the first came last"
            return f"{NEEDS} ONNX Runtime with CUDA, and {both}: {REPAIR} (after {FETCH})"
        return f"{NEEDS} ONNX Runtime with CUDA, which the installed package has not: {FETCH} on a machine with an NVIDIA GPU"
    devices = asked.devices()
    if isinstance(devices, str):
        return f"{NEEDS} an NVIDIA GPU: {devices}. Install NVIDIA's driver; the rest comes with {FETCH}"
    if device_id >= devices:
        return f"{NEEDS} the GPU {device_id}, and there {'is 1' if devices == 1 else f'are {devices}'}, counted from 0. Everything else comes with {FETCH}"
    problem = asked.unloadable()
    if problem:
        return f"{NEEDS} CUDA and cuDNN of the versions that ONNX Runtime was built for ({problem}): {FETCH} brings them"
    problem = asked.refusal(device_id)
    return f"{NEEDS} a GPU that ONNX Runtime can use, and it refuses GPU {device_id} ({problem}): {FETCH} brings the version that fits" if problem else ""


@functools.cache
def why_missing_here(device_id: int = 0) -> str:
    """`why_missing` of this machine, asked once: what is missing does not come while the program runs."""
    return why_missing(device_id)
