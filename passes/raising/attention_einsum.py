"""Einsums that are batched matrix products, as many attentions are written, become the MatMul that other rules know.

ONNX Runtime ends the process on an Einsum of empty tensors; the MatMul gives zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import same
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import attribute
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


@dataclass(frozen=True)
class Product:
    """The letters of an equation: ``rows`` of the left and ``columns`` of the right, summed over ``inner``, for each of ``batch``."""

    left: str
    right: str
    made: str
    batch: str
    rows: str
    inner: str
    columns: str


@rule(
    "Einsum",
    drift=ROUNDING,
    opset=12,
    examples=[
        'g (float[5,2,3,4] q, float[5,2,2,4] k) => (float[5,2,3,2] y) { y = Einsum<equation="bhid,bhjd->bhij">(q, k) }',
        'g (float[5,3,2,4] q, float[5,2,2,4] k) => (float[5,2,3,2] y) { y = Einsum<equation="bqhd, bkhd -> bhqk">(q, k) }',
        'g (float[5,2,3,2] p, float[5,2,2,4] v) => (float[5,3,2,4] y) { y = Einsum<equation="bhqk,bkhd->bqhd">(p, v) }',
        'g (float[5,3,3] x, float[5,3,2] z) => (float[5,2,3] y) { y = Einsum<equation="nij,njk->nki">(x, z) }',
        'g (float[3,3] x, float[3,2] z) => (float[3,2] y) { y = Einsum<equation="ij,jk->ik">(x, z) }',
    ],
    leaves=[
        'g (float[N,2,S,4] q, float[N,2,S,4] k) => (float[N,2,S] y) { y = Einsum<equation="bhid,bhid->bhi">(q, k) }',
        'g (float[N,S,4] q, float[M,S,4] k) => (float[N,S,S] y) { y = Einsum<equation="bid,bjd->bij">(q, k) }',
        'g (float[S,3] x, float[T,3] z) => (float[S,T,3] y) { y = Einsum<equation="ik,jk->ijk">(x, z) }',
        'g (float[S,3] x) => (float[3,S] y) { y = Einsum<equation="ij->ji">(x) }',
        'g (float[3,3] x, float[3,3] z) => (float[3] y) { y = Einsum<equation="ii,ij->j">(x, z) }',
        'g (float[N,S,3] x, float[3,T] z) => (float[N,S,T] y) { y = Einsum<equation="...ij,jk->...ik">(x, z) }',
        'g (int32[S,3] x, int32[3,T] z) => (int32[S,T] y) { y = Einsum<equation="ij,jk->ik">(x, z) }',
    ],
)
def raise_einsum(op: Build, m: Match) -> Result:
    """Einsum(b..ic, b..cj -> b..ij) -> MatMul, with the transposes that the order of the letters asks for"""
    product = _product(str(attribute(m.root, "equation", "")))
    if product is None or len(m.root.inputs) != 2:
        return None
    x, z = m.root.inputs
    if x is None or z is None or x.dtype not in FLOATS or x.shape is None or z.shape is None:
        return skip("it multiplies %s", x.dtype if x is not None else None)
    if (len(x.shape), len(z.shape)) != (len(product.left), len(product.right)):
        return skip("'%s' and '%s' have the shapes %s and %s", product.left, product.right, x.shape, z.shape)
    shared = product.batch + product.inner
    if not all(same(x.shape[product.left.index(letter)], z.shape[product.right.index(letter)]) for letter in shared):
        return skip("sizes of %s may be broadcast", shared)
    left = _ordered(op, x, product.left, product.batch + product.rows + product.inner)
    right = _ordered(op, z, product.right, product.batch + product.inner + product.columns)
    made = op.MatMul(left, right)
    return _ordered(op, made, product.batch + product.rows + product.columns, product.made)  # type: ignore[arg-type]


def _product(equation: str) -> Product | None:
    """The parts of an equation of two matrices, or batches of them."""
    operands, arrow, made = equation.replace(" ", "").partition("->")
    left, comma, right = operands.partition(",")
    if not arrow or not comma or "," in right or not all(part.isalpha() and len(set(part)) == len(part) for part in (left, right, made)):
        return None
    batch = "".join(letter for letter in made if letter in left and letter in right)
    rows = "".join(letter for letter in left if letter not in right)
    columns = "".join(letter for letter in right if letter not in left)
    inner = "".join(letter for letter in left if letter in right and letter not in made)
    if (len(rows), len(columns), len(inner)) != (1, 1, 1) or set(made) != set(batch + rows + columns):
        return None
    return Product(left, right, made, batch, rows, inner, columns)


def _ordered(op: Build, value: ir.Value, have: str, wanted: str) -> ir.Value:
    perm = [have.index(letter) for letter in wanted]
    return value if perm == list(range(len(perm))) else op.Transpose(value, perm=perm)  # type: ignore[return-value]
