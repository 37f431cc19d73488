"""Einsums that are a Transpose, or a MatMul with at most the last two axes of an operand exchanged.

The examples have no symbols: ONNX Runtime's Einsum ends the process where an operand is empty.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import same
from ...compiler.core.drift import EXACT, ROUNDING
from ...compiler.core.graph import attribute
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule


@dataclass(frozen=True)
class Equation:
    """The letters of the operands and of the result."""

    operands: tuple[str, ...]
    result: str


def equation_of(node: ir.Node) -> Equation | None:
    """The equation of an Einsum; None where a letter comes up twice in one term, or there is an ellipsis."""
    left, arrow, right = str(attribute(node, "equation", "")).replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow:
        letters = "".join(terms)
        right = "".join(sorted(letter for letter in set(letters) if letters.count(letter) == 1))
    plain = all(term.isalpha() or not term for term in (*terms, right)) and all(len(set(term)) == len(term) for term in (*terms, right))
    return Equation(tuple(terms), right) if plain and len(terms) == len(node.inputs) else None


@rule(
    "Einsum",
    drift=EXACT,
    opset=12,
    examples=[
        'g (float[2,3,2] x) => (float[3,2,2] y) { y = Einsum<equation="bsi->sbi">(x) }',
        'g (float[2,3] x) => (float[3,2] y) { y = Einsum<equation="ba">(x) }',
    ],
    leaves=['g (float[3,3] x) => (float[3] y) { y = Einsum<equation="ii->i">(x) }', 'g (float[2,3] x) => (float[2] y) { y = Einsum<equation="ij->i">(x) }'],
)
def transpose_of_einsum(op: Build, m: Match) -> Result:
    """Einsum("ij->ji", x) -> Transpose(x)"""
    found = equation_of(m.root)
    if found is None or len(found.operands) != 1 or sorted(found.operands[0]) != sorted(found.result):
        return skip("it does more than to order the axes of one operand")
    perm = [found.operands[0].index(letter) for letter in found.result]
    return m.root.inputs[0] if perm == sorted(perm) else op.Transpose(m.root.inputs[0], perm=perm)


@rule(
    "Einsum",
    drift=ROUNDING,
    opset=12,
    examples=[
        'g (float[2,3,8] a, float[8,4] b) => (float[2,3,4] y) { y = Einsum<equation="bsi,io->bso">(a, b) }',
        'g (float[2,3,8] a, float[4,8] b) => (float[2,3,4] y) { y = Einsum<equation="bsi,oi->bso">(a, b) }',
        'g (float[2,2,3,8] a, float[2,2,5,8] b) => (float[2,2,3,5] y) { y = Einsum<equation="bhsd,bhtd->bhst">(a, b) }',
        'g (float[2,8,3] a, float[2,8,5] b) => (float[2,3,5] y) { y = Einsum<equation="bds,bdt->bst">(a, b) }',
    ],
    leaves=[
        'g (float[2,8] a, float[2,8] b) => (float[2,8] y) { y = Einsum<equation="ij,ij->ij">(a, b) }',
        'g (float[2,8] a, float[8,6] b) => (float[6,2] y) { y = Einsum<equation="ij,jk->ki">(a, b) }',
        'g (float[N,K] a, float[L,M] b) => (float[N,M] y) { y = Einsum<equation="ij,jk->ik">(a, b) }',
        'g (float[2,3,8] a, float[3,8,4] b) => (float[2,4] y) { y = Einsum<equation="nsi,sio->no">(a, b) }',
    ],
)
def product_of_einsum(op: Build, m: Match) -> Result:
    """Einsum("bij,bjk->bik", a, b) -> a @ b, with the last two axes of an operand exchanged where they stand the other way round"""
    found = equation_of(m.root)
    if found is None or len(found.operands) != 2 or m.root.inputs[0] is None or m.root.inputs[1] is None:
        return skip("it is no plain product of two")
    (left, right), a, b = found.operands, m.root.inputs[0], m.root.inputs[1]
    summed = [letter for letter in left if letter in right and letter not in found.result]
    refusal = _unequal(a, left, b, right)
    if len(summed) != 1 or len(right) < 2 or refusal is not None:
        return refusal or skip("it sums over the letters %s", summed)
    inner, batch = summed[0], right[:-2]
    rows, column = found.result[:-1], found.result[-1:]
    if batch and not (left.startswith(batch) and len(left) == len(right)):
        return skip("the letters before the last two differ")
    if right not in (batch + inner + column, batch + column + inner) or column in left:
        return skip("the right operand is %s", right)
    if left == rows + inner:
        first = a
    elif len(left) >= 2 and left == rows[:-1] + inner + rows[-1:]:
        first = _exchanged(op, a)
    else:
        return skip("the left operand is %s", left)
    return op.MatMul(first, b if right[-1:] == column else _exchanged(op, b))


def _exchanged(op: Build, value: ir.Value) -> ir.Value:
    rank = len(value.shape)  # type: ignore[arg-type]
    return op.Transpose(value, perm=[*range(rank - 2), rank - 1, rank - 2])  # type: ignore[return-value]


def _unequal(a: ir.Value, left: str, b: ir.Value, right: str) -> Skip | None:
    """That a letter stands for dimensions which are not proven equal: one may be 1 and the other not."""
    if a.shape is None or b.shape is None or len(a.shape) != len(left) or len(b.shape) != len(right):
        return skip("the operands have the shapes %s and %s", a.shape, b.shape)
    differing = [letter for letter in left if letter in right and not same(a.shape[left.index(letter)], b.shape[right.index(letter)])]
    return skip("'%s' may stand for different sizes", differing[0]) if differing else None
