"""Apache TVM as a backend: generated kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import onnx_ir as ir

from ...compiler.core.backend import Backend, Built, Progress, Runner, Sample
from ...compiler.core.errors import TargetError
from ...compiler.core.target import Target
from .machine import CPU, cpu_target, this_machine
from .options import DEFAULT, Options


class TvmBackend:
    """Runs models with code that TVM generates for this machine's CPU."""

    name = "tvm"

    def __init__(self, options: Options = DEFAULT) -> None:
        self.options = options

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

        runner = build_model(model, self.options, this_machine(), progress)
        return Built(model, runner, self.options.to_dict(), samples=tuple(samples))

    def package(self, built: Built, folder: Path) -> tuple[Path, ...]:
        """Write the generated code and what runs it into ``folder``."""
        raise TargetError("packaging of tvm is not there yet")

    def load(self, folder: Path, options: Mapping[str, object]) -> Runner:
        """Run what `package` wrote."""
        raise TargetError("packaging of tvm is not there yet")


def backend(target: str = CPU) -> Backend:
    """The backend of a target of this folder. Raises BackendMissing when it cannot serve it."""
    if target.partition(":")[0] == "tvm-aarch64":
        from .edge.backend import EdgeBackend

        return cast(Backend, EdgeBackend(target))
    if target.partition(":")[0] == "tvm-cuda":
        from .cuda.backend import GpuBackend

        return GpuBackend(target)
    return TvmBackend()
