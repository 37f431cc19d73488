"""The targets that ONNX Runtime serves, with the kernels that the installed one really has."""

from __future__ import annotations

from collections import defaultdict

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as native

from ...compiler.core.target import PORTABLE, STANDARD_DOMAINS, Target
from .documented import CPU_KERNELS, CUDA_KERNELS, CUDA_STANDARD, ML_KERNELS

INTERNAL = ("com.microsoft.nchwc", "com.ms.internal.nhwc")
"""Domains whose operators ONNX Runtime makes itself for the machine it runs on; a model must not have them."""
MICROSOFT, CLASSICAL = "com.microsoft", "ai.onnx.ml"
CPU = "CPUExecutionProvider"


def cpu_target() -> Target:
    """ONNX Runtime on the CPU: standard operators and its own, as far as it has CPU kernels for them."""
    if _can_be_asked():
        return Target("ort-cpu", "ort", "cpu", frozenset(kernel_types(CPU)))
    documented = {f"{MICROSOFT}::{name}" for name in CPU_KERNELS} | {f"{CLASSICAL}::{name}" for name in ML_KERNELS}
    return Target("ort-cpu", "ort", "cpu", frozenset(documented & known_operators()))


def cuda_target(name: str = "ort-cuda", hardware: str = "") -> Target:
    """ONNX Runtime on an NVIDIA GPU: the documented kernels, of operators that the installed one knows. Whether there is a GPU is not asked."""
    kernels = {f"{MICROSOFT}::{op}": types for op, types in CUDA_KERNELS.items()}
    kernels = {kernel: types for kernel, types in kernels.items() if kernel in known_operators()}
    return Target(name, "ort", "cuda", frozenset(kernels), {**CUDA_STANDARD, **kernels}, hardware=hardware)


def portable_target() -> Target:
    """Standard operators only."""
    return PORTABLE


def known_operators() -> frozenset[str]:
    """The "domain::Operator" names that the installed ONNX Runtime knows, with or without a kernel."""
    return frozenset(f"{schema.domain}::{schema.name}" for schema in native.get_all_operator_schema())


def kernel_types(provider: str) -> dict[str, tuple[dict[str, frozenset[str]], ...]]:
    """ "domain::Operator" -> for each kernel, the types ("tensor(float)") that each of its type parameters takes.

    Standard operators are left out. An operator that ONNX Runtime knows but has no kernel for is not here. Only to be asked of a build for the CPU alone
    (`documented`).
    """
    found: dict[str, list[dict[str, frozenset[str]]]] = defaultdict(list)
    for kernel in native.get_all_opkernel_def():
        if kernel.provider == provider and kernel.domain not in (*STANDARD_DOMAINS, *INTERNAL):
            types = {parameter: frozenset(allowed) for parameter, allowed in kernel.type_constraints.items()}
            found[f"{kernel.domain}::{kernel.op_name}"].append(types)
    return {name: tuple(kernels) for name, kernels in sorted(found.items())}


def _can_be_asked() -> bool:
    return not {"CUDAExecutionProvider", "TensorrtExecutionProvider"} & set(ort.get_available_providers())
