"""HALP: what the members of each group cost in measured time (Shen et al., "Structural Pruning via Latency-Saliency Knapsack", 2022, section 3.2).

Their table holds the time of every layer at every width; here the whole model is timed without half of each group, for one group may widen many layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ...compiler.core.judge import Span
from .choosing import Counts
from .coupling.groups import Group

__all__ = ["measured_costs"]

MOST = 40
"""So many groups are timed at most, those with most arithmetic; the time of the others is taken to go with theirs."""
LEAST = 0.1
"""A member is taken to cost at least this part of what its arithmetic would: what cannot be told from nothing is not nothing."""
Time = Callable[[Counts], Span | None]
"""The time of the model without so many members of each group, as a part of its own."""


def measured_costs(groups: Sequence[Group], arithmetic: Mapping[str, float], time: Time) -> dict[str, float]:
    """What one member of each group costs, in the model's time where ``arithmetic`` counts additions."""
    whole = max(sum(arithmetic[group.name] * group.size for group in groups), 1.0)
    shares = {group.name: arithmetic[group.name] / whole for group in groups}
    order = sorted(range(len(groups)), key=lambda place: -shares[groups[place].name] * groups[place].size)
    found: dict[str, float] = {}
    for place in order[:MOST]:
        half = groups[place].size // 2
        span = time(tuple(half if other == place else 0 for other in range(len(groups)))) if half else None
        if span is not None:
            found[groups[place].name] = (1 - span.ratio) / half
    asked = sum(shares[name] for name in found)
    rate = max(sum(found.values()) / asked, LEAST) if asked else 1.0
    return {name: max(found.get(name, rate * share), LEAST * rate * share) for name, share in shares.items()}
