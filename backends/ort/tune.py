"""Session options by measuring: each candidate races the best so far, and replaces it only when it is faster beyond doubt."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from ...compiler.core.backend import Progress, Sample
from ...compiler.core.errors import GraphwrightError
from ...compiler.core.timing import Clock, Comparison, Stopwatch, compare_timed
from .options import DEFAULT, Level, Options
from .session import OrtRunner

GAIN = 0.02
"""A candidate must be this much faster; less is not worth leaving the defaults."""
RACE_SECONDS = 1.0
LEAST_ROUNDS = 8
TUNE_SECONDS = 20.0
DOUBTFUL_FUSIONS = (("SkipLayerNormFusion",),)
"""Graph optimizers of ONNX Runtime that slow some models down: its CPU kernel of SkipLayerNormalization takes several times as long as
Add and LayerNormalization."""

Open = Callable[[Options], OrtRunner]
Race = Callable[[Stopwatch, Stopwatch], Comparison]


@dataclass(frozen=True)
class Trial:
    """One race: the options tried, those they were up against, seconds for one pass over the samples, and the ratio of the two with its interval."""

    options: Options
    against: Options
    median: float
    ratio: float
    low: float
    high: float
    rounds: int
    chosen: bool
    failure: str = ""

    def to_dict(self) -> dict[str, object]:
        """For a report: what was changed and what came of it."""
        changed = {key: value for key, value in self.options.to_dict().items() if value != self.against.to_dict()[key]}
        if self.failure:
            return {"changed": changed, "chosen": False, "failure": self.failure}
        numbers = {"median_s": self.median, "ratio": self.ratio, "low": self.low, "high": self.high, "rounds": self.rounds}
        return {"changed": changed, "chosen": self.chosen, **numbers}


def choose_options(
    open_with: Open,
    samples: Sequence[Sample],
    progress: Progress,
    *,
    cores: int | None = None,
    race: Race | None = None,
    budget_s: float = TUNE_SECONDS,
    clock: Clock = time.perf_counter,
) -> tuple[Options, tuple[Trial, ...]]:
    """The fastest options for a model on these samples, and every race run to find them. Two sessions are open at a time.

    No race starts after ``budget_s``. Without samples there is nothing to measure, and the defaults are the answer.
    """
    if not samples:
        return DEFAULT, ()
    race = race or _race
    end = clock() + budget_s
    best = DEFAULT
    trials: list[Trial] = []
    runner = open_with(best)
    timer = _over(runner, samples)
    for question in questions(cores or _cores()):
        for candidate in question(best):
            if clock() >= end:
                break
            progress(f"trying {_words(candidate, best)}")
            trial, rival = _try(open_with, candidate, best, timer, samples, race)
            trials.append(trial)
            if not trial.chosen or rival is None:
                continue
            runner.close()
            best, runner, timer = candidate, rival, _over(rival, samples)
    runner.close()
    return best, tuple(trials)


def questions(cores: int) -> Iterator[Callable[[Options], list[Options]]]:
    """What is asked in turn; each gives the candidates to race against the best options so far."""
    yield lambda best: [replace(best, without=names) for names in DOUBTFUL_FUSIONS]
    levels: tuple[Level, ...] = ("extended", "basic")
    yield lambda best: [replace(best, level=level, without=() if level == "basic" else best.without) for level in levels]
    yield lambda best: [replace(best, threads=count) for count in thread_counts(cores)]
    yield lambda best: [replace(best, arena=False)]
    yield lambda best: [replace(best, prepacking=False)]


def thread_counts(cores: int) -> list[int]:
    """1, 2, 4, ... below the number of cores, which is the default."""
    counts, count = [], 1
    while count < cores:
        counts.append(count)
        count *= 2
    return counts


def _try(open_with: Open, candidate: Options, best: Options, timer: Stopwatch, samples: Sequence[Sample], race: Race) -> tuple[Trial, OrtRunner | None]:
    """Race a candidate; its runner is handed back when it won."""
    try:
        rival = open_with(candidate)
    except GraphwrightError as error:
        return Trial(candidate, best, 0.0, 0.0, 0.0, 0.0, 0, False, failure=str(error)), None
    try:
        result = race(_over(rival, samples), timer)
    except GraphwrightError as error:
        rival.close()
        return Trial(candidate, best, 0.0, 0.0, 0.0, 0.0, 0, False, failure=str(error)), None
    won = result.high < 1.0 and result.ratio < 1.0 - GAIN
    if not won:
        rival.close()
    return Trial(candidate, best, result.median_a, result.ratio, result.low, result.high, result.rounds, won), rival if won else None


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _race(candidate: Stopwatch, best: Stopwatch) -> Comparison:
    return compare_timed(candidate, best, budget_s=RACE_SECONDS, min_rounds=LEAST_ROUNDS, enough=_settled)


def _settled(comparison: Comparison) -> bool:
    """Whether the candidate is surely better by the gain asked for, or surely not."""
    return comparison.high < 1.0 - GAIN or comparison.low > 1.0 - GAIN


def _over(runner: OrtRunner, samples: Sequence[Sample]) -> Stopwatch:
    timers = [runner.stopwatch(sample) for sample in samples]
    return lambda calls: sum(timer(calls) for timer in timers)


def _words(candidate: Options, best: Options) -> str:
    before = best.to_dict()
    return ", ".join(f"{key}={value}" for key, value in candidate.to_dict().items() if value != before[key])
