"""The tuning of one compilation: what several builds of it may measure together."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ....compiler.core.backend import Progress
from ....compiler.core.errors import UsageError
from ....compiler.core.tuning import Tuning
from ..schedules.layouts import restrict_layouts
from .apply import tuned_scheduler
from .tune import Budget, Tuned, tune_module
from .worker import Device

if TYPE_CHECKING:
    import tvm


class TuningSession:
    """Divides what a user allows over the models that one compilation builds: the first gets all, a later one what is left.

    Without ``ours`` it is TVM as it comes: schedules of MetaSchedule's own rules where there are some, and none elsewhere.
    """

    def __init__(self, tuning: Tuning, clock: Callable[[], float] = time.monotonic, *, ours: bool = True) -> None:
        self.tuning = tuning
        self._ours = ours
        self._clock = clock
        self._measured = 0
        self._spent_s = 0.0

    def scheduler(self, target: tvm.target.Target, progress: Progress, remarks: list[str]) -> Callable[[tvm.IRModule], tvm.IRModule] | None:
        """What gives the kernels of a module their schedules, tuning them first as far as is allowed; None where there is no database.

        What was done is added to ``remarks``.
        """
        root = self.tuning.database
        if root is None:
            return None

        def schedule(module: tvm.IRModule) -> tvm.IRModule:
            module = restrict_layouts(module)
            if self.tuning.asked:
                remarks.append(describe(self._tune(module, target, root, progress)))
            return tuned_scheduler(target, root, self._key(), self._ours)(module)

        return schedule

    def _tune(self, module: tvm.IRModule, target: tvm.target.Target, root: Path, progress: Progress) -> Tuned:
        trials, minutes = self.tuning.trials, self.tuning.minutes
        fresh = None if trials is None else trials - self._measured
        left = None if minutes is None else minutes - self._spent_s / 60
        device = read_device(self.tuning.device) if self.tuning.device else None
        start = self._clock()
        done = tune_module(module, target, root, Budget(trials, left, fresh), progress, device=device, ours=self._ours)
        self._measured += done.measured
        self._spent_s += self._clock() - start
        return done

    def _key(self) -> str:
        return read_device(self.tuning.device).key if self.tuning.device else ""


def read_device(text: str) -> Device:
    """``host:port/key`` -> the devices that a tracker knows as ``key``. Raises UsageError for anything else."""
    address, _, key = text.partition("/")
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit() and key):
        raise UsageError(f"a remote device is named HOST:PORT/KEY, as in localhost:9190/pi4, not '{text}'")
    return Device(tracker=address, key=key)


def describe(done: Tuned) -> str:
    """What tuning did, in one sentence."""
    found = f"{done.kernels} kernels, {done.measured} schedules measured now and {done.known} before"
    gain = f"{done.seconds_before * 1e3:.3g} ms with the best guesses, {done.seconds_after * 1e3:.3g} ms tuned"
    rest = [f"{done.failed} schedules did not build or run"] if done.failed else []
    rest += ["it was interrupted; the best so far are used"] if done.interrupted else []
    return "; ".join([f"tuning: {found}; {gain}", *rest, *done.notes])
