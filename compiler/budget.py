"""The accuracy budget: the user's metric before and after, or how alike the answers are where there is none, and how far it may drop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from .core.backend import Runner
from .core.errors import BudgetError, GraphwrightError, UsageError
from .divergence import Ruler
from .report import AccuracyEntry

Metric = Callable[[Runner], float]
"""Takes something with ``run({name: array}) -> {name: array}`` and gives a number; higher is better."""


@dataclass(frozen=True)
class Budget:
    """How far a metric may drop: ``amount`` as it is, or a part of the value before when ``relative``."""

    amount: float
    relative: bool

    def allowed(self, before: float) -> float:
        """The largest drop from ``before``."""
        return self.amount * abs(before) if self.relative else self.amount


def read_budget(max_drop: float | str | None) -> Budget | None:
    """``0.01`` is absolute, ``"0.5%"`` relative to the value before; None stays None. Raises UsageError for anything else."""
    if max_drop is None:
        return None
    text = str(max_drop).strip()
    relative = text.endswith("%")
    try:
        amount = float(text.removesuffix("%"))
    except ValueError:
        amount = -1.0
    if not 0 <= amount < float("inf"):
        raise UsageError(f"the largest drop must be a number of at least 0, or a percentage as in '0.5%', not '{max_drop}'")
    return Budget(amount / 100 if relative else amount, relative)


class Yardstick(Protocol):
    """What a largest drop bounds."""

    name: str
    before: float

    def measure(self, runner: Runner) -> float:
        """What it is for a runner; higher is better."""
        ...


class MetricYardstick:
    """The user's metric; ``reference`` runs the input model."""

    def __init__(self, metric: Metric, reference: Runner) -> None:
        self.metric = metric
        self.name = name_of_metric(metric)
        self.before = _apply(metric, reference, self.name)

    def measure(self, runner: Runner) -> float:
        """As `Yardstick.measure`."""
        return _apply(self.metric, runner, self.name)


class LikenessYardstick:
    """How alike the answers are to the input's: agreement on the largest score, or cosine (`divergence.Divergence.likeness`)."""

    name = "likeness"
    before = 1.0

    def __init__(self, ruler: Ruler) -> None:
        self.ruler = ruler

    def measure(self, runner: Runner) -> float:
        """As `Yardstick.measure`."""
        name, value = self.ruler.measure(runner).likeness
        self.name = f"{name} with the input"
        return value


def accuracy_entry(yardstick: Yardstick, after: float, budget: Budget | None) -> AccuracyEntry:
    """Before and after for the report. Raises BudgetError when it dropped further than ``budget`` allows, or is no number any more."""
    before = yardstick.before
    drop, allowed = before - after, budget.allowed(before) if budget is not None else None
    if allowed is not None and not drop <= allowed:
        raise BudgetError(f"{yardstick.name} fell from {before:.6g} to {after:.6g}, by {drop:.3g}; {allowed:.3g} is allowed. Nothing was written.")
    return AccuracyEntry(metric=yardstick.name, before=before, after=after, drop=drop, allowed=allowed)


def measure_accuracy(metric: Metric, before: Runner, after: Runner, budget: Budget | None) -> AccuracyEntry:
    """The metric of both runners. Raises BudgetError when it dropped further than ``budget`` allows, or is no number any more."""
    yardstick = MetricYardstick(metric, before)
    return accuracy_entry(yardstick, yardstick.measure(after), budget)


def name_of_metric(metric: Metric) -> str:
    """What a metric is called in reports and errors."""
    return str(getattr(metric, "__name__", type(metric).__name__))


def _apply(metric: Metric, runner: Runner, name: str) -> float:
    try:
        return float(metric(runner))
    except GraphwrightError:
        raise
    except Exception as error:
        raise GraphwrightError(f"the metric {name} failed: {type(error).__name__}: {error}") from error
