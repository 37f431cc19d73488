"""The cheapest way to part a network of pipes in two (Ford and Fulkerson 1956; shortest paths first: Edmonds and Karp 1972)."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

SOURCE = "source"
SINK = "sink"
ENDLESS = 2**62


class Network:
    """Pipes between points; `parted` tells which points stay on the side of the source."""

    def __init__(self) -> None:
        self._left: dict[Hashable, dict[Hashable, int]] = {SOURCE: {}, SINK: {}}

    def pipe(self, start: Hashable, end: Hashable, capacity: int) -> None:
        """Let so much more flow from ``start`` to ``end``."""
        forth, back = self._left.setdefault(start, {}), self._left.setdefault(end, {})
        if capacity:
            forth[end] = forth.get(end, 0) + capacity
            back.setdefault(start, 0)

    def parted(self) -> set[Hashable]:
        """The points on the side of the source where the pipes that are cut carry least; of several ways the one with the fewest points."""
        while True:
            came_from = self._reached()
            if SINK not in came_from:
                return set(came_from)
            path, point = [], SINK
            while point != SOURCE:
                path.append((came_from[point], point))
                point = came_from[point]
            room = min(self._left[start][end] for start, end in path)
            for start, end in path:
                self._left[start][end] -= room
                self._left[end][start] = self._left[end].get(start, 0) + room

    def _reached(self) -> dict[Hashable, Hashable]:
        came_from: dict[Hashable, Hashable] = {SOURCE: SOURCE}
        queue: deque[Hashable] = deque([SOURCE])
        while queue and SINK not in came_from:
            point = queue.popleft()
            for after, room in self._left[point].items():
                if room > 0 and after not in came_from:
                    came_from[after] = point
                    queue.append(after)
        return came_from
