"""What can be compiled for, and the backend that serves it."""

from __future__ import annotations

import importlib
from typing import cast

from .core.backend import Backend
from .core.errors import BackendMissing, TargetError
from .core.target import Target
from .core.tuning import Tuning
from .tuning import tuning_state, with_profile, with_tuning
from .yardstick import Yardstick

FOLDERS = {"onnx": "ort", "ort-cpu": "ort", "ort-cuda": "ort", "tvm-cpu": "tvm", "tvm-cuda": "tvm", "tvm-aarch64": "tvm"}
"""Target -> the folder of ``backends`` that serves it."""
PLAIN = "ort"
"""The backend that says what models mean, for the others too."""
CPU = "cpu"
"""The target that two of them serve together (`partition.cpu`)."""
NEEDED = {
    "ort-cuda": "the CUDA runtime: pip install 'graphwright[gpu]' on a machine with an NVIDIA GPU",
    "tvm-cpu": "apache-tvm: pip install 'graphwright[tvm]'",
    "tvm-cuda": "apache-tvm and an NVIDIA GPU: pip install 'graphwright[tvm]'",
    "tvm-aarch64": "apache-tvm: pip install 'graphwright[tvm]'",
}


OPTION = ":"
"""What comes after it in a target's name is the backend's to read, as in ``tvm-aarch64:cortex-a76``."""


def find_target(name: str) -> Target:
    """The target called ``name``. Raises TargetError when there is none, BackendMissing when this installation cannot serve it."""
    return next(target for target in find_backend(name).targets() if target.name == name)


def find_backend(target: str, tuning: Tuning | None = None) -> Backend:
    """The backend that serves a target, tuning its kernels as far as allowed.

    Raises TargetError for an unknown one, BackendMissing when this installation has none for it, UsageError when there is nothing to tune.
    """
    family = target.partition(OPTION)[0]
    if family not in FOLDERS and target != CPU:
        raise TargetError(f"there is no target '{target}'; there are: {', '.join((CPU, *FOLDERS))}")
    backend = _open(target, tuning)
    served = [one.name for one in backend.targets()] if backend is not None else []
    if family in served and target not in served:
        raise TargetError(f"there is no target '{target}': {family} takes nothing after a colon")
    if backend is None or target not in served:
        raise BackendMissing(f"the target {target} needs {NEEDED.get(family, family)}. This version serves: {', '.join(_served())}.")
    if target == CPU:
        return backend
    backend = with_profile(with_tuning(backend, target, tuning), target, tuning)
    return backend if FOLDERS[family] == PLAIN else Yardstick(backend, find_backend(_plain_for(family)))


def generates(target: str) -> bool:
    """Whether kernels are generated for a target, which tuning can make faster."""
    return target == CPU or FOLDERS.get(target.partition(OPTION)[0]) not in (None, PLAIN)


def _plain_for(family: str) -> str:
    """What a target of another backend is measured against: ONNX Runtime on the same device where it can use it."""
    return "ort-cuda" if family == "tvm-cuda" and _serves("ort-cuda") else "ort-cpu"


def _served() -> list[str]:
    return [name for name in (CPU, *FOLDERS) if _serves(name)]


def _serves(name: str) -> bool:
    try:
        backend = _open(name)
        return backend is not None and any(one.name == name for one in backend.targets())
    except BackendMissing:
        return False


def _open(target: str, tuning: Tuning | None = None) -> Backend | None:
    """What the module ``backend`` in the target's folder calls ``backend``, asked for this target; None when there is no such module."""
    if target == CPU:
        return _open_cpu(tuning)
    try:
        module = importlib.import_module(f"..backends.{FOLDERS[target.partition(OPTION)[0]]}.backend", __package__)
    except ModuleNotFoundError:
        return None
    return cast(Backend, module.backend(target))


def _open_cpu(tuning: Tuning | None) -> Backend:
    """ONNX Runtime with TVM where there is one, or with why there is none."""
    from .partition.contest import Plain
    from .partition.cpu import CpuBackend

    return CpuBackend(cast(Plain, find_backend("ort-cpu")), lambda: _tvm_or_why(tuning), lambda: tuning_state(tuning) if tuning is not None else "")


def _tvm_or_why(tuning: Tuning | None) -> Backend | str:
    tvm = _open("tvm-cpu") if _serves("tvm-cpu") else None
    if tvm is None:
        return f"it needs {NEEDED['tvm-cpu']}"
    return with_profile(with_tuning(tvm, "tvm-cpu", tuning), "tvm-cpu", tuning)
