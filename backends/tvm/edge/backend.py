"""Small devices: a model of fixed sizes as one library that needs no runtime, compiled here for another machine."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir

from ....compiler.core.backend import Built, Port, Progress, Runner, Sample
from ....compiler.core.errors import ArtifactError, BackendMissing, TargetError
from ....compiler.core.target import Target
from ..building import fused_module, scheduled
from ..files import SIGNATURE, Signature, read_signature, write_signature
from ..machine import require_tvm
from ..options import DEFAULT, read_options
from ..session import ports_of
from .library import LIBRARY, build_library, move_product, needed
from .run_template import PROGRAM
from .session import LibraryRunner, ProgramRunner
from .toolchain import Machine, machine_of, this_machine

RUN = "run.py"
NOT_TIMED = "nothing was timed: only the device itself can tell how fast it is (./run -r 100)"


class Draft:
    """A folder that goes when nobody holds this any more."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="graphwright-edge-"))
        weakref.finalize(self, shutil.rmtree, self.path, True)


@dataclass
class BuiltLibrary(Built):
    """A library for a device and what was made along with it."""

    draft: Draft = field(default_factory=Draft)


class EdgeBackend:
    """Compiles for the device that a target's name says: ``tvm-aarch64``, or ``tvm-aarch64:cortex-a76,+dotprod`` (see `toolchain.machine_of`)."""

    name = "tvm"

    def __init__(self, target: str, machine: Machine | None = None) -> None:
        self.target = target
        self._machine = machine

    @property
    def machine(self) -> Machine:
        """The device. Raises TargetError for a CPU or feature that LLVM does not know."""
        if self._machine is None:
            self._machine = machine_of(self.target.partition(":")[2])
        return self._machine

    def targets(self) -> tuple[Target, ...]:
        """The target served. Raises BackendMissing when TVM is not installed."""
        require_tvm(self.target)
        return (Target(self.target, "tvm", self.machine.architecture, is_here=False, open_sizes=False, overrides=False),)

    def reference(self, model: ir.Model) -> Runner:
        """What a model means is not for generated code to say: `compiler.targets` lets ONNX Runtime say it."""
        raise TargetError("the tvm backend has no reference of its own")

    def baseline(self, model: ir.Model) -> Runner:
        """There is no device here to run the input on."""
        raise TargetError(f"nothing runs on {self.machine.architecture} here: there is nothing to compare with")

    def build(self, model: ir.Model, samples: Sequence[Sample], progress: Progress) -> Built:
        """Compile for the device. The runner answers as the device does, under an emulator; without one, as the same kernels compiled for this machine do.

        Raises TargetError naming what the device cannot do, BackendMissing when there is no compiler for it.
        """
        inputs = ports_of([value for value in model.graph.inputs if not value.is_initializer()], outward=False)
        outputs = ports_of(model.graph.outputs, outward=True)
        emulator = self.machine.find_emulator()
        progress(f"compiling for {self.machine.architecture}")
        draft = self._compiled(model, self.machine, inputs, outputs)
        if emulator is not None:
            runner: Runner = ProgramRunner(draft.path, inputs, outputs, emulator, draft)
        else:
            progress("compiling the same kernels for this machine")
            own = self._compiled(model, this_machine(), inputs, outputs)
            runner = LibraryRunner(own.path / LIBRARY, inputs, outputs)
        built = BuiltLibrary(model, runner, {**DEFAULT.to_dict(), **self._options()}, samples=tuple(samples), draft=draft)
        built.remarks = (f"{self._checked(emulator)}; {NOT_TIMED}",)
        return built

    def package(self, built: Built, folder: Path) -> tuple[Path, ...]:
        """Write model.so, the program ``run`` with its source, graphwright.h, run.py and model.json. Raises ArtifactError when the disk refuses."""
        if not isinstance(built, BuiltLibrary):
            raise ArtifactError("the input as it is cannot be packed for a device: it was not compiled")
        try:
            files = move_product(built.draft.path, folder)
            (folder / RUN).write_text(PROGRAM, encoding="utf-8")
            write_signature(Signature(built.runner.inputs, built.runner.outputs), folder / SIGNATURE)
        except OSError as error:
            raise ArtifactError(f"the model cannot be written to '{folder}': {error.strerror}") from error
        built.notes = (needed(folder),)
        return (*files, folder / RUN, folder / SIGNATURE)

    def load(self, folder: Path, options: Mapping[str, object]) -> Runner:
        """Run what `package` wrote, under an emulator. Raises BackendMissing without one, ArtifactError when something is missing."""
        read_options({name: value for name, value in options.items() if name in DEFAULT.to_dict()})
        emulator = self.machine.find_emulator()
        if emulator is None:
            tool = f"{self.machine.emulator} and the libraries in {self.machine.root}"
            raise BackendMissing(f"an artifact for {self.machine.architecture} runs on this machine only with {tool} (on Debian: apt install qemu-user)")
        signature = read_signature(folder)
        return ProgramRunner(folder, signature.inputs, signature.outputs, emulator)

    def _compiled(self, model: ir.Model, machine: Machine, inputs: Sequence[Port], outputs: Sequence[Port]) -> Draft:
        """The library for a machine, in a new folder."""
        import tvm

        draft, target = Draft(), tvm.target.Target(machine.target())
        build_library(scheduled(fused_module(model, DEFAULT, target), target), machine, inputs, outputs, draft.path)
        return draft

    def _options(self) -> dict[str, object]:
        return {"mcpu": self.machine.cpu, "mattr": ",".join(self.machine.features)}

    def _checked(self, emulator: Sequence[str] | None) -> str:
        """How answers are checked, for the report."""
        if emulator is None:
            return f"{self.machine.emulator} is not installed, so the answers are those of the same kernels compiled for this machine"
        where = f"under {Path(emulator[0]).name}" if emulator else "on this machine"
        return f"the answers are the {self.machine.architecture} library's own, {where}"
