"""Weights to prune, with statistics of their inputs and rows that these have not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphwright.compiler.core.statistics import SiteStatistics


@dataclass(frozen=True)
class Case:
    """A weight [K, M], what calibration knows of its input and how much the answers mind each weight; and unseen rows of that input."""

    weight: np.ndarray
    statistics: SiteStatistics
    slopes: np.ndarray
    unseen: np.ndarray

    def error(self, found: np.ndarray) -> float:
        """``|| X W - X W^ || / || X W ||`` on the unseen rows."""
        rows = self.unseen.astype(np.float64)
        return float(np.linalg.norm(rows @ (self.weight - found)) / np.linalg.norm(rows @ self.weight))


def statistics_of(rows: np.ndarray) -> SiteStatistics:
    """Statistics of an input X [N, K]."""
    wide = rows.astype(np.float64)
    sizes = np.abs(wide)
    return SiteStatistics(
        wide.T @ wide / len(rows), wide.min(0), wide.max(0), sizes.max(0), sizes.mean(0), wide.mean(0), rows.astype(np.float32), len(rows)
    )


def case_of(weight: np.ndarray, rows: np.ndarray) -> Case:
    """A case with statistics of these rows, judged on them."""
    slopes = np.sqrt(np.square(rows.astype(np.float64)).mean(axis=0))[:, None] * np.ones(weight.shape[1])
    return Case(weight.astype(np.float32), statistics_of(rows), slopes, rows)


def plant(inputs: int = 160, outputs: int = 40, seed: int = 0) -> Case:
    """Correlated inputs of which some are ten times as large as others."""
    random = np.random.default_rng(seed)
    mixing = random.standard_normal((max(2, inputs // 4), inputs))
    rows = (random.standard_normal((1600, len(mixing))) @ mixing + random.standard_normal((1600, inputs))) * np.exp(random.uniform(-1.2, 1.2, inputs))
    found = case_of(0.1 * random.standard_normal((inputs, outputs)), rows[:1200])
    return Case(found.weight, found.statistics, found.slopes, rows[1200:])
