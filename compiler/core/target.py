"""What a model is compiled for."""

from __future__ import annotations

from dataclasses import dataclass

STANDARD_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class Target:
    """A backend on a device, and the kernels it has beyond the standard operators.

    ``kernels`` holds "domain::Operator" names, for example "com.microsoft::BiasGelu".
    """

    name: str
    backend: str
    device: str = "cpu"
    kernels: frozenset[str] = frozenset()

    def has(self, domain: str, op: str) -> bool:
        """Whether a node of this operator can stand in a model for this target."""
        return domain in STANDARD_DOMAINS or f"{domain}::{op}" in self.kernels


PORTABLE = Target("onnx", "ort")
"""Standard operators only: runs wherever ONNX does."""
