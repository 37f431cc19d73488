"""Session options by measuring: each candidate races the best so far, and replaces it only when it is faster beyond doubt.

Two sessions with the same options can differ by a few per cent, by where their memory happens to lie. So a winner must win again with both opened anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from ...compiler.core.backend import Progress, Sample
from ...compiler.core.errors import GraphwrightError
from ...compiler.core.timing import Clock, Comparison, Stopwatch, compare_timed
from .neighbours import Neighbours, processors
from .options import DEFAULT, Level, Options
from .session import OrtRunner

GAIN = 0.02
"""A candidate must be this much faster; less is not worth leaving the defaults."""
THREADS_GAIN = 0.1
"""So much, when it runs on fewer threads: what they gain depends on what else the machine does. A model that one thread ran 4 % faster in its race took
15 % longer with it beside other sessions."""
CROWDED = 0.1
"""While others use more of the processors than this, fewer threads win because some are taken, and lose when those are free again: a model that was raced
beside one busy process got one thread of two, and took 1.76 times as long afterwards."""
RACE_SECONDS = 1.0
LEAST_ROUNDS = 6
TUNE_SECONDS = 20.0
DOUBTFUL_FUSIONS = {"LayerNormalization": ("SkipLayerNormFusion",)}
"""Operator -> graph optimizers of ONNX Runtime that may slow a model with it down: the CPU kernel of SkipLayerNormalization takes several
times as long as Add and LayerNormalization."""

Open = Callable[[Options], OrtRunner]
Race = Callable[[Stopwatch, Stopwatch], Comparison]
Question = Callable[[Options], list[Options]]
"""The candidates to race against the best options so far."""


@dataclass(frozen=True)
class Trial:
    """One race: the options tried, those they were up against, and how it went; or why it could not be run."""

    options: Options
    against: Options
    chosen: bool = False
    result: Comparison | None = None
    failure: str = ""

    def to_dict(self) -> dict[str, object]:
        """For a report: what was changed and what came of it; seconds for one pass over the samples, and the ratio to those it was up against."""
        before = self.against.to_dict()
        changed = {key: value for key, value in self.options.to_dict().items() if value != before[key]}
        if self.result is None:
            return {"changed": changed, "chosen": False, "failure": self.failure}
        result = self.result
        numbers = {"median_s": result.median_a, "ratio": result.ratio, "low": result.low, "high": result.high, "rounds": result.rounds}
        return {"changed": changed, "chosen": self.chosen, **numbers}


def choose_options(
    open_with: Open,
    samples: Sequence[Sample],
    progress: Progress,
    *,
    operators: Collection[str] = (),
    cores: int | None = None,
    start: Options = DEFAULT,
    asked: Sequence[Question] | None = None,
    race: Race | None = None,
    budget_s: float = TUNE_SECONDS,
    clock: Clock = time.perf_counter,
    neighbours: Callable[[], Neighbours] = Neighbours,
) -> tuple[Options, tuple[Trial, ...]]:
    """The fastest options for a model on these samples, and every race run to find them. Two sessions are open at a time.

    ``operators`` are those of the model: what only concerns others is not tried. ``start`` is what is left when nothing is better, ``asked`` are other
    questions than a CPU's. No race starts after ``budget_s``. Without samples there is nothing to
    measure, and the defaults are the answer.
    """
    if not samples:
        return start, ()
    end = clock() + budget_s
    track = Track(open_with, samples, race or _race, start, neighbours)
    try:
        for question in asked if asked is not None else questions(operators, cores or len(processors())):
            for candidate in question(track.best):
                if clock() >= end:
                    break
                progress(f"trying {_words(candidate, track.best)}")
                track.try_out(candidate)
    finally:
        track.close()
    return track.best, tuple(track.trials)


class Track:
    """Where candidates race: keeps the best options so far with their session open, and every trial."""

    def __init__(
        self, open_with: Open, samples: Sequence[Sample], race: Race, start: Options = DEFAULT, neighbours: Callable[[], Neighbours] = Neighbours
    ) -> None:
        self.best = start
        self.trials: list[Trial] = []
        self._open = open_with
        self._samples = samples
        self._race = race
        self._neighbours = neighbours
        self._runner: OrtRunner | None = None

    def try_out(self, candidate: Options) -> None:
        """Race a candidate against the best; when it wins twice, it is the best."""
        trial = self._trial(candidate)
        if trial.chosen:
            self.close()
            trial = self._trial(candidate)
        self.trials.append(trial)
        if trial.chosen:
            self.close()
            self.best = candidate

    def close(self) -> None:
        """Close the session that is open."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None

    def _trial(self, candidate: Options) -> Trial:
        if self._runner is None:
            self._runner = self._open(self.best)
        try:
            with self._open(candidate) as rival:
                others = self._neighbours()
                result = self._race(self._over(rival), self._over(self._runner))
        except GraphwrightError as error:
            return Trial(candidate, self.best, failure=str(error))
        gain = GAIN if candidate.threads == self.best.threads else THREADS_GAIN
        won = result.high < 1.0 and result.ratio < 1.0 - gain
        if won and candidate.threads != self.best.threads and (share := others.share()) > CROWDED:
            return Trial(candidate, self.best, failure=f"it was faster while others used {share:.0%} of the processors, which says nothing of its threads")
        return Trial(candidate, self.best, won, result)

    def _over(self, runner: OrtRunner) -> Stopwatch:
        timers = [runner.stopwatch(sample) for sample in self._samples]
        return lambda calls: sum(timer(calls) for timer in timers)


def questions(operators: Collection[str], cores: int) -> Iterator[Question]:
    """What is asked in turn; each gives the candidates to race against the best options so far."""
    yield lambda best: [replace(best, without=names) for operator, names in DOUBTFUL_FUSIONS.items() if operator in operators]
    levels: tuple[Level, ...] = ("extended", "basic")
    yield lambda best: [replace(best, level=level) for level in levels if level != best.level]
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


def _race(candidate: Stopwatch, best: Stopwatch) -> Comparison:
    return compare_timed(candidate, best, budget_s=RACE_SECONDS, min_rounds=LEAST_ROUNDS, enough=_settled)


def _settled(comparison: Comparison) -> bool:
    """Whether the candidate is surely better by the gain asked for, or surely not."""
    return comparison.high < 1.0 - GAIN or comparison.low > 1.0 - GAIN


def _words(candidate: Options, best: Options) -> str:
    before = best.to_dict()
    return ", ".join(f"{key}={value}" for key, value in candidate.to_dict().items() if value != before[key])
