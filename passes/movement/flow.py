"""The cheapest way to part a network of pipes in two: a minimum cut is where the largest flow is stopped (Ford and Fulkerson 1956, Dinitz 1970)."""

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
        if capacity:
            forth, back = self._left.setdefault(start, {}), self._left.setdefault(end, {})
            forth[end] = forth.get(end, 0) + capacity
            back.setdefault(start, 0)

    def parted(self) -> set[Hashable]:
        """The points on the side of the source where the pipes that are cut carry least; of several ways the one with the fewest points."""
        while SINK in (levels := self._levels()):
            pipes = {point: [after for after in self._left[point] if levels.get(after) == levels[point] + 1] for point in levels}
            while self._push(pipes):
                pass
        return set(levels)

    def _levels(self) -> dict[Hashable, int]:
        """How many pipes with room each point is away from the source, for those that can be reached."""
        levels: dict[Hashable, int] = {SOURCE: 0}
        queue: deque[Hashable] = deque([SOURCE])
        while queue:
            point = queue.popleft()
            for after, room in self._left[point].items():
                if room > 0 and after not in levels:
                    levels[after] = levels[point] + 1
                    queue.append(after)
        return levels

    def _push(self, pipes: dict[Hashable, list[Hashable]]) -> bool:
        """Fill one way from the source to the sink along ``pipes``, and take the full ones off; False when there is none left."""
        path: list[Hashable] = [SOURCE]
        while path[-1] != SINK:
            here = path[-1]
            while pipes[here] and self._left[here][pipes[here][-1]] == 0:
                pipes[here].pop()
            if pipes[here]:
                path.append(pipes[here][-1])
                continue
            path.pop()
            if not path:
                return False
            pipes[path[-1]].pop()
        steps = list(zip(path, path[1:], strict=False))
        room = min(self._left[start][end] for start, end in steps)
        for start, end in steps:
            self._left[start][end] -= room
            self._left[end][start] += room
        return True
