"""Gemm's factors and biases that are not needed, and products by the identity."""

from __future__ import annotations

import numpy as np

from ...compiler.core.build import Build
from ...compiler.core.dims import broadcasts_into
from ...compiler.core.drift import DOMAIN, ROUNDING
from ...compiler.core.graph import array, attribute
from ...compiler.core.pattern import Const, Pen
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from .arithmetic import MAX_CONSTANT_BYTES, narrowed
from .linear import is_shared, linear

GEMM = "g (float[N,2] x) => (float[N,3] y) <float[2,3] w = {1,2,3,4,5,6}, float[3] b = {1,2,3}"


@rule(
    "Gemm",
    drift=ROUNDING,
    opset=11,
    examples=[
        f"{GEMM}> {{ y = Gemm<alpha=0.5, beta=3.0>(x, w, b) }}",
        f"{GEMM}> {{ y = Gemm<alpha=0.5>(x, w) }}",
        f"{GEMM}> {{ y = Gemm<beta=0.0>(x, w, b) }}",
        "g (double[N,2] x) => (double[N,1] y) <double[2,1] w = {1,2}, double b = {3}> { y = Gemm<alpha=0.5>(x, w, b) }",
    ],
    leaves=[f"{GEMM}> {{ y = Gemm(x, w, b) }}", "g (float[2,2] x, float[2,2] z) => (float[2,2] y) { y = Gemm<alpha=0.5>(x, z) }"],
)
def fold_gemm_factors(op: Build, m: Match) -> Result:
    """alpha A B + beta C -> A (alpha B) + (beta C)"""
    item = linear(m.root)
    alpha, beta = (float(attribute(m.root, name, 1.0)) for name in ("alpha", "beta"))  # type: ignore[arg-type]
    if item is None or (alpha == 1 and (beta == 1 or item.bias is None)):
        return None
    if alpha != 1 and is_shared(item):
        return skip("the weight is large and needed elsewhere too")
    bias = array(item.bias)
    weight = narrowed(item.weight.astype(np.float64) * alpha, item.weight.dtype)
    row = None if bias is None or beta == 0 else narrowed(bias.astype(np.float64) * beta, bias.dtype)
    if weight is None or (row is None and bias is not None and beta != 0):
        return skip("the folded weight or bias would overflow, or lose digits")
    new_weight = op.const(weight, "weight") if alpha != 1 else m.root.inputs[1]
    return op.like(m.root, item.data, new_weight, None if row is None else op.const(row, "bias"), alpha=None, beta=None)


@rule(
    "Conv",
    "ConvTranspose",
    "Gemm",
    drift=ROUNDING,
    opset=11,
    examples=[
        "g (float[N,2] x, float[2,3] w) => (float[N,3] y) <float[3] b = {0,0,0}> { y = Gemm(x, w, b) }",
        "g (float[N,1,2,2] x, float[1,1,1,1] w) => (float[N,1,2,2] y) <float[1] b = {0}> { y = Conv(x, w, b) }",
    ],
    leaves=["g (float[N,2] x, float[2,3] w) => (float[N,3] y) <float[3] b = {0,0,1}> { y = Gemm(x, w, b) }"],
)
def drop_zero_bias(op: Build, m: Match) -> Result:
    """x * w + 0 -> x * w"""
    bias = array(m.root.inputs[2], MAX_CONSTANT_BYTES) if len(m.root.inputs) > 2 else None
    if bias is None or bias.astype(np.float64).any():
        return None
    return op.like(m.root, *m.root.inputs[:2])


def plus(op: Pen, x: object, w: object, zero: Const) -> object:
    return op.Add(op.MatMul(x, w, _name="product"), zero)


@rule(
    plus,
    drift=ROUNDING,
    examples=["g (float[N,2] x, float[2,3] w) => (float[N,3] y) <float[3] b = {0,0,0}> { c = MatMul(x, w) y = Add(c, b) }"],
    leaves=[
        "g (float[N,2] x, float[2,3] w) => (float[N,3] y) <float[3] b = {0,0,1}> { c = MatMul(x, w) y = Add(c, b) }",
        "g (float[N,2] x, float[2,1] w) => (float[N,3] y) <float[3] b = {0,0,0}> { c = MatMul(x, w) y = Add(c, b) }",
    ],
)
def drop_zero_shift(op: Build, m: Match) -> Result:
    """x @ w + 0 -> x @ w"""
    zero, product = array(m.zero, MAX_CONSTANT_BYTES), m.node("product").outputs[0]
    if zero is None or zero.dtype == np.bool_ or zero.astype(np.float64).any():
        return skip("it adds something")
    if not broadcasts_into(m.zero.shape, product.shape):
        return skip("the constant may broadcast the product to a larger shape")
    return op.MatMul(m.x, m.w)


@rule(
    "MatMul",
    drift=DOMAIN,
    opset=9,
    examples=[
        "g (int64[N,2] i) => (float[N,2] y) <float[2,2] w = {1,0,0,1}> { x = Cast<to=1>(i) a = MatMul(x, w) y = Relu(a) }",
        "g (int64[2,N] i) => (float[2,N] y) <float[2,2] w = {1,0,0,1}> { x = Cast<to=1>(i) a = MatMul(w, x) y = Relu(a) }",
    ],
    leaves=[
        "g (float[N,2] x) => (float[N,2] y) <float[2,2] w = {1,0,0,1}> { a = MatMul(x, w) y = Relu(a) }",
        "g (int64[N,2] i) => (float[N,2] y) <float[2,2] w = {0,1,1,0}> { x = Cast<to=1>(i) a = MatMul(x, w) y = Relu(a) }",
    ],
)
def drop_identity_product(op: Build, m: Match) -> Result:
    """x @ I -> x, where nothing in x is infinite or NaN (infinity times the zeros of I is NaN)"""
    item = linear(m.root)
    if item is None or item.weight.ndim != 2 or item.weight.shape[0] != item.weight.shape[1]:
        return None
    if not np.array_equal(item.weight.astype(np.float64), np.eye(item.weight.shape[0])):
        return None
    if not (m.fast_math or m.ranges.is_finite(item.data)):
        return skip("'%s' may hold infinities or NaN, which the zeros of the identity turn into NaN", item.data.name)
    return item.data
