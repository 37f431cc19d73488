"""The schedule of matrix products, convolutions and pools: a tile of the result is held in vector registers while the reduction runs.

For each step of the reduction a tile of ``rows`` x ``vectors`` reads ``rows`` single values of one operand and ``vectors`` vectors of the other, and does
``rows * vectors`` multiply-adds (Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, 2008, section 6). The second operand is packed
so that its vectors lie one behind the other: ahead of time where it is a weight (MetaSchedule's RewriteLayout), else into a buffer for each column.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

from .blocks import Shape, vector_lanes
from .flat import extent, vectorized
from .machine import Machine

if TYPE_CHECKING:
    from tvm.s_tir import Schedule
    from tvm.s_tir.schedule import LoopRV, SBlockRV

MOST_VECTORS = 8
FLOAT_BYTES = 4
MULTIPLIERS, LOADERS, LATENCY = 2, 2, 4
"""Multiply-adds and loads that a core starts in a cycle, and the cycles until a multiply-add's result can be added to."""
WASTED_TAIL = 1.05
"""What it costs that the last tile is cut off."""
UNROLLS = (1, 4)
MOST_TILINGS = 24
OTHER_ORDERS = 3
"""How many of the best tiles are also tried in the other order."""
RESIDENT = 1 << 18
"""Bytes of an operand that may stay in a core's second cache while all rows go by."""
LEAST_WORK = 1 << 15
"""Multiply-adds below which waking the other threads takes longer than the work."""


@dataclass(frozen=True)
class Plan:
    """How a block is tiled. ``column`` is the loop that vectors run along, ``rows`` the loops whose values share a vector (outermost first).

    ``packed`` is the place of the operand to copy into packed form, None where it is read as it lies.
    """

    column: int
    rows: tuple[int, ...]
    batch: tuple[int, ...]
    packed: int | None


@dataclass(frozen=True)
class Tiling:
    """The size of a tile: ``vectors`` of ``lanes`` values wide, ``rows`` high in each row loop. ``unroll`` steps of the reduction are written out.

    With ``across`` the tiles of the same rows are computed one after the other, else those of the same columns.
    """

    lanes: int
    vectors: int
    rows: tuple[int, ...]
    unroll: int = 1
    across: bool = False


def plan_tile(shape: Shape, free: frozenset[str]) -> Plan | None:
    """How to tile a reduction; None where its vectors would have to be gathered. ``free`` names the buffers that may be re-laid out ahead of time."""
    if not shape.reduced or not shape.spatial or not shape.reads:
        return None
    column = next((loop for loop in reversed(shape.spatial) if shape.extents[loop] > 1), shape.spatial[-1])
    along = [place for place, indices in enumerate(shape.reads) if any(column in index for index in indices)]
    bent = [place for place in along if column not in shape.straight[place] and shape.buffers[place] not in free]
    if not along or len(bent) > 1 or (bent and len(shape.reads) < 2):
        return None
    packed = bent[0] if bent else None
    across = [loop for loop in shape.spatial if loop != column]
    shared = [loop for loop in across if not any(loop in index for place in along for index in shape.reads[place])]
    rows = tuple(loop for loop in (shared or across) if shape.extents[loop] > 1)[-2:]
    return Plan(column, rows, tuple(loop for loop in across if loop not in rows), packed)


def tilings(shape: Shape, plan: Plan, machine: Machine) -> tuple[Tiling, ...]:
    """Tiles that fit into the registers, by how many cycles a multiply-add should take in them; the first is what an untuned build uses."""
    lanes = vector_lanes(shape.extents[plan.column], machine.lanes)
    columns = shape.extents[plan.column] // lanes
    last = shape.extents[shape.reduced[-1]]
    across = _goes_across(shape, plan)
    found: list[tuple[float, Tiling]] = []
    for vectors in (width for width in range(1, MOST_VECTORS + 1) if columns % width == 0):
        most = max(1, (machine.registers - vectors - 1) // vectors)
        for rows in _heights([shape.extents[row] for row in plan.rows], most):
            cost = _cycles(vectors, rows, [shape.extents[row] for row in plan.rows])
            found += [(cost * (1 + place / 50), Tiling(lanes, vectors, rows, unroll, across)) for place, unroll in enumerate(UNROLLS) if last % unroll == 0]
    found.sort(key=lambda one: (round(one[0], 4), -one[1].vectors * math.prod(one[1].rows)))
    best = [tiling for _, tiling in found[:MOST_TILINGS]]
    other = [replace(tiling, across=not across) for tiling in best[:OTHER_ORDERS]] if plan.packed is None else []
    return (*best[:OTHER_ORDERS], *other, *best[OTHER_ORDERS:])


def tile(sch: Schedule, block: SBlockRV, shape: Shape, plan: Plan, tiling: Tiling, machine: Machine) -> None:
    """Schedule a reduction as `plan_tile` says, with the block that reads its result (if that does nothing else) computed on each tile."""
    stage = staged(sch, block, shape, plan)
    outer, start = tile_loops(sch, block, list(sch.get_loops(block)), stage, shape, plan, tiling, machine)
    if shape.work >= LEAST_WORK * tiling.lanes and extent(sch, outer) > 1:
        sch.parallel(outer)
    sch.decompose_reduction(block, start)  # Not before: what is decomposed cannot be made parallel any more.


@dataclass(frozen=True)
class Stage:
    """What a tile is held in: ``copy`` moves it out of the registers, ``pack`` fetches the operand that is packed."""

    copy: SBlockRV
    pack: SBlockRV | None


def staged(sch: Schedule, block: SBlockRV, shape: Shape, plan: Plan) -> Stage:
    """Give a reduction registers for its tile."""
    copy = sch.cache_write(block, 0, "local")
    return Stage(copy, sch.cache_read(block, _read_index(sch, block, shape, plan.packed), "global") if plan.packed is not None else None)


def tile_loops(
    sch: Schedule, block: SBlockRV, loops: Sequence[LoopRV | None], stage: Stage, shape: Shape, plan: Plan, tiling: Tiling, machine: Machine
) -> tuple[LoopRV, LoopRV]:
    """Tile the loops of a reduction, one for each of its axes; None for an axis of length 1 without a loop.

    Returns the loop over the tiles, and the one that sums are to be set to zero before.
    """
    copy, pack = stage.copy, stage.pack
    own = {index: loop for index, loop in enumerate(loops) if loop is not None}
    column, column_vectors, column_lanes = sch.split(own[plan.column], [None, tiling.vectors, tiling.lanes])
    halves = [sch.split(own[loop], [None, count]) for loop, count in zip(plan.rows, tiling.rows, strict=True)]
    row_out, row_in = [half[0] for half in halves], [half[1] for half in halves]
    batch = [own[index] for index in plan.batch if index in own]
    reduced = [own[index] for index in shape.reduced]
    steps: list[LoopRV] = []
    if tiling.unroll > 1:
        reduced[-1], step = sch.split(reduced[-1], [None, tiling.unroll])
        steps = [step]
    order = [*row_out, column] if tiling.across and pack is None else [column, *row_out]
    sch.reorder(*batch, *order, *reduced, *steps, *row_in, column_vectors, column_lanes)
    outer = sch.fuse(*batch, *([column] if pack is not None else order))
    place = row_out[-1] if pack is not None and row_out else outer
    _unroll_all(sch, [*steps, *row_in, column_vectors])
    if tiling.lanes > 1:
        sch.vectorize(column_lanes)
    if pack is not None:
        sch.compute_at(pack, outer, preserve_unit_loops=True)
    whole = all(shape.extents[row] % height == 0 for row, height in zip(plan.rows, tiling.rows, strict=True))
    cells = math.prod(tiling.rows) * tiling.vectors * tiling.lanes if whole else None
    _finish(sch, copy, place, machine, cells)
    return outer, reduced[0]


def _goes_across(shape: Shape, plan: Plan) -> bool:
    """Whether the rows should go by only once: what all of them share is small, and less than they are.

    Then results are written in the order they lie in, and each thread reads the rows that it wrote in the kernel before.
    """
    sizes = [FLOAT_BYTES * math.prod(max((shape.extents[loop] for loop in index), default=1) for index in indices) for indices in shape.reads]
    rowless = [not any(row in index for row in plan.rows for index in indices) for indices in shape.reads]
    shared = sum(size for size, alone in zip(sizes, rowless, strict=True) if alone)
    return plan.packed is None and shared <= min(RESIDENT, sum(sizes) - shared)


def _heights(sizes: Sequence[int], most: int) -> list[tuple[int, ...]]:
    """Heights of a tile in each row loop: more than one row of an outer loop only where the inner one is whole."""
    if not sizes:
        return [()]
    inner = [height for height in range(1, min(sizes[-1], most) + 1) if sizes[-1] % height == 0 or (height > 3 and _used(height, sizes[-1]) > 0.9)]
    found = [(*[1] * (len(sizes) - 1), height) for height in inner]
    if len(sizes) > 1 and sizes[-1] <= most:
        found += [(*outer, sizes[-1]) for outer in _heights(sizes[:-1], most // sizes[-1]) if math.prod(outer) > 1]
    return found


def _cycles(vectors: int, rows: Sequence[int], sizes: Sequence[int]) -> float:
    """Cycles for each multiply-add of a vector that counts."""
    height = math.prod(rows)
    step = max(vectors * height / MULTIPLIERS, (vectors + height) / LOADERS, LATENCY)
    used = math.prod(_used(row, size) for row, size in zip(rows, sizes, strict=True))
    return step / (vectors * height * used) * (1.0 if used == 1 else WASTED_TAIL)


def _used(height: int, size: int) -> float:
    return size / (-(-size // height) * height)


def _read_index(sch: Schedule, block: SBlockRV, shape: Shape, place: int) -> int:
    """The place among the block's read regions of what its body reads at ``place``."""
    names = [str(region.source.name) for region in sch.get(block).reads]
    return names.index(shape.buffers[place])


def _unroll_all(sch: Schedule, loops: Sequence[LoopRV]) -> None:
    for loop in loops:
        if extent(sch, loop) > 1:
            sch.unroll(loop)


def _finish(sch: Schedule, copy: SBlockRV, place: LoopRV, machine: Machine, cells: int | None) -> None:
    """Write the tile out: through the block that reads it where there is just one, which then reads the registers."""
    last = _epilogue(sch, copy, place, cells)
    loops = sch.get_loops(last)
    inner = loops[_depth(sch, place, loops) :]
    if not inner:
        return
    over = vectorized(sch, inner[-1], machine)
    _unroll_all(sch, inner[:-1] if over is inner[-1] else [*inner[:-1], over])


def _epilogue(sch: Schedule, copy: SBlockRV, place: LoopRV, cells: int | None) -> SBlockRV:
    """Move the reader of a tile to the tile, or else the copy of it. ``cells`` is the tile's size, None where the last tile is cut off.

    A reader that moves elements about may follow only where the elements of a tile stay together: what TVM infers for others leaves some out.
    """
    consumers = sch.get_consumers(copy)
    reading = _reading(sch, copy, consumers[0]) if len(consumers) == 1 and not _reduces(sch, consumers[0]) else None
    if reading is not None:
        trial = sch.copy()
        if _moves(trial, copy, consumers[0], place) and (reading == "in place" or _size_below(trial, consumers[0], place) == cells):
            _moves(sch, copy, consumers[0], place)
            return consumers[0]
    sch.reverse_compute_at(copy, place)
    return copy


def _reading(sch: Schedule, copy: SBlockRV, reader: SBlockRV) -> str | None:
    """How a block reads what the tile's copy writes: each element once "in place" or "moved"; None for everything else."""
    import tvm_ffi
    from tvm.ir import TensorLoad
    from tvm.tirx import IntImm, Var

    buffer = sch.get(copy).writes[0].source
    loads: list[Any] = []
    tvm_ffi.structural_walk(sch.get(reader).body, (TensorLoad, lambda item: loads.append(item) if item.source.same_as(buffer) else None))
    first = loads[0].indices if loads else ()
    if not loads or not all(tvm_ffi.structural_equal(load.indices, first) for load in loads[1:]):
        return None
    extents = [int(variable.dom.extent) for variable in sch.get(reader).iter_vars]
    if math.prod(extents) != math.prod(int(size) for size in buffer.shape):
        return None
    variables = [index for index in first if isinstance(index, Var)]
    plain = all(isinstance(index, (Var, IntImm)) for index in first) and all(not one.same_as(other) for one, other in combinations(variables, 2))
    return "in place" if plain else "moved"


def _size_below(sch: Schedule, block: SBlockRV, place: LoopRV) -> int | None:
    """How many elements a block computes at each step of a loop around it; None where that varies."""
    from tvm.tirx import IntImm

    loops = sch.get_loops(block)
    inner = [sch.get(loop).extent for loop in loops[_depth(sch, place, loops) :]]
    return math.prod(int(size) for size in inner) if all(isinstance(size, IntImm) for size in inner) else None


def _moves(sch: Schedule, copy: SBlockRV, consumer: SBlockRV, place: LoopRV) -> bool:
    from tvm.s_tir import ScheduleError

    try:
        sch.compute_inline(copy)
        sch.reverse_compute_at(consumer, place)
    except ScheduleError:
        return False
    return True


def _reduces(sch: Schedule, block: SBlockRV) -> bool:
    from tvm.tirx import IterVar

    return any(variable.iter_type == IterVar.CommReduce for variable in sch.get(block).iter_vars)


def _depth(sch: Schedule, place: LoopRV, loops: Sequence[LoopRV]) -> int:
    wanted = sch.get_sref(place)
    return next(index for index, loop in enumerate(loops) if sch.get_sref(loop).same_as(wanted)) + 1
