"""A graph in which blocks are single points, kept in topological order while they grow: what would close a cycle is refused."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

Point = TypeVar("Point", bound=Hashable)


class Contraction(Generic[Point]):
    """Points and edges, all points apart at first. ``order`` is topological.

    Each point that others were merged into stands for all of them. The order is kept up as Pearce and Kelly (2007) do for a new edge: only what lies
    between the two places is looked at, so that a plan takes about linear time.
    """

    def __init__(self, order: Iterable[Point], edges: Iterable[tuple[Point, Point]]) -> None:
        self._place = {point: place for place, point in enumerate(order)}
        self._after: dict[Point, set[Point]] = {point: set() for point in self._place}
        self._before: dict[Point, set[Point]] = {point: set() for point in self._place}
        for one, other in edges:
            self._after[one].add(other)
            self._before[other].add(one)

    def place(self, point: Point) -> int:
        """Where a point stands in the order; only to be compared."""
        return self._place[point]

    def merge(self, point: Point, other: Point) -> bool:
        """Let ``point`` stand for ``other`` too; False, with nothing changed, when a path through a third point leads from one to the other."""
        first, last = sorted((point, other), key=self._place.__getitem__)
        behind = self._behind(first, last)
        if behind is None:
            return False
        ahead = self._ahead(first, last)
        places = sorted(self._place[item] for item in (*ahead, first, last, *behind))
        ahead.sort(key=self._place.__getitem__)
        behind.sort(key=self._place.__getitem__)
        for item, place in zip((*ahead, point, *behind), (*places[: len(ahead) + 1], *places[len(ahead) + 2 :]), strict=True):
            self._place[item] = place
        self._join(point, other)
        return True

    def _behind(self, first: Point, last: Point) -> list[Point] | None:
        """What follows ``first`` and stands before ``last``; None when ``last`` follows one of them."""
        end = self._place[last]
        seen = {item for item in self._after[first] if item != last and self._place[item] < end}
        stack = list(seen)
        while stack:
            for item in self._after[stack.pop()]:
                if item == last:
                    return None
                if item not in seen and self._place[item] < end:
                    seen.add(item)
                    stack.append(item)
        return list(seen)

    def _ahead(self, first: Point, last: Point) -> list[Point]:
        """What leads to ``last`` and stands behind ``first``."""
        start = self._place[first]
        seen = {item for item in self._before[last] if item != first and self._place[item] > start}
        stack = list(seen)
        while stack:
            for item in self._before[stack.pop()]:
                if item not in seen and self._place[item] > start:
                    seen.add(item)
                    stack.append(item)
        return list(seen)

    def _join(self, point: Point, other: Point) -> None:
        for here, there in ((self._after, self._before), (self._before, self._after)):
            for item in here.pop(other):
                there[item].discard(other)
                if item != point:
                    there[item].add(point)
                    here[point].add(item)
        del self._place[other]
