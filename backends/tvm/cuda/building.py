"""Kernels for a GPU: scheduled by TVM's rules for products, reductions and the rest (dlight), and generated without CUDA being here."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from ....compiler.core.errors import GraphwrightError, TargetError
from ..building import fused_module, scheduled
from ..importing import sentence
from ..options import DEFAULT, Options

if TYPE_CHECKING:
    import tvm
    from tvm.relax.vm_build import VMExecutable

GRAPHS = "relax.backend.use_cuda_graph"
"""The option of TVM that captures what has fixed sizes as CUDA graphs."""


def gpu_executable(model: ir.Model, target: tvm.target.Target, options: Options = DEFAULT, *, graphs: bool = True) -> VMExecutable:
    """Code for a model on a GPU and its host; with ``graphs`` what has fixed sizes is captured and replayed.

    Raises TargetError naming what TVM cannot take.
    """
    from tvm import transform

    options = replace(options, fast_math=False)  # A GPU has its own instructions for exp and its like.
    module = scheduled(fused_module(model, options, target), target, lambda fused: schedule_for_gpu(fused, target))
    unscheduled = left_over(module)
    if unscheduled:
        raise TargetError(f"tvm has no schedule for a GPU for the kernel '{unscheduled[0]}' of this model")
    try:
        with warnings.catch_warnings(), transform.PassContext(opt_level=3, config={GRAPHS: graphs}):
            import tvm

            warnings.simplefilter("ignore")  # TVM warns of things that are no concern of a user.
            return tvm.compile(module, target=target, relax_pipeline=_lowering(target))
    except GraphwrightError:
        raise
    except Exception as error:  # TVM raises what it likes
        raise TargetError(f"tvm cannot generate code for a GPU from this model: {sentence(error)}") from error


def schedule_for_gpu(module: tvm.IRModule, target: tvm.target.Target) -> tvm.IRModule:
    """Every kernel with the first rule that fits it; nothing is measured. A rule that fails on a kernel, as some do on what was fused, is no rule for it."""
    from tvm.s_tir import dlight

    class Tried(dlight.ScheduleRule):  # type: ignore[misc]
        """A rule that does not fit where it fails."""

        def __init__(self, rule: Any) -> None:
            self.rule = rule

        def apply(self, func: Any, target: Any, tunable: bool) -> Any:
            try:
                return self.rule.apply(func, target, tunable)
            except Exception:  # rules raise what they like, from ScheduleError to IndexError
                return None

    rules = dlight.gpu
    order = (rules.Matmul(), rules.GEMV(), rules.LowBatchGEMV(4), rules.Reduction(), rules.GeneralReduction(), rules.Transpose(), rules.Fallback())
    with target:
        return dlight.ApplyDefaultSchedule(*map(Tried, order))(module)


def left_over(module: tvm.IRModule) -> list[str]:
    """The names of kernels that no thread of a GPU would run, because no rule gave them a schedule."""
    from tvm.tirx import PrimFunc

    kernels = [(name.name_hint, function) for name, function in module.functions_items() if isinstance(function, PrimFunc)]
    return sorted(name for name, function in kernels if function.attrs is None or "tirx.is_scheduled" not in function.attrs)


def cuda_source(executable: VMExecutable) -> str:
    """The CUDA C++ of an executable's kernels, "" when it has none."""
    found = [module for module in _modules(executable.mod) if module.kind == "cuda"]
    return "\n".join(module.inspect_source() for module in found)


def _modules(module: Any) -> list[Any]:
    return [module, *(inner for part in module.imports for inner in _modules(part))]


def _lowering(target: tvm.target.Target) -> Any:
    """TVM's passes from call_tir to the instructions of its virtual machine, CUDA graphs among them."""
    from tvm import transform
    from tvm.relax.backend.cuda import pipeline

    return transform.Sequential([*pipeline.dataflow_lower_passes(target), *pipeline.finalize_passes(target)])
