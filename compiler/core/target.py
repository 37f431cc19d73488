"""What a model is compiled for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

STANDARD_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class Target:
    """A backend on a device, and the kernels it has beyond the standard operators.

    ``kernels`` holds "domain::Operator" names, for example "com.microsoft::BiasGelu". ``types`` names the element types ("float16") that the kernels of an
    operator take, standard operators without a domain; it is empty where nobody knows. ``hardware`` names what the device is, where that is not the machine's
    processor: what is measured holds for it alone. ``is_here`` says that this machine runs it, at its speed; ``open_sizes`` that its models may have
    sizes that are known only when they run; ``overrides`` that a caller may give other weights for initialisers that are among the inputs.
    """

    name: str
    backend: str
    device: str = "cpu"
    kernels: frozenset[str] = frozenset()
    types: Mapping[str, Sequence[str]] = field(default_factory=dict, hash=False)
    is_here: bool = True
    open_sizes: bool = True
    overrides: bool = True
    hardware: str = ""

    def has(self, domain: str, op: str) -> bool:
        """Whether a node of this operator can stand in a model for this target."""
        return domain in STANDARD_DOMAINS or f"{domain}::{op}" in self.kernels

    def takes(self, kernel: str, dtype: ir.DataType | None) -> bool:
        """Whether the kernels of "domain::Operator", or of a standard "Operator", take an element type; where nobody knows they take float."""
        if dtype is None:
            return False
        known = self.types.get(kernel)
        return dtype is ir.DataType.FLOAT if known is None else dtype.name.lower() in known


PORTABLE = Target("onnx", "ort")
"""Standard operators only: runs wherever ONNX does."""
