"""What a block of a kernel computes, as far as its schedule depends on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tvm.s_tir import Schedule
    from tvm.s_tir.schedule import SBlockRV

COSTLY = frozenset(["exp", "erf", "tanh", "log", "sqrt", "rsqrt", "pow", "sigmoid", "sin", "cos"])
"""Functions, whatever dialect of TVM their operator is in, that take many cycles."""
POLYNOMIAL = 5
"""Multiplications from which on an expression is taken for such a function spelled out."""


@dataclass(frozen=True)
class Shape:
    """Extents of a block's loops, and which of them each buffer that it reads is indexed by.

    ``kinds`` holds "s" (parallel) or "r" (reduced) for each loop. ``reads`` holds for each buffer the loops that appear in each of its indices;
    ``straight`` holds for each the loops that its last index is the
    sum of: one step of such a loop is one element further.
    """

    kinds: str
    extents: tuple[int, ...]
    reads: tuple[tuple[frozenset[int], ...], ...]
    straight: tuple[frozenset[int], ...]
    buffers: tuple[str, ...]
    costly: bool
    guarded: bool

    @property
    def spatial(self) -> tuple[int, ...]:
        """The loops that are not reduced."""
        return tuple(index for index, kind in enumerate(self.kinds) if kind == "s")

    @property
    def reduced(self) -> tuple[int, ...]:
        """The loops that are."""
        return tuple(index for index, kind in enumerate(self.kinds) if kind == "r")

    @property
    def size(self) -> int:
        """Elements that it writes."""
        return math.prod(self.extents[index] for index in self.spatial)

    @property
    def work(self) -> int:
        """Times that its body runs."""
        return math.prod(self.extents)


def shape_of(sch: Schedule, block: SBlockRV) -> Shape | None:
    """The shape of a block; None where a loop has no fixed extent or is neither parallel nor reduced."""
    import tvm_ffi
    from tvm.ir import Call, TensorLoad
    from tvm.tirx import Add, IntImm, IterVar, Mul, Var

    node = sch.get(block)
    places = {variable.var: index for index, variable in enumerate(node.iter_vars)}
    kinds = "".join({IterVar.DataPar: "s", IterVar.CommReduce: "r"}.get(variable.iter_type, "?") for variable in node.iter_vars)
    if "?" in kinds or not all(isinstance(variable.dom.extent, IntImm) for variable in node.iter_vars):
        return None
    written = [region.source for region in node.writes]
    reads: list[tuple[frozenset[int], ...]] = []
    straight: list[frozenset[int]] = []
    buffers: list[str] = []
    found = {"costly": False, "guarded": False}

    def used(expression: Any) -> frozenset[int]:
        seen: list[int] = []
        tvm_ffi.structural_walk(expression, (Var, lambda item: seen.append(places[item]) if item in places else None))
        return frozenset(seen)

    def addends(index: Any) -> list[int]:
        if isinstance(index, Add):
            shared = used(index.a) & used(index.b)
            return [loop for loop in (*addends(index.a), *addends(index.b)) if loop not in shared]
        return [places[index]] if isinstance(index, Var) and index in places else []

    def load(item: Any) -> None:
        if any(item.source.same_as(own) for own in written):
            return
        reads.append(tuple(used(index) for index in item.indices))
        straight.append(frozenset(addends(item.indices[-1])) if len(item.indices) else frozenset())
        buffers.append(str(item.source.name))

    def call(item: Any) -> None:
        name = str(getattr(item.op, "name", "")).rpartition(".")[2]
        found["costly"] |= name in COSTLY
        found["guarded"] |= name == "if_then_else"

    products: list[Any] = []
    tvm_ffi.structural_walk(node.body, [(TensorLoad, load), (Call, call), (Mul, products.append)])
    found["costly"] |= len(products) >= POLYNOMIAL
    extents = tuple(int(variable.dom.extent) for variable in node.iter_vars)
    return Shape(kinds, extents, tuple(reads), tuple(straight), tuple(buffers), found["costly"], found["guarded"])


def vector_lanes(extent: int, lanes: int) -> int:
    """The longest vector, a power of two, that an extent is a multiple of: other lengths LLVM splits badly."""
    while lanes > 1 and extent % lanes:
        lanes //= 2
    return lanes
