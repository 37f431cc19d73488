"""What a user asks for besides the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .allowance import Allowance, read_allowance
from .budget import Budget, Metric, read_budget
from .core.backend import Progress
from .core.drift import LOSSY
from .core.errors import UsageError
from .core.passes import OUR_PASSES, Pass
from .core.target import Target
from .core.tuning import Tuning
from .pipeline import CALIBRATED, MIXED, SMALL, Level, demand, narrow, steps_of, with_options
from .reduction import REDUCTIONS, reductions, with_reductions


def silent(text: str) -> None:
    """Progress that nobody follows."""


@dataclass(frozen=True)
class Request:
    """How to compile. ``dims`` fixes symbolic dimensions in generated inputs; ``only`` and ``without`` name passes and rules;
    ``fast_math`` lets rules fire that are only equal where both sides are defined; see `driver.compile`.

    ``method`` is how a precision finds its numbers. ``size`` says that a smaller model is wanted even if it is slower. ``allowance`` is what a mixed
    precision may take: ``size=0.3``, ``latency=0.8`` or ``drop=0.01``. ``preprocess`` is how images and texts of ``calibration`` become inputs.
    ``tuning`` is how long generated kernels may be tuned. ``prune``, ``rank``, ``sparsity`` and ``recover`` are what is taken out of the model, and how
    what is left recovers: a number, and options of the pass behind it, as in "0.3,of=parameters" (see `reduction`).
    """

    target: str = "ort-cpu"
    level: Level = 2
    precision: str = "fp32"
    method: str | None = None
    size: bool = False
    allowance: str | None = None
    calibration: object = None
    preprocess: str | Mapping[str, object] | None = None
    metric: Metric | None = None
    max_drop: float | str | None = None
    output: Path | None = None
    dims: Mapping[str, int] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    seed: int = 0
    fast_math: bool = False
    cache: bool = True
    tuning: Tuning | None = None
    prune: str | float | None = None
    rank: str | float | None = None
    sparsity: str | float | None = None
    recover: str | float | None = None
    progress: Progress = silent

    def steps(self, target: Target) -> tuple[Pass, ...]:
        """The passes asked for. Raises UsageError for a level, precision, method, pass, rule or option that does not exist, or does not go with another."""
        added = self.reductions()
        steps = narrow(steps_of(self.level, target, self.precision, self.calibration is not None, bool(added)), self.only, self.without)
        self._check(steps, added)
        if self.method is not None and self.precision != MIXED:
            steps = demand(steps, method=self.method)
        steps = with_reductions(steps, added) if added else steps
        return with_options(steps, small=True) if self.small and self.precision != MIXED else steps

    def reductions(self) -> tuple[Pass, ...]:
        """The passes that take something out of the model. Raises UsageError for an option that cannot be read."""
        return reductions({name: getattr(self, name) for name in REDUCTIONS})

    def largest_drop(self) -> Budget | None:
        """The largest drop of the metric, or of what is measured without one. Raises UsageError when it cannot be read."""
        return read_budget(self.max_drop)

    def mixture(self) -> Allowance | None:
        """What a mixed precision may take; None for any other precision. Raises UsageError when it cannot be read, or is missing."""
        if self.precision != MIXED:
            return None
        if self.allowance is not None:
            return read_allowance(self.allowance)
        if self.max_drop is None:
            raise UsageError("a mixed precision needs to know what it may take: --budget size=0.3, latency=0.8 or drop=0.01, or --max-drop")
        return Allowance("drop", None)

    @property
    def small(self) -> bool:
        """Whether a smaller model is wanted although it may be slower."""
        allowance = self.mixture()
        return self.size or self.sparsity is not None or self.precision in SMALL or (allowance is not None and allowance.kind == "size")

    @property
    def repeatable(self) -> bool:
        """Whether what is asked for can be named, so that the cache may serve it: a user's own passes and metric cannot, their code is not known here.

        A metric that only measures does not decide anything; one with a largest drop decides what compression leaves alone.
        """
        reduced = any(getattr(self, name) is not None for name in REDUCTIONS)
        if (reduced or self.precision != "fp32") and self.metric is not None and self.max_drop is not None:
            return False
        return isinstance(self.level, (int, str)) or all(type(step).__module__.startswith(OUR_PASSES) for step in self.level)

    def _check(self, steps: tuple[Pass, ...], added: tuple[Pass, ...]) -> None:
        """Raise UsageError for options that mean nothing together."""
        quantised = self.precision == MIXED or any(step.drift is LOSSY for step in steps)
        lossy = quantised or bool(added)
        if self.precision == MIXED and added:
            raise UsageError(f"a mixed precision chooses its own compression; it does not go with {added[0].name}")
        if self.precision == MIXED and any(step.drift is LOSSY for step in steps):
            raise UsageError("a mixed precision chooses its own compression; leave it out of your own passes")
        if self.max_drop is not None and self.metric is None and not lossy:
            raise UsageError("a largest drop needs a metric: pass metric= (--metric file.py:function) too")
        if self.allowance is not None and self.precision != MIXED:
            raise UsageError(f"only a mixed precision takes a budget (--precision mixed), not {self.precision}")
        if (not quantised and self.method is not None) or (not lossy and self.size):
            raise UsageError("a method and a preferred size are for a lower precision: say which with precision= (--precision int8)")
        if self.precision in CALIBRATED and self.calibration is None:
            raise UsageError(f"{self.precision} needs real inputs to calibrate on: --calibration FILE, or --calibration random, which says less")
        self.mixture()
        self.largest_drop()
