"""The GPU's part of ONNX Runtime, tried on the CPU."""

from __future__ import annotations

from dataclasses import dataclass

from graphwright.backends.ort.cuda.options import CudaOptions


@dataclass(frozen=True)
class OnCpu(CudaOptions):
    """Options of a GPU whose buffers, sessions and graphs are the CPU's: binding and choosing are the same, and graphs are runs."""

    def providers(self) -> list:
        """The CPU."""
        return ["CPUExecutionProvider"]

    @property
    def place(self) -> tuple[str, int]:
        """The CPU's memory."""
        return "cpu", 0

    def missing(self) -> str:
        """Nothing."""
        return ""
