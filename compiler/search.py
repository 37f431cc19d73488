"""Who ships: candidates race the input, and only one that is measured to be faster replaces it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .core.backend import Built, Runner, Sample
from .core.passes import Pass, format_pass
from .core.rulepass import RulePass
from .core.timing import FEWEST_ROUNDS
from .report import LatencyEntry, TrialEntry
from .timing import Comparison, compare_runners

RACE_SECONDS = 5.0
MILLI = 1000.0
FUSION = "fuse"
"""The pass that puts in the target's fused kernels."""


@dataclass(frozen=True)
class Racer:
    """A candidate that raced the input; it gained when the whole 95 % interval of its time over the input's lies below 1."""

    name: str
    built: Built
    latency: LatencyEntry

    @property
    def gained(self) -> bool:
        """Whether it is faster than the input beyond doubt."""
        return self.latency.high < 1.0

    def trial(self, shipped: bool) -> TrialEntry:
        """The race for the report."""
        return TrialEntry(candidate=self.name, latency=self.latency, shipped=shipped)


def chose_something(built: Built) -> bool:
    """Whether the backend found options better than the runtime's own; otherwise there is nothing new to race with an unchanged model."""
    return any(trial.get("chosen") for trial in built.trials)


def ships(racer: Racer, smaller: bool, small: bool) -> bool:
    """Whether a candidate may ship: it is faster beyond doubt; or it is ``smaller``, and not slower beyond doubt unless ``small`` was asked for."""
    return racer.gained or (smaller and (small or racer.latency.low <= 1.0))


def race(name: str, built: Built, against: Runner, samples: Sequence[Sample]) -> Racer:
    """Time a candidate against another runner, in turns, on all samples."""
    return Racer(name, built, latency_entry(compare_runners(built.runner, against, samples, budget_s=RACE_SECONDS, min_rounds=FEWEST_ROUNDS)))


def latency_entry(comparison: Comparison) -> LatencyEntry:
    """A comparison of candidate (a) and input (b) as the report has it."""
    return LatencyEntry(
        before_ms=comparison.median_b * MILLI,
        after_ms=comparison.median_a * MILLI,
        ratio=comparison.ratio,
        low=comparison.low,
        high=comparison.high,
        rounds=comparison.rounds,
    )


def without_fusion(steps: Sequence[Pass], fired: Sequence[dict[str, int]]) -> tuple[Pass, ...] | None:
    """The pipeline that leaves fusing to the runtime; None when ours did nothing.

    A model that is only cleaned up may be fused better by the runtime itself, where our own kernels do not pay.
    """
    if not any(step.name == FUSION and rules for step, rules in zip(steps, fired, strict=True)):
        return None
    return tuple(step for step in steps if step.name != FUSION)


def variants(steps: Sequence[Pass], fired: Sequence[dict[str, int]]) -> Iterator[tuple[str, tuple[Pass, ...]]]:
    """The pipeline with one part changed at a time: each optional rule that fired left out, by name, each pass that changed something left out,
    and rules let in whose kernel is doubtful and that nobody measures one by one (see `core.rule.rule`).

    ``fired`` are the rules of each pass and how often they fired. Only what may make a model slower is left out: passes that are not exact.
    """
    for place, (step, rules) in enumerate(zip(steps, fired, strict=True)):
        if isinstance(step, RulePass) and not step.doubtful and any(item.doubtful and not item.measured for item in step.chosen()):
            bolder = dataclasses.replace(step, doubtful=True)
            yield f"with {format_pass(bolder)}", (*steps[:place], bolder, *steps[place + 1 :])
        if step.drift.value == "exact" or not rules:
            continue
        rest = [item for number, item in enumerate(steps) if number != place]
        yield f"without {format_pass(step)}", tuple(rest)
        if isinstance(step, RulePass) and len(rules) > 1:
            for rule in rules:
                narrowed = dataclasses.replace(step, without=(*step.without, rule))
                yield f"without {rule}", (*steps[:place], narrowed, *steps[place + 1 :])
