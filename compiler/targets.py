"""What can be compiled for, and the backend that serves it."""

from __future__ import annotations

import importlib
from typing import cast

from .core.backend import Backend
from .core.errors import BackendMissing, TargetError
from .core.target import Target

FOLDERS = {"onnx": "ort", "ort-cpu": "ort", "ort-cuda": "ort", "tvm-cpu": "tvm", "tvm-cuda": "tvm", "tvm-aarch64": "tvm"}
"""Target -> the folder of ``backends`` that serves it."""
NEEDED = {
    "ort-cuda": "the CUDA runtime: pip install 'graphwright[gpu]' on a machine with an NVIDIA GPU",
    "tvm-cpu": "apache-tvm: pip install 'graphwright[tvm]'",
    "tvm-cuda": "apache-tvm and an NVIDIA GPU: pip install 'graphwright[tvm]'",
    "tvm-aarch64": "apache-tvm: pip install 'graphwright[tvm]'",
}


def find_target(name: str) -> Target:
    """The target called ``name``. Raises TargetError when there is none, BackendMissing when this installation cannot serve it."""
    return next(target for target in find_backend(name).targets() if target.name == name)


def find_backend(target: str) -> Backend:
    """The backend that serves a target. Raises TargetError for an unknown one, BackendMissing when this installation has none for it."""
    folder = FOLDERS.get(target)
    if folder is None:
        raise TargetError(f"there is no target '{target}'; there are: {', '.join(FOLDERS)}")
    backend = _open(folder)
    if backend is None or all(one.name != target for one in backend.targets()):
        raise BackendMissing(f"the target {target} needs {NEEDED.get(target, folder)}. This version serves: {', '.join(_served())}.")
    return backend


def _served() -> list[str]:
    backends = [backend for folder in dict.fromkeys(FOLDERS.values()) if (backend := _open(folder)) is not None]
    return [target.name for backend in backends for target in backend.targets()]


def _open(folder: str) -> Backend | None:
    """The backend in a folder: what its module ``backend`` calls ``backend``."""
    try:
        module = importlib.import_module(f"..backends.{folder}.backend", __package__)
    except ModuleNotFoundError:
        return None
    return cast(Backend, module.backend())
