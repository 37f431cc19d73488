"""A transpose before the pixels of an image are laid out in a row: the rows of the weight behind it can be reordered instead."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import same
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import array, attribute, is_op, producer
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from ...compiler.core.shapes import dims_of, never_zero
from ..cleanup.identity import permutation
from ..movement.views import reshaped

W = "float[6,2] w = {1,2,3,4,5,6,7,8,9,0,1,2}, int64[2] s = {0,6}"


@rule(
    "MatMul",
    "Gemm",
    drift=ROUNDING,
    opset=13,
    examples=[
        f"g (float[N,3,2,1] x) => (float[N,2] y) <{W}> {{ t = Transpose<perm=[0,2,3,1]>(x) r = Reshape(t, s) y = MatMul(r, w) }}",
        "g (float[N,2,3] x) => (float[N,2] y) <float[2,6] w = {1,2,3,4,5,6,7,8,9,0,1,2}, float[2] b = {5,6}>"
        " { t = Transpose<perm=[0,2,1]>(x) r = Flatten(t) y = Gemm<transB=1>(r, w, b) }",
    ],
    leaves=[
        f"g (float[3,N,2] x) => (float[N,2] y) <{W}> {{ t = Transpose<perm=[1,2,0]>(x) r = Reshape(t, s) y = MatMul(r, w) }}",
        f"g (float[N,3,2] x, float[6,2] v) => (float[N,2] y) <{W}> {{ t = Transpose<perm=[0,2,1]>(x) r = Reshape(t, s) y = MatMul(r, v) }}",
        f"g (float[N,3,2] x) => (float[N,2] y, float[N,2,3] t) <{W}> {{ t = Transpose<perm=[0,2,1]>(x) r = Reshape(t, s) y = MatMul(r, w) }}",
        "g (float[N,6,2] x) => (float[M,2] y) <float[6,2] w = {1,2,3,4,5,6,7,8,9,0,1,2}, int64[2] s = {-1,6}>"
        " { t = Transpose<perm=[0,2,1]>(x) r = Reshape(t, s) y = MatMul(r, w) }",
    ],
)
def reorder_weight_rows(op: Build, m: Match) -> Result:
    """Reshape(Transpose(x: [n, c, h, w]) to [n, h w c]) w -> Reshape(x to [n, c h w]) (w with its rows reordered)"""
    view = producer(m.root.inputs[0], "Reshape", "Flatten")
    moved = producer(view.inputs[0], "Transpose") if view is not None else None
    if view is None or moved is None or moved.inputs[0] is None:
        return None
    source = moved.inputs[0]
    shape, perm, row = dims_of(source), permutation(moved), dims_of(view.outputs[0])
    if shape is None or perm is None or row is None or perm[0] != 0 or len(row) != 2 or not same(row[0], shape[0]):
        return skip("the Reshape does not lay out all but the first dim in a row")
    sizes = [size for size in shape[1:] if isinstance(size, int)]
    weight = _reordered(m.root, sizes, [axis - 1 for axis in perm[1:]]) if len(sizes) == len(shape) - 1 else skip("the dims are %s", shape)
    if isinstance(weight, Skip):
        return weight
    flat = reshaped(op, source, row, never_zero(view))
    if isinstance(flat, Skip):
        return flat
    m.take(view)
    m.take(moved)
    return op.like(m.root, flat, op.const(weight, "weight"), *m.root.inputs[2:])


def _reordered(product: ir.Node, sizes: list[int], perm: list[int]) -> np.ndarray | Skip:
    """The weight for rows in the order that they have before they are transposed."""
    weight = array(product.inputs[1])
    if weight is None or weight.ndim != 2 or attribute(product, "transA", 0):
        return skip("the weight is no constant matrix")
    axis = 1 if is_op(product, "Gemm") and attribute(product, "transB", 0) else 0
    if weight.shape[axis] != math.prod(sizes) or 0 in sizes:
        return skip("the weight has shape %s for %s", weight.shape, sizes)
    places = np.arange(weight.shape[axis]).reshape(sizes).transpose(perm).reshape(-1)
    return np.ascontiguousarray(np.take(weight, np.argsort(places), axis=axis))
