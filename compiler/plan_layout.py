"""Where boxes of a layered drawing go: every box below those that it reads, neighbours near each other, long lines around the boxes between."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

Key = Hashable
Point = tuple[float, float]

GAP, LANE = 18.0, 12.0
"""Room between boxes, and the width of a line that passes them."""
RISE = 34.0
"""Room between layers."""
WIDEST = 14
"""Boxes in a row; a layer with more is broken into several rows."""
SWEEPS = 6


@dataclass(frozen=True)
class Layout:
    """The middle of each box, the points of the line from each box to each that reads it, and the size of the whole."""

    centres: Mapping[Key, Point]
    lines: Mapping[tuple[Key, Key], tuple[Point, ...]]
    width: float
    height: float


def lay_out(sizes: Mapping[Key, tuple[float, float]], edges: Sequence[tuple[Key, Key]]) -> Layout:
    """Place boxes of these sizes (width, height), given in an order in which each comes after those it reads."""
    above: dict[Key, list[Key]] = defaultdict(list)
    for one, other in edges:
        above[other].append(one)
    rows = _rows(sizes, above)
    row_of = {key: place for place, row in enumerate(rows) for key in row}
    lanes = _lanes(edges, row_of, rows)
    widths = {key: (sizes[key][0] if key in sizes else 0.0) for row in rows for key in row}
    links = _links(edges, row_of, lanes)
    _reorder(rows, links)
    across = _place(rows, widths, links)
    left = min((across[key] - widths[key] / 2 for row in rows for key in row), default=0.0)
    tops: list[float] = [0.0]
    for row in rows:
        tops.append(tops[-1] + max((sizes[key][1] for key in row if key in sizes), default=0.0) + RISE)
    middles = [(top + below - RISE) / 2 for top, below in zip(tops, tops[1:], strict=False)]
    points = {key: (across[key] - left + GAP, middles[place] + GAP) for place, row in enumerate(rows) for key in row}
    lines = {(one, other): tuple(points[key] for key in _path(one, other, row_of, lanes)) for one, other in edges}
    width = max((points[key][0] + widths[key] / 2 for key in points), default=0.0) + GAP
    return Layout({key: points[key] for key in sizes}, lines, width, tops[-1] + 2 * GAP)


def _rows(sizes: Mapping[Key, object], above: Mapping[Key, list[Key]]) -> list[list[Key]]:
    """Each box in the first row below all that it reads; rows that are too wide go on below."""
    depth: dict[Key, int] = {}
    layers: dict[int, list[Key]] = defaultdict(list)
    for key in sizes:
        depth[key] = 1 + max((depth[other] for other in above.get(key, ())), default=-1)
        layers[depth[key]].append(key)
    return [layers[level][start : start + WIDEST] for level in sorted(layers) for start in range(0, len(layers[level]), WIDEST)]


def _lanes(edges: Sequence[tuple[Key, Key]], row_of: dict[Key, int], rows: list[list[Key]]) -> dict[tuple[Key, int], Key]:
    """A lane through every row that a line from a box passes; lines from the same box share it."""
    lanes: dict[tuple[Key, int], Key] = {}
    for one, other in edges:
        for row in range(row_of[one] + 1, row_of[other]):
            if (one, row) not in lanes:
                lanes[one, row] = ("lane", one, row)
                rows[row].append(lanes[one, row])
    return lanes


def _path(one: Key, other: Key, row_of: Mapping[Key, int], lanes: Mapping[tuple[Key, int], Key]) -> list[Key]:
    return [one, *(lanes[one, row] for row in range(row_of[one] + 1, row_of[other])), other]


def _links(edges: Sequence[tuple[Key, Key]], row_of: Mapping[Key, int], lanes: Mapping[tuple[Key, int], Key]) -> dict[Key, set[Key]]:
    links: dict[Key, set[Key]] = defaultdict(set)
    for one, other in edges:
        path = _path(one, other, row_of, lanes)
        for first, second in zip(path, path[1:], strict=False):
            links[first].add(second)
            links[second].add(first)
    return links


def _reorder(rows: list[list[Key]], links: Mapping[Key, set[Key]]) -> None:
    """Put what is connected above each other: each row by the mean place of its neighbours in the row before it, down and up."""
    for sweep in range(SWEEPS):
        order = range(1, len(rows)) if sweep % 2 == 0 else range(len(rows) - 2, -1, -1)
        for place in order:
            beside = {key: index for index, key in enumerate(rows[place - 1 if sweep % 2 == 0 else place + 1])}
            now = {key: float(index) for index, key in enumerate(rows[place])}
            rows[place].sort(key=lambda key, beside=beside, now=now: _mean([beside[other] for other in links.get(key, ()) if other in beside], now[key]))  # type: ignore[misc]


def _place(rows: Sequence[Sequence[Key]], widths: Mapping[Key, float], links: Mapping[Key, set[Key]]) -> dict[Key, float]:
    """Pull each box towards its neighbours without changing the order of a row."""
    across: dict[Key, float] = {}
    for row in rows:
        total = sum(max(widths[key], LANE) + GAP for key in row)
        edge = -total / 2
        for key in row:
            across[key] = edge + (max(widths[key], LANE) + GAP) / 2
            edge += max(widths[key], LANE) + GAP
    for sweep in range(SWEEPS):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wished = [_mean([across[other] for other in links.get(key, ())], across[key]) for key in row]
            rooms = [max(widths[key], LANE) + GAP for key in row]
            rightward, leftward = _pushed(wished, rooms), [-place for place in _pushed([-wish for wish in reversed(wished)], rooms[::-1])][::-1]
            for key, one, other in zip(row, rightward, leftward, strict=True):
                across[key] = (one + other) / 2
    return across


def _pushed(wished: Sequence[float], rooms: Sequence[float]) -> list[float]:
    """Places no further left than wished, with enough room between neighbours."""
    found: list[float] = []
    for index, wish in enumerate(wished):
        found.append(wish if index == 0 else max(wish, found[-1] + (rooms[index - 1] + rooms[index]) / 2))
    return found


def _mean(numbers: Sequence[float], otherwise: float) -> float:
    return sum(numbers) / len(numbers) if numbers else otherwise
