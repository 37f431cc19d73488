"""Which members go, so that the graph shrinks by as much as was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from .coupling.groups import Group

__all__ = ["MOST", "Choice", "choose", "meet"]

MOST = 0.9
"""No group loses more than this share of its members."""
STEPS = 12
Choice = dict[str, np.ndarray]
"""Group -> the places of its members that go."""


def choose(groups: Sequence[Group], missed: Mapping[str, np.ndarray], share: float, multiple: int, uniform: bool) -> Choice:
    """A ``share`` of the numbers that the groups hold: of each group, or, when not ``uniform``, where it is missed least for each number that goes.

    What is left of a group is rounded up to a ``multiple``, where it has that many members.
    """
    counts = _uniformly(groups, share) if uniform else _greedily(groups, missed, share)
    choice = {}
    for group, count in zip(groups, counts, strict=True):
        stays = group.size - min(count, int(MOST * group.size), group.size - 1)
        if multiple > 1 and group.size > multiple:
            stays = min(-(-stays // multiple) * multiple, group.size)
        choice[group.name] = np.sort(np.argsort(missed[group.name], kind="stable")[: group.size - stays])
    return choice


def _uniformly(groups: Sequence[Group], share: float) -> list[int]:
    return [round(share * group.size) for group in groups]


def _greedily(groups: Sequence[Group], missed: Mapping[str, np.ndarray], share: float) -> list[int]:
    """How many of each group are among the cheapest."""
    owner = np.repeat(np.arange(len(groups)), [group.size for group in groups])
    weight = np.array([group.parameters for group in groups], np.float64)[owner]
    price = np.concatenate([np.sort(missed[group.name]) for group in groups]) / weight
    place = np.concatenate([np.arange(group.size) / group.size for group in groups])
    order = np.argsort(np.where(place < MOST, price, np.inf), kind="stable")
    taken = order[np.cumsum(weight[order]) <= share * weight.sum()]
    return np.bincount(owner[taken], minlength=len(groups)).tolist()


def meet(wanted: float, left: Callable[[float], float]) -> float:
    """The share to choose so that the part ``left`` of the model is 1 - ``wanted``, by bisection; ``left`` falls as the share grows."""
    low, high = 0.0, 1.0
    best, nearest = 0.0, float("inf")
    for _ in range(STEPS):
        middle = (low + high) / 2
        found = left(middle)
        if abs(found - (1 - wanted)) < nearest:
            best, nearest = middle, abs(found - (1 - wanted))
        low, high = (middle, high) if found > 1 - wanted else (low, middle)
    return best
