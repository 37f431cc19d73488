"""The schedule of reductions along rows (softmax, normalisations, means): each thread takes rows, and all that happens to a row happens while it is near."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .blocks import shape_of, vector_lanes
from .flat import LEAST_PARALLEL, extent, vectorized
from .machine import Machine

if TYPE_CHECKING:
    from tvm.s_tir import Schedule
    from tvm.s_tir.schedule import LoopRV, SBlockRV

LANES, FIRST = "graphwright.lanes", "graphwright.first"
PARALLEL, REDUCED = 0, 2
"""TVM's numbers for the kinds of block axes."""


def by_row(sch: Schedule, last: SBlockRV, before: Sequence[SBlockRV], depth: int, machine: Machine) -> None:
    """Schedule ``before`` (in the order they run) inside the row loops of ``last``: its first ``depth`` loops. Raises ScheduleError where that cannot be."""
    loops = sch.get_loops(last)
    work = math.prod(extent(sch, loop) for loop in loops)
    steps = [step for block in before for step in split_sum(sch, block, machine)]
    row = sch.fuse(*loops[:depth]) if depth > 1 else loops[0]
    for block in reversed(steps):
        sch.compute_at(block, row, preserve_unit_loops=True)
    for block in (*steps, last):
        _along_row(sch, block, machine)
    if work >= LEAST_PARALLEL // 4 and extent(sch, row) > 1:
        sch.parallel(row)
    for block in steps:
        _start_first(sch, block)


def split_sum(sch: Schedule, block: SBlockRV, machine: Machine) -> list[SBlockRV]:
    """Reduce in as many sums as a vector has lanes and add these up at the end, since floating point sums are not reordered later; the steps in order.

    What keeps two numbers (ArgMax: the largest and its place) stays as it is: lanes that update one before the other would tear them apart.
    """
    shape = shape_of(sch, block)
    if shape is None or not shape.reduced or len(sch.get(block).writes) > 1:
        return [block]
    loop = sch.get_loops(block)[shape.reduced[-1]]
    lanes = vector_lanes(extent(sch, loop), machine.lanes)
    if lanes < 4 or extent(sch, loop) == lanes:
        return [block]
    _, lane = sch.split(loop, [None, lanes])
    partial = sch.rfactor(lane, len(shape.spatial))
    sch.annotate(partial, LANES, lanes)
    return [partial, block]


def alone(sch: Schedule, block: SBlockRV, machine: Machine) -> None:
    """Schedule a row reduction that shares its rows with nothing."""
    steps = split_sum(sch, block, machine)
    last = steps[-1]
    spatial = _bound(sch, last, PARALLEL)
    work = math.prod(extent(sch, loop) for loop in sch.get_loops(steps[0]))
    if not spatial:
        return
    row = sch.fuse(*spatial) if len(spatial) > 1 else spatial[0]
    for step in steps[:-1]:
        sch.compute_at(step, row, preserve_unit_loops=True)
        _along_row(sch, step, machine)
    if work >= LEAST_PARALLEL and extent(sch, row) > 1:
        sch.parallel(row)
    for step in steps[:-1]:
        _start_first(sch, step)


def _along_row(sch: Schedule, block: SBlockRV, machine: Machine) -> None:
    """Vectors along the row: of elements, or of partial sums."""
    shape = shape_of(sch, block)
    inner = sch.get_loops(block)[1:]
    if shape is None or not inner:
        return
    if not shape.reduced:
        vectorized(sch, inner[-1], machine)
        return
    lanes = sch.get(block).annotations.get(LANES)
    if lanes is None:
        return
    reduced = _bound(sch, block, REDUCED)
    lane = next(loop for loop in reversed(inner) if extent(sch, loop) == int(lanes) and not any(_same(sch, loop, each) for each in reduced))
    sch.reorder(*reduced, lane)
    sch.vectorize(lane)
    sch.annotate(block, FIRST, 1)


def _start_first(sch: Schedule, block: SBlockRV) -> None:
    """Partial sums start at zero before the reduction, not in its first step."""
    if sch.get(block).annotations.get(FIRST) is None:
        return
    sch.unannotate(block, FIRST)
    sch.unannotate(block, LANES)
    sch.decompose_reduction(block, _bound(sch, block, REDUCED)[0])


def _same(sch: Schedule, one: LoopRV, other: LoopRV) -> bool:
    return bool(sch.get_sref(one).same_as(sch.get_sref(other)))


def _bound(sch: Schedule, block: SBlockRV, kind: int) -> list[LoopRV]:
    """The loops whose variables appear in what a block's axes of one kind are bound to."""
    import tvm_ffi
    from tvm.tirx import Var

    node = sch.get(block)
    loops = list(sch.get_loops(block))
    realize = _realize(sch, loops[-1], node)
    seen: list[object] = []
    for variable, value in zip(node.iter_vars, realize.iter_values, strict=True):
        if variable.iter_type == kind:
            tvm_ffi.structural_walk(value, (Var, seen.append))
    return [loop for loop in loops if any(sch.get(loop).loop_var.same_as(item) for item in seen)]


def _realize(sch: Schedule, loop: LoopRV, node: object) -> Any:
    import tvm_ffi
    from tvm.s_tir import SBlockRealize

    found: list[object] = []
    tvm_ffi.structural_walk(sch.get(loop).body, (SBlockRealize, lambda item: found.append(item) if item.block.same_as(node) else None))
    return found[0]
