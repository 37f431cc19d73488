"""QuaRot (Ashkboos et al., NeurIPS 2024), of which only the rotations that cost nothing at run time: those merged into the weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .joint import JointMethod, Precision, Rounded, row_extremes, whole_range
from .orthogonal import random_hadamard, random_orthogonal

__all__ = ["QuaRot", "Rotation", "keeping_ones", "kurtosis", "rounded_in"]


@dataclass(frozen=True)
class Rotation:
    """``X W = (X R) (R' W)`` for an orthogonal ``turn`` R, float64 [K, K]."""

    turn: np.ndarray

    def inputs(self, rows: np.ndarray) -> np.ndarray:
        """X R for rows of X, float64 [n, K]."""
        return np.asarray(rows.astype(np.float64) @ self.turn)

    def weight(self, weight: np.ndarray) -> np.ndarray:
        """R' W, float32 [K, M]."""
        return np.asarray(self.turn.T @ weight.astype(np.float64)).astype(np.float32)

    def statistics(self, found: SiteStatistics) -> SiteStatistics:
        """The statistics of X R: moment and mean exact, the rest from the rows, or by Gauss's law from the moment where there are none."""
        rows = self.inputs(found.rows)
        moment = self.turn.T @ found.moment @ self.turn if found.moment.size else found.moment
        if len(rows):
            low, high, abs_mean = rows.min(axis=0), rows.max(axis=0), np.abs(rows).mean(axis=0)
        else:
            level = np.sqrt(np.diag(moment)) if moment.size else np.full(len(self.turn), float(np.sqrt(np.square(found.abs_mean).mean())))
            high, abs_mean = level * np.sqrt(2 * np.log(max(found.count, 2))), level * np.sqrt(2 / np.pi)
            low = -high
        return replace(
            found, moment=moment, low=low, high=high, abs_max=np.maximum(np.abs(low), np.abs(high)), abs_mean=abs_mean,
            mean=found.mean @ self.turn, rows=rows.astype(np.float32),
        )  # fmt: skip


@dataclass(frozen=True)
class QuaRot(JointMethod):
    """R is a randomised Hadamard matrix: outliers are spread evenly over all channels (section 4)."""

    name: ClassVar[str] = "quarot"
    rows: ClassVar[int] = 512

    seed: int = 0

    def apply(self, weight: np.ndarray, statistics: SiteStatistics, precision: Precision) -> Rounded:
        """As `JointMethod.apply`."""
        row_extremes(weight, statistics)
        return rounded_in(Rotation(random_hadamard(len(weight), np.random.default_rng(self.seed))), weight, statistics, precision)


def rounded_in(change: Rotation, weight: np.ndarray, statistics: SiteStatistics, precision: Precision) -> Rounded:
    """A site both sides of which are rounded in another basis."""
    changed = change.statistics(statistics)
    return Rounded(change, precision.inputs, whole_range(changed), precision.rounded(change.weight(weight), changed))


def keeping_ones(size: int, random: np.random.Generator) -> np.ndarray:
    """A random orthogonal matrix that keeps the vector of ones, so that it commutes with taking the mean away; float64 [size, size].

    A uniformly random rotation of all that is orthogonal to the ones, in the basis of the reflection which swaps the ones and the first axis.
    """
    ones = np.full(size, 1 / np.sqrt(size))
    normal = ones - np.eye(size)[0]
    length = float(normal @ normal)
    mirror = np.eye(size) - (2 / length) * np.outer(normal, normal) if length else np.eye(size)
    inner = np.eye(size)
    inner[1:, 1:] = random_orthogonal(size - 1, random) if size > 1 else inner[1:, 1:]
    return np.asarray(mirror @ inner @ mirror)


def kurtosis(rows: np.ndarray) -> float:
    """``mean x^4 / (mean x^2)^2`` of all numbers, about their mean: 3 for Gauss's law, the more the heavier the tails; 0 where all are equal."""
    wide = rows.astype(np.float64)
    wide = wide - wide.mean()
    variance = float(np.square(wide).mean())
    return 0.0 if variance == 0 else float((wide**4).mean() / variance**2)
