"""Trials of methods summed up: one line a method and width, and whether it beats what it refines.

The rule is one for all: a method is better when the mean of the logarithm of its error by that of the other, at equal stored bits and on held-out data, is
below zero with 95 % confidence (Student's t over sites). With a single site there is no interval, and its sign decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .method_bench import Trial

__all__ = ["Line", "Verdict", "interval", "student", "sum_up", "verdicts"]


@dataclass(frozen=True)
class Line:
    """A method at one width over all sites that took it.

    ``error`` is the geometric mean of E on held-out data (exact sites left out), ``stored`` bits per weight, ``seconds`` in all. ``ratio`` is the geometric
    mean of its error by that of ``refines`` at equal stored bits, ``won`` on how many of ``compared`` sites it was lower; ``same_grid`` is the mean on equal
    grids, whatever is stored. ``low`` and ``high`` are the ends of the 95 % interval of ``ratio``. ``refused`` has each reason once.
    """

    method: str
    bits: int
    inputs: int | None
    error: float
    stored: float
    seconds: float
    sites: int
    refines: str | None
    ratio: float | None
    low: float | None
    high: float | None
    same_grid: float | None
    won: int
    compared: int
    refused: tuple[str, ...]

    @property
    def width(self) -> str:
        """W4 for weights of 4 bits, W4A8 with inputs of 8."""
        return f"W{self.bits}" if self.inputs is None else f"W{self.bits}A{self.inputs}"

    @property
    def beats(self) -> bool | None:
        """Whether it is surely better than what it refines (the interval is below 1); None when there was nothing to compare."""
        return None if self.high is None else self.high < 1


@dataclass(frozen=True)
class Verdict:
    """Where a method beats what it refines: widths (``Line.width``) where it does, and widths where it does not."""

    method: str
    refines: str
    beats: tuple[str, ...]
    loses: tuple[str, ...]


def sum_up(trials: Iterable[Trial]) -> list[Line]:
    """One line for each width and method: weights alone first, wide before narrow, methods in the order in which they were tried."""
    groups: dict[tuple[int, int, str], list[Trial]] = {}
    for trial in trials:
        groups.setdefault((-(trial.inputs or WEIGHTS_ALONE), -trial.bits, trial.method), []).append(trial)
    return [_line(groups[key]) for key in sorted(groups, key=lambda key: key[:2])]


PAIR = 2
NORMAL = 1.959964
STUDENT = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)
WEIGHTS_ALONE = 64
"""More bits than any input has."""


def verdicts(lines: Sequence[Line]) -> list[Verdict]:
    """What each method that refines another shows, over all widths that it took; methods for weights apart from those for both sides."""
    found = []
    for name, joint in dict.fromkeys((line.method, line.inputs is not None) for line in lines):
        mine = [line for line in lines if line.method == name and (line.inputs is not None) == joint and line.beats is not None]
        if mine:
            beats = tuple(line.width for line in mine if line.beats)
            found.append(Verdict(name, mine[0].refines or "", beats, tuple(line.width for line in mine if not line.beats)))
    return found


def _line(trials: Sequence[Trial]) -> Line:
    first, taken = trials[0], [trial for trial in trials if not trial.refused]
    ratios = [ratio for trial in taken if (ratio := trial.ratio) is not None]
    same = [ratio for trial in taken if (ratio := trial.same_grid) is not None]
    low, high = interval(ratios) if ratios else (None, None)
    parameters = sum(trial.parameters for trial in taken)
    return Line(
        first.method,
        first.bits,
        first.inputs,
        _mean([trial.error for trial in taken]),
        sum(trial.stored * trial.parameters for trial in taken) / parameters if parameters else math.nan,
        sum(trial.seconds for trial in taken),
        len(taken),
        first.refines,
        _mean(ratios) if ratios else None,
        low,
        high,
        _mean(same) if same else None,
        sum(ratio < 1 for ratio in ratios),
        len(ratios),
        tuple(dict.fromkeys(trial.refused for trial in trials if trial.refused)),
    )


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the geometric mean of ratios, by Student's t; the ratio itself, twice, where there is one only."""
    if min(ratios) <= 0 or math.inf in ratios or len(ratios) < PAIR:
        return _mean(ratios), _mean(ratios)
    logs = [math.log(ratio) for ratio in ratios]
    middle = sum(logs) / len(logs)
    spread = math.sqrt(sum((log - middle) ** 2 for log in logs) / (len(logs) - 1) / len(logs))
    reach = student(len(logs) - 1) * spread
    return math.exp(middle - reach), math.exp(middle + reach)


def student(degrees: int) -> float:
    """What 2.5 % of Student's t with so many degrees of freedom lie above: from a table, beyond it by Fisher's expansion about the normal quantile."""
    if degrees <= len(STUDENT):
        return STUDENT[degrees - 1]
    z = NORMAL
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


def _mean(numbers: Sequence[float]) -> float:
    """The geometric mean of those above zero; 0 when there are none of these, NaN when there are none at all, infinite when one is."""
    if not numbers:
        return math.nan
    if math.inf in numbers:
        return math.inf
    logs = [math.log(number) for number in numbers if number > 0]
    return math.exp(sum(logs) / len(logs)) if logs else 0.0
