"""A model, built and ready to run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from ...compiler.core.backend import Progress
from ...compiler.core.graph import constant
from .building import Scheduler, code_of, fused_module, scheduled
from .options import Options
from .session import TvmRunner, ports_of

if TYPE_CHECKING:
    import tvm


def build_model(model: ir.Model, options: Options, target: tvm.target.Target, progress: Progress, scheduler: Scheduler | None = None) -> TvmRunner:
    """A runner for a model. Raises TargetError naming the operator that TVM cannot take."""
    progress("importing into TVM")
    module = fused_module(model, options, target)
    progress("scheduling kernels")
    module = scheduled(module, target, scheduler)
    progress("generating code")
    executable, weights = code_of(module, target)
    graph = model.graph
    inputs = [value for value in graph.inputs if not value.is_initializer()]
    kept = [place for place, value in enumerate(graph.outputs) if value.producer() is None or constant(value) is not None]
    return TvmRunner(executable, ports_of(inputs, outward=False), ports_of(graph.outputs, outward=True), kept, weights)
