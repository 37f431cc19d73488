"""Where schedules come from: ours, best guess first, and then whatever MetaSchedule's own rules can make."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..schedules.default import candidate
from ..schedules.machine import machine_of
from .tasks import Task

if TYPE_CHECKING:
    from tvm.s_tir import Schedule


def our_schedules(task: Task) -> Iterator[Schedule]:
    """Our schedules of a kernel, the one that an untuned build uses first."""
    if task.target.kind.name != "llvm":
        return
    machine = machine_of(task.target)
    variant = 0
    while (made := candidate(task.module, machine, variant)) is not None:
        yield made
        variant += 1
