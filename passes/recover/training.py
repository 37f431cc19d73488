"""Training under a budget of time or steps: the best state on held-out samples is kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ...compiler.core.backend import Progress
from ..differentiable.descent import Adam
from ..differentiable.graph import TorchGraph
from .batches import Batch, Samples
from .distill import Aims, Teacher, run
from .latent import Student

if TYPE_CHECKING:
    import torch

__all__ = ["Budget", "Course", "Training"]

SECONDS = 60.0
WARM = 0.05
"""Part of the budget in which steps grow to their full length."""
LOOKS = 20
"""How often held-out samples are looked at."""
PATIENCE, SHORTER = 5, 1 / 3
"""After so many looks without a better state it goes back to the best, and on in steps of this part of their length."""
LOOKING = 0.15
"""At most this part of the time goes into that."""
TOLD_EACH = 1.0
"""Seconds between what progress is told."""


@dataclass(frozen=True)
class Budget:
    """Minutes or steps, whichever ends first; 0 is no bound."""

    minutes: float
    steps: int

    def spent(self, seconds: float, steps: int) -> float:
        """The part that is spent, from 0 to 1."""
        timed = seconds / (self.minutes * SECONDS) if self.minutes else 0.0
        return min(1.0, max(timed, steps / self.steps if self.steps else 0.0))


@dataclass
class Course:
    """How it went: losses of the answers on held-out samples before, at best and at the end; ``broke`` says that a loss was no number."""

    before: float
    best: float
    last: float = math.nan
    steps: int = 0
    epochs: int = 0
    seconds: float = 0.0
    broke: bool = False

    @property
    def gained(self) -> bool:
        """Whether any state was better than the first."""
        return self.best < self.before


@dataclass
class Training:
    """Everything that takes part. ``learned`` and ``held`` are the places of samples to learn from and to judge by."""

    graph: TorchGraph
    student: Student
    teacher: Teacher
    aims: Aims
    samples: Samples
    learned: Sequence[int]
    held: Sequence[int]
    budget: Budget
    rate: float
    size: int
    seed: int
    tell: Progress | None = None
    _started: float = field(default_factory=time.monotonic, init=False)

    def run(self) -> Course:
        """Train; afterwards the student is in its best state, which may be the first."""
        held = [batch for step in self.samples.epoch(self.held, self.size, np.random.default_rng(self.seed)) for batch in step]
        looked, before = self._timed(lambda: self.judge(held))
        course = Course(before, before)
        if not math.isfinite(before):
            course.broke = True
            return course
        self._descend(course, held, looked)
        course.seconds = time.monotonic() - self._started
        return course

    def judge(self, batches: Sequence[Batch]) -> float:
        """The loss of the answers, a mean over samples."""
        import torch

        with torch.no_grad():
            made = self.student.make()
            losses = [(float(self.aims.answer_loss(run(self.graph, batch, (), made), self.teacher.answers(batch))), len(batch.places)) for batch in batches]
        return float(np.average([loss for loss, _ in losses], weights=[count for _, count in losses]))

    def _descend(self, course: Course, held: Sequence[Batch], looked: float) -> None:
        optimiser, best, rate = Adam(self.student.rates(self.rate)), self.student.state(), self.rate
        next_look, told, fruitless = self._pause(looked), 0.0, 0
        for step in self._steps(course):
            spent = self.budget.spent(time.monotonic() - self._started, course.steps)
            if spent >= 1.0:
                break
            loss = self._loss(step)
            if not math.isfinite(float(loss.detach())):
                course.broke = True
                break
            optimiser.step(loss, pace(spent))
            course.steps += 1
            after = self.budget.spent(time.monotonic() - self._started, course.steps)
            if after >= next_look or after >= 1.0:
                looked, course.last = self._timed(lambda: self.judge(held))
                next_look, fruitless = after + self._pause(looked), fruitless + 1
                if course.last < course.best:
                    course.best, best, fruitless = course.last, self.student.state(), 0
                elif fruitless == PATIENCE:
                    self.student.restore(best)
                    rate, fruitless = rate * SHORTER, 0
                    optimiser = Adam(self.student.rates(rate))
            if self.tell is not None and time.monotonic() - told > TOLD_EACH:
                told = time.monotonic()
                self.tell(f"recovering: {after:.0%}, {course.steps} steps, held-out loss {course.before:.4g} -> {course.best:.4g}")
        self.student.restore(best)

    def _loss(self, step: Sequence[Batch]) -> torch.Tensor:
        ours, _ = self.aims.seen
        made, total = self.student.make(), sum(len(batch.places) for batch in step)
        losses = []
        for batch in step:
            theirs, found = self.teacher.answers(batch), run(self.graph, batch, ours, made)
            losses.append(len(batch.places) / total * (self.aims.answer_loss(found, theirs) + self.aims.inner_loss(found, theirs)))
        return sum(losses[1:], losses[0])

    def _steps(self, course: Course) -> Iterator[list[Batch]]:
        random = np.random.default_rng(self.seed)
        while True:
            yield from self.samples.epoch(self.learned, self.size, random)
            course.epochs += 1

    def _timed(self, look: Callable[[], float]) -> tuple[float, float]:
        start = time.monotonic()
        found = look()
        return time.monotonic() - start, found

    def _pause(self, seconds: float) -> float:
        """The part of the budget until held-out samples are looked at again, after a look that took so long."""
        timed = seconds / LOOKING / (self.budget.minutes * SECONDS) if self.budget.minutes else 0.0
        return max(1 / LOOKS, timed)


def pace(spent: float) -> float:
    """How long a step is at a part of the budget: it grows to 1, then falls as a cosine does."""
    if spent < WARM:
        return (spent + WARM / LOOKS) / WARM
    return 0.5 * (1 + math.cos(math.pi * (spent - WARM) / (1 - WARM)))
