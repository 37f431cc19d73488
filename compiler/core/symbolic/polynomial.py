"""Polynomials with integer coefficients over atoms, the form that dimensions are compared in.

A polynomial maps each product of atoms to its coefficient: ``2*N*S + 1`` is ``{("N", "S"): 2, (): 1}``. An atom is a symbol, in backquotes
where its spelling is no name, or the text of a function that is no polynomial itself (see `expression`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

Monomial = tuple[str, ...]
Polynomial = Mapping[Monomial, int]

CONSTANT: Monomial = ()
_NAME = re.compile(r"[A-Za-z_?][\w.]*")
_MOST_TERMS = 32


class Opaque(Exception):
    """A text that is a name and not an expression, or an expression that has no polynomial form here."""


def number(value: int) -> Polynomial:
    """A constant."""
    return {CONSTANT: value} if value else {}


def symbol(name: str) -> Polynomial:
    """One symbol, of any spelling."""
    return {(_quote(name),): 1}


def as_number(poly: Polynomial) -> int | None:
    """The value of a polynomial without symbols."""
    if not poly:
        return 0
    return poly[CONSTANT] if len(poly) == 1 and CONSTANT in poly else None


def add(a: Polynomial, b: Polynomial, times: int = 1) -> Polynomial:
    """``a + times * b``."""
    terms = dict(a)
    for monomial, factor in b.items():
        total = terms.get(monomial, 0) + times * factor
        if total:
            terms[monomial] = total
        else:
            terms.pop(monomial, None)
    return _bounded(terms)


def multiply(a: Polynomial, b: Polynomial) -> Polynomial:
    """``a * b``."""
    terms: dict[Monomial, int] = {}
    for left, first in a.items():
        for right, second in b.items():
            monomial = tuple(sorted(left + right))
            terms[monomial] = terms.get(monomial, 0) + first * second
    return _bounded({monomial: factor for monomial, factor in terms.items() if factor})


def divide_exactly(a: Polynomial, b: Polynomial) -> Polynomial | None:
    """``a / b`` when ``b`` is a single product that divides every term of ``a``, else None. A symbol in ``b`` is taken as not 0."""
    if len(b) != 1:
        return number(1) if dict(a) == dict(b) and b else None
    ((divisor, factor),) = b.items()
    terms: dict[Monomial, int] = {}
    for monomial, coefficient in a.items():
        rest = _without(monomial, divisor)
        if rest is None or coefficient % factor:
            return None
        terms[rest] = coefficient // factor
    return terms


def without_shared_factors(a: Polynomial, b: Polynomial) -> tuple[Polynomial, Polynomial]:
    """Both without the atoms that every term of ``a``, and ``b``, a single product, have as factors; these are taken as not 0."""
    if len(b) != 1 or not a:
        return a, b
    for atom in next(iter(b)):
        shorter = {_without(monomial, (atom,)): factor for monomial, factor in a.items()}
        if None not in shorter:
            rest = {_without(monomial, (atom,)) or CONSTANT: factor for monomial, factor in b.items()}
            return without_shared_factors({monomial: factor for monomial, factor in shorter.items() if monomial is not None}, rest)
    return a, b


def text(poly: Polynomial) -> str:
    """The canonical text of an expression; a lone symbol is its name."""
    if len(poly) == 1:
        ((monomial, factor),) = poly.items()
        if factor == 1 and len(monomial) == 1:
            return unquote(monomial[0])
    return written(poly)


def written(poly: Polynomial) -> str:
    """The canonical text of an expression, with symbols of odd spelling in backquotes."""
    parts = []
    for monomial in sorted(poly, key=lambda item: (-len(item), item)):
        factor = poly[monomial]
        body = "*".join([str(abs(factor))] * (abs(factor) != 1 or not monomial) + list(monomial))
        parts.append((" - " if factor < 0 else " + ") + body)
    joined = "".join(parts)
    if not joined:
        return "0"
    return joined[3:] if joined.startswith(" + ") else "-" + joined[3:]


def _quote(name: str) -> str:
    return name if _NAME.fullmatch(name) else f"`{name}`"


def unquote(atom: str) -> str:
    """The name of the symbol that an atom is."""
    return atom[1:-1] if atom.startswith("`") else atom


def _without(monomial: Monomial, divisor: Monomial) -> Monomial | None:
    rest = list(monomial)
    for atom in divisor:
        if atom not in rest:
            return None
        rest.remove(atom)
    return tuple(rest)


def _bounded(terms: dict[Monomial, int]) -> Polynomial:
    if len(terms) > _MOST_TERMS:
        raise Opaque("an expression of more than 32 terms")
    return terms
