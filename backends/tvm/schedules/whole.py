"""The schedule of a whole kernel: what is cheap is computed where it is read, and each reduction gets the schedule that fits how it reads."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .bands import Cut, Product, by_band, cuts
from .blocks import Shape, shape_of
from .flat import spread
from .machine import Machine
from .rows import alone, by_row
from .tiles import Plan, plan_tile, tile, tilings

if TYPE_CHECKING:
    from tvm.s_tir import Schedule
    from tvm.s_tir.schedule import SBlockRV

FREE = "layout_free_buffers"
ROOT = "root"


def schedule(sch: Schedule, machine: Machine, variant: int = 0, function: str = "main") -> int:
    """Schedule all blocks of a kernel; returns how many variants there are, of which this is one (0 is the best guess).

    0 with nothing changed where a block has loops without a fixed extent, or there is no such variant.
    """
    if not inlined(sch, function):
        return 0
    products = tiled(sch, function)
    ways = cuts(sch, products, machine)
    if ways and _try_bands(sch, function, products, ways[min(variant, len(ways) - 1)], machine):
        if variant >= len(ways):
            return 0
        _rest(sch, function, machine)
        return len(ways)
    main = max(products, key=lambda one: one[1].work, default=None)
    count = len(tilings(main[1], main[2], machine)) if main is not None else 1
    if variant >= count:
        return 0
    for one in products:
        block, shape, plan = one
        tile(sch, block, shape, plan, tilings(shape, plan, machine)[variant if one is main else 0], machine)
    _rest(sch, function, machine)
    return count


def _try_bands(sch: Schedule, function: str, products: Sequence[Product], cut: Cut, machine: Machine) -> bool:
    """Put products into one nest, where that can be done."""
    from tvm.s_tir import ScheduleError

    own = {_name(sch, block) for block, _, _ in products}
    others = [block for block in _blocks(sch, function) if _name(sch, block) not in own and not _reduces(sch, block)]
    free = _free_buffers(sch, function)
    try:
        if not by_band(sch.copy(), products, others, cut, free, machine):
            return False
    except ScheduleError:
        return False
    return by_band(sch, products, others, cut, free, machine)


def inlined(sch: Schedule, function: str) -> bool:
    """Compute what is cheap where it is read. False, with nothing changed, where a block has loops without a fixed extent."""
    blocks = _blocks(sch, function)
    if not blocks or any(shape_of(sch, block) is None for block in blocks):
        return False
    _inline(sch, blocks)
    return True


def every(sch: Schedule, function: str) -> list[tuple[SBlockRV, Shape]]:
    """The blocks of a kernel with their shapes."""
    return [(block, shape) for block in _blocks(sch, function) if (shape := shape_of(sch, block)) is not None]


def tiled(sch: Schedule, function: str) -> list[tuple[SBlockRV, Shape, Plan]]:
    """The reductions of a kernel that are computed in tiles."""
    free = _free_buffers(sch, function)
    single = [(block, shape) for block, shape in every(sch, function) if len(sch.get(block).writes) == 1]
    found = [(block, shape, plan_tile(shape, free)) for block, shape in single]
    return [(block, shape, plan) for block, shape, plan in found if plan is not None]


def _blocks(sch: Schedule, function: str) -> list[SBlockRV]:
    """The blocks of a kernel; none where it is written by hand, as a sort is."""
    from tvm.s_tir import ScheduleError

    try:
        return list(sch.get_child_blocks(sch.get_sblock(ROOT, function)))
    except ScheduleError:
        return []


def _name(sch: Schedule, block: SBlockRV) -> str:
    return str(sch.get(block).name_hint)


def _free_buffers(sch: Schedule, function: str) -> frozenset[str]:
    """The names of the kernel's arguments that are weights, to be laid out as the kernel likes."""
    kernel = sch.mod[function]
    places = kernel.attrs.get(FREE, ()) if kernel.attrs is not None else ()
    return frozenset(str(kernel.params[int(place)].name) for place in places)


def _inline(sch: Schedule, blocks: Sequence[SBlockRV]) -> None:
    """Compute values where they are read, unless that repeats costly work or puts a condition into a reduction."""
    from tvm.s_tir import ScheduleError

    for block in blocks:
        shape = shape_of(sch, block)
        if shape is None or shape.reduced:
            continue
        readers = [found for reader in sch.get_consumers(block) if (found := shape_of(sch, reader)) is not None]
        if not readers or not _worth_inlining(shape, readers) or _repeats(sch, block, shape, readers):
            continue
        try:
            sch.compute_inline(block)
        except ScheduleError:
            continue


def _repeats(sch: Schedule, block: SBlockRV, shape: Shape, readers: Sequence[Shape]) -> bool:
    """Whether arithmetic on what a reduction leaves would be done again for each of many readings."""
    from tvm.ir import TensorLoad

    many = any(reader.reduced and reader.work > shape.size for reader in readers)
    return many and not isinstance(sch.get(block).body.value, TensorLoad) and any(_reduces(sch, maker) for maker in sch.get_producers(block))


def _worth_inlining(shape: Shape, readers: Sequence[Shape]) -> bool:
    if shape.guarded and any(reader.reduced for reader in readers):
        return False
    if not shape.costly:
        return True
    return len(readers) == 1 and not readers[0].reduced and readers[0].size <= shape.size


def _rest(sch: Schedule, function: str, machine: Machine) -> None:
    """Schedule what no tile has taken along: rows of reductions with what follows them, else each block on its own."""
    left = [block for block in _blocks(sch, function) if _untouched(sch, block)]
    while left:
        last = left.pop()
        group = _group(sch, last, left)
        if group and _try_rows(sch, last, group, machine):
            left = [block for block in left if not any(block is one for one in group)]
        else:
            _alone(sch, last, machine)


def _untouched(sch: Schedule, block: SBlockRV) -> bool:
    """Whether a block still has its loops as they were written: all of them serial, one for each axis."""
    from tvm.tirx import ForKind

    loops = sch.get_loops(block)
    return len(loops) == len(sch.get(block).iter_vars) and all(sch.get(loop).kind == ForKind.SERIAL for loop in loops)


def _group(sch: Schedule, last: SBlockRV, before: Sequence[SBlockRV]) -> list[SBlockRV]:
    """The blocks before the last one that only it and each other read, if there are reductions among them."""
    if _reduces(sch, last):
        return []
    names = {_name(sch, last)}
    group: list[SBlockRV] = []
    for block in reversed(before):
        readers = {_name(sch, reader) for reader in sch.get_consumers(block)}
        if readers and readers <= names:
            group.insert(0, block)
            names.add(_name(sch, block))
    return group if any(_reduces(sch, block) for block in group) else []


def _try_rows(sch: Schedule, last: SBlockRV, group: Sequence[SBlockRV], machine: Machine) -> bool:
    """Put a group into rows, where that can be done; a row is what the longest reduction runs along."""
    from tvm.s_tir import ScheduleError

    shapes = [shape for block in group if (shape := shape_of(sch, block)) is not None and shape.reduced]
    depth = min(*(len(shape.spatial) for shape in shapes), len(sch.get_loops(last)) - 1)
    if depth < 1:
        return False
    try:
        by_row(sch.copy(), last, group, depth, machine)
    except ScheduleError:
        return False
    by_row(sch, last, group, depth, machine)
    return True


def _reduces(sch: Schedule, block: SBlockRV) -> bool:
    shape = shape_of(sch, block)
    return shape is not None and bool(shape.reduced)


def _alone(sch: Schedule, block: SBlockRV, machine: Machine) -> None:
    from tvm.s_tir import ScheduleError

    if not _reduces(sch, block):
        spread(sch, block, machine)
        return
    with contextlib.suppress(ScheduleError):
        alone(sch.copy(), block, machine)
        alone(sch, block, machine)
