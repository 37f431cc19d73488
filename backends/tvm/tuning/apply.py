"""What tuning found, put into a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..schedules.default import schedule_kernels
from .database import load_records

if TYPE_CHECKING:
    import tvm


def tuned_scheduler(target: tvm.target.Target, root: Path, device: str = "", ours: bool = True) -> Callable[[tvm.IRModule], tvm.IRModule]:
    """Gives every kernel the fastest schedule that was measured for it, and the best guess where none was; without ``ours`` these stay as they are."""

    def schedule(module: tvm.IRModule) -> tvm.IRModule:
        from tvm import relax

        records = load_records(root, target, device)
        if records is not None:
            with target, records:
                module = relax.transform.MetaScheduleApplyDatabase()(module)
        return schedule_kernels(module, target) if ours else module

    return schedule
