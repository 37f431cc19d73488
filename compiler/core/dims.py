"""Dimensions: integers and symbols, and what can be proven about them.

A symbol stands for an integer >= 0; it may be 0 or 1. Two dimensions are equal only when they are the same number, the same name, or expressions
that are proven equal (``2*N + N`` and ``3*N``). A dimension without a name equals nothing, itself included.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

import onnx_ir as ir

from .errors import ModelError
from .symbolic import cases, expression, facts, polynomial
from .symbolic.polynomial import Opaque, Polynomial

Dim = int | ir.SymbolicDim
Dims = Sequence[Dim]

UNKNOWN = ir.SymbolicDim(None)
_OUR_MARK = "?"
# Only ever counted on: what is unique in the process is unique in every model of it.
_serial = itertools.count(1)


def fresh_symbol() -> ir.SymbolicDim:
    """A symbol that nothing else has, for a dimension about which nothing is known."""
    return ir.SymbolicDim(f"{_OUR_MARK}{next(_serial)}")


def is_ours(dim: Dim) -> bool:
    """Whether the dimension mentions a symbol made by `fresh_symbol`, which means nothing outside the compiler."""
    return isinstance(dim, ir.SymbolicDim) and dim.value is not None and _OUR_MARK in dim.value and any(map(_is_our_name, free_symbols(dim)))


def _is_our_name(name: str) -> bool:
    return name.startswith(_OUR_MARK) and name[1:].isdigit()


def age(dim: Dim) -> int:
    """The number of the youngest symbol of ours in a dimension: grows with each `fresh_symbol`; 0 when it has none."""
    return max((int(name[1:]) for name in free_symbols(dim) if _is_our_name(name)), default=0) if is_ours(dim) else 0


def is_known(dim: Dim) -> bool:
    """Whether the dimension has a number or a name."""
    return isinstance(dim, int) or dim.value is not None


def same(a: Dim, b: Dim) -> bool:
    """Whether both are proven to be equal whatever the symbols are."""
    if isinstance(a, int) or isinstance(b, int):
        return isinstance(a, int) and isinstance(b, int) and a == b
    if a.value is None or b.value is None:
        return False
    if a.value == b.value:
        return True
    one, other = _plain(a), _plain(b)
    return one == other or cases.equal_in_all_cases(one, other)


def same_shape(a: Iterable[Dim] | None, b: Iterable[Dim] | None) -> bool:
    """Whether both shapes are known and proven equal, rank included."""
    if a is None or b is None:
        return False
    left, right = tuple(a), tuple(b)
    return len(left) == len(right) and all(map(same, left, right))


def at_least(dim: Dim, bound: int) -> bool:
    """Whether the dimension is proven to be >= ``bound``."""
    if isinstance(dim, int):
        return dim >= bound
    return dim.value is not None and expression.at_least(_plain(dim), bound)


def never(dim: Dim, number: int) -> bool:
    """Whether the dimension is proven to differ from ``number``."""
    if isinstance(dim, int):
        return dim != number
    return number < 0 or at_least(dim, number + 1)


def broadcast_dims(a: Dim, b: Dim) -> Dim:
    """The dimension that broadcasting makes of two: 5 of N and 5, N of N and 1, unknown of N and M.

    Raises ModelError when no value of the symbols lets them broadcast.
    """
    if a == 1:
        return b
    if b == 1 or same(a, b):
        return a
    if isinstance(a, int) and isinstance(b, int):
        raise ModelError(f"dimensions {a} and {b} cannot be broadcast together")
    for dim, other in ((a, b), (b, a)):
        if isinstance(dim, int) or at_least(dim, 2) or caps(dim, other):
            return dim
    return UNKNOWN


def caps(dim: Dim, other: Dim) -> bool:
    """Whether ``other`` is ``min(dim, c)`` with c >= 2: it is 1 only where ``dim`` is, so the two broadcast only where they are equal."""
    return is_known(dim) and isinstance(other, ir.SymbolicDim) and other.value is not None and facts.caps(_polynomial(dim), _plain(other))


def broadcast(*shapes: Iterable[Dim] | None) -> tuple[Dim, ...] | None:
    """The shape that broadcasting makes of several; None when the rank of one is unknown. Dimensions not provable are `UNKNOWN`."""
    result: tuple[Dim, ...] = ()
    for shape in shapes:
        if shape is None:
            return None
        result = _broadcast_two(result, tuple(shape))
    return result


def _broadcast_two(a: tuple[Dim, ...], b: tuple[Dim, ...]) -> tuple[Dim, ...]:
    rank = max(len(a), len(b))
    left = (1,) * (rank - len(a)) + a
    right = (1,) * (rank - len(b)) + b
    return tuple(map(broadcast_dims, left, right))


def broadcasts_into(small: Iterable[Dim] | None, big: Iterable[Dim] | None) -> bool:
    """Whether broadcasting ``small`` against ``big`` is proven to give exactly the shape of ``big``.

    A symbol in ``small`` passes against a number other than 1: wherever the two broadcast at all, the number is the result.
    So does ``min(N, 2048)`` against N, a table cut to the length in use.
    """
    if small is None or big is None:
        return False
    narrow, wide = tuple(small), tuple(big)
    if len(narrow) > len(wide):
        return False
    return all(map(_fits, narrow, wide[len(wide) - len(narrow) :]))


def _fits(small: Dim, big: Dim) -> bool:
    if small == 1 or same(small, big):
        return True
    return isinstance(small, ir.SymbolicDim) and ((big != 1 if isinstance(big, int) else at_least(big, 2)) or caps(big, small))


def add(a: Dim, b: Dim) -> Dim:
    """``a + b``; `UNKNOWN` when either is."""
    return _combined(polynomial.add, a, b) if not (isinstance(a, int) and isinstance(b, int)) else a + b


def subtract(a: Dim, b: Dim) -> Dim:
    """``a - b``; the result may be negative, so it need not be a dimension."""
    return _combined(lambda x, y: polynomial.add(x, y, -1), a, b) if not (isinstance(a, int) and isinstance(b, int)) else a - b


def multiply(a: Dim, b: Dim) -> Dim:
    """``a * b``; 0 when either is 0, even if the other is unknown."""
    if isinstance(a, int) and isinstance(b, int):
        return a * b
    return 0 if a == 0 or b == 0 else _combined(polynomial.multiply, a, b)


def floor_divide(a: Dim, b: Dim) -> Dim:
    """``a / b`` rounded down. ``b`` is taken as > 0 when it is a symbol; `UNKNOWN` when it is a number below 1."""
    if isinstance(b, int):
        if b < 1:
            return UNKNOWN
        if isinstance(a, int):
            return a // b
    return _combined(expression.floor_divide, a, b)


def ceil_divide(a: Dim, b: Dim) -> Dim:
    """``a / b`` rounded up, under the terms of `floor_divide`."""
    return floor_divide(add(a, subtract(b, 1)), b)


def divide_exactly(a: Dim, b: Dim) -> Dim | None:
    """``a / b`` when the division is proven to leave no rest wherever ``b`` is not 0, else None."""
    if not (is_known(a) and is_known(b)) or b == 0:
        return None
    quotient = polynomial.divide_exactly(_polynomial(a), _polynomial(b))
    return None if quotient is None else _dim(quotient)


def modulo(a: Dim, b: Dim) -> Dim:
    """``a`` modulo ``b``; `UNKNOWN` unless ``a`` is proven >= 0 and ``b`` is a symbol or a number above 0."""
    if not at_least(a, 0) or (isinstance(b, int) and b < 1):
        return UNKNOWN
    return _combined(expression.modulo, a, b)


def maximum(a: Dim, b: Dim) -> Dim:
    """The larger of both."""
    return _combined(expression.maximum, a, b)


def minimum(a: Dim, b: Dim) -> Dim:
    """The smaller of both."""
    return _combined(expression.minimum, a, b)


def elements(shape: Iterable[Dim] | None) -> Dim:
    """How many elements a tensor of this shape has; `UNKNOWN` when a dimension or the rank is."""
    total: Dim = 1
    for dim in (UNKNOWN,) if shape is None else shape:
        total = multiply(total, dim)
    return total


def same_elements(a: Iterable[Dim] | None, b: Iterable[Dim] | None) -> bool:
    """Whether both shapes are proven to hold equally many elements, so that one can be reshaped into the other."""
    return same(elements(a), elements(b))


def is_zero_when(dim: Dim, zeros: frozenset[str]) -> bool | None:
    """Whether the dimension is 0 when of all symbols exactly those in ``zeros`` are; None when the others' sizes decide."""
    if isinstance(dim, int):
        return dim == 0
    return None if dim.value is None else facts.is_zero_when(_plain(dim), zeros)


def positive_given(dim: Dim, positive: frozenset[str]) -> bool:
    """Whether the dimension is proven to be >= 1 when none of these symbols is 0."""
    if isinstance(dim, int):
        return dim >= 1
    return dim.value is not None and facts.positive_given(_plain(dim), positive)


def factors(dim: Dim) -> frozenset[str]:
    """The symbols that make the dimension 0 when one of them is: those of ``12*N*S``, none of ``N + S``."""
    return frozenset() if isinstance(dim, int) or dim.value is None else facts.factors(_plain(dim))


def free_symbols(dim: Dim) -> frozenset[str]:
    """The names a dimension's value depends on."""
    return frozenset() if isinstance(dim, int) or dim.value is None else facts.symbols(_plain(dim))


def evaluate(dim: Dim, bindings: Mapping[str, int]) -> int | None:
    """The dimension once its symbols have values; None when one of them has none."""
    if isinstance(dim, int):
        return dim
    if dim.value is None:
        return None
    return bindings[dim.value] if dim.value in bindings else facts.evaluate(_plain(dim), bindings)


def _plain(dim: ir.SymbolicDim) -> Polynomial:
    return expression.parse(dim.value or "")


def _polynomial(dim: Dim) -> Polynomial:
    return polynomial.number(dim) if isinstance(dim, int) else _plain(dim)


def _dim(poly: Polynomial) -> Dim:
    value = polynomial.as_number(poly)
    return ir.SymbolicDim(polynomial.text(poly)) if value is None else value


def _combined(operation: Callable[[Polynomial, Polynomial], Polynomial], a: Dim, b: Dim) -> Dim:
    if not (is_known(a) and is_known(b)):
        return UNKNOWN
    try:
        return _dim(operation(_polynomial(a), _polynomial(b)))
    except Opaque:
        return UNKNOWN
