"""What a method of factorisation is, and where they are found. Pure numerics: a method knows no graph."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.errors import ModelError
from ...compiler.core.modules import classes_below, find_class
from ...compiler.core.statistics import SiteStatistics
from .factors import Factors, Stage, balanced

__all__ = ["Decomposition", "KernelMethod", "LowRank", "MatrixMethod", "Method", "SharingMethod", "find_method", "finite", "methods"]


@dataclass(frozen=True)
class Method:
    """One way of writing a weight as a product; its fields are its settings. ``refines`` is the method it has to beat.

    ``moments`` says that it reads ``statistics.moment``, ``channels`` that it reads numbers by input channel; with neither ``statistics`` may be None.
    ``size_only`` says that a runtime without sparse kernels multiplies by no fewer numbers than before: only the file is smaller.
    """

    name: ClassVar[str]
    refines: ClassVar[str | None] = None
    moments: ClassVar[bool] = False
    channels: ClassVar[bool] = False
    size_only: ClassVar[bool] = False

    @classmethod
    def calibrated(cls) -> bool:
        """Whether it needs statistics."""
        return cls.moments or cls.channels


@dataclass(frozen=True)
class MatrixMethod(Method):
    """For any site: its weight is a matrix [K, M]."""

    def numbers(self, inputs: int, outputs: int, rank: int) -> int:
        """How many numbers a weight [inputs, outputs] has at a rank. Raises UsageError where the method knows no rank."""
        return rank * (inputs + outputs)

    def factor(self, weight: np.ndarray, statistics: SiteStatistics | None, room: int) -> Factors:
        """``weight`` float64 [K, M] in at most ``room`` numbers (or the least that it can do with). Raises ModelError for a weight that is not finite."""
        raise TypeError(f"{type(self).__name__} has no factor")


@dataclass(frozen=True)
class Decomposition:
    """``left diag(values) right``, the greatest value first: float64 [K, n], [n], [n, M]. Its first r terms are the answer at rank r.

    ``mean`` float64 [M] is what the outputs lose the mean of where only their variation was decomposed; it then comes back as a bias.
    """

    left: np.ndarray
    values: np.ndarray
    right: np.ndarray
    mean: np.ndarray | None = None

    @property
    def lost(self) -> np.ndarray:
        """The share of all that is lost at each rank from 0 on, float64 [n + 1], falling to 0."""
        energies = np.square(self.values)
        total = float(energies.sum())
        left = np.concatenate([[total], total - np.cumsum(energies)])
        return np.maximum(left / total, 0.0) if total > 0 else np.zeros(len(left))

    def cut(self, rank: int) -> Factors:
        """The first ``rank`` terms, at least one."""
        rank = max(1, min(rank, len(self.values)))
        root = np.sqrt(self.values[:rank])
        left, right = balanced(self.left[:, :rank] * root, root[:, None] * self.right[:rank])
        bias = None
        if self.mean is not None:
            span = self.right[:rank]
            bias = self.mean - (self.mean @ span.T) @ span
        return Factors((left, right), bias=bias, form=f"rank {rank}")


@dataclass(frozen=True)
class LowRank(MatrixMethod):
    """A method whose answers at all ranks are parts of one decomposition. ``learned`` says that its ranks are, unless something else is asked for."""

    learned: ClassVar[bool] = False

    def decompose(self, weight: np.ndarray, statistics: SiteStatistics | None) -> Decomposition:
        """``weight`` float64 [K, M]."""
        raise TypeError(f"{type(self).__name__} has no decompose")

    def decompose_for(self, weight: np.ndarray, statistics: SiteStatistics | None, rank: int) -> Decomposition:
        """As `decompose`, where it is known that ``rank`` terms will be kept."""
        return self.decompose(weight, statistics)

    def within(self, inputs: int, outputs: int, room: int) -> int:
        """The greatest rank whose numbers fit into ``room``."""
        spare = self.numbers(inputs, outputs, 0)
        return max(room - spare, 0) // (self.numbers(inputs, outputs, 1) - spare)

    def factor(self, weight: np.ndarray, statistics: SiteStatistics | None, room: int) -> Factors:
        """As `MatrixMethod.factor`."""
        rank = self.within(len(weight), weight.shape[1], room)
        return self.decompose_for(finite(weight), statistics, rank).cut(rank)


@dataclass(frozen=True)
class SharingMethod(Method):
    """For several weights [K, M] of one shape, that stand in like places of a model: they share a part of their factors. ``group`` is how many.

    ``singles`` says that it has something for a weight without a like, too.
    """

    moments: ClassVar[bool] = True
    singles: ClassVar[bool] = False

    group: int = 2

    def together(self, share: float) -> int:
        """How many weights share, where they keep this share of their numbers."""
        return self.group

    def factor(self, weights: Sequence[np.ndarray], statistics: Sequence[SiteStatistics | None], share: float) -> list[Factors]:
        """The weights float64 [K, M] in ``share`` of their numbers together. What is shared is one array. Raises ModelError for one that is not finite."""
        raise TypeError(f"{type(self).__name__} has no factor")


@dataclass(frozen=True)
class KernelMethod(Method):
    """For convolutions with a kernel of more than one tap: one becomes several smaller ones in a row."""

    def numbers(self, shape: tuple[int, ...], rank: int) -> int:
        """How many numbers a kernel [M, C, *taps] has at a rank."""
        raise TypeError(f"{type(self).__name__} has no numbers")

    def most(self, shape: tuple[int, ...]) -> int:
        """The greatest rank that means anything."""
        return min(shape[0], shape[1] * int(np.prod(shape[2:])))

    def factor(self, kernel: np.ndarray, statistics: SiteStatistics | None, rank: int) -> list[Stage]:
        """``kernel`` float64 [M, C, *taps] of one group. Raises ModelError for one that is not finite."""
        raise TypeError(f"{type(self).__name__} has no factor")

    def refusal(self, shape: tuple[int, ...]) -> str | None:
        """Why a kernel of this shape is not for it."""
        return "a kernel of one tap is a matrix: take a method for matrices" if int(np.prod(shape[2:])) == 1 else None


@functools.cache
def methods() -> dict[str, type[Method]]:
    """Every method by name, from every module below ``passes/factorize``."""
    return dict(sorted(classes_below("passes.factorize", Method).items()))


def find_method(name: str) -> type[Method]:
    """A method by name. Raises UsageError when there is none."""
    return find_class(name, methods(), "method of factorisation {}")


def finite(weight: np.ndarray) -> np.ndarray:
    """The weight, float64. Raises ModelError when a number of it is not finite."""
    wide = weight.astype(np.float64)
    if not np.isfinite(wide).all():
        raise ModelError("its weight holds NaN or infinities")
    return wide
