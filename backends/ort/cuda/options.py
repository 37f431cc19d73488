"""How ONNX Runtime uses a GPU, as data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from ....compiler.core.errors import TargetError
from ..options import Options, Provider
from .device import why_missing_here

Growth = Literal["power-of-two", "as-requested"]
Search = Literal["exhaustive", "heuristic", "default"]
GROWTHS: dict[Growth, str] = {"power-of-two": "kNextPowerOfTwo", "as-requested": "kSameAsRequested"}
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
FAMILY = "ort-cuda"
FORM = "ort-cuda, ort-cuda:1 for the GPU 1, ort-cuda:memory=2GiB, or ort-cuda:device=1,memory=2GiB"


@dataclass(frozen=True)
class CudaOptions(Options):
    """How ONNX Runtime runs a model on a GPU; the defaults are its own, except for ``tf32``.

    ``memory_limit`` is in bytes and bounds the arena of the session, 0 for no bound; ``growth`` is how the arena grows. ``search`` is how cuDNN finds its
    convolutions, ``nhwc`` lets them run with channels last. ``tf32`` lets float32 products round their factors to 10 bits: other numbers than were asked for,
    so it is off. ``graph`` captures the kernels of a run and replays them as one, for each set of input shapes.
    """

    device: ClassVar[str] = "cuda"
    choices: ClassVar[dict[str, tuple[str, ...]]] = {**Options.choices, "growth": get_args(Growth), "search": get_args(Search)}

    device_id: int = 0
    memory_limit: int = 0
    growth: Growth = "power-of-two"
    search: Search = "exhaustive"
    nhwc: bool = False
    tf32: bool = False
    graph: bool = False

    def providers(self) -> list[Provider]:
        """CUDA first; what has no kernel there runs on the CPU."""
        return [("CUDAExecutionProvider", self.provider_options()), "CPUExecutionProvider"]

    @property
    def place(self) -> tuple[str, int]:
        """Where buffers lie: a kind of device, and which of them."""
        return "cuda", self.device_id

    def missing(self) -> str:
        """Why there is no such GPU to run on, in one sentence; "" when there is."""
        return why_missing_here(self.device_id)

    def provider_options(self) -> dict[str, str]:
        """The same for ONNX Runtime's CUDA execution provider."""
        given = {
            "device_id": str(self.device_id),
            "arena_extend_strategy": GROWTHS[self.growth],
            "cudnn_conv_algo_search": self.search.upper(),
            "use_tf32": str(int(self.tf32)),
        }
        if self.memory_limit:
            given["gpu_mem_limit"] = str(self.memory_limit)
        if self.nhwc:
            given["prefer_nhwc"] = "1"
        if self.graph:
            given["enable_cuda_graph"] = "1"
        return given


def options_of_target(target: str) -> CudaOptions:
    """What comes after the colon of ``ort-cuda:device=1,memory=2GiB``. Raises TargetError when it cannot be read."""
    family, _, text = target.partition(":")
    found = {"device_id": 0, "memory_limit": 0}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            key, value = "device", part
        if key == "device" and value.isdigit():
            found["device_id"] = int(value)
        elif key == "memory" and (size := read_size(value)):
            found["memory_limit"] = size
        else:
            raise TargetError(f"there is no target '{target}': '{part}' is not understood; write {FORM}")
    if family != FAMILY or target.endswith(":"):
        raise TargetError(f"there is no target '{target}'; write {FORM}")
    return CudaOptions(**found)  # type: ignore[arg-type]


def read_size(text: str) -> int | None:
    """ "2GiB", "512M" or "1000000" as bytes (units are powers of 1024); None when it is no size above 0."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text, flags=re.IGNORECASE)
    return int(float(match[1]) * UNITS[match[2].upper()]) or None if match else None
