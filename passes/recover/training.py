"""Training under a budget of time or steps: the best state on held-out samples is kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ...compiler.core.backend import Progress
from ...compiler.core.errors import UsageError
from ..differentiable.descent import Adam
from ..differentiable.graph import TorchGraph
from .batches import Batch, Samples
from .distill import Aims, Teacher, run
from .kept import Kept
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
SAME = 1e-3
"""How near the losses at the start of one training are that was stopped and goes on."""
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
class Trail:
    """Where a descent is: the optimiser, its ``rate``, the best state, how many looks found none better, and the part of the budget to look again at."""

    optimiser: Adam
    rate: float
    best: list[torch.Tensor]
    fruitless: int
    next_look: float


@dataclass
class Training:
    """Everything that takes part. ``learned`` and ``held`` are the places of samples to learn from and to judge by.

    With a file to be ``kept`` in, it is written there at every look at the held-out samples, and goes on from what is there.
    """

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
    kept: Kept | None = None
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
        trail, told = self._trail(course, looked), 0.0
        for step in self._steps(course):
            spent = self.budget.spent(time.monotonic() - self._started, course.steps)
            if spent >= 1.0:
                break
            loss = self._loss(step)
            if not math.isfinite(float(loss.detach())):
                course.broke = True
                break
            trail.optimiser.step(loss, pace(spent))
            course.steps += 1
            after = self.budget.spent(time.monotonic() - self._started, course.steps)
            if after >= trail.next_look or after >= 1.0:
                self._look(trail, course, held, after)
            if self.tell is not None and time.monotonic() - told > TOLD_EACH:
                told = time.monotonic()
                self.tell(f"recovering: {after:.0%}, {course.steps} steps, held-out loss {course.before:.4g} -> {course.best:.4g}")
        self.student.restore(trail.best)

    def _look(self, trail: Trail, course: Course, held: Sequence[Batch], after: float) -> None:
        """Judge the state; without a better one for long go back to the best."""
        looked, course.last = self._timed(lambda: self.judge(held))
        trail.next_look, trail.fruitless = after + self._pause(looked), trail.fruitless + 1
        if course.last < course.best:
            course.best, trail.best, trail.fruitless = course.last, self.student.state(), 0
        elif trail.fruitless == PATIENCE:
            self.student.restore(trail.best)
            trail.rate, trail.fruitless = trail.rate * SHORTER, 0
            trail.optimiser = Adam(self.student.rates(trail.rate))
        if self.kept is not None:
            self._keep(self.kept, trail, course)

    def _trail(self, course: Course, looked: float) -> Trail:
        """Where to start: at the start, or where what was kept ends. Raises UsageError when that began with other losses."""
        import torch

        trail = Trail(Adam(self.student.rates(self.rate)), self.rate, self.student.state(), 0, self._pause(looked))
        known = self.kept.load() if self.kept is not None else {}
        if not known:
            return trail
        before, course.best, course.last, seconds, trail.rate, trail.next_look = known["numbers"].tolist()
        if not math.isclose(before, course.before, rel_tol=SAME):
            assert self.kept is not None
            raise UsageError(f"'{self.kept.path}' is of a training on other samples: it began with a loss of {before:.6g}, this one with {course.before:.6g}")
        course.steps, course.epochs, trail.fruitless, steps = known["counts"].tolist()
        like = self._parts(trail)
        parts = {name: [torch.from_numpy(known[f"{name}{place}"]).to(one.device) for place, one in enumerate(of)] for name, of in like.items()}
        self.student.restore(parts["now"])
        trail.best, trail.optimiser = parts["best"], Adam(self.student.rates(trail.rate))
        trail.optimiser.resume(parts["moments"], steps)
        self._started = time.monotonic() - seconds
        return trail

    def _keep(self, kept: Kept, trail: Trail, course: Course) -> None:
        numbers = [course.before, course.best, course.last, time.monotonic() - self._started, trail.rate, trail.next_look]
        counts = [course.steps, course.epochs, trail.fruitless, trail.optimiser.steps]
        found = {f"{name}{place}": one.detach().cpu().numpy() for name, parts in self._parts(trail).items() for place, one in enumerate(parts)}
        kept.save({"numbers": np.asarray(numbers, np.float64), "counts": np.asarray(counts, np.int64), **found})

    def _parts(self, trail: Trail) -> dict[str, list[torch.Tensor]]:
        return {"now": self.student.state(), "best": trail.best, "moments": trail.optimiser.moments()}

    def _loss(self, step: Sequence[Batch]) -> torch.Tensor:
        ours, _ = self.aims.seen
        made, total = self.student.make(), sum(len(batch.places) for batch in step)
        losses = []
        for batch in step:
            theirs, found = self.teacher.answers(batch), run(self.graph, batch, ours, made)
            losses.append(len(batch.places) / total * (self.aims.answer_loss(found, theirs) + self.aims.inner_loss(found, theirs)))
        return sum(losses[1:], losses[0])

    def _steps(self, course: Course) -> Iterator[list[Batch]]:
        random = np.random.default_rng([self.seed, course.steps] if course.steps else self.seed)
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
