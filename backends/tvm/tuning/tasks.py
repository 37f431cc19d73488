"""What there is to tune in a module: its kernels, each once, however often it is called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tvm
    from tvm.s_tir.meta_schedule.arg_info import TensorInfo

SCHEDULED = "tirx.is_scheduled"


@dataclass(frozen=True)
class Task:
    """One kernel. ``key`` is the structural hash of its module, the same for the same computation in any model; ``calls`` is how often a run calls it."""

    name: str
    key: str
    module: tvm.IRModule
    target: tvm.target.Target
    calls: int

    def arguments(self) -> list[TensorInfo]:
        """The arguments as MetaSchedule describes them."""
        from tvm.s_tir.meta_schedule.arg_info import ArgInfo

        return list(ArgInfo.from_prim_func(self.module["main"]))


@dataclass(frozen=True)
class Extracted:
    """The tasks of a module, and the kernels that cannot be tuned because a dimension of theirs has no size yet."""

    tasks: tuple[Task, ...]
    symbolic: tuple[str, ...]


def extract(module: tvm.IRModule, target: tvm.target.Target) -> Extracted:
    """The kernels of a Relax module whose operators are fused and legalised (its functions call PrimFuncs)."""
    from tvm.s_tir.meta_schedule.relax_integration import extract_tasks
    from tvm.s_tir.meta_schedule.utils import shash2hex

    tasks: list[Task] = []
    symbolic: list[str] = []
    for found in extract_tasks(module, target):
        kernel = found.dispatched[0]
        function = kernel["main"]
        if function.attrs.get(SCHEDULED, False):
            continue
        if not is_static(function):
            symbolic.append(str(found.task_name))
            continue
        tasks.append(Task(str(found.task_name), shash2hex(kernel), kernel, target, int(found.weight)))
    return Extracted(tuple(tasks), tuple(symbolic))


def is_static(function: tvm.tirx.PrimFunc) -> bool:
    """Whether every argument of a kernel is a buffer whose dimensions are numbers."""
    from tvm.tirx import IntImm
    from tvm.tirx.buffer import BufferType

    return all(isinstance(parameter.ty, BufferType) and all(isinstance(size, IntImm) for size in parameter.shape) for parameter in function.params)
