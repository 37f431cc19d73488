"""Transposes and factors that a matrix product takes along.

ONNX Runtime has FusedMatMul for it, which multiplies alpha * A B with either side transposed in its last two dims; Gemm does so for two dims.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import broadcasts_into
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import attribute, constant, producer, scalar
from ...compiler.core.pattern import ANY, Const, Pen
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from ...compiler.core.shapes import dims_of
from ..cleanup.identity import permutation

MICROSOFT = "com.microsoft"
KERNEL = "com.microsoft::FusedMatMul"


@rule(
    "MatMul",
    KERNEL,
    drift=ROUNDING,
    kernels=(KERNEL,),
    shared=True,
    measured=True,
    examples=[
        "g (float[N,S,K] x, float[N,T,K] z) => (float[N,S,T] y) { t = Transpose<perm=[0,2,1]>(z) y = MatMul(x, t) }",
        "g (float[K,N] x, float[K,3] z) => (float[N,3] y) { t = Transpose(x) y = MatMul(t, z) }",
        "g (float[2,H,K,N] x, float[H,3,K] z) => (float[2,H,N,3] y) { t = Transpose<perm=[0,1,3,2]>(x) u = Transpose<perm=[0,2,1]>(z) y = MatMul(t, u) }",
        "g (float[N,S] x, float[S,3] z) => (float[N,3] y) { t = Transpose(x) y = com.microsoft.FusedMatMul<transA=1, alpha=0.5>(t, z) }",
    ],
    leaves=[
        "g (float[2,3,4] x, float[3,4,2] z) => (float[3,2,2] y) { t = Transpose<perm=[1,0,2]>(x) y = MatMul(t, z) }",
        "g (double[N,S] x, double[M,S] z) => (double[N,M] y) { t = Transpose(z) y = MatMul(x, t) }",
        "g (float[2,2,2] x, float[2,2,2] z) => (float[2,2,2] y)"
        " { t = Transpose<perm=[0,2,1]>(x) y = com.microsoft.FusedMatMul<transBatchA=1, transA=1>(t, z) }",
        "g (float[3] x, float[4,3] z) => (float[4] y) { t = Transpose(z) y = MatMul(x, t) }",
        "g (float[3] x, float[3,4] z) => (float[4] y) { t = Transpose(x) y = MatMul(t, z) }",
    ],
)
def fuse_matmul_transpose(op: Build, m: Match) -> Result:
    """MatMul(Transpose(a), b) -> FusedMatMul(a, b, transA=1), where the last two dims are swapped; the same for b"""
    if refusal := _not_taken(m, m.root):
        return refusal
    if any(attribute(m.root, name, 0) for name in ("transBatchA", "transBatchB")):
        return skip("it takes the first dim for rows")
    flags = {"transA": attribute(m.root, "transA", 0), "transB": attribute(m.root, "transB", 0)}
    sides = []
    for name, value in zip(flags, m.root.inputs, strict=True):
        source = _swapped(value)
        flags[name] = 1 - flags[name] if source is not None else flags[name]  # type: ignore[operator]
        sides.append(source or value)
    if sides == list(m.root.inputs):
        return skip("no side is a Transpose of the last two dims")
    return op.FusedMatMul(*sides, _domain=MICROSOFT, alpha=attribute(m.root, "alpha", 1.0), **flags)


def _not_taken(m: Match, node: ir.Node) -> Result:
    """Why the kernel does not take what the node multiplies."""
    if any(value is None or not m.target.takes(KERNEL, value.dtype) for value in node.inputs):
        return skip("the kernel does not take %s", [value.dtype for value in node.inputs if value is not None])
    if any(len(dims_of(value) or ()) < 2 for value in node.inputs):
        return skip("a side has less than two dims")
    return None


def _swapped(value: ir.Value | None) -> ir.Value | None:
    """What a Transpose of the last two dims was made of; a constant is better transposed once and for all."""
    node = producer(value, "Transpose")
    perm = permutation(node) if node is not None else None
    if node is None or perm is None or constant(node.inputs[0]) is not None:
        return None
    axes = list(range(len(perm)))
    return node.inputs[0] if len(perm) >= 2 and perm == [*axes[:-2], axes[-1], axes[-2]] else None


def times(op: Pen, a: object, b: object, c: Const) -> object:
    return op.any("Mul", "Div")(op.MatMul(a, b, _name="product"), c)


def fused_times(op: Pen, a: object, b: object, c: Const) -> object:
    return op.any("Mul", "Div")(op.FusedMatMul(a, b, _domain=MICROSOFT, _attrs=ANY, _name="product"), c)


@rule(
    times,
    fused_times,
    drift=ROUNDING,
    kernels=(KERNEL,),
    measured=True,
    examples=[
        "g (float[N,S,K] x, float[N,K,T] z) => (float[N,S,T] y) <float c = {0.125}> { p = MatMul(x, z) y = Mul(c, p) }",
        "g (float[N,S,K] x, float[N,K,T] z) => (float[N,S,T] y) <float[1] c = {8}> { p = MatMul(x, z) y = Div(p, c) }",
        "g (float[N,K] x, float[T,K] z) => (float[N,T] y) <float c = {3}> { p = com.microsoft.FusedMatMul<transB=1, alpha=0.5>(x, z) y = Mul(p, c) }",
    ],
    leaves=[
        "g (float[N,K] x, float[K,T] z) => (float[N,T] y) <float c = {0}> { p = MatMul(x, z) y = Div(p, c) }",
        "g (float[N,K] x, float[K,T] z) => (float[N,T] y) <float c = {8}> { p = MatMul(x, z) y = Div(c, p) }",
        "g (float[N,K] x, float[K,T] z) => (float[1,N,T] y) <float[1,1,1] c = {8}> { p = MatMul(x, z) y = Mul(c, p) }",
        "g (float16[N,K] x, float16[K,T] z) => (float16[N,T] y) <float16 c = {8}> { p = MatMul(x, z) y = Mul(c, p) }",
        "g (float[N,K] x, float[K,T] z) => (float[N,T] y, float[N,T] p) <float c = {8}> { p = MatMul(x, z) y = Mul(c, p) }",
        "g (float[N,K] x) => (float[N,2] y) <float[2,2] w = {1,2,3,4}, float c = {8}> { p = MatMul(x, w) y = Mul(c, p) }",
    ],
)
def fuse_matmul_scale(op: Build, m: Match) -> Result:
    """c (a b) -> FusedMatMul(a, b, alpha=c), and the same for (a b) / c"""
    product = m.node("product")
    if refusal := _not_taken(m, product):
        return refusal
    if constant(m.a) is not None or constant(m.b) is not None:
        return skip("a constant side takes the factor itself")
    factor = _factor(m, m.root, product.outputs[0])
    if factor is None:
        return skip("'%s' is not one number that can be a factor of every element", m.c.name)
    flags = {name: attribute(product, name) for name in ("transA", "transB", "transBatchA", "transBatchB") if name in product.attributes}
    return op.FusedMatMul(m.a, m.b, _domain=MICROSOFT, alpha=float(attribute(product, "alpha", 1.0)) * factor, **flags)  # type: ignore[arg-type]


def _factor(m: Match, scaling: ir.Node, scaled: ir.Value) -> float | None:
    """What the constant ``c`` multiplies by, if it is one finite number other than 0 and leaves the shape as it is."""
    number = scalar(m.c)
    if number is None or number == 0 or not math.isfinite(number) or not broadcasts_into(m.c.shape, scaled.shape):
        return None
    return float(number) if scaling.op_type == "Mul" else 1.0 / float(number)


def scaled_left(op: Pen, a: object, b: object, c: Const) -> object:
    return op.MatMul(op.any("Mul", "Div")(a, c, _name="scaled"), b)


def scaled_right(op: Pen, a: object, b: object, c: Const) -> object:
    return op.MatMul(a, op.any("Mul", "Div")(b, c, _name="scaled"))


def fused_scaled_left(op: Pen, a: object, b: object, c: Const) -> object:
    return op.FusedMatMul(op.any("Mul", "Div")(a, c, _name="scaled"), b, _domain=MICROSOFT, _attrs=ANY)


def fused_scaled_right(op: Pen, a: object, b: object, c: Const) -> object:
    return op.FusedMatMul(a, op.any("Mul", "Div")(b, c, _name="scaled"), _domain=MICROSOFT, _attrs=ANY)


@rule(
    scaled_left,
    scaled_right,
    fused_scaled_left,
    fused_scaled_right,
    drift=ROUNDING,
    kernels=(KERNEL,),
    measured=True,
    examples=[
        "g (float[N,S,K] x, float[N,K,T] z) => (float[N,S,T] y) <float c = {0.125}> { p = Mul(x, c) y = MatMul(p, z) }",
        "g (float[N,S,K] x, float[N,T,K] z) => (float[N,S,T] y) <float[1] c = {4}> { p = Div(z, c) y = com.microsoft.FusedMatMul<transB=1, alpha=2.0>(x, p) }",
    ],
    leaves=[
        "g (float[N,K] x, float[K,T] z) => (float[N,T] y) <float c = {4}> { p = Div(c, x) y = MatMul(p, z) }",
        "g (float[N,K] x, float[2,K,T] z) => (float[2,N,T] y) <float[1,1,1] c = {4}> { p = Mul(x, c) y = MatMul(p, z) }",
        "g (float[N,K] x, float[K,T] z) => (float[N,T] y) <float[2] c = {4,5}> { p = Mul(x, c) y = MatMul(p, z) }",
        "g (float[N,2] x) => (float[N,2] y) <float[2,2] w = {1,2,3,4}, float c = {8}> { p = Mul(x, c) y = MatMul(p, w) }",
    ],
)
def fuse_matmul_input_scale(op: Build, m: Match) -> Result:
    """(c a) b -> FusedMatMul(a, b, alpha=c), and the same for a / c and for b"""
    if refusal := _not_taken(m, m.root):
        return refusal
    if constant(m.a) is not None or constant(m.b) is not None:
        return skip("a constant side takes the factor itself")
    scaled = m.node("scaled")
    source = m.a if m.root.inputs[0] is scaled.outputs[0] else m.b
    factor = _factor(m, scaled, source)
    if factor is None:
        return skip("'%s' is not one number that can be a factor of every element", m.c.name)
    flags = {name: attribute(m.root, name) for name in ("transA", "transB", "transBatchA", "transBatchB") if name in m.root.attributes}
    return op.FusedMatMul(m.a, m.b, _domain=MICROSOFT, alpha=float(attribute(m.root, "alpha", 1.0)) * factor, **flags)  # type: ignore[arg-type]


@rule(
    "Gemm",
    drift=ROUNDING,
    opset=11,
    shared=True,
    examples=[
        "g (float[N,S] x, float[3,S] z, float[3] b) => (float[N,3] y) { t = Transpose(z) y = Gemm<alpha=0.5, beta=2.0>(x, t, b) }",
        "g (float[S,N] x, float[3,S] z) => (float[N,3] y) { t = Transpose<perm=[1,0]>(x) y = Gemm<transB=1>(t, z) }",
        "g (float[N,S] x, float[S,3] z) => (float[N,3] y) { t = Transpose<perm=[1,0]>(x) y = Gemm<transA=1>(t, z) }",
    ],
    leaves=[
        "g (float[3,S] z) => (float[2,3] y) <float[3,2] w = {1,2,3,4,5,6}> { t = Transpose(w) y = Gemm<transB=1>(t, z) }",
        "g (float[N,S] x, float[S,3] z, float[3,N] b) => (float[N,3] y) { t = Transpose(b) y = Gemm(x, z, t) }",
    ],
)
def fold_transpose_into_gemm(op: Build, m: Match) -> Result:
    """Gemm(Transpose(a), b) -> Gemm(a, b, transA=1), and the same for b"""
    left, right = (_swapped(value) for value in m.root.inputs[:2])
    if left is None and right is None:
        return skip("neither side is a Transpose")
    flags = {
        name: 1 - int(attribute(m.root, name, 0)) if source is not None else attribute(m.root, name, 0)  # type: ignore[call-overload]
        for name, source in (("transA", left), ("transB", right))
    }
    return op.like(m.root, left or m.root.inputs[0], right or m.root.inputs[1], *m.root.inputs[2:], **flags)


def product(op: Pen, a: object, b: object) -> object:
    return op.MatMul(a, b)


@rule(
    product,
    drift=ROUNDING,
    opset=11,
    shared=True,
    measured=True,
    examples=[
        "g (float[N,S] x, float[3,S] z) => (float[N,3] y) { t = Transpose(z) y = MatMul(x, t) }",
        "g (double[S,N] x, double[S,3] z) => (double[N,3] y) { t = Transpose(x) y = MatMul(t, z) }",
    ],
    leaves=[
        "g (float[2,N,S] x, float[3,S] z) => (float[2,N,3] y) { t = Transpose(z) y = MatMul(x, t) }",
        "g (int32[N,S] x, int32[3,S] z) => (int32[N,3] y) { t = Transpose(z) y = MatMul(x, t) }",
        "g (float[S] x, float[3,S] z) => (float[3] y) { t = Transpose(z) y = MatMul(x, t) }",
        "g (float[N,S] x, float[S,3] z) => (float[N,3] y) { y = MatMul(x, z) }",
    ],
)
def gemm_for_transposed_matmul(op: Build, m: Match) -> Result:
    """MatMul(a, Transpose(b)) of two dims -> Gemm(a, b, transB=1), and the same for a"""
    if any(len(dims_of(value) or ()) != 2 or value.dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE) for value in (m.a, m.b)):
        return skip("the sides are not float or double of two dims")
    left, right = _swapped(m.a), _swapped(m.b)
    if left is None and right is None:
        return skip("neither side is a Transpose")
    return op.Gemm(left or m.a, right or m.b, transA=int(left is not None), transB=int(right is not None))


def turned(op: Pen, a: object, b: object) -> object:
    return op.Transpose(op.MatMul(a, b), perm=ANY)


@rule(
    turned,
    drift=ROUNDING,
    opset=11,
    examples=[
        "g (float[N,S,K] x, float[N,T,K] z) => (float[N,T,S] y) { t = Transpose<perm=[0,2,1]>(z) p = MatMul(x, t) y = Transpose<perm=[0,2,1]>(p) }",
        "g (double[K,S] x, double[N,T,K] z) => (double[N,T,S] y)"
        " { u = Transpose(x) t = Transpose<perm=[0,2,1]>(z) p = MatMul(u, t) y = Transpose<perm=[0,2,1]>(p) }",
    ],
    leaves=[
        "g (float[N,S,K] x, float[N,K,T] z) => (float[N,T,S] y) { p = MatMul(x, z) y = Transpose<perm=[0,2,1]>(p) }",
        "g (float[N,S,K] x, float[N,T,K] z) => (float[S,N,T] y) { t = Transpose<perm=[0,2,1]>(z) p = MatMul(x, t) y = Transpose<perm=[1,0,2]>(p) }",
        "g (float[N,S,K] x, float[N,T,K] z) => (float[N,T,S] y, float[N,S,T] p)"
        " { t = Transpose<perm=[0,2,1]>(z) p = MatMul(x, t) y = Transpose<perm=[0,2,1]>(p) }",
        "g (float[S,K] x, float[K] z) => (float[S] y) { t = Transpose(z) p = MatMul(x, t) y = Transpose(p) }",
    ],
)
def swap_product(op: Build, m: Match) -> Result:
    """Transpose(MatMul(a, Transpose(b))) -> MatMul(b, Transpose(a)), where each swaps the last two dims: (a b')' = b a'"""
    perm = permutation(m.root)
    if perm is None or len(perm) < 2 or perm != [*range(len(perm) - 2), len(perm) - 1, len(perm) - 2]:
        return skip("it does not swap the last two dims")
    if any(len(dims_of(value) or ()) < 2 for value in (m.a, m.b)):
        return skip("a side has less than two dims")
    if _swapped(m.a) is None and _swapped(m.b) is None:
        return skip("neither side is a Transpose, so that as many would be left")
    return op.MatMul(_turned(op, m.b), _turned(op, m.a))


def _turned(op: Build, value: ir.Value) -> ir.Value:
    """The value with its last two dims swapped; what a Transpose was made of, if it did just that."""
    source = _swapped(value)
    if source is not None:
        return source
    axes = list(range(len(dims_of(value) or ())))
    return op.Transpose(value, perm=[*axes[:-2], axes[-1], axes[-2]])  # type: ignore[return-value]


def fused_turned(op: Pen, a: object, b: object) -> object:
    return op.Transpose(op.FusedMatMul(a, b, _domain=MICROSOFT, _attrs=ANY), perm=ANY)


@rule(
    turned,
    fused_turned,
    drift=ROUNDING,
    kernels=(KERNEL,),
    measured=True,
    examples=[
        "g (float[N,S,K] x, float[N,K,T] z) => (float[N,T,S] y) { p = MatMul(x, z) y = Transpose<perm=[0,2,1]>(p) }",
        "g (float[N,S,K] x, float[N,T,K] z) => (float[N,T,S] y) { p = com.microsoft.FusedMatMul<transB=1, alpha=0.5>(x, z) y = Transpose<perm=[0,2,1]>(p) }",
    ],
    leaves=[
        "g (float[N,S,K] x, float[N,K,T] z) => (float[S,N,T] y) { p = MatMul(x, z) y = Transpose<perm=[1,0,2]>(p) }",
        "g (float16[N,S,K] x, float16[N,K,T] z) => (float16[N,T,S] y) { p = MatMul(x, z) y = Transpose<perm=[0,2,1]>(p) }",
    ],
)
def fuse_turned_product(op: Build, m: Match) -> Result:
    """Transpose(MatMul(a, b)) -> FusedMatMul(b, a, transA=1, transB=1), where it swaps the last two dims: (a b)' = b' a'"""
    perm, product = permutation(m.root), producer(m.root.inputs[0])
    if product is None or (refusal := _not_taken(m, product)):
        return refusal if product is not None else None
    if perm is None or perm != [*range(len(perm) - 2), len(perm) - 1, len(perm) - 2]:
        return skip("it does not swap the last two dims")
    if any(attribute(product, name, 0) for name in ("transBatchA", "transBatchB")):
        return skip("it takes the first dim for rows")
    flags = {"transA": 1 - int(attribute(product, "transB", 0)), "transB": 1 - int(attribute(product, "transA", 0))}  # type: ignore[call-overload]
    return op.FusedMatMul(m.b, m.a, _domain=MICROSOFT, alpha=attribute(product, "alpha", 1.0), **flags)
