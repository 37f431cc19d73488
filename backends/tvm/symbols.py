"""Dimensions of our graphs as integer expressions of TVM."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from ...compiler.core.dims import Dim, caps, free_symbols, is_known
from ...compiler.core.planning.operators import ELEMENTWISE
from ...compiler.core.shapes import dims_of
from ...compiler.core.symbolic import expression
from ...compiler.core.symbolic.polynomial import Polynomial, unquote
from ...compiler.core.target import STANDARD_DOMAINS

if TYPE_CHECKING:
    from tvm.tirx import Var

Size = Any
"""An int, or an expression of ``tvm.tirx`` of type int64."""


class Symbols:
    """Which expression of TVM each symbol of a model stands for."""

    def __init__(self) -> None:
        self._known: dict[str, Size] = {}
        self._equal: dict[str, Dim] = {}
        self._serial = 0

    def fresh(self) -> Var:
        """A variable that nothing else has."""
        from tvm import tirx

        self._serial += 1
        return tirx.Var(f"n{self._serial}", "int64")

    def declare(self, dims: Iterable[Dim]) -> None:
        """Give every dimension that is a bare symbol a variable."""
        for dim in dims:
            if (name := _bare(dim)) is not None and name not in self._known:
                self._known[name] = self.fresh()

    def define(self, dim: Dim, size: Size) -> None:
        """Let a dimension that is a bare symbol stand for ``size``, unless it stands for something already."""
        if (name := _bare(dim)) is not None:
            self._known.setdefault(name, size)

    def equate(self, dim: Dim, other: Dim) -> None:
        """Let a dimension that is one function, as ``min(N, 64)``, stand for what another one stands for. Whoever says so has the model check it."""
        if isinstance(dim, ir.SymbolicDim):
            self._equal[dim.value or ""] = other

    def sizes(self, dims: Iterable[Dim] | None) -> list[Size] | None:
        """The dimensions as expressions; None when one of them depends on a symbol that nothing is known of."""
        if dims is None:
            return None
        found = [self.size(dim) for dim in dims]
        return None if any(size is None for size in found) else found

    def size(self, dim: Dim) -> Size | None:
        """One dimension as an expression."""
        if isinstance(dim, int):
            return dim
        if not is_known(dim) or any(name not in self._known for name in free_symbols(dim)):
            return None
        return self._sum(expression.parse(dim.value or ""))

    def _sum(self, poly: Polynomial) -> Size:
        total: Size = None
        for monomial, factor in poly.items():
            term: Size = None
            for atom in monomial:
                value = self._atom(atom)
                term = value if term is None else term * value
            term = _wide(factor) if term is None else term if factor == 1 else term * _wide(factor)
            total = term if total is None else total + term
        return _wide(0) if total is None else total

    def _atom(self, atom: str) -> Size:
        from tvm import tirx

        name = expression.function_of(atom)
        if name is None:
            return self._known[unquote(atom)]
        if atom in self._equal:
            return self.size(self._equal[atom])
        first, second = (self._sum(argument) for argument in expression.arguments(atom))
        operation = {"max": tirx.max, "min": tirx.min, "div": tirx.floordiv, "mod": tirx.floormod}[name]
        return operation(first, second)


def _bare(dim: Dim) -> str | None:
    """The name of a dimension that is one symbol and nothing else."""
    if not isinstance(dim, ir.SymbolicDim) or dim.value is None:
        return None
    names = free_symbols(dim)
    return dim.value if names == {dim.value} else None


def _wide(number: int) -> Size:
    from tvm import tirx

    return tirx.IntImm("int64", number)


def as_number(size: Size) -> int | None:
    """A size that is a number."""
    from tvm import tirx

    if isinstance(size, int):
        return size
    return int(size.value) if isinstance(size, tirx.IntImm) else None


def is_same(one: Size, other: Size) -> bool:
    """Whether two sizes are the same whatever the symbols stand for."""
    import tvm_ffi
    from tvm.sym import Analyzer

    left, right = as_number(one), as_number(other)
    if left is not None or right is not None:
        return left == right
    return bool(tvm_ffi.structural_equal(one, other)) or one.same_as(other) or bool(Analyzer().can_prove_equal(one, other))


def limited(model: ir.Model) -> dict[ir.SymbolicDim, Dim]:
    """Dimensions min(number, N) that elementwise operators read beside N, which must then be the same, or 1: with a number above 1 they are never only that."""
    found: dict[ir.SymbolicDim, Dim] = {}
    for node in model.graph:
        if node.op_type not in ELEMENTWISE or node.domain not in STANDARD_DOMAINS or len(node.inputs) < 2:
            continue
        shapes = [tuple(reversed(dims_of(value) or ())) for value in node.inputs if value is not None]
        for dims in itertools.zip_longest(*shapes, fillvalue=1):
            for one, other in itertools.permutations(dims, 2):
                if isinstance(one, ir.SymbolicDim) and one.value not in found and caps(other, one):
                    found[one] = other
    return {one: other for one, other in found.items() if one.value and expression.function_of(one.value) == "min"}
