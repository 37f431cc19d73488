"""Equivalent transforms: scales and shifts of a site's input channels that its weight and bias take back, so that both are easier to round."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...compiler.core.errors import UsageError
from ...compiler.core.statistics import SiteStatistics
from .coded import Coded
from .joint import JointMethod, Precision, Rounded, joint_methods, whole_range

__all__ = ["Equivalence", "Equivalent", "Rescaled", "equivalences", "find_equivalence", "rounded_after", "tame"]

FURTHEST = 1e4
"""No channel is scaled by more than this against the middle one: float32 keeps seven digits."""


@dataclass(frozen=True)
class Equivalent:
    """``X W + b = X' W' + b'`` with ``X' = (X - shift) / scale``, ``W' = diag(scale) W`` and ``b' = b + shift W``; both float64 [K], scales above zero."""

    scale: np.ndarray
    shift: np.ndarray

    @classmethod
    def none(cls, channels: int) -> Equivalent:
        """The transform that changes nothing."""
        return cls(np.ones(channels), np.zeros(channels))

    @property
    def changes(self) -> bool:
        """Whether it is not the one that changes nothing."""
        return bool((self.scale != 1).any() or self.shift.any())

    def inputs(self, rows: np.ndarray) -> np.ndarray:
        """X' for rows of X, float64 [n, K]."""
        return np.asarray((rows.astype(np.float64) - self.shift) / self.scale)

    def weight(self, weight: np.ndarray) -> np.ndarray:
        """W', float32 [K, M]."""
        return (weight.astype(np.float64) * self.scale[:, None]).astype(np.float32)

    def added(self, weight: np.ndarray) -> np.ndarray:
        """What the bias grows by, float64 [M]."""
        return np.asarray(self.shift @ weight.astype(np.float64))

    def statistics(self, found: SiteStatistics) -> SiteStatistics:
        """The statistics of X'; exact, but for ``abs_mean`` where there is a shift: that comes from the rows."""
        mean, shift, scale = found.mean, self.shift, self.scale
        moment = found.moment
        if moment.size:
            moment = (moment - np.outer(mean, shift) - np.outer(shift, mean) + np.outer(shift, shift)) / np.outer(scale, scale)
        low, high, rows = (found.low - shift) / scale, (found.high - shift) / scale, self.inputs(found.rows)
        abs_mean = np.abs(rows).mean(axis=0) if shift.any() and len(rows) else found.abs_mean / scale
        return replace(
            found, moment=moment, low=low, high=high, abs_max=np.maximum(np.abs(low), np.abs(high)), abs_mean=abs_mean,
            mean=(mean - shift) / scale, rows=rows.astype(np.float32),
        )  # fmt: skip


@dataclass(frozen=True)
class Rescaled:
    """A coded weight whose rows are divided by ``scale`` float64 [K]: that is done by the operator before the site, and costs no bits here."""

    inner: Coded
    scale: np.ndarray

    def matrix(self) -> np.ndarray:
        """As `Coded.matrix`."""
        return (self.inner.matrix().astype(np.float64) / self.scale[:, None]).astype(np.float32)

    @property
    def stored_bits(self) -> float:
        """As `Coded.stored_bits`."""
        return self.inner.stored_bits


@dataclass(frozen=True)
class Equivalence(JointMethod):
    """One way of finding an equivalent transform."""

    def find(self, weight: np.ndarray, statistics: SiteStatistics, precision: Precision, gain: np.ndarray | None = None) -> Equivalent:
        """The transform for everything that reads one input: ``weight`` float32 [K, M] has the columns of all its readers side by side.

        ``gain`` [K] is the scale of the norm that makes the input, where one does.
        """
        raise TypeError(f"{type(self).__name__} has no find")

    def apply(self, weight: np.ndarray, statistics: SiteStatistics, precision: Precision) -> Rounded:
        """As `JointMethod.apply`: both sides rounded after the transform."""
        return rounded_after(self.find(weight, statistics, precision), weight, statistics, precision)


def rounded_after(change: Equivalent, weight: np.ndarray, statistics: SiteStatistics, precision: Precision) -> Rounded:
    """A site whose two sides are rounded after a transform."""
    changed = change.statistics(statistics)
    coded = precision.rounded(change.weight(weight), changed)
    return Rounded(change, precision.inputs, whole_range(changed), coded, change.added(weight))


def equivalences() -> dict[str, type[Equivalence]]:
    """Every way of finding one, by name."""
    return {name: found for name, found in joint_methods().items() if issubclass(found, Equivalence)}


def find_equivalence(name: str) -> type[Equivalence]:
    """One by name. Raises UsageError when there is none."""
    found = equivalences().get(name)
    if found is None:
        raise UsageError(f"there is no equivalent transform '{name}'; there are: {', '.join(equivalences())}")
    return found


def tame(scale: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """Scales about 1 in the geometric mean of the channels that are ``alive`` (bool [K]), the others 1, none further than 10^4 from the middle."""
    if not alive.any():
        return np.ones(scale.shape)
    found = np.where(alive & (scale > 0) & np.isfinite(scale), scale, 1.0)
    found = np.where(alive, found / np.exp(np.log(found[alive]).mean()), 1.0)
    return np.asarray(np.clip(found, 1 / FURTHEST, FURTHEST))
