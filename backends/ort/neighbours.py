"""How much of this process's processors others used for a while."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

Ticks = Callable[[], float | None]
"""Seconds that these processors have been busy since they started, added up; None where nobody counts them."""

LEAST_S = 0.25
"""Seconds that are counted at least: busy time comes in steps of 10 ms, so that of a race of a few milliseconds one step looks like half of the processors."""
STAT = Path("/proc/stat")
IDLE = (3, 4)
"""The columns of a processor's line that count idle time and waiting for disks; those after the eighth are counted in the first two already."""


class Neighbours:
    """Starts counting when it is made."""

    def __init__(
        self,
        ticks: Ticks | None = None,
        clock: Callable[[], float] = time.perf_counter,
        own: Callable[[], float] = time.process_time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._ticks, self._clock, self._own, self._sleep = ticks or busy_seconds, clock, own, sleep
        self._start = self._now()

    def share(self) -> float:
        """The part of all processors, 0 to 1, that other processes have used since; 0 where that cannot be told. Waits until enough time was counted."""
        found = self._now()
        missing = LEAST_S - (found[2] - self._start[2])
        if missing > 0 and found[0] > 0:
            self._sleep(missing)
            found = self._now()
        busy, own, wall = (now - then for now, then in zip(found, self._start, strict=True))
        return min(1.0, max(0.0, busy - own) / (wall * len(processors()))) if wall > 0 else 0.0

    def _now(self) -> tuple[float, float, float]:
        return self._ticks() or 0.0, self._own(), self._clock()


def processors() -> frozenset[int]:
    """The numbers of the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def busy_seconds(stat: Path = STAT) -> float | None:
    """Seconds that the processors this process may use have been busy, by Linux's count; None on other systems."""
    mine = {f"cpu{number}" for number in processors()}
    try:
        lines = [line.split() for line in stat.read_text().splitlines()]
    except OSError:
        return None
    ticks = sum(int(count) for name, *counts in filter(None, lines) if name in mine for column, count in enumerate(counts[:8]) if column not in IDLE)
    return ticks / os.sysconf("SC_CLK_TCK")
