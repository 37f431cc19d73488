"""The GPUs that TVM generates code for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ....compiler.core.errors import BackendMissing, TargetError
from ....compiler.core.target import Target
from ..machine import HELP, require_tvm

if TYPE_CHECKING:
    import tvm

GPU = "tvm-cuda"
USUAL = "sm_90"
"""What code is generated for where there is no GPU to ask: NVIDIA's Hopper."""
LIMITS = {"max_threads_per_block": 1024, "max_shared_memory_per_block": 49152, "thread_warp_size": 32, "registers_per_block": 65536}
"""What every GPU since 2014 has."""


def gpu_of(target: str) -> int:
    """The number of the GPU in ``tvm-cuda:1``, 0 without one. Raises TargetError when it cannot be read."""
    family, colon, text = target.partition(":")
    if family != GPU or (colon and not text.isdigit()):
        raise TargetError(f"there is no target '{target}'; write {GPU}, or {GPU}:1 for the GPU 1")
    return int(text or 0)


def why_missing(device_id: int = 0) -> str:
    """Why TVM cannot use a GPU, in one sentence; "" when it can. Raises BackendMissing when TVM is not installed."""
    require_tvm(GPU)
    import tvm

    device = tvm.cuda(device_id)
    if device.exist:
        return ""
    built = tvm.get_global_func("device_api.cuda", allow_missing=True) is not None
    reason = f"it finds no GPU {device_id}" if built else "the installed apache-tvm was built or loaded without CUDA"
    return f"the target {GPU} needs an NVIDIA GPU that TVM can use, and {reason}. Everything else comes with {HELP}"


def gpu_target(name: str) -> Target:
    """TVM on the GPU that a target names: standard operators only, of fixed sizes. Raises BackendMissing without TVM or without the GPU."""
    device_id = gpu_of(name)
    missing = why_missing(device_id)
    if missing:
        raise BackendMissing(missing)
    import tvm

    return Target(name, "tvm", "cuda", open_sizes=False, overrides=False, hardware=str(tvm.cuda(device_id).device_name))


def machine(architecture: str = USUAL) -> tvm.target.Target:
    """A GPU to generate code for, fed by this machine's CPU; neither it nor CUDA has to be here. Raises TargetError for what is no architecture."""
    import tvm

    from ..machine import this_machine

    if re.fullmatch(r"sm_\d{2,3}[a-z]?", architecture) is None:
        raise TargetError(f"'{architecture}' is no architecture of a GPU; they are called sm_80, sm_90 and so on")
    return tvm.target.Target({"kind": "cuda", "arch": architecture, **LIMITS}, host=this_machine())


def machine_here(device_id: int = 0) -> tvm.target.Target:
    """The GPU of this machine. Raises BackendMissing without one."""
    missing = why_missing(device_id)
    if missing:
        raise BackendMissing(missing)
    import tvm

    major, minor = str(tvm.cuda(device_id).compute_version).split(".")
    return machine(f"sm_{major}{minor}")
