"""From a model to machine code: import, fuse, schedule, generate.

module = fused_module(model, options)               # Relax; every kernel is a PrimFunc called from ``main``
module = scheduled(module, target, kernels)         # every kernel has a schedule; weights are laid out for them
executable, weights = code_of(module, target)       # runs in `session.TvmRunner`, or is exported
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from ...compiler.core.errors import GraphwrightError, TargetError
from ...compiler.core.planning.plan import Profile
from .accumulating import pass_over_nan
from .blocks import outline, settle
from .importing import import_model, sentence
from .machine import this_machine
from .options import DEFAULT, Options
from .planned import mark_plan, mark_whole
from .prepare import prepare
from .saturating import legalisations as saturating
from .vector_math import legalisations as vectorised
from .weights import lift_weights
from .widening import computes_half, widen

if TYPE_CHECKING:
    import tvm
    from tvm.relax.vm_build import VMExecutable

Scheduler = Callable[["tvm.IRModule"], "tvm.IRModule"]
"""Gives every kernel of a module a schedule."""


def fused_module(model: ir.Model, options: Options = DEFAULT, target: tvm.target.Target | None = None, profile: Profile | None = None) -> tvm.IRModule:
    """The model as a Relax module in which every kernel is one PrimFunc without a schedule, for this machine or another ``target``.

    Weights are constants of ``main``. ``profile`` is what is known of how long kernels take, for the plan.

    Raises TargetError naming the operator that TVM cannot take.
    """
    from tvm import relax, transform

    target = target or this_machine()
    prepared = prepare(model)
    if not computes_half(target):
        widen(prepared)
    if options.fusion == "plan":
        mark_plan(prepared, profile)
    if options.fusion == "one":
        mark_whole(prepared)
    ours = options.fusion in ("plan", "one")
    imported = import_model(prepared, turn=options.channels_last)
    with _blamed("fuse"), target:
        module = outline(imported) if ours else imported.module
        legalised = relax.transform.LegalizeOps({**saturating(), **(vectorised() if options.fast_math else {})})
        steps = [relax.transform.ConvertToDataflow(1), relax.transform.DecomposeOpsForInference(), relax.backend.DispatchSortScan(), legalised]
        steps.append(relax.transform.FoldConstant())
        module = transform.Sequential(steps)(module)
        if ours:
            module = settle(module)
        if options.fusion == "own":
            module = transform.Sequential([relax.transform.AnnotateTIROpPattern(), relax.transform.FuseOps()])(module)
        return transform.Sequential([relax.transform.FuseTIR(), relax.transform.DeadCodeElimination()])(module)


def scheduled(module: tvm.IRModule, target: tvm.target.Target, scheduler: Scheduler | None = None) -> tvm.IRModule:
    """The module with every kernel scheduled, by ``scheduler`` or by the best guess, and the weights laid out as the schedules want them."""
    found = _with_schedules(module, target, scheduler)
    return found if target.kind.name == "cuda" else pass_over_nan(found)  # The maximum and minimum of CUDA pass over NaN whatever their order.


def _with_schedules(module: tvm.IRModule, target: tvm.target.Target, scheduler: Scheduler | None) -> tvm.IRModule:
    from tvm import relax, transform

    from .schedules.default import schedule_kernels

    with _blamed("schedule"), target:
        free = relax.transform.AttachAttrLayoutFreeBuffers()(module)
        settle_layouts = transform.Sequential([relax.transform.SplitLayoutRewritePreproc(), relax.transform.FoldConstant()])
        if scheduler is not None:
            return settle_layouts(scheduler(free))
        try:
            return settle_layouts(schedule_kernels(free, target))
        except Exception:  # noqa: BLE001 (a guess that does not fit: kernels as they come are right, and the race tells how fast they are)
            return module


def code_of(module: tvm.IRModule, target: tvm.target.Target) -> tuple[VMExecutable, list[tvm.runtime.Tensor]]:
    """Machine code for a scheduled module, and the weights that ``main`` is given after its inputs."""
    from tvm import relax

    with _blamed("compile"), transformed_quietly(), target:
        lowered, weights = lift_weights(_lowering()(module))
        return relax.build(lowered, target=target, relax_pipeline=None), weights


def executable_of(module: tvm.IRModule, target: tvm.target.Target) -> VMExecutable:
    """Machine code for a scheduled module, with the weights in it."""
    from tvm import relax

    with _blamed("compile"), transformed_quietly(), target:
        return relax.build(_lowering()(module), target=target, relax_pipeline=None)


def kernels_of(module: tvm.IRModule) -> list[str]:
    """The names of the kernels that ``main`` calls, in order, one for each call."""
    from tvm import relax

    called: list[str] = []

    def visit(expression: Any) -> None:
        if isinstance(expression, relax.Call) and getattr(expression.op, "name", "") == "relax.call_tir":
            called.append(expression.args[0].name_hint)

    relax.analysis.post_order_visit(module["main"], visit)
    return called


def _lowering() -> Any:
    """TVM's passes from call_tir to the instructions of its virtual machine."""
    from tvm import transform
    from tvm.relax.backend.cpu_generic import pipeline

    return transform.Sequential([*pipeline.dataflow_lower_passes(None), *pipeline.finalize_passes(None)])


@contextlib.contextmanager
def transformed_quietly() -> Iterator[None]:
    """TVM warns of things that are no concern of a user."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _blamed(what: str) -> Iterator[None]:
    """Errors of TVM as one sentence."""
    try:
        yield
    except GraphwrightError:
        raise
    except Exception as error:  # TVM raises what it likes
        raise TargetError(f"tvm cannot {what} this model: {sentence(error)}") from error
