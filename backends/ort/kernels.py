"""The targets that ONNX Runtime serves, with the kernels that the installed one really has."""

from __future__ import annotations

from collections import defaultdict

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as native

from ...compiler.core.errors import BackendMissing
from ...compiler.core.target import PORTABLE, STANDARD_DOMAINS, Target
from .session import PROVIDERS

INTERNAL = ("com.microsoft.nchwc", "com.ms.internal.nhwc")
"""Domains whose operators ONNX Runtime makes itself for the machine it runs on; a model must not have them."""


def cpu_target() -> Target:
    """ONNX Runtime on the CPU: standard operators and its own, as far as it has CPU kernels for them."""
    return Target("ort-cpu", "ort", "cpu", frozenset(kernel_types("CPUExecutionProvider")))


def cuda_target() -> Target:
    """ONNX Runtime on an NVIDIA GPU. Raises BackendMissing when the installed one cannot use any."""
    provider = PROVIDERS["cuda"][0]
    if provider not in ort.get_available_providers():
        raise BackendMissing("the target ort-cuda needs ONNX Runtime with CUDA: pip install 'graphwright[gpu]' on a machine with an NVIDIA GPU")
    return Target("ort-cuda", "ort", "cuda", frozenset(kernel_types(provider)))


def portable_target() -> Target:
    """Standard operators only."""
    return PORTABLE


def kernel_types(provider: str) -> dict[str, tuple[dict[str, frozenset[str]], ...]]:
    """ "domain::Operator" -> for each kernel, the types ("tensor(float)") that each of its type parameters takes.

    Standard operators are left out. An operator that ONNX Runtime knows but has no kernel for is not here.
    """
    found: dict[str, list[dict[str, frozenset[str]]]] = defaultdict(list)
    for kernel in native.get_all_opkernel_def():
        if kernel.provider == provider and kernel.domain not in (*STANDARD_DOMAINS, *INTERNAL):
            types = {parameter: frozenset(allowed) for parameter, allowed in kernel.type_constraints.items()}
            found[f"{kernel.domain}::{kernel.op_name}"].append(types)
    return {name: tuple(kernels) for name, kernels in sorted(found.items())}
