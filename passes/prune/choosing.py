"""Which members go, so that the graph shrinks by as much as was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.cost import flops, typical_size
from ...compiler.core.graph import all_graphs
from .coupling.groups import Group, Slice

__all__ = ["MOST", "Choice", "Counts", "Picker", "arithmetic", "meet"]

MOST = 0.9
"""No group loses more than this share of its members."""
STEPS, EXACT = 12, 2e-3
"""How often a share is halved, and how near to what was asked for is near enough."""
COARSE = 1e-2
"""How far from what was asked for a share may end before single members are looked at: in a small model each of them counts."""
SINGLE_STEPS, MOST_TRIALS = 6, 96
Choice = dict[str, np.ndarray]
"""Group -> the places of its members that go."""
Counts = tuple[int, ...]
"""How many members of each group go."""


@dataclass(frozen=True)
class Picker:
    """Chooses members of ``groups`` that are ``missed`` least.

    ``costs`` is what one member of each group costs (None: how many numbers it holds). What is left of a group is rounded up to a ``multiple``, where it
    has that many members.
    """

    groups: Sequence[Group]
    missed: Mapping[str, np.ndarray]
    multiple: int = 1
    uniform: bool = False
    costs: Mapping[str, float] | None = None

    def counts(self, share: float) -> Counts:
        """A ``share`` of what the groups cost: of each group, or, when not ``uniform``, where it is missed least for what it costs."""
        found = [round(share * group.size) for group in self.groups] if self.uniform else self._greedily(share)
        return self.settled(found)

    def settled(self, counts: Sequence[int]) -> Counts:
        """As many as may go, with what stays rounded."""
        return tuple(group.size - self._staying(group, count) for group, count in zip(self.groups, counts, strict=True))

    def pick(self, counts: Counts) -> Choice:
        """So many of each group, those that are missed least."""
        return {
            group.name: np.sort(np.argsort(self.missed[group.name], kind="stable")[:count]) for group, count in zip(self.groups, counts, strict=True)
        }  # fmt: skip

    def beside(self, counts: Counts) -> Iterator[Counts]:
        """The same with one step more or less of one group."""
        for place, group in enumerate(self.groups):
            for step in (1, -1):
                count = counts[place] + step * (self.multiple if group.size > self.multiple else 1)
                found = self.settled([*counts[:place], max(count, 0), *counts[place + 1 :]])
                if found != counts:
                    yield found

    def _staying(self, group: Group, count: int) -> int:
        stays = group.size - min(count, int(MOST * group.size), group.size - 1)
        if self.multiple > 1 and group.size > self.multiple:
            return min(-(-stays // self.multiple) * self.multiple, group.size)
        return stays

    def _greedily(self, share: float) -> list[int]:
        """How many of each group are among the cheapest."""
        owner = np.repeat(np.arange(len(self.groups)), [group.size for group in self.groups])
        weight = np.array([group.parameters if self.costs is None else self.costs[group.name] for group in self.groups], np.float64)[owner]
        price = np.concatenate([np.sort(self.missed[group.name]) for group in self.groups]) / weight
        place = np.concatenate([np.arange(group.size) / group.size for group in self.groups])
        order = np.argsort(np.where(place < MOST, price, np.inf), kind="stable")
        taken = order[np.cumsum(weight[order]) <= share * weight.sum()]
        return np.bincount(owner[taken], minlength=len(self.groups)).tolist()


def meet(wanted: float, picker: Picker, left: Callable[[Counts], float], exact: float = EXACT) -> tuple[Counts, float]:
    """How many members of each group to take so that the part ``left`` of the model is 1 - ``wanted``, and the part that is left then.

    ``exact`` is near enough. By bisection of their share, for ``left`` falls as it grows; then, where whole shares come no nearer than `COARSE`, by
    single members.
    """
    known: dict[Counts, float] = {}

    def off(counts: Counts) -> float:
        if counts not in known:
            known[counts] = left(counts)
        return known[counts] - (1 - wanted)

    low, high = 0.0, 1.0
    best = picker.counts(0.0)
    for _ in range(STEPS):
        middle = (low + high) / 2
        counts = picker.counts(middle)
        best = min(best, counts, key=lambda one: abs(off(one)))
        if abs(off(best)) < exact:
            break
        low, high = (middle, high) if off(counts) > 0 else (low, middle)
    if abs(off(best)) > COARSE and 2 * len(picker.groups) <= MOST_TRIALS:
        best = min((_descended(start, picker, off) for start in dict.fromkeys((best, picker.counts(low)))), key=lambda one: abs(off(one)))
    return best, known[best]


def _descended(start: Counts, picker: Picker, off: Callable[[Counts], float]) -> Counts:
    """The nearest that single members lead to from a start."""
    best = start
    for _ in range(SINGLE_STEPS):
        nearer = min((best, *picker.beside(best)), key=lambda one: abs(off(one)))
        if nearer == best:
            break
        best = nearer
    return best


def arithmetic(model: ir.Model, groups: Sequence[Group]) -> dict[str, float]:
    """What one member of each group costs in additions, by name: its share of every operator that reads its weights; at least one."""
    spent: dict[ir.Value, int] = {}
    unknown = typical_size(model)
    for graph in all_graphs(model):
        for node in graph:
            cost = flops(node, unknown) or 0
            for value in node.inputs:
                if value is not None and value.is_initializer():
                    spent[value] = spent.get(value, 0) + cost
    return {group.name: max(1.0, sum(_share(item) * spent.get(item.weight, 0) for item in group.slices)) for group in groups}


def _share(item: Slice) -> float:
    return item.each / max(int(np.prod(item.weight.shape.numpy())), 1)  # type: ignore[union-attr]
