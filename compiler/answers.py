"""Whether what was built answers as it must, sample by sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .comparison import worse
from .core.backend import Runner
from .core.drift import Drift
from .core.records import Difference
from .verify import Verifier

__all__ = ["Answers", "judge_answers"]

FURTHER = 2.0
"""A sample on which the runtime's defaults break the contract is let pass where they are at least half as far off."""


@dataclass(frozen=True)
class Answers:
    """The worst difference that keeps the contract, how many samples were let pass, and what is wrong ("" when nothing is)."""

    worst: Difference
    passed: int = 0
    fault: str = ""


def judge_answers(verifier: Verifier, runner: Runner, baseline: Runner, drifts: Sequence[Drift] = (Drift.ROUNDING,)) -> Answers:
    """Compare the answers of ``runner`` with what they must be, within one of ``drifts``; the first fault ends it.

    A sample is let pass on which the input under the runtime's defaults, ``baseline``, breaks the contract just so: not every kernel keeps NaN, for
    example. A fault on one sample excuses none on another.
    """
    worst, passed = Difference("", 0.0, 0.0, 0.0), 0
    for index in range(len(verifier.samples)):
        found = _difference(verifier, runner, drifts, index)
        if not found.broken:
            worst = worse(worst, found)
        elif _just_so(found, verifier.check_runner(baseline, Drift.ROUNDING, (index,))):
            passed += 1
        else:
            return Answers(worst, passed, found.reason or f"'{found.output}' is off by {found.max_abs:.3g}, {found.allowed:.3g} is allowed")
    return Answers(worst, passed)


def _difference(verifier: Verifier, runner: Runner, drifts: Sequence[Drift], index: int) -> Difference:
    found = verifier.check_runner(runner, drifts[0], (index,))
    for drift in drifts[1:]:
        if not found.broken:
            break
        found = verifier.check_runner(runner, drift, (index,))
    return found


def _just_so(found: Difference, usual: Difference) -> bool:
    """Whether the runtime's defaults are wrong in the same way, and not much less."""
    if not usual.broken or bool(found.reason) > bool(usual.reason):
        return False
    return bool(usual.reason) or found.max_abs <= FURTHER * usual.max_abs
