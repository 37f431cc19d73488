"""How long operators take as one generated kernel: what the planner asks where its table leaves a fusion open."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

import onnx_ir as ir

from ...compiler.core.errors import GraphwrightError
from .machine import this_machine
from .options import Options
from .schedules.layouts import restrict_layouts
from .tuning.serial import target_json
from .tuning.spaces import our_schedules
from .tuning.tasks import Task, extract
from .tuning.worker import Job
from .tuning.workshop import Workshop

if TYPE_CHECKING:
    import tvm

WHOLE = Options(fusion="one")
EACH_S = 30.0
"""How long one kernel may take to be built and timed."""


def runtime_here() -> str:
    """What decides how long a generated kernel takes besides what it computes: TVM's version and the processor."""
    return f"tvm {importlib.metadata.version('apache-tvm')} {target_json(this_machine())}"


def kernel_seconds(model: ir.Model, workshop: Workshop) -> float | None:
    """Seconds of a small model as one kernel with the schedule of an untuned build; None where it is none, or cannot be built."""
    from tvm.ir import save_json

    task = _task(model)
    made = next(our_schedules(task), None) if task is not None else None
    if task is None or made is None:
        return None
    (found,) = workshop.measure([Job(save_json(made.mod), target_json(task.target), workshop.device, timeout_s=EACH_S)])
    return found.seconds


def _task(model: ir.Model) -> Task | None:
    """The kernel that a model is; None where it is several, or has open sizes."""
    from tvm import relax

    from .building import fused_module, kernels_of

    target = this_machine()
    try:
        module: tvm.IRModule = fused_module(model, WHOLE, target)
    except GraphwrightError:
        return None
    if len(kernels_of(module)) != 1:
        return None
    with target:
        extracted = extract(restrict_layouts(relax.transform.AttachAttrLayoutFreeBuffers()(module)), target)
    return extracted.tasks[0] if len(extracted.tasks) == 1 else None
