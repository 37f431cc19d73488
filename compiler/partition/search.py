"""Which parts of a model run faster on another backend: measured part by part, the large ones first, and the best cover of what was measured."""

from __future__ import annotations

import heapq
import itertools
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from ..core.timing import Clock
from ..kernel_table import Timing
from .cut import Part, Uncut, cut, take_turns

__all__ = ["Splitter", "Stretch", "best_places", "light_regions", "regions_of"]

SEARCH_SECONDS = 30.0
LEAST_MS = 0.02
"""Parts that take less are not looked into: two changes between backends cost half of it."""
LEAST_SHARE = 0.05
"""Nor are those that take less than this share of the whole."""
LIGHT_SHARE = 0.4
"""How much of the time is for what lies between the heavy operators."""
LEAST_GAIN_MS = 0.002
"""Less is not worth building it."""

_HEAVY = re.compile(r"Conv|MatMul|Gemm|Attention|LSTM|GRU|RNN|Einsum")
Measure = Callable[[Part], Timing | None]
Unit = tuple[ir.Node, ...]
"""Operators that stay together."""


@dataclass
class Stretch:
    """Consecutive units of one region, timed as one part (None: it could not be), and its two halves where these were looked at."""

    units: tuple[Unit, ...]
    timing: Timing | None = None
    halves: tuple[Stretch, ...] = ()

    @property
    def stays_ms(self) -> float:
        """Where it is now."""
        return self.timing.before_ms if self.timing is not None else sum(half.stays_ms for half in self.halves)

    @property
    def best_ms(self) -> float:
        """Under the best cover of what was measured."""
        options = [sum(half.best_ms for half in self.halves)] if self.halves else []
        if self.timing is not None:
            options.append(self.timing.before_ms)
            if self.timing.gains:
                options.append(self.timing.after_ms)
        return min(options, default=0.0)

    def moved(self) -> list[ir.Node]:
        """The nodes that the best cover moves."""
        if self.timing is not None and self.timing.gains and self.timing.after_ms <= self.best_ms:
            return [node for unit in self.units for node in unit]
        if not self.halves or (self.timing is not None and self.timing.before_ms <= self.best_ms):
            return []
        return [node for half in self.halves for node in half.moved()]


@dataclass
class Splitter:
    """Measures stretches of ``model`` with ``measure``: whole regions first, then halves of what takes longest, until ``seconds`` are spent."""

    model: ir.Model
    measure: Measure
    seconds: float = SEARCH_SECONDS
    clock: Clock = time.perf_counter
    stretches: list[Stretch] = field(default_factory=list, init=False)
    _numbers: Iterator[int] = field(default_factory=itertools.count, init=False)

    def run(self, regions: Sequence[Sequence[Unit]]) -> list[Stretch]:
        """A tree of measured stretches for each region."""
        end = self.clock() + self.seconds * (1.0 - LIGHT_SHARE)
        queue: list[tuple[float, int, Stretch]] = []
        roots = [self._measured(tuple(units)) for units in regions if units]
        least = max(LEAST_MS, LEAST_SHARE * sum(root.stays_ms for root in roots))
        for root in roots:
            self._push(queue, root, least)
        while queue and self.clock() < end:
            _, _, stretch = heapq.heappop(queue)
            place = split_place(stretch.units)
            halves = (self._measured(stretch.units[:place]), self._measured(stretch.units[place:]))
            stretch.halves = halves
            for half in halves:
                self._push(queue, half, least)
        return roots

    def run_light(self, regions: Sequence[Sequence[Unit]]) -> list[Stretch]:
        """A measured stretch for each region, as far as time allows; those measured alike before cost nothing."""
        end = self.clock() + self.seconds * LIGHT_SHARE
        return [self._measured(tuple(units)) for units in regions if self.clock() < end]

    def _push(self, queue: list[tuple[float, int, Stretch]], stretch: Stretch, least: float) -> None:
        unknown = stretch.timing is None
        if len(stretch.units) > 1 and (unknown or stretch.stays_ms >= least):
            heapq.heappush(queue, (-float("inf") if unknown else -stretch.stays_ms, next(self._numbers), stretch))

    def _measured(self, units: tuple[Unit, ...]) -> Stretch:
        nodes = tuple(node for unit in units for node in unit)
        try:
            (part,) = cut(self.model, [("", nodes)])
        except Uncut:
            return Stretch(units)
        stretch = Stretch(units, self.measure(part))
        self.stretches.append(stretch)
        return stretch


def split_place(units: Sequence[Unit]) -> int:
    """Where to cut in two: in the middle half, where the fewest values cross, nearest to the middle."""
    count = len(units)
    made = {value: place for place, unit in enumerate(units) for node in unit for value in node.outputs}
    last: dict[ir.Value, int] = {}
    for place, unit in enumerate(units):
        for node in unit:
            for value in node.inputs:
                if value in made:
                    last[value] = place
    crossing = [0] * (count + 1)
    for value, place in last.items():
        for between in range(made[value] + 1, place + 1):
            crossing[between] += 1
    places = range(max(1, count // 4), min(count - 1, -(-3 * count // 4)) + 1)
    return min(places, key=lambda place: (crossing[place], abs(2 * place - count)))


def gain_ms(stretches: Sequence[Stretch]) -> float:
    """What the best cover of measured stretches saves."""
    return sum(stretch.stays_ms - stretch.best_ms for stretch in stretches)


def best_places(covers: Sequence[Sequence[Stretch]], graph: ir.Graph, usual: str, rival: str) -> dict[ir.Node, str] | None:
    """Where each node runs under the cover that saves most; None when nothing is worth moving."""
    best = max(covers, key=gain_ms, default=())
    moved = {node for stretch in best for node in stretch.moved()}
    if not moved or gain_ms(best) < LEAST_GAIN_MS:
        return None
    return {node: rival if node in moved else usual for node in graph}


def light_regions(graph: ir.Graph, takes: Mapping[ir.Node, bool]) -> list[list[Unit]]:
    """What a backend takes between the products of matrices and the convolutions: where one runtime's are hard to beat, the rest may still gain."""
    places = {node: "rival" if takes[node] and not _HEAVY.search(node.op_type) else "usual" for node in graph}
    return [[nodes] for place, nodes in take_turns(graph, places) if place == "rival"]


def regions_of(graph: ir.Graph, takes: Mapping[ir.Node, bool], units: Sequence[Unit]) -> list[list[Unit]]:
    """The units that a backend takes, in runs between which something must run elsewhere; a unit of which it takes only a part is taken apart."""
    places = {node: "rival" if takes[node] else "usual" for node in graph}
    found = []
    for place, nodes in take_turns(graph, places):
        if place == "rival":
            found.append(_grouped(nodes, units))
    return found


def _grouped(nodes: tuple[ir.Node, ...], units: Sequence[Unit]) -> list[Unit]:
    """The units in which these nodes are, as far as they are whole among them, in an order in which they can run."""
    inside = set(nodes)
    kept = [unit for unit in units if inside.issuperset(unit)]
    covered = {node for unit in kept for node in unit}
    return _in_order([*kept, *((node,) for node in nodes if node not in covered)])


def _in_order(units: Sequence[Unit]) -> list[Unit]:
    """Units so that each comes after those that feed it; a unit is convex, so there is such an order."""
    home = {node: place for place, unit in enumerate(units) for node in unit}
    feeding = [{home[before] for node in unit for value in node.inputs if value is not None and (before := value.producer()) in home} for unit in units]
    done: dict[int, None] = {}
    stack = [(place, False) for place in reversed(range(len(units)))]
    while stack:
        place, fed = stack.pop()
        if place in done:
            continue
        if fed:
            done[place] = None
            continue
        stack.append((place, True))
        stack.extend((before, False) for before in sorted(feeding[place] - {place} - done.keys(), reverse=True))
    return [units[place] for place in done]
