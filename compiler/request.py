"""What a user asks for besides the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .budget import Budget, Metric, read_budget
from .core.backend import Progress
from .core.errors import UsageError
from .core.passes import OUR_PASSES, Pass
from .core.target import Target
from .pipeline import Level, narrow, steps_of


def silent(text: str) -> None:
    """Progress that nobody follows."""


@dataclass(frozen=True)
class Request:
    """How to compile. ``dims`` fixes symbolic dimensions in generated inputs; ``only`` and ``without`` name passes and rules;
    ``fast_math`` lets rules fire that are only equal where both sides are defined; see `driver.compile`.
    """

    target: str = "ort-cpu"
    level: Level = 2
    precision: str = "fp32"
    calibration: object = None
    metric: Metric | None = None
    max_drop: float | str | None = None
    output: Path | None = None
    dims: Mapping[str, int] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    seed: int = 0
    fast_math: bool = False
    cache: bool = True
    progress: Progress = silent

    def steps(self, target: Target) -> tuple[Pass, ...]:
        """The passes asked for. Raises UsageError for a level, precision, pass, rule or option that does not exist."""
        return narrow(steps_of(self.level, target, self.precision), self.only, self.without)

    def budget(self) -> Budget | None:
        """The largest drop of the metric. Raises UsageError when it cannot be read, or there is no metric it could bound."""
        if self.max_drop is not None and self.metric is None:
            raise UsageError("a largest drop needs a metric: pass metric= (--metric file.py:function) too")
        return read_budget(self.max_drop)

    @property
    def repeatable(self) -> bool:
        """Whether what is asked for can be named, so that the cache may serve it: a user's own passes cannot, their code is not known here."""
        return isinstance(self.level, (int, str)) or all(type(step).__module__.startswith(OUR_PASSES) for step in self.level)
