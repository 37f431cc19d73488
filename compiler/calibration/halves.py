"""Calibration data in two parts that share no sample: one to fit on, one to judge on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..cache import hash_parts
from ..core.backend import Sample
from ..core.errors import UsageError
from .data import CalibrationData, Feed

__all__ = ["split_data"]


def split_data(data: CalibrationData, every: int = 4) -> tuple[CalibrationData, CalibrationData]:
    """What to fit on, and what to judge on: every ``every``-th sample. Raises UsageError when there are fewer than two samples."""
    count = len(data)
    if count < 2:
        raise UsageError(f"methods are fitted on some samples and judged on others: {count} sample is too few, give at least 2")
    step = min(every, count)
    return data.part(Part(data.feed, step, False)), data.part(Part(data.feed, step, True))


@dataclass(frozen=True)
class Part:
    """Every ``every``-th sample of a feed (``chosen``), the last of each run of so many, or all the others."""

    feed: Feed
    every: int
    chosen: bool

    def items(self) -> Iterator[tuple[str, Callable[[], Sample]]]:
        """As `Feed.items`."""
        return (item for place, item in enumerate(self.feed.items()) if ((place + 1) % self.every == 0) == self.chosen)

    def digest(self) -> str:
        """As `Feed.digest`."""
        return hash_parts([self.feed.digest(), str(self.every), str(self.chosen)])
