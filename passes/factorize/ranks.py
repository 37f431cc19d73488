"""How many numbers each weight may keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Curve", "rank_at", "spend"]

STEPS = 100


@dataclass(frozen=True)
class Curve:
    """What a weight costs and loses: ``lost`` float64 [n + 1] at each rank, falling; ``unit`` is the cost of a rank, ``whole`` that of the weight as it is.

    ``matters`` is what losing all of it costs the model.
    """

    lost: np.ndarray
    unit: float
    whole: float
    matters: float = 1.0

    def cost(self, rank: int | None) -> float:
        """At a rank; None: as it is."""
        return self.whole if rank is None else rank * self.unit


def rank_at(lost: np.ndarray, energy: float) -> int:
    """The least rank that keeps this share of the energy; 1 at least."""
    return max(1, int(np.argmax(lost <= 1 - energy)) if (lost <= 1 - energy).any() else len(lost) - 1)


def spend(curves: Sequence[Curve], budget: float) -> list[int | None]:
    """The rank of each weight (None: it stays as it is, for it would cost as much) that loses least of what matters for at most ``budget``.

    A component is kept where what it saves of the loss is worth its cost, at one price for all: the lowest that keeps the budget. At any price a weight
    keeps one rank, so that the budget may be missed where it is less than that.
    """
    gains = [np.maximum(-np.diff(curve.lost), 0.0) * curve.matters / curve.unit for curve in curves]
    positive = np.concatenate([gain[gain > 0] for gain in gains]) if gains else np.zeros(0)
    if not positive.size:
        return [1 for _ in curves]
    low, high = np.log(float(positive.min())) - 1, np.log(float(positive.max())) + 1
    if _total(curves, _at_price(curves, gains, float(np.exp(low)))) <= budget:
        return _at_price(curves, gains, float(np.exp(low)))
    for _ in range(STEPS):
        middle = (low + high) / 2
        if _total(curves, _at_price(curves, gains, float(np.exp(middle)))) <= budget:
            high = middle
        else:
            low = middle
    return _at_price(curves, gains, float(np.exp(high)))


def _at_price(curves: Sequence[Curve], gains: Sequence[np.ndarray], price: float) -> list[int | None]:
    ranks = [max(1, int((gain >= price).sum())) for gain in gains]
    return [None if rank * curve.unit >= curve.whole else rank for rank, curve in zip(ranks, curves, strict=True)]


def _total(curves: Sequence[Curve], ranks: Sequence[int | None]) -> float:
    return sum(curve.cost(rank) for rank, curve in zip(ranks, curves, strict=True))
