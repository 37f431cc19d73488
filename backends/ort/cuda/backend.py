"""ONNX Runtime on an NVIDIA GPU as a backend."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import onnx_ir as ir

from ....compiler.core.backend import Built, Progress, Runner, Sample
from ....compiler.core.errors import ArtifactError, BackendMissing, TargetError
from ....compiler.core.graph import all_graphs
from ....compiler.core.target import Target
from ..files import MODEL, write_model
from ..kernels import cuda_target
from ..options import read_kind
from ..package import RUN, write_text
from ..reference import WHOLE_BYTES, open_model, open_reference
from ..run_template import program
from ..session import OrtRunner, open_file, open_skeleton
from ..skeleton import Skeleton, skeleton_of, weight_bytes
from ..tune import Trial, choose_options
from .bound import BoundRunner
from .device import device_name
from .graphs import why_not_captured
from .options import CudaOptions, options_of_target
from .questions import cuda_questions, refused_capture

TUNED_SAMPLES = 2
"""As on the CPU: options are chosen on the first samples."""


class CudaBackend:
    """Runs models with ONNX Runtime on the GPU that the target names: ``ort-cuda``, ``ort-cuda:1``, ``ort-cuda:device=1,memory=2GiB``.

    What a model means is still what the CPU makes of it, with every optimisation off. Raises TargetError for a name that cannot be read.
    """

    name = "ort"

    def __init__(self, target: str = "ort-cuda", *, whole_bytes: int = WHOLE_BYTES) -> None:
        self.target = target
        self.options = options_of_target(target)
        self.whole_bytes = whole_bytes

    def targets(self) -> tuple[Target, ...]:
        """The target served. Raises BackendMissing, with what is missing, when ONNX Runtime cannot use the GPU."""
        missing = self.options.missing()
        if missing:
            raise BackendMissing(missing)
        return (cuda_target(self.target, device_name(self.options.device_id)),)

    def reference(self, model: ir.Model) -> Runner:
        """The model on the CPU with every optimisation off; on the GPU, off as well, where only that has kernels for it."""
        try:
            return open_reference(model, whole_bytes=self.whole_bytes)
        except TargetError:
            return open_model(model, dataclasses.replace(self.options, level="off"), whole_bytes=self.whole_bytes)

    def baseline(self, model: ir.Model) -> Runner:
        """The model with ONNX Runtime's default options on the GPU, but for TensorFloat-32, whose numbers are not those of the model."""
        return open_model(model, self.options, whole_bytes=self.whole_bytes)

    def build(self, model: ir.Model, samples: Sequence[Sample], progress: Progress) -> Built:
        """Make the model ready with the fastest options on the first samples, as a CUDA graph where its shapes allow and that is faster."""
        skeleton = skeleton_of(model)
        if weight_bytes(model) > self.whole_bytes:
            reason = f"options are not tried: the model has {weight_bytes(model):,} bytes of weights and runs in segments here"
            return Built(model, self.baseline(model), self.options.to_dict(), ({"skipped": reason},), tuple(samples[:TUNED_SAMPLES]))
        tuned = tuple(samples[:TUNED_SAMPLES])
        uncaptured = why_not_captured(model)

        def open_with(options: object) -> OrtRunner:
            return _captured(skeleton, cast(CudaOptions, options), tuned)

        operators = {node.op_type for graph in all_graphs(model) for node in graph}
        asked = cuda_questions(operators, uncaptured)
        best, raced = choose_options(open_with, tuned, progress, start=self.options, asked=asked)
        trials: tuple[Trial, ...] = (refused_capture(best, uncaptured), *raced) if uncaptured and tuned else raced
        return Built(model, open_with(best), best.to_dict(), tuple(trial.to_dict() for trial in trials), tuned)

    def open(self, model: ir.Model, options: Mapping[str, object]) -> Built:
        """Make a model ready with options chosen elsewhere. Raises ArtifactError when they are not options."""
        chosen = read_kind(CudaOptions, options)
        return Built(model, open_skeleton(skeleton_of(model), chosen), chosen.to_dict())

    def package(self, built: Built, folder: Path) -> tuple[Path, ...]:
        """Write model.onnx (unless it is there already) and run.py. There is no model.ort: builds of ONNX Runtime that need one have no CUDA."""
        options = read_kind(CudaOptions, built.options)
        written = (folder / MODEL, folder / f"{MODEL}.data")
        files = [path for path in written if path.is_file()] if written[0].is_file() else list(write_model(built.model, folder))
        write_text(folder / RUN, program(options))
        return (*files, folder / RUN)

    def load(self, folder: Path, options: Mapping[str, object]) -> Runner:
        """Run the model.onnx of a package. Raises ArtifactError when it is missing or the options are not ones, BackendMissing without the GPU."""
        path = folder / MODEL
        if not path.is_file():
            raise ArtifactError(f"there is no {MODEL} in '{folder}'")
        return open_file(path, read_kind(CudaOptions, options))


def _captured(skeleton: Skeleton, options: CudaOptions, samples: Sequence[Sample]) -> OrtRunner:
    """A runner with these options, its graphs captured. Raises TargetError when they are asked for and cannot be."""
    runner = open_skeleton(skeleton, options)
    if not options.graph or not isinstance(runner, BoundRunner):
        return runner
    try:
        for sample in samples:
            runner.capture(sample)
    except BaseException:
        runner.close()
        raise
    return runner
