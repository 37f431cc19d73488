"""A backend whose models are measured against what ONNX Runtime makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx_ir as ir

from .core.backend import Backend, Built, Progress, Runner, Sample
from .core.target import Target

RUNTIME = "runtime"
"""The option that says which runtime a package needs, where it is not the backend's own."""


class Yardstick:
    """``own`` builds, and ``plain`` says what a model means and how fast it is as everybody runs it today.

    When nothing that ``own`` builds is faster, the input ships as ``plain`` runs it, and the options say so.
    """

    def __init__(self, own: Backend, plain: Backend) -> None:
        self.own, self.plain = own, plain
        self.name = own.name

    def targets(self) -> tuple[Target, ...]:
        """The targets of ``own``."""
        return self.own.targets()

    def reference(self, model: ir.Model) -> Runner:
        """What the model means."""
        return self.plain.reference(model)

    def baseline(self, model: ir.Model) -> Runner:
        """The model as everybody runs it today."""
        return self.plain.baseline(model)

    def build(self, model: ir.Model, samples: Sequence[Sample], progress: Progress) -> Built:
        """The model as ``own`` builds it."""
        return self.own.build(model, samples, progress)

    def package(self, built: Built, folder: Path) -> tuple[Path, ...]:
        """Write what runs the model: ``own``'s package, or for a baseline that of ``plain``."""
        if self._is_plain(built.options):
            return self.plain.package(built, folder)
        return self.own.package(built, folder)

    def load(self, folder: Path, options: Mapping[str, object]) -> Runner:
        """Run what `package` wrote."""
        return (self.plain if self._is_plain(options) else self.own).load(folder, options)

    def _is_plain(self, options: Mapping[str, object]) -> bool:
        """Options are what ``own`` chose; the input as it is has none."""
        return not options
