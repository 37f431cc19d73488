"""LLM.int8() (Dettmers et al., NeurIPS 2022): the few input channels with outliers stay in high precision, the others are rounded row by row."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .activation import ActivationGrid, Ranges
from .channels import channels_of
from .coded import Coded, Dense
from .joint import JointMethod, Precision, row_extremes

__all__ = ["Decomposed", "LlmInt8", "outlying_channels"]

HALF_BITS = 16


@dataclass(frozen=True)
class Decomposed:
    """``Q(X_rest) W'_rest + X_out W_out``: ``outliers`` bool [K] says which channels stay, in half precision on both sides."""

    outliers: np.ndarray
    grid: ActivationGrid
    rest: Coded | None
    kept: Dense

    def output(self, inputs: np.ndarray) -> np.ndarray:
        """As `Product.output`."""
        wide = inputs.astype(np.float64)
        found = wide[:, self.outliers] @ self.kept.matrix().astype(np.float64)
        if self.rest is None:
            return np.asarray(found)
        part = wide[:, ~self.outliers]
        whole = Ranges(part.min(keepdims=True), part.max(keepdims=True)) if part.size else Ranges(np.zeros(1), np.zeros(1))
        return np.asarray(found + self.grid.rounded(part, whole) @ self.rest.matrix().astype(np.float64))

    @property
    def stored_bits(self) -> float:
        """As `Product.stored_bits`."""
        return self.kept.stored_bits + (0.0 if self.rest is None else self.rest.stored_bits)


@dataclass(frozen=True)
class LlmInt8(JointMethod):
    """A channel with any ``|x| > threshold`` (in units of the root mean square of the input) is an outlier; section 3.2 has 6 for norms of about 1.

    Every row of X and every column of W has a scale of its own, symmetric (vector-wise, section 3.1).
    """

    name: ClassVar[str] = "llm.int8"
    moments: ClassVar[bool] = True

    threshold: float = 6.0

    def apply(self, weight: np.ndarray, statistics: SiteStatistics, precision: Precision) -> Decomposed:
        """As `JointMethod.apply`. An input that is always zero has no outliers."""
        row_extremes(weight, statistics)
        outliers = outlying_channels(statistics, self.threshold)
        grid = replace(precision.inputs, symmetric=True, token=True)
        content = weight[outliers].astype(np.float16).astype(np.float32)
        kept = Dense(content, float(content.size * HALF_BITS))
        rest = None if outliers.all() else precision.rounded(weight[~outliers], channels_of(statistics, ~outliers))
        return Decomposed(outliers, grid, rest, kept)


def outlying_channels(statistics: SiteStatistics, threshold: float = LlmInt8.threshold) -> np.ndarray:
    """Which input channels have any ``|x| > threshold`` (as in `LlmInt8`), bool [K]."""
    return np.asarray(statistics.abs_max > threshold * _middling(statistics))


def _middling(statistics: SiteStatistics) -> float:
    """The root mean square of an ordinary channel: the median over channels, which the outliers do not move."""
    squares = np.diagonal(statistics.moment) if statistics.moment.size else np.square(statistics.abs_mean) * np.pi / 2
    found = float(np.sqrt(np.median(squares[squares > 0]))) if (squares > 0).any() else 0.0
    return found if found > 0 else np.inf
