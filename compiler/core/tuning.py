"""How much a backend may measure to find faster kernels, and where it keeps what it found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import onnx_ir as ir

from .backend import Backend
from .planning.plan import Profile


@dataclass(frozen=True)
class Tuning:
    """``trials`` measurements for all kernels of a model, earlier ones counted, or ``minutes`` of them; with neither, nothing is measured.

    What was found before is used either way; it is kept in the folder ``database`` (None: nothing is kept or used). ``device`` is a remote one,
    "host:port/key" of an RPC tracker ("" for this machine).
    """

    trials: int | None = None
    minutes: float | None = None
    database: Path | None = None
    device: str = ""

    @property
    def asked(self) -> bool:
        """Whether anything is to be measured."""
        return self.trials is not None or self.minutes is not None


@runtime_checkable
class Tunable(Protocol):
    """A backend that generates kernels."""

    def tuned(self, tuning: Tuning) -> Backend:
        """The backend that tunes as far as that allows."""
        ...


@runtime_checkable
class Profiled(Protocol):
    """A backend that plans what becomes one kernel, and can tell how long one takes."""

    def runtime(self) -> str:
        """What decides how long a kernel takes besides what it computes: a version, a processor."""
        ...

    def kernel_seconds(self, model: ir.Model) -> float | None:
        """Seconds of a small model as one kernel; None where it is none."""
        ...

    def profiled(self, profile: Profile) -> Backend:
        """The backend whose plans ask ``profile`` where the table of fusions leaves one open."""
        ...
