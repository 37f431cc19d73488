"""A model, built and ready to run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from ...compiler.core.backend import Progress
from ...compiler.core.graph import constant
from ...compiler.core.planning.plan import Profile
from .building import Scheduler, code_of, fused_module, scheduled
from .options import Options
from .prepare import BLOCK
from .session import TvmRunner, ports_of
from .threads import settle_threads

if TYPE_CHECKING:
    import tvm


VIEWS = frozenset({"Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Dropout", "Cast", "CastLike", "Expand"})
"""Operators that may give out the memory they were given."""


def build_model(
    model: ir.Model,
    options: Options,
    target: tvm.target.Target,
    progress: Progress,
    scheduler: Scheduler | None = None,
    profile: Profile | None = None,
) -> TvmRunner:
    """A runner for a model. Raises TargetError naming the operator that TVM cannot take."""
    settle_threads()  # Before constants are folded: a pool of threads that ran a kernel stays as it is.
    progress("importing into TVM")
    module = fused_module(model, options, target, profile)
    progress("scheduling kernels")
    module = scheduled(module, target, scheduler)
    progress("generating code")
    executable, weights = code_of(module, target)
    graph = model.graph
    inputs = [value for value in graph.inputs if not value.is_initializer()]
    kept = [place for place, value in enumerate(graph.outputs) if _is_passed_on(value)]
    return TvmRunner(executable, ports_of(inputs, outward=False), ports_of(graph.outputs, outward=True), kept, weights)


def _is_passed_on(value: ir.Value) -> bool:
    """Whether an output may share the memory of an input or a constant; of what a block gives out that is not looked at."""
    node = value.producer()
    while node is not None and node.op_type in VIEWS and node.inputs[0] is not None and constant(value) is None:
        value = node.inputs[0]
        node = value.producer()
    return node is None or node.domain == BLOCK or constant(value) is not None
