"""ONNX Runtime as a backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx_ir as ir

from ...compiler.core.backend import Backend, Built, Progress, Runner, Sample
from ...compiler.core.errors import ArtifactError
from ...compiler.core.graph import all_graphs
from ...compiler.core.target import Target
from .cuda.options import FAMILY
from .files import MODEL
from .kernels import cpu_target, portable_target
from .options import DEFAULT, Options, read_options
from .package import write_package
from .reference import WHOLE_BYTES, open_baseline, open_reference
from .session import OrtRunner, open_file, open_skeleton
from .skeleton import skeleton_of, weight_bytes
from .tune import choose_options

TUNED_SAMPLES = 2
"""Options are chosen on the first samples: a pass over all of them would take too long."""


class OrtBackend:
    """Runs models with ONNX Runtime on the CPU. Models with more than ``whole_bytes`` of weights run in segments."""

    name = "ort"

    def __init__(self, *, whole_bytes: int = WHOLE_BYTES) -> None:
        self.whole_bytes = whole_bytes

    def targets(self) -> tuple[Target, ...]:
        """The targets served."""
        return portable_target(), cpu_target()

    def reference(self, model: ir.Model) -> Runner:
        """The model with every runtime optimisation off, on the CPU: what it means."""
        return open_reference(model, whole_bytes=self.whole_bytes)

    def baseline(self, model: ir.Model) -> Runner:
        """The model as everybody runs it today: default options."""
        return open_baseline(model, whole_bytes=self.whole_bytes)

    def build(self, model: ir.Model, samples: Sequence[Sample], progress: Progress) -> Built:
        """Make the model ready with the fastest session options on the first samples. Models too large for one session keep the defaults."""
        if weight_bytes(model) > self.whole_bytes:
            runner = self.baseline(model)
            reason = f"options are not tried: the model has {weight_bytes(model):,} bytes of weights and runs in segments here"
            return Built(model, runner, DEFAULT.to_dict(), ({"skipped": reason},), tuple(samples[:TUNED_SAMPLES]))
        skeleton = skeleton_of(model)

        def open_with(options: Options) -> OrtRunner:
            return open_skeleton(skeleton, options)

        operators = {node.op_type for graph in all_graphs(model) for node in graph}
        tuned = tuple(samples[:TUNED_SAMPLES])
        options, trials = choose_options(open_with, tuned, progress, operators=operators)
        return Built(model, open_with(options), options.to_dict(), tuple(trial.to_dict() for trial in trials), tuned)

    def open(self, model: ir.Model, options: Mapping[str, object]) -> Built:
        """Make a model ready with options chosen elsewhere, for a larger model that it is a part of. Raises ArtifactError when they are not options."""
        chosen = read_options(options)
        return Built(model, open_skeleton(skeleton_of(model), chosen), chosen.to_dict())

    def package(self, built: Built, folder: Path) -> tuple[Path, ...]:
        """Write model.onnx (unless it is there already), model.ort with required_operators.config, and run.py; what is left out is in ``built.notes``."""
        files, built.notes = write_package(built.model, read_options(built.options), folder, built.samples)
        return files

    def load(self, folder: Path, options: Mapping[str, object]) -> Runner:
        """Run the model.onnx of a package. Raises ArtifactError when it is missing or the options are not ones."""
        path = folder / MODEL
        if not path.is_file():
            raise ArtifactError(f"there is no {MODEL} in '{folder}'")
        return open_file(path, read_options(options))


def backend(target: str = "ort-cpu") -> Backend:
    """The backend of the targets onnx, ort-cpu and ort-cuda. Raises TargetError when what comes after a colon cannot be read."""
    if target.partition(":")[0] != FAMILY:
        return OrtBackend()
    from .cuda.backend import CudaBackend

    return CudaBackend(target)
