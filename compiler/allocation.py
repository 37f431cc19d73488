"""How to spend a budget over many sites: one way of storing each, so that what it costs in all keeps a bound and what it harms is least."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Choice", "allocate"]

MOST_STATES = 1 << 13
"""Partial sums that are kept; while there are no more the answer is the best there is, beyond that the front is thinned evenly along its cost."""
SLACK = 1e-9


@dataclass(frozen=True)
class Choice:
    """A way of storing one site: what it costs (bytes, seconds; may be negative) and what it harms (noise; adds up over sites)."""

    cost: float
    harm: float


def allocate(sites: Sequence[Sequence[Choice]], budget: float) -> list[int] | None:
    """For each site the place of its choice: the least harm in all among those that cost at most ``budget`` in all; None when nothing is that cheap.

    A multiple-choice knapsack, solved by dynamic programming over the front of (cost, harm) that no other partial sum beats in both. Choices with
    infinite harm are never taken. For the least cost under a bound of harm, hand in choices with the two exchanged.
    """
    usable = [[place for place, choice in enumerate(choices) if math.isfinite(choice.harm) and math.isfinite(choice.cost)] for choices in sites]
    if not all(usable):
        return None
    least = [min(choices[place].cost for place in places) for choices, places in zip(sites, usable, strict=True)]
    room = np.cumsum([0.0, *least[::-1]])[::-1]  # What the sites from this one on cost at least.
    limit = budget + SLACK * max(abs(budget), 1.0)
    costs, harms = np.zeros(1), np.zeros(1)
    trail: list[tuple[np.ndarray, np.ndarray]] = []
    for number, (choices, places) in enumerate(zip(sites, usable, strict=True)):
        costs, harms, origin, taken = _extend(costs, harms, [choices[place] for place in places], limit - room[number + 1])
        if not len(costs):
            return None
        trail.append((origin, np.asarray(places)[taken]))
    return _walk_back(trail, int(np.argmin(harms)))


def _extend(costs: np.ndarray, harms: np.ndarray, choices: Sequence[Choice], limit: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The front with one more site: costs, harms, the state each comes from, and the choice it takes."""
    added, harmed = np.array([choice.cost for choice in choices]), np.array([choice.harm for choice in choices])
    cost, harm = (costs[:, None] + added).ravel(), (harms[:, None] + harmed).ravel()
    fits = np.flatnonzero(cost <= limit)
    order = fits[np.lexsort((harm[fits], cost[fits]))]
    better = np.ones(len(order), dtype=bool)
    better[1:] = harm[order][1:] < np.minimum.accumulate(harm[order])[:-1]
    front = _thinned(order[better], cost)
    return cost[front], harm[front], front // len(choices), front % len(choices)


def _thinned(front: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """At most `MOST_STATES` of the front, which is sorted by cost: of each slice of the cost the last, which harms least; and always the cheapest."""
    if len(front) <= MOST_STATES:
        return front
    low, high = cost[front[0]], cost[front[-1]]
    cells = np.floor((cost[front] - low) / (high - low) * (MOST_STATES - 2)).astype(np.int64)
    last = np.append(cells[1:] != cells[:-1], True)
    last[0] = True
    return front[last]


def _walk_back(trail: Sequence[tuple[np.ndarray, np.ndarray]], state: int) -> list[int]:
    found: list[int] = []
    for origin, taken in reversed(trail):
        found.append(int(taken[state]))
        state = int(origin[state])
    return found[::-1]
