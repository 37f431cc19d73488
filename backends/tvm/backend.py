"""Apache TVM as a backend: generated kernels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import onnx_ir as ir

from ...compiler.core.backend import Backend, Built, Progress, Runner, Sample
from ...compiler.core.errors import TargetError
from ...compiler.core.planning.plan import Profile
from ...compiler.core.target import Target
from ...compiler.core.tuning import Tuning
from .machine import CPU, cpu_target, this_machine
from .options import DEFAULT, Options, read_options
from .session import TvmRunner
from .tuning.session import TuningSession
from .tuning.workshop import Workshop

CHOSEN: tuple[dict[str, object], ...] = ({"runtime": "generated code", "chosen": True},)
"""Generated code always differs from the runtime it races."""


class TvmBackend:
    """Runs models with code that TVM generates for this machine's CPU."""

    name = "tvm"

    def __init__(
        self, options: Options = DEFAULT, tuning: TuningSession | None = None, profile: Profile | None = None, workshop: Workshop | None = None
    ) -> None:
        self.options = options
        self._tuning = tuning
        self._profile = profile
        self._workshop = workshop or Workshop()

    def tuned(self, tuning: Tuning) -> TvmBackend:
        """The backend that tunes its kernels as far as that allows, all models that it builds together, and uses what was found before."""
        return TvmBackend(self.options, TuningSession(tuning), self._profile, self._workshop)

    def profiled(self, profile: Profile) -> TvmBackend:
        """The backend whose plans ask ``profile`` where the table of fusions leaves one open."""
        return TvmBackend(self.options, self._tuning, profile, self._workshop)

    def runtime(self) -> str:
        """What decides how long a kernel takes besides what it computes."""
        from .profiling import runtime_here

        return runtime_here()

    def kernel_seconds(self, model: ir.Model) -> float | None:
        """Seconds of a small model as one kernel; None where it is none."""
        from .profiling import kernel_seconds

        return kernel_seconds(model, self._workshop)

    def targets(self) -> tuple[Target, ...]:
        """The target served. Raises BackendMissing when TVM is not installed."""
        return (cpu_target(),)

    def reference(self, model: ir.Model) -> Runner:
        """What a model means is not for generated code to say: `compiler.targets` lets ONNX Runtime say it."""
        raise TargetError("the tvm backend has no reference of its own")

    def baseline(self, model: ir.Model) -> Runner:
        """The model as TVM would build it by itself."""
        return self.build(model, (), lambda _: None).runner

    def build(self, model: ir.Model, samples: Sequence[Sample], progress: Progress) -> Built:
        """Generate code for the model. Raises TargetError naming the operator that TVM cannot take."""
        from .build import build_model

        remarks: list[str] = []
        target = this_machine()
        scheduler = self._tuning.scheduler(target, progress, remarks) if self._tuning is not None else None
        try:
            runner = build_model(model, self.options, target, progress, scheduler, self._profile)
        finally:
            self._workshop.close()  # It is started again when it is needed.
        options = dataclasses.replace(self.options, kept=runner.kept)
        return Built(model, runner, options.to_dict(), trials=CHOSEN, samples=tuple(samples), remarks=tuple(remarks))

    def refusal(self, node: ir.Node) -> str | None:
        """Why TVM does not take a node, by its operator and types alone; None when it may."""
        from .refusals import refusal

        return refusal(node)

    def package(self, built: Built, folder: Path) -> tuple[Path, ...]:
        """Write model.so, its weights in model.params, model.json and run.py; what a device needs besides is in ``built.notes``."""
        from .package import write_package

        files, built.notes = write_package(cast(TvmRunner, built.runner), folder)
        return files

    def load(self, folder: Path, options: Mapping[str, object]) -> Runner:
        """Run what `package` wrote. Raises ArtifactError when a file is missing or the options are not ones."""
        from .opening import open_package

        return open_package(folder, read_options(options).kept)


def backend(target: str = CPU) -> Backend:
    """The backend of a target of this folder. Raises BackendMissing when it cannot serve it."""
    if target.partition(":")[0] == "tvm-aarch64":
        from .edge.backend import EdgeBackend

        return cast(Backend, EdgeBackend(target))
    if target.partition(":")[0] == "tvm-cuda":
        from .cuda.backend import GpuBackend

        return GpuBackend(target)
    return TvmBackend()
