"""OBS: what the others can stand for is missed least (Hassibi and Stork, "Optimal Brain Surgeon", 1993; by structures: Kurtic et al., "ZipLM", 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .covariance import covariance, inverse
from .score import Score

ROUNDS = 48
"""Members go in so many rounds at most; within one, those that go do not know of each other."""


@dataclass(frozen=True)
class Obs(Score):
    """The output error that is left once all other rows have been fitted anew, tr(W_m' ((C^-1)_mm)^-1 W_m) for C the covariance of the inputs, with the
    members that are missed least taken out first: what is left is fitted, and asked again.
    """

    name: ClassVar[str] = "obs"
    refines: ClassVar[str | None] = "flap"
    calibrated: ClassVar[bool] = True

    def of_reader(self, weight: np.ndarray, statistics: SiteStatistics, places: np.ndarray) -> np.ndarray:
        """As `Score.of_reader`: the k-th to go is missed as much as it adds to the error, and no less than those before it."""
        inverted, rows = inverse(covariance(statistics)), weight.astype(np.float64)
        missed, left = np.zeros(len(places)), np.arange(len(places))
        each, least = max(1, -(-len(places) // ROUNDS)), 0.0
        while len(left):
            errors = _errors(inverted, rows, places[left])
            order = np.argsort(errors, kind="stable")[:each]
            least = max(least, float(errors[order[0]]))
            missed[left[order]] = np.maximum(errors[order], least)
            least = float(missed[left[order]].max())
            _take(inverted, rows, places[left[order]].reshape(-1))
            left = np.delete(left, order)
        return missed


def _errors(inverted: np.ndarray, rows: np.ndarray, places: np.ndarray) -> np.ndarray:
    blocks = inverted[places[:, :, None], places[:, None, :]]
    held = rows[places]
    return np.asarray(np.einsum("mik,mik->m", held, np.linalg.solve(blocks, held)))


def _take(inverted: np.ndarray, rows: np.ndarray, gone: np.ndarray) -> None:
    """Fit the other rows to what these gave, and take these out of the inverse (in place); numbers of rows that are gone mean nothing any more."""
    block = np.linalg.solve(inverted[np.ix_(gone, gone)], np.concatenate([rows[gone], inverted[gone]], axis=1))
    across = inverted[:, gone].copy()
    rows -= across @ block[:, : rows.shape[1]]
    inverted -= across @ block[:, rows.shape[1] :]
