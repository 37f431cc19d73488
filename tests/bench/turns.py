"""Many models timed in turn, fairly.

Two things favour a session by chance. In a fixed order, a run that always follows itself or a small model finds its weights in the processor's cache: so
each round has an order drawn anew. And where a session's memory happens to lie is worth a few percent to the same graph: so all sessions are opened
anew several times, in an order drawn anew too, and the interval is that of the ratios over these openings.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from graphwright.compiler.core.timing import median_interval
from graphwright.models.catalogue import Sample
from graphwright.models.session import Runs

CHOOSING, JUDGING = 4, 9
"""Openings on which the fastest is chosen, and on which it is judged: judged where it was chosen, whoever was lucky there would look too good.
The interval leaves out the lowest and the highest of nine ratios, and covers their median with 96 %."""
OPENINGS = CHOOSING + JUDGING
LEAST_ROUNDS = 5
LEAST_SECONDS = 2e-3
"""One measurement repeats its run until it lasts about this long."""

Seconds = dict[str, list[float]]


@dataclass(frozen=True)
class Turns:
    """Seconds for one pass over the feeds: for each opening, one list for each name, all as long as there were rounds."""

    openings: list[Seconds]

    @property
    def rounds(self) -> int:
        """Rounds in all openings together."""
        return sum(len(next(iter(seconds.values()))) for seconds in self.openings)

    def split(self) -> tuple[Turns, Turns]:
        """The openings to choose the fastest on, and those to judge it on."""
        return Turns(self.openings[:CHOOSING]), Turns(self.openings[CHOOSING:])

    def median(self, name: str) -> float:
        """Median seconds of a pass."""
        return statistics.median(statistics.median(seconds[name]) for seconds in self.openings)

    def ratio(self, one: str, other: str) -> tuple[float, float, float]:
        """Time of one by time of the other, and the 95 % interval."""
        ratios = [statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True)) for seconds in self.openings]
        return statistics.median(ratios), *median_interval(ratios, 0.95)


def take_turns(models: Mapping[str, Callable[[], Runs]], feeds: Sequence[Sample], budget_s: float, seed: int = 0) -> Turns:
    """Open the models thirteen times, and time them on all ``feeds`` together until ``budget_s`` seconds are spent in all, opening them not counted."""
    shuffle = random.Random(seed).shuffle
    return Turns([_one_opening(models, feeds, budget_s / OPENINGS, shuffle) for _ in range(OPENINGS)])


def _one_opening(models: Mapping[str, Callable[[], Runs]], feeds: Sequence[Sample], budget_s: float, shuffle: Callable[[list[str]], None]) -> Seconds:
    order = list(models)
    shuffle(order)
    runners = {name: models[name]() for name in order}
    calls = {name: _calls(runner, feeds) for name, runner in runners.items()}
    seconds: Seconds = {name: [] for name in models}
    start = time.perf_counter()
    while len(seconds[order[0]]) < LEAST_ROUNDS or time.perf_counter() - start < budget_s:
        shuffle(order)
        for name in order:
            seconds[name].append(_time(runners[name], feeds, calls[name]))
    return seconds


def _calls(runner: Runs, feeds: Sequence[Sample]) -> int:
    _time(runner, feeds, 1)
    return max(1, round(LEAST_SECONDS / max(_time(runner, feeds, 1), 1e-7)))


def _time(runner: Runs, feeds: Sequence[Sample], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        for feed in feeds:
            runner.run(feed)
    return (time.perf_counter() - start) / calls
