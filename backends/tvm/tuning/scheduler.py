"""Which task to tune next: the one where the next measurements are likely to save most of the model's time.

What a task can still save is its time in a run (calls times best time) times how much its last rounds gained; a task whose rounds gain nothing falls
back behind the others (Zheng et al., Ansor, OSDI 2020, section 6, with the gain of recent rounds in place of a fitted slope).
"""

from __future__ import annotations

from dataclasses import dataclass, field

HOPE = 0.3
"""What a task's next round may gain, where nothing is known yet; it is divided by how many rounds there were."""


@dataclass
class Progress:
    """How far a task has come: ``best`` seconds (None before the first measurement that worked), after each round."""

    calls: int
    trials: int = 0
    best: float | None = None
    history: list[float] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Seconds of one run of the model that the task takes."""
        return self.calls * self.best if self.best is not None else 0.0

    def note(self, measured: int, best: float | None) -> None:
        """Take a round into account."""
        self.trials += measured
        self.best = best
        if best is not None:
            self.history.append(best)

    def promise(self) -> float:
        """Seconds of a run that the next round is expected to save; a task without a measurement comes first."""
        if not self.history:
            return float("inf") if not self.trials else 0.0
        recent = self.history[-3:]
        gained = (recent[0] - recent[-1]) / recent[0] / max(1, len(recent) - 1)
        return self.share * max(gained, HOPE / len(self.history) ** 2 / 3)


def next_task(tasks: list[Progress], open_ones: list[bool]) -> int | None:
    """The place of the task to go on with; None when all are done."""
    waiting = [place for place, is_open in enumerate(open_ones) if is_open]
    return max(waiting, key=lambda place: (tasks[place].promise(), tasks[place].calls, -place), default=None)
