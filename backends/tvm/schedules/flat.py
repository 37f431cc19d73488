"""The schedule of a block that computes each element on its own: rows over the threads, vectors along the row."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .blocks import vector_lanes
from .machine import Machine

if TYPE_CHECKING:
    from tvm.s_tir import Schedule
    from tvm.s_tir.schedule import LoopRV, SBlockRV

LEAST_PARALLEL = 1 << 14
"""Elements below which waking the other threads takes longer than the work."""


def spread(sch: Schedule, block: SBlockRV, machine: Machine) -> None:
    """Schedule a block that stands alone."""
    loops = sch.get_loops(block)
    if not loops:
        return
    size = math.prod(extent(sch, loop) for loop in loops)
    outer = loops[:-1]
    inner = vectorized(sch, loops[-1], machine)
    if inner is not loops[-1]:
        outer = [*outer, inner]
    if outer and size >= LEAST_PARALLEL:
        sch.parallel(sch.fuse(*outer))


def vectorized(sch: Schedule, loop: LoopRV, machine: Machine) -> LoopRV:
    """Turn the last loop of a block into vectors; returns the loop over the vectors, or the loop itself where it is one vector or none."""
    length = extent(sch, loop)
    lanes = vector_lanes(length, machine.lanes)
    if lanes == 1:
        return loop
    if lanes == length:
        sch.vectorize(loop)
        return loop
    over, vector = sch.split(loop, [None, lanes])
    sch.vectorize(vector)
    return over


def extent(sch: Schedule, loop: LoopRV) -> int:
    """How often a loop runs; 1 where that is not fixed."""
    from tvm.tirx import IntImm

    found = sch.get(loop).extent
    return int(found) if isinstance(found, IntImm) else 1
