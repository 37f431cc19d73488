"""Integer expressions over dimension symbols.

Functions that are no polynomials are atoms of one, kept as text: ``div(N + 1, 2)`` (rounding down), ``mod(N, 8)``, ``max(N, 1)``, ``min(N, 4)``.
Every symbol stands for an integer >= 0, so an empty dimension is never ruled out. Equal texts are equal expressions.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable

from .polynomial import CONSTANT, Opaque, Polynomial, add, as_number, divide_exactly, multiply, number, symbol, text, without_shared_factors, written

_TOKEN = re.compile(r"(?P<sign> [+-] )|\s*(?:(?P<number>\d+)|(?P<name>[A-Za-z_?][\w.]*)|`(?P<quoted>[^`]*)`|(?P<mark>//|\*\*|[-*%(),]))")
_LONGEST = 500
_FUNCTIONS = {"max": "max", "Max": "max", "min": "min", "Min": "min", "mod": "mod", "Mod": "mod", "div": "div", "FloorDiv": "div"}


def floor_divide(a: Polynomial, b: Polynomial) -> Polynomial:
    """``a / b`` rounded down, for ``b`` > 0."""
    exact = divide_exactly(a, b)
    if exact is not None:
        return exact
    a, b = without_shared_factors(a, b)
    divisor = as_number(b)
    if divisor is None:
        return _call("div", a, b)
    whole = {monomial: factor // divisor for monomial, factor in a.items() if factor // divisor}
    rest = {monomial: factor % divisor for monomial, factor in a.items() if factor % divisor}
    if as_number(rest) is not None:
        return whole
    inner = _nested_division(rest)
    if inner is not None:
        numerator, first = inner
        return add(whole, _call("div", numerator, number(first * divisor)))
    return add(whole, _call("div", rest, b))


def _nested_division(poly: Polynomial) -> tuple[Polynomial, int] | None:
    """(x, a) when ``poly`` is ``floor(x / a)`` plus a constant, the constant moved inside x."""
    atoms = [monomial for monomial in poly if monomial != CONSTANT]
    if len(atoms) != 1 or len(atoms[0]) != 1 or poly[atoms[0]] != 1 or not atoms[0][0].startswith("div("):
        return None
    numerator, divisor = arguments(atoms[0][0])
    size = as_number(divisor)
    if size is None:
        return None
    return add(numerator, number(poly.get(CONSTANT, 0) * size)), size


def modulo(a: Polynomial, b: Polynomial) -> Polynomial:
    """``a`` modulo ``b``, for ``a`` >= 0 and ``b`` > 0."""
    divisor = as_number(b)
    if divisor is None:
        return number(0) if divide_exactly(a, b) is not None else _call("mod", a, b)
    rest = {monomial: factor % divisor for monomial, factor in a.items() if factor % divisor}
    return rest if as_number(rest) is not None else _call("mod", rest, b)


def maximum(a: Polynomial, b: Polynomial) -> Polynomial:
    """The larger of both."""
    if at_least(add(a, b, -1), 0):
        return a
    if at_least(add(b, a, -1), 0):
        return b
    return _call("max", *sorted((a, b), key=text))


def minimum(a: Polynomial, b: Polynomial) -> Polynomial:
    """The smaller of both."""
    if at_least(add(a, b, -1), 0):
        return b
    if at_least(add(b, a, -1), 0):
        return a
    return _call("min", *sorted((a, b), key=text))


def at_least(poly: Polynomial, bound: int) -> bool:
    """Whether the expression is proven to be >= ``bound`` whatever its symbols are."""
    low = lower_bound(poly)
    return low is not None and low >= bound


def lower_bound(poly: Polynomial) -> int | None:
    """A number that the expression is never below; None when none is known."""
    low = 0
    for monomial, factor in poly.items():
        bounds = [bound for atom in monomial if (bound := _atom_lower_bound(atom)) is not None]
        if monomial == CONSTANT:
            low += factor
        elif factor < 0 or len(bounds) < len(monomial) or (len(bounds) > 1 and min(bounds) < 0):
            return None
        else:
            low += factor * math.prod(bounds)
    return low


@functools.lru_cache(maxsize=4096)
def _atom_lower_bound(atom: str) -> int | None:
    name = function_of(atom)
    if name is None or name == "mod":
        return 0
    first, second = arguments(atom)
    bounds = (lower_bound(first), lower_bound(second))
    if name == "div":
        size = as_number(second)
        if bounds[0] is None:
            return None
        return bounds[0] // size if size else min(bounds[0], 0)
    known = [bound for bound in bounds if bound is not None]
    if name == "max":
        return max(known, default=None)
    return min(known) if len(known) == 2 else None


def _call(name: str, *parameters: Polynomial) -> Polynomial:
    atom = f"{name}({', '.join(written(parameter) for parameter in parameters)})"
    if len(atom) > _LONGEST:
        raise Opaque("an expression of more than 500 letters: one that repeats itself in each layer doubles each time")
    return {(atom,): 1}


def function_of(atom: str) -> str | None:
    """The name of the function that an atom is, None for a symbol."""
    name, opened, _ = atom.partition("(")
    return name if opened and name in ("max", "min", "div", "mod") else None


@functools.lru_cache(maxsize=4096)
def arguments(atom: str) -> tuple[Polynomial, ...]:
    """What the function in an atom is applied to."""
    reader = _Reader(atom)
    reader.next()
    return reader.call_arguments()


@functools.lru_cache(maxsize=16384)
def parse(written: str) -> Polynomial:
    """Read a dimension's text: the expressions that `text` and PyTorch write; anything else is the name of a symbol.

    ``+`` and ``-`` between operands need a space on each side, so that ``batch-size`` stays one name.
    """
    try:
        poly = _Reader(written).whole()
    except Opaque:
        return symbol(written)
    return symbol(written) if as_number(poly) is not None else poly


class _Reader:
    """Recursive descent over the tokens of one text."""

    def __init__(self, written: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        self.at = 0
        position = 0
        while position < len(written):
            match = _TOKEN.match(written, position)
            if match is None or match.lastgroup is None or match.end() == position:
                raise Opaque(written)
            kind = match.lastgroup
            self.tokens.append((kind, match[kind].strip() if kind == "sign" else match[kind]))
            position = match.end()

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def next(self) -> tuple[str, str]:
        token = self.peek()
        self.at += 1
        return token

    def take(self, mark: str) -> bool:
        if self.peek() == ("mark", mark):
            self.at += 1
            return True
        return False

    def whole(self) -> Polynomial:
        poly = self.sum()
        if self.peek()[0] != "end":
            raise Opaque
        return poly

    def sum(self) -> Polynomial:
        poly = self.product()
        while self.peek()[0] == "sign":
            times = 1 if self.next()[1] == "+" else -1
            poly = add(poly, self.product(), times)
        return poly

    def product(self) -> Polynomial:
        poly = self.power()
        while True:
            if self.take("*"):
                poly = multiply(poly, self.power())
            elif self.take("//"):
                poly = _checked(floor_divide, poly, self.power())
            elif self.take("%"):
                poly = _checked(modulo, poly, self.power())
            else:
                return poly

    def power(self) -> Polynomial:
        if self.take("-"):
            return multiply(number(-1), self.power())
        base = self.primary()
        if not self.take("**"):
            return base
        kind, digits = self.next()
        if kind != "number" or int(digits) > 8:
            raise Opaque
        return functools.reduce(multiply, [base] * int(digits), number(1))

    def primary(self) -> Polynomial:
        kind, written = self.next()
        if kind == "number":
            return number(int(written))
        if kind == "quoted":
            return symbol(written)
        if kind == "name":
            return self.function(written) if self.peek() == ("mark", "(") else symbol(written)
        if (kind, written) == ("mark", "("):
            poly = self.sum()
            if self.take(")"):
                return poly
        raise Opaque

    def function(self, name: str) -> Polynomial:
        if name not in _FUNCTIONS:
            raise Opaque
        parameters = self.call_arguments()
        kind = _FUNCTIONS[name]
        if kind in ("max", "min") and parameters:
            return functools.reduce(maximum if kind == "max" else minimum, parameters)
        if len(parameters) != 2:
            raise Opaque
        return _checked(floor_divide if kind == "div" else modulo, *parameters)

    def call_arguments(self) -> tuple[Polynomial, ...]:
        if not self.take("("):
            raise Opaque
        found = [self.sum()]
        while self.take(","):
            found.append(self.sum())
        if not self.take(")"):
            raise Opaque
        return tuple(found)


def _checked(operation: Callable[[Polynomial, Polynomial], Polynomial], a: Polynomial, b: Polynomial) -> Polynomial:
    """A division as PyTorch writes it; one by a number below 1 has no meaning here."""
    divisor = as_number(b)
    if divisor is not None and divisor < 1:
        raise Opaque
    return operation(a, b)
