"""The search for one kernel's schedule: first ours, best guess first; then MetaSchedule proposes a few at a time and learns from their times."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .costs import CostModel
from .database import Records
from .serial import target_json
from .spaces import our_schedules
from .tasks import Task
from .worker import Job, Timed
from .workshop import Workshop

if TYPE_CHECKING:
    from tvm.s_tir import Schedule
    from tvm.s_tir.meta_schedule import TuneContext
    from tvm.s_tir.meta_schedule.search_strategy import MeasureCandidate

POPULATION = 128
"""Schedules that one round of evolution holds: many times what is measured, few enough to take a fraction of a second."""
NEVER_ENDING = 1 << 20
IDLE_ROUNDS = 3
"""Rounds without a schedule that is new, after which there are none."""


class Search:
    """The search for one task. Its first schedule is the one that an untuned build uses, so what is found is never slower than that.

    Without ``ours`` it is MetaSchedule's search from its own rules alone, as TVM does it.
    """

    def __init__(
        self, task: Task, records: Records, costs: CostModel, workshop: Workshop, *, seed: int = 0, timeout_s: float = 30.0, ours: bool = True
    ) -> None:
        self.task, self.records, self.costs, self.workshop = task, records, costs, workshop
        self.seed, self.timeout_s = seed, timeout_s
        self.failures: list[str] = []
        self.exhausted = records.settled(task)
        self._ours: Iterator[Schedule] | None = our_schedules(task) if ours else None
        self._evolution: Evolution | None = None

    def step(self, count: int) -> int:
        """Measure up to ``count`` schedules and write them down; returns how many were measured. `exhausted` says that there are no more."""
        candidates = [] if self.exhausted else self._next(count)
        if not candidates:
            return 0
        results = self.workshop.measure([self._job(candidate) for candidate in candidates])
        for candidate, result in zip(candidates, results, strict=True):
            self.records.add(self.task, candidate.sch.trace, result.seconds)
            if result.seconds is None:
                self.failures.append(result.error)
        if self._evolution is not None:
            self._evolution.tell(candidates, results)
        return len(candidates)

    def _next(self, count: int) -> list[MeasureCandidate]:
        """Schedules that were not measured yet."""
        from tvm.s_tir.meta_schedule.search_strategy import MeasureCandidate

        fresh: list[MeasureCandidate] = []
        for made in self._ours or ():
            if not self.records.knows(self.task, made.trace):
                fresh.append(MeasureCandidate(made, self.task.arguments()))
            if len(fresh) == count:
                return fresh
        self._ours = None
        if not fresh:
            self._evolution = self._evolution or Evolution(self.task, self.records, self.costs, self.seed)
            fresh = self._evolution.propose(count)
        if not fresh:
            self.exhausted = True
            self.records.settle(self.task)
        return fresh

    def _job(self, candidate: MeasureCandidate) -> Job:
        from tvm.ir import save_json

        best = self.records.best(self.task) or 0.0
        return Job(save_json(candidate.sch.mod), target_json(self.task.target), self.workshop.device, best, self.timeout_s)


class Evolution:
    """MetaSchedule's evolutionary search over its own rules for the target."""

    def __init__(self, task: Task, records: Records, costs: CostModel, seed: int) -> None:
        self.context = context_of(task, seed)
        self._task, self._records, self._costs = task, records, costs
        self._begun = False
        self._proposed: Sequence[MeasureCandidate] = ()

    def propose(self, count: int) -> list[MeasureCandidate]:
        """Up to ``count`` schedules that were not measured yet; none when no more are found."""
        if not self._begun:
            spaces = list(self.context.generate_design_space())
            self.context.pre_tuning(NEVER_ENDING, count, spaces, self._records.tvm, self._costs.tvm)
            self._begun = True
        for _ in range(IDLE_ROUNDS):
            found = self.context.generate_measure_candidates()
            if found is None:
                return []
            fresh = [one for one in found if not self._records.knows(self._task, one.sch.trace)]
            if fresh:
                self._proposed = found
                return fresh
            self._answer(found, {})
        return []

    def tell(self, measured: Sequence[MeasureCandidate], results: Sequence[Timed]) -> None:
        """How long the schedules that were proposed take."""
        from tvm.s_tir.meta_schedule.runner import RunnerResult

        told = [RunnerResult(None if one.seconds is None else [one.seconds], one.error or None) for one in results]
        self._costs.learn(self.context, measured, told)
        self._answer(self._proposed, {str(one.sch.trace): result for one, result in zip(measured, told, strict=True)})
        self._proposed = ()

    def _answer(self, found: Sequence[MeasureCandidate], results: dict[str, object]) -> None:
        """Every proposal has to be answered for; those that the database knew already count as failed, since their records serve as parents anyway."""
        from tvm.s_tir.meta_schedule.runner import RunnerResult

        told = [results.get(str(one.sch.trace)) or RunnerResult(None, "measured before") for one in found]
        self.context.notify_runner_results(list(found), told)


def context_of(task: Task, seed: int) -> TuneContext:
    """MetaSchedule's view of a task.

    Its constructor in Python would first import the tensor intrinsics of all devices, which takes 20 seconds, and its rules for processors with VNNI want
    them; the rules for any CPU do not.
    """
    from tvm.s_tir.meta_schedule import TuneContext, _ffi_api
    from tvm.s_tir.meta_schedule.logging import get_logging_func
    from tvm.s_tir.meta_schedule.mutator import Mutator
    from tvm.s_tir.meta_schedule.postproc import Postproc
    from tvm.s_tir.meta_schedule.schedule_rule import ScheduleRule
    from tvm.s_tir.meta_schedule.search_strategy import EvolutionarySearch
    from tvm.s_tir.meta_schedule.space_generator import PostOrderApply

    strategy = EvolutionarySearch(population_size=POPULATION, init_min_unmeasured=POPULATION // 4, genetic_num_iters=3)
    kind = task.target.kind.name
    space = PostOrderApply(sch_rules=ScheduleRule.create(kind), postprocs=Postproc.create(kind), mutator_probs=Mutator.create(kind))
    context = TuneContext.__new__(TuneContext)
    seeded = 1 + seed % (1 << 30)
    context.__init_handle_by_constructor__(_ffi_api.TuneContext, task.module, task.target, space, strategy, task.name, 1, seeded, get_logging_func(_quiet()))
    _ffi_api.TuneContextInitialize(context)
    return context


def _quiet() -> logging.Logger:
    """MetaSchedule tells its story to a logger; nobody listens."""
    logger = logging.getLogger(__name__)
    logger.propagate = False
    logger.setLevel(logging.CRITICAL)
    return logger
