"""Timing of models: two runners on the same samples, in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from .core.backend import Array, Runner, Sample
from .core.timing import Comparison, Standing, Stopwatch, compare_runs, compare_timed, rank_runs, stopwatch

__all__ = ["Comparison", "Standing", "compare_runners", "compare_runs", "compare_timed", "rank_runs"]


@runtime_checkable
class Timed(Protocol):
    """A runner that times itself: without checking feeds each time, and without what it must load for each run."""

    def stopwatch(self, feeds: Mapping[str, Array]) -> Stopwatch:
        """Times runs on these feeds. Raises InputError when they do not fit."""
        ...


def compare_runners(
    a: Runner,
    b: Runner,
    samples: Sequence[Sample],
    *,
    budget_s: float = 5.0,
    min_rounds: int = 10,
    max_rounds: int = 400,
    enough: Callable[[Comparison], bool] | None = None,
) -> Comparison:
    """How long ``a`` and ``b`` take for all ``samples`` together: medians in seconds for one pass over them, ratio a/b."""
    timers = over_samples(a, samples), over_samples(b, samples)
    return compare_timed(*timers, budget_s=budget_s, min_rounds=min_rounds, max_rounds=max_rounds, enough=enough)


def over_samples(runner: Runner, samples: Sequence[Sample]) -> Stopwatch:
    """Times a runner on all samples."""
    timers = [runner.stopwatch(sample) if isinstance(runner, Timed) else _outside(runner, sample) for sample in samples]
    return lambda calls: sum(timer(calls) for timer in timers)


def _outside(runner: Runner, sample: Sample) -> Stopwatch:
    return stopwatch(lambda: runner.run(sample))
