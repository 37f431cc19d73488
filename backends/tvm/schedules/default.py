"""Schedules for all kernels of a module without measuring anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .layouts import restrict_layouts
from .machine import Machine, machine_of
from .whole import schedule

if TYPE_CHECKING:
    import tvm
    from tvm.s_tir import Schedule

SCHEDULED = "tirx.is_scheduled"
SYMBOL = "global_symbol"


def schedule_kernels(module: tvm.IRModule, target: tvm.target.Target) -> tvm.IRModule:
    """The module with the best guess as the schedule of every kernel that has none yet; kernels with open dimensions stay as they are."""
    from tvm.tirx import PrimFunc

    machine = machine_of(target)
    module = restrict_layouts(module)
    done: dict[tvm.ir.GlobalVar, tvm.tirx.PrimFunc] = {}
    for name, function in module.functions_items():
        if isinstance(function, PrimFunc) and not _has(function, SCHEDULED):
            made = guess(function, machine)
            if made is not None:
                done[name] = made
    for name, function in done.items():
        module.update_func(name, function)
    return module


def guess(function: tvm.tirx.PrimFunc, machine: Machine) -> tvm.tirx.PrimFunc | None:
    """A kernel with its best guess; None where it cannot be scheduled."""
    import tvm

    found = candidate(tvm.IRModule({"main": function.with_attr(SYMBOL, "main")}), machine, 0)
    if found is None:
        return None
    made = found.mod["main"].with_attr(SCHEDULED, True)
    return made.with_attr(SYMBOL, function.attrs[SYMBOL]) if _has(function, SYMBOL) else made.without_attr(SYMBOL)


def candidate(module: tvm.IRModule, machine: Machine, variant: int) -> Schedule | None:
    """One of our schedules for a kernel (``main`` of a module), weights laid out as it reads them; None where there is no such variant."""
    from tvm import s_tir
    from tvm.s_tir.meta_schedule.postproc import RewriteLayout

    sch = s_tir.Schedule(module, error_render_level="none")
    try:
        if not schedule(sch, machine, variant):
            return None
    except s_tir.ScheduleError:
        return None
    sch.enter_postproc()
    return sch if RewriteLayout().apply(sch) else None


def _has(function: tvm.tirx.PrimFunc, name: str) -> bool:
    return function.attrs is not None and name in function.attrs
