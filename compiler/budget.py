"""The accuracy budget: the user's metric before and after, and how far it may drop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .core.backend import Runner
from .core.errors import BudgetError, GraphwrightError, UsageError
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


def measure_accuracy(metric: Metric, before: Runner, after: Runner, budget: Budget | None) -> AccuracyEntry:
    """The metric of both runners. Raises BudgetError when it dropped further than ``budget`` allows, or is no number any more."""
    name = str(getattr(metric, "__name__", type(metric).__name__))
    old, new = _apply(metric, before, name), _apply(metric, after, name)
    drop = old - new
    allowed = budget.allowed(old) if budget is not None else None
    if allowed is not None and not drop <= allowed:
        raise BudgetError(f"{name} fell from {old:.6g} to {new:.6g}, by {drop:.3g}; {allowed:.3g} is allowed. Nothing was written.")
    return AccuracyEntry(metric=name, before=old, after=new, drop=drop, allowed=allowed)


def _apply(metric: Metric, runner: Runner, name: str) -> float:
    try:
        return float(metric(runner))
    except GraphwrightError:
        raise
    except Exception as error:
        raise GraphwrightError(f"the metric {name} failed: {type(error).__name__}: {error}") from error
