"""What can be tried on a site: methods that round its weight, and methods that round its weight and its input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..passes.quantize.activation import ActivationGrid
from ..passes.quantize.grid import Grid
from ..passes.quantize.joint import JointMethod, Precision, find_joint
from ..passes.quantize.method import Method, find_method
from .core.statistics import SiteStatistics

__all__ = ["Candidate", "JointCandidate", "SiteData", "WeightCandidate"]


@dataclass(frozen=True)
class SiteData:
    """One site: ``weights`` [groups, K, M], what methods may know of its input (``known``), and what they are judged on (``unseen``), for each group."""

    name: str
    weights: np.ndarray
    known: Sequence[SiteStatistics]
    unseen: Sequence[SiteStatistics]


class Candidate(Protocol):
    """A method with its default settings. Hashable, so that it is run once for each grid."""

    @property
    def name(self) -> str:
        """The name of the method."""
        ...

    @property
    def inputs(self) -> int | None:
        """Bits of the input; None where it stays as it is."""
        ...

    @property
    def moments(self) -> bool:
        """Whether it reads the second moment of the input."""
        ...

    @property
    def rows(self) -> int:
        """How many rows of the input it wants."""
        ...

    def refined(self) -> Candidate | None:
        """What it has to beat."""
        ...

    def measure(self, site: SiteData, grid: Grid) -> tuple[float, float]:
        """E on the unseen data, and bits stored. Raises GraphwrightError when it cannot do the site on this grid."""
        ...


@dataclass(frozen=True)
class _Known:
    """What the class of a method says of itself."""

    kind: type[Method] | type[JointMethod]

    @property
    def name(self) -> str:
        """As `Candidate.name`."""
        return self.kind.name

    @property
    def moments(self) -> bool:
        """As `Candidate.moments`."""
        return self.kind.moments

    @property
    def rows(self) -> int:
        """As `Candidate.rows`."""
        return self.kind.rows


@dataclass(frozen=True)
class WeightCandidate(_Known):
    """A method for weights. Its error is that of all unseen rows, by their second moment: ``||X D||^2 = N tr(D' H D)``."""

    kind: type[Method]
    inputs: None = None

    def refined(self) -> WeightCandidate | None:
        """As `Candidate.refined`."""
        return WeightCandidate(find_method(self.kind.refines)) if self.kind.refines else None

    def measure(self, site: SiteData, grid: Grid) -> tuple[float, float]:
        """As `Candidate.measure`."""
        coded = [self.kind().quantize(weight, known, grid) for weight, known in zip(site.weights, site.known, strict=True)]
        wrong = right = 0.0
        for weight, part, unseen in zip(site.weights, coded, site.unseen, strict=True):
            wrong += energy(part.matrix().astype(np.float64) - weight, unseen.moment)
            right += energy(weight.astype(np.float64), unseen.moment)
        return relative(wrong, right), sum(part.stored_bits for part in coded)


@dataclass(frozen=True)
class JointCandidate(_Known):
    """A method for weights and inputs together. Its error is that of the unseen rows that were kept."""

    kind: type[JointMethod]
    grid: ActivationGrid

    @property
    def inputs(self) -> int:
        """As `Candidate.inputs`."""
        return self.grid.bits

    def refined(self) -> JointCandidate | None:
        """As `Candidate.refined`."""
        return JointCandidate(find_joint(self.kind.refines), self.grid) if self.kind.refines else None

    def measure(self, site: SiteData, grid: Grid) -> tuple[float, float]:
        """As `Candidate.measure`."""
        wrong = right = stored = 0.0
        for weight, known, unseen in zip(site.weights, site.known, site.unseen, strict=True):
            product = self.kind().apply(weight, known, Precision(grid, self.grid))
            exact = unseen.rows.astype(np.float64) @ weight.astype(np.float64)
            wrong += float(np.square(product.output(unseen.rows) - exact).sum())
            right += float(np.square(exact).sum())
            stored += product.stored_bits
        return relative(wrong, right), stored


def energy(matrix: np.ndarray, moment: np.ndarray) -> float:
    """``||X D||^2 / N`` of a float64 matrix [K, M], for the second moment X'X / N of the rows X."""
    return max(float(np.sum(matrix * (moment @ matrix))), 0.0)


def relative(wrong: float, right: float) -> float:
    """E; 0 where a site gives nothing but zeros and still does."""
    return math.sqrt(wrong / right) if right > 0 else 0.0 if wrong == 0 else math.inf
