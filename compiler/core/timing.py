"""Which of two runs is faster, and how sure is that.

The runs take turns in the order A B B A, so that a machine that slows down or speeds up treats both alike. Every such round gives one
ratio; the interval is that of the median of these ratios (order statistics), which one stray measurement cannot move.
"""

from __future__ import annotations

import contextlib
import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

Stopwatch = Callable[[int], float]
"""Runs a number of times and gives the seconds that took."""
Clock = Callable[[], float]

FEWEST_ROUNDS = 6
"""With fewer, not even the whole range of the ratios covers their median with 95 % confidence."""
CONFIDENCE = 0.95
EARLY_CONFIDENCE = 0.995
"""What stopping early asks for: looking again and again would otherwise find differences that are not there."""
LOOK_FACTOR = 1.4
"""The rounds between one look at the interval and the next grow by this."""
LEAST_SECONDS = 2e-4
"""One measurement repeats its run until it lasts this long, so that the clock's own noise does not count."""
MOST_CALLS = 1000


@dataclass(frozen=True)
class Comparison:
    """Two runs timed in turn: medians in seconds a run, and the ratio a/b with its 95 % interval ``low`` .. ``high``."""

    median_a: float
    median_b: float
    ratio: float
    low: float
    high: float
    rounds: int

    @property
    def a_is_faster(self) -> bool:
        """Whether the whole interval lies below 1."""
        return self.high < 1.0

    @property
    def b_is_faster(self) -> bool:
        """Whether the whole interval lies above 1."""
        return self.low > 1.0


@dataclass(frozen=True)
class Standing:
    """One of several runs: its place in the list given, its median in seconds, and its time relative to the first of that list."""

    index: int
    median: float
    ratio: float
    low: float
    high: float
    rounds: int


def compare_runs(
    run_a: Callable[[], object],
    run_b: Callable[[], object],
    *,
    budget_s: float = 2.0,
    min_rounds: int = 10,
    max_rounds: int = 400,
    enough: Callable[[Comparison], bool] | None = None,
    clock: Clock = time.perf_counter,
) -> Comparison:
    """Time two runs in turn until the difference is clear, ``budget_s`` is spent or ``max_rounds`` are done.

    At least ``min_rounds`` rounds (6 or more) of four runs each are made, whatever they cost, but only 6 when the first one spends the budget.
    ``enough`` says of an interval with 99.5 % confidence whether to stop early; by default when it leaves out 1 or lies within 1 % of it.
    """
    timers = stopwatch(run_a, clock), stopwatch(run_b, clock)
    return compare_timed(*timers, budget_s=budget_s, min_rounds=min_rounds, max_rounds=max_rounds, enough=enough, clock=clock)


def compare_timed(
    time_a: Stopwatch,
    time_b: Stopwatch,
    *,
    budget_s: float = 2.0,
    min_rounds: int = 10,
    max_rounds: int = 400,
    enough: Callable[[Comparison], bool] | None = None,
    clock: Clock = time.perf_counter,
) -> Comparison:
    """`compare_runs` for runs that time themselves."""
    enough = enough or clear
    seconds: list[list[float]] = [[], []]
    for rounds in _rounds([time_a, time_b], seconds, budget_s, min_rounds, max_rounds, clock):
        if enough(_compare(seconds, rounds, EARLY_CONFIDENCE)):
            break
    return _compare(seconds, len(seconds[0]), CONFIDENCE)


def rank_runs(
    runs: Sequence[Callable[[], object]],
    *,
    budget_s: float = 4.0,
    min_rounds: int = 10,
    max_rounds: int = 400,
    clock: Clock = time.perf_counter,
) -> tuple[Standing, ...]:
    """Time several runs in turn (there and back again each round), the fastest first in the answer; ties keep the order given."""
    if not runs:
        return ()
    timers = [stopwatch(run, clock) for run in runs]
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in _rounds(timers, seconds, budget_s, min_rounds, max_rounds, clock):
        pass
    standings = []
    for index, mine in enumerate(seconds):
        comparison = _compare([mine, seconds[0]], len(mine), CONFIDENCE)
        standings.append(Standing(index, comparison.median_a, comparison.ratio, comparison.low, comparison.high, comparison.rounds))
    return tuple(sorted(standings, key=lambda one: one.median))


def clear(comparison: Comparison) -> bool:
    """Whether the interval leaves out 1, or is so close around it that the difference would not matter."""
    return comparison.a_is_faster or comparison.b_is_faster or (comparison.low > 0.99 and comparison.high < 1.01)


def stopwatch(run: Callable[[], object], clock: Clock = time.perf_counter) -> Stopwatch:
    """Times a run with a clock."""

    def timed(calls: int) -> float:
        start = clock()
        for _ in range(calls):
            run()
        return clock() - start

    return timed


def median_interval(values: Sequence[float], confidence: float) -> tuple[float, float]:
    """The order statistics between which the median of what ``values`` were drawn from lies; no bounds when there are too few of them."""
    ordered = sorted(values)
    count = len(ordered)
    tail, outside = 0.0, 0
    while outside < count // 2:
        tail += math.comb(count, outside) / 2**count
        if 2 * tail > 1 - confidence:
            break
        outside += 1
    if outside == 0:
        return 0.0, math.inf
    return ordered[outside - 1], ordered[count - outside]


def _rounds(
    timers: Sequence[Stopwatch],
    seconds: list[list[float]],
    budget_s: float,
    min_rounds: int,
    max_rounds: int,
    clock: Clock,
) -> Iterator[int]:
    """Measure round by round into ``seconds`` (two times for each run, added); yields the number of rounds whenever it is time to look."""
    least = max(min_rounds, FEWEST_ROUNDS)
    most = max(max_rounds, least)
    with _no_collector():
        start = clock()
        calls = _calls(timers)
        look = least
        for done in range(1, most + 1):
            there = [timer(calls) for timer in timers]
            back = [timer(calls) for timer in reversed(timers)][::-1]
            for mine, first, second in zip(seconds, there, back, strict=True):
                mine.append((first + second) / (2 * calls))
            spent = clock() - start >= budget_s
            if done == 1 and spent:
                least = FEWEST_ROUNDS
            if done >= least and spent:
                return
            if done >= look:
                look = math.ceil(done * LOOK_FACTOR)
                yield done


def _calls(timers: Sequence[Stopwatch]) -> int:
    """Warm up, and find how often the fastest run must repeat to last `LEAST_SECONDS`."""
    for timer in timers:
        timer(1)
    fastest = min(timer(1) for timer in timers)
    if fastest <= 0:
        return MOST_CALLS
    return min(MOST_CALLS, max(1, math.ceil(LEAST_SECONDS / fastest)))


def _compare(seconds: Sequence[Sequence[float]], rounds: int, confidence: float) -> Comparison:
    ratios = [_ratio(a, b) for a, b in zip(*seconds, strict=True)]
    low, high = median_interval(ratios, confidence)
    return Comparison(statistics.median(seconds[0]), statistics.median(seconds[1]), statistics.median(ratios), low, high, rounds)


def _ratio(a: float, b: float) -> float:
    if b > 0:
        return a / b
    return math.inf if a > 0 else 1.0


@contextlib.contextmanager
def _no_collector() -> Iterator[None]:
    """Keep the garbage collector from pausing one run and not the other."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
