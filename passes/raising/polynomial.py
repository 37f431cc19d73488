"""Values read as polynomials of other values, so that every order of sums and products looks the same.

``0.5 * (x * (1 + e))``, ``(x * 0.5) * (e + 1)`` and ``x * (e * 0.5 + 0.5)`` are all read as ``0.5 x + 0.5 x e``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.dims import broadcasts_into
from ...compiler.core.graph import array, producer, scalar
from ...compiler.core.rule import Match
from ...compiler.core.target import STANDARD_DOMAINS

Monomial = frozenset[tuple[ir.Value, int]]
Terms = Mapping[Monomial, float]

FLOAT, FLOAT16, BFLOAT16, DOUBLE = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE
FLOATS = (FLOAT, FLOAT16, BFLOAT16, DOUBLE)
SINGLES = (FLOAT, FLOAT16)
"""What both the operators of opset 21 and ONNX Runtime's CPU kernels take of activations that are rare in other types."""
LINEAR = frozenset({"Mul", "Div", "Add", "Sub", "Neg", "Cast", "Pow", "Identity"})
"""Operators that `read` looks into."""
MAX_TERMS, MAX_DEPTH, MAX_HOPS, MAX_NODES = 6, 8, 6, 16
MAX_READ, MAX_NUMBER_BYTES = 32, 2**16
ONE: Monomial = frozenset()


@dataclass(frozen=True)
class Polynomial:
    """A sum of products of values: the coefficient of each, and the nodes that compute it."""

    terms: Terms
    nodes: tuple[ir.Node, ...] = ()

    def linear(self, x: ir.Value) -> tuple[float, float] | None:
        """(a, b) when it is ``a x + b``."""
        if set(self.terms) - {ONE, monomial(x)} or monomial(x) not in self.terms:
            return None
        return self.terms[monomial(x)], self.terms.get(ONE, 0.0)


def monomial(*values: ir.Value) -> Monomial:
    """The product of values, each as often as it is given."""
    return frozenset((value, values.count(value)) for value in values)


def read(value: ir.Value | None, base: ir.Value | None = None) -> Polynomial | None:
    """``value`` as a polynomial; ``base``, what is no sum or product and what has too many terms stand for themselves. None for None."""
    return None if value is None else _Reader(base).read(value, MAX_DEPTH)


class _Reader:
    """Reads each value once, however often it occurs."""

    def __init__(self, base: ir.Value | None) -> None:
        self.base = base
        self.known: dict[ir.Value, Polynomial] = {}

    def read(self, value: ir.Value, depth: int) -> Polynomial:
        found = self.known.get(value)
        if found is None:
            found = self.known[value] = self._look(value, depth) or Polynomial({monomial(value): 1.0})
        return found

    def _look(self, value: ir.Value, depth: int) -> Polynomial | None:
        node = producer(value)
        if value is self.base or node is None or depth == 0 or len(self.known) > MAX_READ or not _is_known(node, ()) or None in node.inputs:
            return None
        found = self._sum_or_product(node, depth - 1)
        return found if found is not None and len(found.terms) <= MAX_TERMS else None

    def _sum_or_product(self, node: ir.Node, depth: int) -> Polynomial | None:
        if node.op_type == "Cast" and not all(item is not None and item.dtype in FLOATS for item in (node.inputs[0], node.outputs[0])):
            return None
        if node.op_type in ("Neg", "Cast", "Identity"):
            return _scaled(self._operand(node, 0, depth), -1.0 if node.op_type == "Neg" else 1.0, node)
        if node.op_type == "Div":
            number = number_beside(node, 1)
            return _scaled(self._operand(node, 0, depth), 1.0 / number, node) if number else None
        if node.op_type == "Pow":
            power = exponent(node)
            return _power(self._operand(node, 0, depth), power, node) if power in (2, 3) else None
        left, right = self._operand(node, 0, depth), self._operand(node, 1, depth)
        if node.op_type == "Mul":
            return _times(left, right, node)
        return _plus(left, right, 1.0 if node.op_type == "Add" else -1.0, node)

    def _operand(self, node: ir.Node, index: int, depth: int) -> Polynomial:
        number = number_beside(node, index) if len(node.inputs) == 2 else None
        value = node.inputs[index]
        assert value is not None
        return Polynomial({ONE: number}) if number is not None else self.read(value, depth)


def _scaled(a: Polynomial, factor: float, node: ir.Node) -> Polynomial:
    return Polynomial({key: value * factor for key, value in a.terms.items()}, (*a.nodes, node))


def _plus(a: Polynomial, b: Polynomial, sign: float, node: ir.Node) -> Polynomial:
    terms = dict(a.terms)
    for key, value in b.terms.items():
        terms[key] = terms.get(key, 0.0) + sign * value
    return Polynomial(terms, _joined(a, b, node))


def _times(a: Polynomial, b: Polynomial, node: ir.Node) -> Polynomial:
    terms: dict[Monomial, float] = {}
    for left, number in a.terms.items():
        for right, other in b.terms.items():
            powers = dict(left)
            for value, power in right:
                powers[value] = powers.get(value, 0) + power
            key = frozenset(powers.items())
            terms[key] = terms.get(key, 0.0) + number * other
    return Polynomial(terms, _joined(a, b, node))


def _joined(a: Polynomial, b: Polynomial, node: ir.Node) -> tuple[ir.Node, ...]:
    return tuple(dict.fromkeys((*a.nodes, *b.nodes, node)))


def _power(a: Polynomial, exponent: float, node: ir.Node) -> Polynomial | None:
    if len(a.terms) > 1:
        return None
    [(key, number)] = a.terms.items()
    return Polynomial({frozenset((value, power * int(exponent)) for value, power in key): number**exponent}, (*a.nodes, node))


def number_beside(node: ir.Node, index: int) -> float | None:
    """The one number that all of a constant operand's elements are, when it does not make the result larger than the other operand."""
    value, other = node.inputs[index], node.inputs[1 - index]
    number = uniform(value)
    if number is None or value is None or value.shape is None or value is other:
        return None
    fits = len(value.shape) == 0 or (other is not None and broadcasts_into(value.shape, other.shape))
    return number if fits else None


def exponent(node: ir.Node) -> float | None:
    """The one number that a Pow raises to, which may be an integer."""
    given = scalar(node.inputs[1])
    if given is None or isinstance(given, bool):
        return number_beside(node, 1)
    shape, base = node.inputs[1].shape, node.inputs[0]  # type: ignore[union-attr]
    return float(given) if shape is not None and (len(shape) == 0 or (base is not None and broadcasts_into(shape, base.shape))) else None


def uniform(value: ir.Value | None) -> float | None:
    """The number that every element of a float constant is; None when there is none."""
    content = array(value, MAX_NUMBER_BYTES)
    if content is None or content.size == 0 or value is None or value.dtype not in FLOATS:
        return None
    wide = content.astype(np.float64).reshape(-1)
    return float(wide[0]) if math.isfinite(wide[0]) and bool((wide == wide[0]).all()) else None


def close(found: float, wanted: float, dtype: ir.DataType | None) -> bool:
    """Whether ``found``, made of numbers written in ``dtype``, means ``wanted``."""
    allowed = {FLOAT16: 1e-3, BFLOAT16: 1e-2}.get(dtype, 2e-6) if dtype is not None else 2e-6
    return abs(found - wanted) <= allowed * abs(wanted)


def means(found: Polynomial | None, wanted: Terms, dtype: ir.DataType | None) -> bool:
    """Whether a polynomial has these terms and no others, up to how numbers are written."""
    if found is None or found.terms.keys() != wanted.keys():
        return False
    return all(close(found.terms[key], number, dtype) for key, number in wanted.items())


def claim(m: Match, *parts: Polynomial | ir.Node) -> None:
    """Make nodes part of the match."""
    for part in parts:
        for node in part.nodes if isinstance(part, Polynomial) else (part,):
            m.take(node)


def made_by(value: ir.Value | None, *types: str) -> Iterator[ir.Node]:
    """The nearest nodes of these types that ``value`` is computed from by sums and products alone."""
    for node in spine(value, types):
        if node.op_type in types:
            yield node


def spine(value: ir.Value | None, types: Sequence[str] = ()) -> list[ir.Node]:
    """The sums, products and nodes of ``types`` that ``value`` is computed from, nearest first; it ends at ``types``, and where it grows too large.

    Rules that start at a Mul or an Add ask this first of all, so it is bounded, and does as little as it can.
    """
    found: dict[ir.Node, None] = {}
    frontier = [value]
    for _ in range(MAX_HOPS):
        reached: list[ir.Value | None] = []
        for item in frontier:
            node = item.producer() if item is not None else None
            if node is None or node in found or not _is_known(node, types):
                continue
            found[node] = None
            if node.op_type not in types:
                reached.extend(node.inputs)
        if not reached or len(found) > MAX_NODES:
            break
        frontier = reached
    return list(found)


def _is_known(node: ir.Node, types: Sequence[str]) -> bool:
    return (node.op_type in LINEAR or node.op_type in types) and node.domain in STANDARD_DOMAINS


def read_twice(root: ir.Value, *gates: ir.Node) -> list[ir.Value]:
    """The values that are read more than once on the way to ``root`` and to the inputs of ``gates``: what the whole may be a function of."""
    types = tuple(node.op_type for node in gates)
    nodes = dict.fromkeys([*spine(root, types), *(node for gate in gates for node in spine(gate.inputs[0]))])
    counts: dict[ir.Value, int] = {}
    for item in (item for node in [*nodes, *(gate for gate in gates if gate not in nodes)] for item in node.inputs if item is not None):
        counts[item] = counts.get(item, 0) + 1
    return [item for item, count in counts.items() if count > 1]
