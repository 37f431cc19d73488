"""Which members go, so that the graph shrinks by as much as was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from ...compiler.core.cost import TYPICAL, flops
from ...compiler.core.graph import all_graphs
from .coupling.groups import Group, Slice

__all__ = ["MOST", "Choice", "arithmetic", "choose", "meet"]

MOST = 0.9
"""No group loses more than this share of its members."""
STEPS, EXACT = 12, 2e-3
"""How often a share is halved, and how near to what was asked for is near enough."""
Choice = dict[str, np.ndarray]
"""Group -> the places of its members that go."""


def choose(
    groups: Sequence[Group], missed: Mapping[str, np.ndarray], share: float, multiple: int, uniform: bool, costs: Mapping[str, float] | None = None
) -> Choice:
    """A ``share`` of what the groups cost: of each group, or, when not ``uniform``, where it is missed least for what it costs.

    ``costs`` is what one member of each group costs; without it, how many numbers it holds.

    What is left of a group is rounded up to a ``multiple``, where it has that many members.
    """
    counts = _uniformly(groups, share) if uniform else _greedily(groups, missed, share, costs)
    choice = {}
    for group, count in zip(groups, counts, strict=True):
        stays = group.size - min(count, int(MOST * group.size), group.size - 1)
        if multiple > 1 and group.size > multiple:
            stays = min(-(-stays // multiple) * multiple, group.size)
        choice[group.name] = np.sort(np.argsort(missed[group.name], kind="stable")[: group.size - stays])
    return choice


def _uniformly(groups: Sequence[Group], share: float) -> list[int]:
    return [round(share * group.size) for group in groups]


def _greedily(groups: Sequence[Group], missed: Mapping[str, np.ndarray], share: float, costs: Mapping[str, float] | None) -> list[int]:
    """How many of each group are among the cheapest."""
    owner = np.repeat(np.arange(len(groups)), [group.size for group in groups])
    weight = np.array([group.parameters if costs is None else costs[group.name] for group in groups], np.float64)[owner]
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
        if nearest < EXACT:
            break
        low, high = (middle, high) if found > 1 - wanted else (low, middle)
    return best


def arithmetic(model: ir.Model, groups: Sequence[Group]) -> dict[str, float]:
    """What one member of each group costs in additions, by name: its share of every operator that reads its weights; at least one."""
    spent: dict[ir.Value, int] = {}
    for graph in all_graphs(model):
        for node in graph:
            cost = flops(node, TYPICAL) or 0
            for value in node.inputs:
                if value is not None and value.is_initializer():
                    spent[value] = spent.get(value, 0) + cost
    return {group.name: max(1.0, sum(_share(item) * spent.get(item.weight, 0) for item in group.slices)) for group in groups}


def _share(item: Slice) -> float:
    return item.each / max(int(np.prod(item.weight.shape.numpy())), 1)  # type: ignore[union-attr]
