"""The schedule of several products in one kernel: all that a band of rows of the last one needs is computed for that band, while it is near.

The threads share the bands. What lies between the products is never stored whole: a band of it stays in a core's second cache (Deep-Fusion's tiles, with
rows of an image in place of tokens). A band is read by nothing but its own rows, or next to nothing: where more would be computed again than `AGAIN` allows,
the products are left one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .blocks import Shape, shape_of
from .flat import extent, vectorized
from .machine import Machine
from .tiles import FLOAT_BYTES, LEAST_WORK, RESIDENT, Plan, Stage, plan_tile, staged, tile_loops, tilings

if TYPE_CHECKING:
    from tvm.s_tir import Schedule
    from tvm.s_tir.schedule import LoopRV, SBlockRV

AGAIN = 1.1
"""Work on the bands by work on the whole."""
BAND_BYTES = RESIDENT // 2
"""What the bands of all intermediate results may take together."""
FAR = 1 << 20
"""Bytes that a core's second cache does not hold, so that reading them again costs more than computing some of them twice."""
HEIGHTS = 4
"""How many heights of a band are tried."""

Product = tuple["SBlockRV", Shape, Plan]


@dataclass(frozen=True)
class Cut:
    """Where a product is cut: ``outer`` loops run around the bands, ``along`` is the loop that is cut, into bands of ``height``."""

    outer: tuple[int, ...]
    along: int
    height: int


def cuts(sch: Schedule, products: Sequence[Product], machine: Machine) -> tuple[Cut, ...]:
    """Ways to cut the last of several products, the best guess first; none where bands are of no use."""
    if len(products) < 2 or any(plan.packed is not None for _, _, plan in products):
        return ()
    _, shape, plan = products[-1]
    across = [loop for loop in shape.spatial if loop != plan.column]
    if not across or sum(one.work for _, one, _ in products) < LEAST_WORK * machine.lanes:
        return ()
    place = max(len(across) - 2, 0)
    along, outer = across[place], tuple(across[:place])
    count = math.prod(shape.extents[loop] for loop in outer)
    length = shape.extents[along]
    row = FLOAT_BYTES * sum(one.size for _, one, _ in products[:-1]) / (length * count)
    heights = [height for height in range(1, length + 1) if length % height == 0 and (height * row <= BAND_BYTES or height == 1)]
    shared = [height for height in heights if count * length // height >= machine.threads]
    even = sorted(shared, key=lambda height: (_idle(count * length // height, machine.threads) > 0.1, -height))
    return tuple(Cut(outer, along, height) for height in even[:HEIGHTS])


def _idle(bands: int, threads: int) -> float:
    """The share of the threads' time in which some have no band left."""
    return 1 - bands / (-(-bands // threads) * threads)


def by_band(sch: Schedule, products: Sequence[Product], others: Sequence[SBlockRV], cut: Cut, free: frozenset[str], machine: Machine) -> bool:
    """Schedule all ``products``, the last cut as ``cut`` says, and those of ``others`` that nothing else reads, in one nest.

    ``products`` and ``others`` (the remaining blocks) are in the order they run. False, with the schedule half done, where a product does not fit in.
    Raises ScheduleError where TVM finds that out.
    """
    stages = [staged(sch, *product) for product in products]
    last, shape, _ = products[-1]
    loops: list[LoopRV | None] = list(sch.get_loops(last))
    over, within = sch.split(_own(loops, cut.along), [None, cut.height])
    around = [_own(loops, loop) for loop in cut.outer]
    sch.reorder(*around, over, within)
    outer = sch.fuse(*around, over)
    for loop in cut.outer:
        loops[loop] = None
    loops[cut.along] = within
    starts = [(last, _tile(sch, last, loops, stages[-1], shape, free, machine))]
    near = [block for block in others if not _stays(sch, block)]
    moved = _move(sch, outer, [*near, *(block for block, _, _ in products[:-1]), *(stage.copy for stage in stages[:-1])])
    bands = extent(sch, outer)
    for (block, whole, _), stage in zip(products[:-1], stages[:-1], strict=True):
        inner: list[LoopRV | None] = list(sch.get_loops(block))[1:]
        again = bands * math.prod(extent(sch, loop) for loop in inner if loop is not None)
        if not any(block is one for one in moved) or len(inner) != len(whole.extents) or again > AGAIN * whole.work:
            return False
        starts.append((block, _tile(sch, block, inner, stage, whole, free, machine)))
    for block in others:
        if any(block is one for one in moved):
            _vectorize(sch, block, machine)
    if bands > 1:
        sch.parallel(outer)
    for block, start in starts:
        sch.decompose_reduction(block, start)
    return True


def _stays(sch: Schedule, block: SBlockRV) -> bool:
    """Whether an image that is put into a frame of zeros is done so before the bands: each band would put rows into it that others need, too."""
    shape = shape_of(sch, block)
    return shape is not None and shape.guarded and not sch.get_producers(block) and FLOAT_BYTES * shape.size <= FAR


def _own(loops: Sequence[LoopRV | None], index: int) -> LoopRV:
    found = loops[index]
    assert found is not None
    return found


def _tile(sch: Schedule, block: SBlockRV, loops: Sequence[LoopRV | None], stage: Stage, whole: Shape, free: frozenset[str], machine: Machine) -> LoopRV:
    """Tile what a band holds of a product; returns the loop that its sums are to be set to zero before."""
    shape = replace(whole, extents=tuple(1 if loop is None else extent(sch, loop) for loop in loops))
    plan = plan_tile(shape, free)
    assert plan is not None
    return tile_loops(sch, block, loops, stage, shape, plan, tilings(shape, plan, machine)[0], machine)[1]


def _move(sch: Schedule, outer: LoopRV, blocks: Sequence[SBlockRV]) -> list[SBlockRV]:
    """Move those of ``blocks`` that only the nest reads to its bands; returns them."""
    inside = {_name(sch, block) for block in sch.get_child_blocks(outer)}
    waiting = list(blocks)
    moved: list[SBlockRV] = []
    while waiting:
        ready = next((block for block in reversed(waiting) if _read_in(sch, block, inside)), None)
        if ready is None:
            break
        waiting = [block for block in waiting if block is not ready]
        sch.compute_at(ready, outer, preserve_unit_loops=True)
        inside.add(_name(sch, ready))
        moved.append(ready)
    return moved


def _read_in(sch: Schedule, block: SBlockRV, inside: set[str]) -> bool:
    readers = {_name(sch, reader) for reader in sch.get_consumers(block)}
    return bool(readers) and readers <= inside


def _name(sch: Schedule, block: SBlockRV) -> str:
    return str(sch.get(block).name_hint)


def _vectorize(sch: Schedule, block: SBlockRV, machine: Machine) -> None:
    """Vectors for what no tile took along."""
    from tvm.tirx import ForKind

    shape = shape_of(sch, block)
    loop = sch.get_loops(block)[-1]
    if shape is not None and not shape.reduced and sch.get(loop).kind == ForKind.SERIAL:
        vectorized(sch, loop, machine)
