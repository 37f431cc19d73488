"""Tuning of all kernels of a model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ....compiler.core.backend import Progress as Tell
from .costs import CostModel
from .database import Records, open_records
from .scheduler import Progress, next_task
from .search import Search
from .tasks import Task, extract
from .worker import Device
from .workshop import Workshop

if TYPE_CHECKING:
    import tvm

ROUND = 8
"""Schedules measured between one look at what to do next and the following."""
ENOUGH = 96
"""Trials of one kernel, after which a budget in minutes leaves it alone."""


@dataclass(frozen=True)
class Budget:
    """How much may be measured: ``trials`` for all kernels of a model, those of earlier runs counted; ``minutes`` of this run.

    ``fresh`` bounds what is measured now. None: no such limit.
    """

    trials: int | None = None
    minutes: float | None = None
    fresh: int | None = None


@dataclass(frozen=True)
class Tuned:
    """What tuning did: ``measured`` schedules now, ``known`` before; the kernels' seconds in one run with the best guesses and with the best found."""

    kernels: int
    measured: int
    known: int
    failed: int
    seconds_before: float
    seconds_after: float
    elapsed_s: float
    interrupted: bool = False
    notes: tuple[str, ...] = ()


@dataclass
class _State:
    search: Search
    progress: Progress
    first: float | None = None


def tune_module(
    module: tvm.IRModule,
    target: tvm.target.Target,
    root: Path,
    budget: Budget,
    tell: Tell,
    *,
    device: Device | None = None,
    seed: int = 0,
    clock: Callable[[], float] = time.monotonic,
    ours: bool = True,
) -> Tuned:
    """Measure schedules of a module's kernels (fused, legalised, weights marked as free to be laid out) until the budget is spent.

    All that is measured goes to the database below ``root`` round by round: a run that is ended, however, loses the round it was in and the next one goes
    on from there. Kernels that the database has already are not measured again. Without ``ours`` all schedules are MetaSchedule's. Ctrl-C ends tuning, not
    the build: the best so far are used.
    """
    start = clock()
    extracted = extract(module, target)
    notes = tuple(f"the kernel {name} has open dimensions and was not tuned" for name in extracted.symbolic)
    with open_records(root, target, device.key if device is not None else "", tell) as records, Workshop(device) as workshop:
        costs = CostModel(records.folder)
        tuner = Tuner([_state(task, records, costs, workshop, seed, ours) for task in extracted.tasks], budget, tell, clock, start)
        known = sum(records.trials(task) for task in extracted.tasks)
        try:
            tuner.run()
        except KeyboardInterrupt:
            tuner.interrupted = True
        finally:
            costs.save()
        return tuner.result(known, notes)


class Tuner:
    """Divides a budget over tasks."""

    def __init__(self, states: list[_State], budget: Budget, tell: Tell, clock: Callable[[], float], start: float) -> None:
        self.states, self.budget, self.tell, self.clock, self.start = states, budget, tell, clock, start
        self.measured = 0
        self.interrupted = False

    def run(self) -> None:
        """Tune until the budget is spent or there is nothing left to measure."""
        while (place := self._next()) is not None:
            state = self.states[place]
            self._report(state)
            count = min(ROUND, self._left()) if state.progress.trials else 1
            measured = state.search.step(count)
            best = state.search.records.best(state.search.task)
            state.first = best if state.first is None else state.first
            state.progress.note(measured, best)
            self.measured += measured

    def result(self, known: int, notes: tuple[str, ...]) -> Tuned:
        """What came of it."""
        before = sum((state.first or 0.0) * state.progress.calls for state in self.states)
        after = sum(state.progress.share for state in self.states)
        failed = [failure for state in self.states for failure in state.search.failures]
        elapsed = self.clock() - self.start
        return Tuned(len(self.states), self.measured, known, len(failed), before, after, elapsed, self.interrupted, notes)

    def _next(self) -> int | None:
        if self._left() < 1 or self._late():
            return None
        return next_task([state.progress for state in self.states], [self._open(state) for state in self.states])

    def _open(self, state: _State) -> bool:
        return not state.search.exhausted and (self.budget.trials is not None or state.progress.trials < ENOUGH)

    def _left(self) -> int:
        limits = [] if self.budget.fresh is None else [self.budget.fresh - self.measured]
        if self.budget.trials is not None:
            limits.append(self.budget.trials - sum(state.progress.trials for state in self.states))
        return min(limits, default=ENOUGH)

    def _late(self) -> bool:
        return self.budget.minutes is not None and self.clock() - self.start >= 60 * self.budget.minutes

    def _report(self, state: _State) -> None:
        spent = f"{sum(one.progress.trials for one in self.states)}"
        of = f" of {self.budget.trials}" if self.budget.trials is not None else ""
        total = sum(one.progress.share for one in self.states)
        self.tell(f"tuning {state.search.task.name}: {spent}{of} trials, kernels take {total * 1e3:.3g} ms")


def _state(task: Task, records: Records, costs: CostModel, workshop: Workshop, seed: int, ours: bool) -> _State:
    best = records.best(task)
    progress = Progress(task.calls, records.trials(task), best, [best] if best is not None else [])
    return _State(Search(task, records, costs, workshop, seed=seed, ours=ours), progress, records.first(task))
