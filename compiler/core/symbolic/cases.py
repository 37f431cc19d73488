"""Equality of expressions with minima and maxima, proven apart for a symbol that is 0 and one that is not.

``min(N + 1, N + min(1, N)) - min(1, N)`` is N: for N = 0 both are 0, and for N = M + 1 both are M + 1.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping

from .expression import arguments, floor_divide, function_of, maximum, minimum, modulo
from .facts import symbols
from .polynomial import Opaque, Polynomial, add, as_number, multiply, number, symbol, text, unquote

MOST_SYMBOLS = 2
_REMADE: dict[str, Callable[[Polynomial, Polynomial], Polynomial]] = {"max": maximum, "min": minimum, "div": floor_divide, "mod": modulo}


def equal_in_all_cases(a: Polynomial, b: Polynomial) -> bool:
    """Whether both are equal whether each symbol under a minimum or maximum is 0 or more."""
    if not any(_chooses(atom) for poly in (a, b) for monomial in poly for atom in monomial):
        return False
    return _equal(text(a), text(b), tuple(sorted(a.items())), tuple(sorted(b.items())))


@functools.lru_cache(maxsize=4096)
def _equal(_first: str, _second: str, left: tuple[tuple[tuple[str, ...], int], ...], right: tuple[tuple[tuple[str, ...], int], ...]) -> bool:
    a, b = dict(left), dict(right)
    split = sorted(_under_choices(a) | _under_choices(b))
    if not 0 < len(split) <= MOST_SYMBOLS:
        return False
    try:
        cases = itertools.product(*([(name, number(0)), (name, add(symbol(name), number(1)))] for name in split))
        return all(dict(substitute(a, dict(case))) == dict(substitute(b, dict(case))) for case in cases)
    except Opaque:
        return False


def _chooses(atom: str) -> bool:
    name = function_of(atom)
    return name in ("max", "min") or (name is not None and any(_chooses(inner) for part in arguments(atom) for monomial in part for inner in monomial))


def _under_choices(poly: Polynomial) -> frozenset[str]:
    """The symbols that some function in the expression depends on."""
    atoms = {atom for monomial in poly for atom in monomial if function_of(atom) is not None}
    return frozenset[str]().union(*(symbols(part) for atom in atoms for part in arguments(atom)))


def substitute(poly: Polynomial, bindings: Mapping[str, Polynomial]) -> Polynomial:
    """The expression with expressions in place of some of its symbols. Raises Opaque when that has no form here."""
    total: Polynomial = {}
    for monomial, factor in poly.items():
        total = add(total, functools.reduce(multiply, (_substituted(atom, bindings) for atom in monomial), number(factor)))
    return total


def _substituted(atom: str, bindings: Mapping[str, Polynomial]) -> Polynomial:
    name = function_of(atom)
    if name is None:
        return bindings.get(unquote(atom), {(atom,): 1})
    first, second = (substitute(part, bindings) for part in arguments(atom))
    if name in ("div", "mod"):
        size = as_number(second)
        if size is not None and size < 1:
            raise Opaque(atom)
    elif (one := as_number(first)) is not None and (other := as_number(second)) is not None:
        return number(int((max if name == "max" else min)(one, other)))
    return _REMADE[name](first, second)
