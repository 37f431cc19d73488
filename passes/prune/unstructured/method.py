"""What a method of unstructured pruning is, and where they are found."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ....compiler.core.errors import InputError, ModelError, UsageError
from ....compiler.core.modules import classes_below, find_class
from ....compiler.core.statistics import SiteStatistics
from ...quantize.hessian import importance, moment_of
from .pattern import Pattern, Scope, kept

__all__ = ["Metric", "Sparsifier", "find_sparsifier", "input_norms", "sparsifiers"]


@dataclass(frozen=True)
class Sparsifier:
    """One way of pruning a weight; its fields are its settings. Pure numerics: it knows no graph.

    ``refines`` is the method it has to beat. ``moments`` says that it reads ``statistics.moment``, ``rows`` how many rows of X it wants, ``gradients`` that
    it wants to know how much the answers of the model mind each weight. With none of these ``statistics`` may be None.
    """

    name: ClassVar[str]
    refines: ClassVar[str | None] = None
    moments: ClassVar[bool] = False
    rows: ClassVar[int] = 0
    gradients: ClassVar[bool] = False

    @classmethod
    def calibrated(cls) -> bool:
        """Whether it needs data."""
        return cls.moments or cls.rows > 0 or cls.gradients

    def prune(self, weight: np.ndarray, statistics: SiteStatistics | None, pattern: Pattern, gradient: np.ndarray | None = None) -> np.ndarray:
        """``weight`` float32 [K, M] with zeros where the pattern has them; ``gradient`` is float64 [K, M], none of its numbers below zero.

        Raises ModelError for a weight that is not finite, UsageError without the statistics or the gradient it needs, InputError for those of another site.
        """
        refuse_strange(weight, self.name)
        return self.pruned(weight, statistics, pattern, gradient).astype(np.float32)

    def pruned(self, weight: np.ndarray, statistics: SiteStatistics | None, pattern: Pattern, gradient: np.ndarray | None) -> np.ndarray:
        """As `prune`, of a weight that is finite."""
        raise TypeError(f"{type(self).__name__} has no pruned")


@dataclass(frozen=True)
class Metric(Sparsifier):
    """A method that gives each weight a number, and lets those of the smallest go; what stays is as it was."""

    scope: ClassVar[Scope] = "column"

    def metric(self, weight: np.ndarray, statistics: SiteStatistics | None, gradient: np.ndarray | None) -> np.ndarray:
        """How much each weight matters, float64 [K, M]."""
        raise TypeError(f"{type(self).__name__} has no metric")

    def pruned(self, weight: np.ndarray, statistics: SiteStatistics | None, pattern: Pattern, gradient: np.ndarray | None) -> np.ndarray:
        """As `Sparsifier.pruned`."""
        return np.where(kept(self.metric(weight, statistics, gradient), pattern, self.scope), weight, 0.0)


def refuse_strange(weight: np.ndarray, method: str) -> None:
    """Raise ModelError for a weight with NaN or infinities."""
    if not np.isfinite(weight).all():
        raise ModelError(f"its weight holds NaN or infinities, which {method} cannot rank")


def input_norms(statistics: SiteStatistics | None, weight: np.ndarray, method: str) -> np.ndarray:
    """The root mean square of each input, float64 [K, 1]; all ones when no input was ever different from zero. Raises as `hessian.moment_of`."""
    return np.asarray(np.sqrt(importance(moment_of(statistics, weight, method)))[:, None])


def gradient_of(gradient: np.ndarray | None, weight: np.ndarray, method: str) -> np.ndarray:
    """A gradient that fits the weight. Raises UsageError without one, InputError for that of another weight, or one that is not finite."""
    if gradient is None:
        raise UsageError(f"{method} needs gradients: calibration data, and torch")
    if gradient.shape != weight.shape:
        raise InputError(f"{method}: a gradient of shape {list(gradient.shape)} does not belong to a weight of shape {list(weight.shape)}")
    if not np.isfinite(gradient).all():
        raise InputError(f"{method}: the gradient of this site is not finite on the calibration data")
    return np.abs(gradient.astype(np.float64))


@functools.cache
def sparsifiers() -> dict[str, type[Sparsifier]]:
    """Every method by name, from every module below ``passes/prune/unstructured``."""
    return dict(sorted(classes_below("passes.prune.unstructured", Sparsifier).items()))


def find_sparsifier(name: str) -> type[Sparsifier]:
    """A method by name. Raises UsageError when there is none."""
    return find_class(name, sparsifiers(), "pruning method {}")
