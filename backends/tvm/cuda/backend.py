"""Apache TVM on an NVIDIA GPU as a backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx_ir as ir

from ....compiler.core.backend import Built, Progress, Runner, Sample
from ....compiler.core.errors import ArtifactError, TargetError
from ....compiler.core.target import Target
from ..files import LIBRARY, SIGNATURE, Signature, read_signature, write_signature
from ..options import DEFAULT, Options, read_options
from ..package import RUN, export
from ..session import ports_of
from .building import gpu_executable
from .machine import GPU, gpu_of, gpu_target, machine_here
from .run_template import program
from .session import GpuRunner


class GpuBackend:
    """Runs models with code that TVM generates for the GPU that the target names: ``tvm-cuda``, ``tvm-cuda:1``.

    Raises TargetError for a name that cannot be read.
    """

    name = "tvm"

    def __init__(self, target: str = GPU, options: Options = DEFAULT) -> None:
        self.target = target
        self.device_id = gpu_of(target)
        self.options = options

    def targets(self) -> tuple[Target, ...]:
        """The target served. Raises BackendMissing, with what is missing, without TVM or the GPU."""
        return (gpu_target(self.target),)

    def reference(self, model: ir.Model) -> Runner:
        """What a model means is not for generated code to say: `compiler.targets` lets ONNX Runtime say it."""
        raise TargetError("the tvm backend has no reference of its own")

    def baseline(self, model: ir.Model) -> Runner:
        """The model as it comes out of TVM."""
        return self.build(model, (), lambda _: None).runner

    def build(self, model: ir.Model, samples: Sequence[Sample], progress: Progress) -> Built:
        """Generate code for the model. Raises TargetError naming the operator that TVM cannot take, BackendMissing without the GPU."""
        machine = machine_here(self.device_id)
        progress("generating code for the GPU")
        executable = gpu_executable(model, machine, self.options)
        inputs = ports_of([value for value in model.graph.inputs if not value.is_initializer()], outward=False)
        runner = GpuRunner(executable, inputs, ports_of(model.graph.outputs, outward=True), self.device_id)
        return Built(model, runner, self.options.to_dict(), samples=tuple(samples))

    def package(self, built: Built, folder: Path) -> tuple[Path, ...]:
        """Write model.so with the weights in it, how to call it, and run.py. Raises ArtifactError when the disk refuses, BackendMissing without a linker."""
        runner = built.runner
        if not isinstance(runner, GpuRunner):
            raise ArtifactError(f"this model was not built by {self.target}")
        files = (folder / LIBRARY, folder / SIGNATURE, folder / RUN)
        try:
            export(runner.executable, files[0])
            write_signature(Signature(runner.inputs, runner.outputs, ()), files[1])
            files[2].write_text(program(runner.inputs, runner.outputs), encoding="utf-8")
        except OSError as error:
            raise ArtifactError(f"the model cannot be written to '{folder}': {error.strerror}") from error
        built.notes = (*built.notes, "needs on the device: numpy, and apache-tvm with its libraries for CUDA")
        return files

    def load(self, folder: Path, options: Mapping[str, object]) -> Runner:
        """Run what `package` wrote. Raises ArtifactError when something is missing, BackendMissing without the GPU."""
        read_options(options)
        if not (folder / LIBRARY).is_file():
            raise ArtifactError(f"there is no {LIBRARY} in '{folder}'")
        machine_here(self.device_id)
        import tvm

        signature = read_signature(folder)
        return GpuRunner(tvm.runtime.load_module(str(folder / LIBRARY)), signature.inputs, signature.outputs, self.device_id)
