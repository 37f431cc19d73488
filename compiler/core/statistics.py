"""What calibration tells a compression method about the values of a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx_ir as ir

from .backend import Array
from .sites import Site

__all__ = ["Calibrator", "Histogram", "PairStatistics", "Range", "SiteStatistics"]


@dataclass(frozen=True)
class Histogram:
    """How often values fell into equal bins: ``counts`` int64 [bins], ``edges`` float64 [bins + 1]."""

    counts: np.ndarray
    edges: np.ndarray


@dataclass(frozen=True)
class Range:
    """What a value was on all samples: its least and greatest number, and how its numbers are spread. NaN and infinities are left out and counted."""

    low: float
    high: float
    histogram: Histogram
    strange: int = 0


@dataclass(frozen=True)
class SiteStatistics:
    """The input X (N x K) of one group of a site, over all samples.

    ``moment`` is X'X / N, float64 [K, K]; ``low``, ``high``, ``abs_max``, ``abs_mean``, ``mean`` are float64 [K]; ``rows`` are some rows of X, float32
    [n, K], evenly drawn; ``count`` is N. ``strange`` rows held NaN or an infinity and are left out of all that.

    ``moment`` is [0, 0] when it was not asked for. Of convolutions over many pixels it is taken from evenly drawn rows: from 65,536 or 64 K of them,
    whichever is more; so are the means where patches are convolved, whose extremes are those of a channel, for all its taps alike.
    For an embedding X is one-hot, so that X'X / N is diagonal: ``moment`` is that diagonal, float64 [K], how often each row of the table is asked for;
    ``rows`` is [0, K].
    """

    moment: np.ndarray
    low: np.ndarray
    high: np.ndarray
    abs_max: np.ndarray
    abs_mean: np.ndarray
    mean: np.ndarray
    rows: np.ndarray
    count: int
    strange: int = 0


@dataclass(frozen=True)
class PairStatistics:
    """The input X (N x K) of a site beside what it is to give, Y (N x M), over samples: ``moment`` is X'X / N, ``cross`` X'Y / N, float64 [K, K] and [K, M];
    ``mean`` [K] and ``target_mean`` [M] are those of X and Y, ``target_square`` [M] the mean of each squared channel of Y; ``count`` is N.
    """

    moment: np.ndarray
    cross: np.ndarray
    mean: np.ndarray
    target_mean: np.ndarray
    target_square: np.ndarray
    count: int


class Calibrator(Protocol):
    """Runs a model on the user's real samples. Every call goes through them once, or, where memory does not hold what was asked for, in several groups.

    ``unseen`` names, after a call, the values and sites that were left out of its result, and why, in a few words: what is inside a branch or a loop
    cannot be observed, nor can texts and sequences; what was empty on every sample has no statistics.
    """

    @property
    def samples(self) -> int:
        """How many samples there are."""
        ...

    @property
    def unseen(self) -> Mapping[str, str]:
        """Value or `Site.name` -> why the last call has nothing of it."""
        ...

    def apart(self, every: int) -> tuple[Calibrator, Calibrator]:
        """One to fit on and one to judge on: every ``every``-th sample is for the second. Itself twice where that would be a single sample, or none."""
        ...

    def ranges(self, model: ir.Model, values: Sequence[str]) -> dict[str, Range]:
        """The range of each of these values of the model, by name."""
        ...

    def sites(
        self, model: ir.Model, sites: Sequence[Site], *, moments: bool = True, rows: int = 0, in_turn: bool = False
    ) -> Iterator[tuple[Site, list[SiteStatistics]]]:
        """For each site, in the order given, the statistics of each of its groups. Sites of one input share its work; those not asked for next are not held.

        With ``in_turn`` the order is that of the graph, and what whoever asks makes of the weight of one site counts for the inputs of those that follow
        (but for those of the same input).
        """
        ...

    def pairs(self, model: ir.Model, sites: Sequence[Site], targets: Sequence[str], *, parts: int = 1) -> Iterator[tuple[Site, list[PairStatistics]]]:
        """For each site of one group, in the order of the graph, its input beside the value that is named for it in ``targets``.

        Samples are dealt out to so many ``parts`` in turn, and there are statistics of each. Constants that whoever asks changes in the model after one
        site count for those that follow.
        """
        ...

    def outputs(self, model: ir.Model, limit: int | None = None) -> Iterator[dict[str, Array]]:
        """What the model makes of each sample (of the first ``limit``)."""
        ...

    def means(self, model: ir.Model, values: Sequence[str], limit: int | None = None, *, in_turn: bool = False) -> Iterator[tuple[str, np.ndarray]]:
        """Of each of these values the mean of every channel (along its second dimension), float64 [C], over all samples (the first ``limit``).

        They come in the order of ``values``. With ``in_turn`` that is one in which the model computes them, and constants that whoever asks changes in the
        model after one of them count for those that follow.
        """
        ...
