"""Questions about expressions: what they depend on, their value, where they are 0."""

from __future__ import annotations

from collections.abc import Mapping

from .expression import arguments, at_least, function_of
from .polynomial import Polynomial, unquote


def evaluate(poly: Polynomial, bindings: Mapping[str, int]) -> int | None:
    """The value once every symbol has one; None when a symbol has none."""
    total = 0
    for monomial, factor in poly.items():
        for atom in monomial:
            value = _evaluate_atom(atom, bindings)
            if value is None:
                return None
            factor *= value
        total += factor
    return total


def _evaluate_atom(atom: str, bindings: Mapping[str, int]) -> int | None:
    name = function_of(atom)
    if name is None:
        return bindings.get(unquote(atom))
    first, second = (evaluate(argument, bindings) for argument in arguments(atom))
    if first is None or second is None:
        return None
    if name in ("max", "min"):
        return max(first, second) if name == "max" else min(first, second)
    if second == 0:
        return None
    return first // second if name == "div" else first % second


def symbols(poly: Polynomial) -> frozenset[str]:
    """The names of the symbols in an expression."""
    found: set[str] = set()
    for monomial in poly:
        for atom in monomial:
            if function_of(atom) is None:
                found.add(unquote(atom))
            else:
                found.update(*(symbols(argument) for argument in arguments(atom)))
    return frozenset(found)


def positive_given(poly: Polynomial, positive: frozenset[str]) -> bool:
    """Whether a sum of products is >= 1 when none of the symbols in ``positive`` is 0."""
    if at_least(poly, 1):
        return True
    if not at_least(poly, 0):
        return False
    return any(all(unquote(atom) in positive for atom in monomial) for monomial in poly)


def factors(poly: Polynomial) -> frozenset[str]:
    """The symbols that every term of an expression has as a factor."""
    shared = [{unquote(atom) for atom in monomial if function_of(atom) is None} for monomial in poly]
    return frozenset(set.intersection(*shared)) if shared else frozenset()


def is_zero_when(poly: Polynomial, zeros: frozenset[str]) -> bool | None:
    """Whether a sum of products is 0 when exactly the symbols in ``zeros`` are; None for what is no such sum."""
    if at_least(poly, 1):
        return False
    if any(factor < 0 or any(function_of(atom) for atom in monomial) for monomial, factor in poly.items()):
        return None
    return all(any(unquote(atom) in zeros for atom in monomial) for monomial in poly)


def caps(whole: Polynomial, capped: Polynomial) -> bool:
    """Whether ``capped`` is ``min(whole, c)`` for a c proven to be >= 2."""
    if len(capped) != 1:
        return False
    ((monomial, factor),) = capped.items()
    if factor != 1 or len(monomial) != 1 or function_of(monomial[0]) != "min":
        return False
    first, second = arguments(monomial[0])
    return (dict(first) == dict(whole) and at_least(second, 2)) or (dict(second) == dict(whole) and at_least(first, 2))
