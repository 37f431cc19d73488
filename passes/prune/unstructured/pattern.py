"""Which numbers of a weight may go: a share of them, or all but so many of each few that follow one another along the inputs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ....compiler.core.errors import UsageError
from ....compiler.core.sites import Site

__all__ = ["Pattern", "Scope", "kept", "parse_pattern", "rows_in_runs", "within"]

Scope = Literal["column", "weight"]
"""What is compared with what: the weights of each output channel among themselves, or all weights of the site."""


@dataclass(frozen=True)
class Pattern:
    """``ratio`` of the numbers go, or, where ``of`` is not 0, all but ``keep`` in each group of ``of`` rows of every column.

    Groups start anew after ``run`` rows (0: there is one run); what is left over at the end of a run is a shorter group, that keeps as many.
    """

    ratio: float = 0.5
    keep: int = 0
    of: int = 0
    run: int = 0

    @property
    def name(self) -> str:
        """As people write it: "2:4", or "50 %"."""
        return f"{self.keep}:{self.of}" if self.of else f"{100 * self.ratio:.3g} %"

    def groups(self, rows: int) -> np.ndarray:
        """The rows of each group, int64 [G, of], with ``rows`` in the places that a shorter group does not have."""
        run = self.run or rows
        inside = np.full(-(-run // self.of) * self.of, rows)
        inside[:run] = np.arange(run)
        starts = np.arange(0, rows, run)[:, None]
        found = np.where(inside < rows, inside + starts, rows).reshape(-1, self.of)
        return np.asarray(np.minimum(found, rows))

    def dropped(self, rows: int, columns: int) -> np.ndarray:
        """How many numbers of each column go, int64 [M]: their sum is the ratio of all, to the nearest number."""
        edges = np.rint(np.arange(columns + 1) * (self.ratio * rows)).astype(np.int64)
        return np.diff(edges)


def parse_pattern(text: str) -> Pattern:
    """From "0.5", or "2:4". Raises UsageError for what is neither, or would leave all or nothing."""
    groups = re.fullmatch(r"(\d+):(\d+)", text)
    if groups is not None and 0 < int(groups[1]) < int(groups[2]):
        return Pattern(1 - int(groups[1]) / int(groups[2]), int(groups[1]), int(groups[2]))
    try:
        ratio = float(text)
    except ValueError:
        ratio = 0.0
    if not 0 < ratio < 1:
        raise UsageError(f"'{text}' is no part of the weights: give a number between 0 and 1, or n:m such as 2:4, which keeps 2 of every 4 weights")
    return Pattern(ratio)


def kept(metric: np.ndarray, pattern: Pattern, scope: Scope = "column") -> np.ndarray:
    """Which numbers stay, bool [K, M]: those of the greatest ``metric`` [K, M]. Of equal ones the first go."""
    if pattern.of:
        return _kept_in_groups(metric, pattern)
    rows, columns = metric.shape
    if scope == "weight":
        stays = np.ones(metric.size, bool)
        stays[np.argsort(metric, axis=None, kind="stable")[: round(pattern.ratio * metric.size)]] = False
        return stays.reshape(metric.shape)
    ranks = np.empty((rows, columns), np.int64)
    np.put_along_axis(ranks, np.argsort(metric, axis=0, kind="stable"), np.broadcast_to(np.arange(rows)[:, None], metric.shape), axis=0)
    return np.asarray(ranks >= pattern.dropped(rows, columns))


def _kept_in_groups(metric: np.ndarray, pattern: Pattern) -> np.ndarray:
    rows, columns = metric.shape
    groups = pattern.groups(rows)
    padded = np.concatenate([metric, np.full((1, columns), -np.inf)])[groups]
    best = np.argsort(padded, axis=1, kind="stable")[:, -pattern.keep :]
    stays = np.zeros((rows + 1, columns), bool)
    stays[np.take_along_axis(np.broadcast_to(groups[:, :, None], padded.shape), best, axis=1), np.arange(columns)] = True
    return stays[:rows]


def within(stays: np.ndarray, pattern: Pattern) -> bool:
    """Whether what stays, bool [K, M], keeps no more than the pattern lets it; a ratio may be missed by what rounding to whole numbers costs."""
    if not pattern.of:
        return bool((~stays).sum() >= np.floor(pattern.ratio * stays.size))
    padded = np.concatenate([stays, np.zeros((1, stays.shape[1]), bool)])[pattern.groups(len(stays))]
    return bool((padded.sum(axis=1) <= pattern.keep).all())


def rows_in_runs(site: Site, pattern: Pattern) -> tuple[np.ndarray, Pattern]:
    """In which order the rows of a site's weight follow one another along its inputs, int64 [K], and the pattern for that order.

    The rows of an unfolded convolution are taps within channels; what kernels want n of m of are channels, at each tap by itself.
    """
    width = site.shape[1] if site.kind == "Conv" else 0
    taps = int(np.prod(site.shape[2:], dtype=np.int64)) if site.kind == "Conv" else 1
    if not pattern.of or taps == 1:
        rows = width * taps if site.kind == "Conv" else site.shape[1] if site.flipped else site.shape[0] // site.groups
        return np.arange(rows), pattern
    return np.arange(width * taps).reshape(width, taps).T.reshape(-1), Pattern(pattern.ratio, pattern.keep, pattern.of, width)
