"""Operators beside each other that read the same input."""

from __future__ import annotations

from .graphs import CONV, MATMUL, Graph, at_most, every, gone, graph, has

GRAPHS: tuple[Graph, ...] = (
    graph(
        "three projections of one input",
        "g (float[B,8,32] x) => (float[B,8,32] q, float[B,8,32] k, float[B,8,32] v) <float[32,32] a, float[32,32] b, float[32,32] c>"
        " { q = MatMul(x, a) k = MatMul(x, b) v = MatMul(x, c) }",
        at_most(1, *MATMUL),
    ),
    graph(
        "three projections with biases",
        "g (float[B,8,32] x) => (float[B,8,32] q, float[B,8,32] k, float[B,8,32] v) <float[32,32] a, float[32,32] b,"
        " float[32,32] c, float[32] d, float[32] e, float[32] f>"
        " { m = MatMul(x, a) q = Add(m, d) n = MatMul(x, b) k = Add(e, n) o = MatMul(x, c) v = Add(o, f) }",
        every(at_most(1, *MATMUL), at_most(3)),
    ),
    graph(
        "projections of different widths",
        "g (float[B,8,32] x) => (float[B,8,32] q, float[B,8,8] k, float[B,8,8] v) <float[32,32] a, float[32,8] b, float[32,8] c>"
        " { q = MatMul(x, a) k = MatMul(x, b) v = MatMul(x, c) }",
        at_most(1, *MATMUL),
    ),
    graph(
        "projections of which only one has a bias, whisper",
        "g (float[B,8,32] x) => (float[B,8,32] q, float[B,8,32] k) <float[32,32] a, float[32,32] b, float[32] d>"
        " { m = MatMul(x, a) q = Add(m, d) k = MatMul(x, b) }",
        at_most(1, *MATMUL),
    ),
    graph(
        "gate and up projections of a gated layer",
        "g (float[B,8,32] x) => (float[B,8,64] y) <float[32,64] a, float[32,64] b>"
        " { g0 = MatMul(x, a) u = MatMul(x, b) s = Sigmoid(g0) h = Mul(g0, s) y = Mul(h, u) }",
        at_most(1, *MATMUL),
    ),
    graph(
        "two gemms of one input",
        "g (float[N,32] x) => (float[N,8] y, float[N,16] z) <float[8,32] a, float[16,32] b, float[8] c, float[16] d>"
        " { y = Gemm<transB=1>(x, a, c) z = Gemm<transB=1>(x, b, d) }",
        at_most(1, *MATMUL),
    ),
    graph(
        "two convolutions of one input, inception",
        "g (float[N,8,H,W] x) => (float[N,4,H,W] y, float[N,6,H,W] z) <float[4,8,1,1] a, float[6,8,1,1] b, float[4] c, float[6]"
        " d> { y = Conv(x, a, c) z = Conv(x, b, d) }",
        at_most(1, *CONV),
    ),
    graph(
        "three convolutions of one input, joined again",
        "g (float[N,8,H,W] x) => (float[N,12,H,W] y) <float[4,8,3,3] a, float[2,8,3,3] b, float[6,8,3,3] c>"
        " { p = Conv<pads=[1,1,1,1]>(x, a) q = Conv<pads=[1,1,1,1]>(x, b) r = Conv<pads=[1,1,1,1]>(x, c) y = Concat<axis=1>(p, q, r) }",
        at_most(1),
    ),
    graph(
        "slices side by side are a split",
        "g (float[B,12] x) => (float[B,4] p, float[B,4] q, float[B,4] r) <int64[1] c0 = {0}, int64[1] c4 = {4}, int64[1] c8 ="
        " {8}, int64[1] c12 = {12}, int64[1] a = {1}>"
        " { p = Slice(x, c0, c4, a) q = Slice(x, c4, c8, a) r = Slice(x, c8, c12, a) }",
        every(has("Split"), at_most(1)),
    ),
    graph(
        "gathers of one place each are a split",
        "g (float[3,B,4] x) => (float[B,4] p, float[B,4] q, float[B,4] r) <int64 c0 = {0}, int64 c1 = {1}, int64 c2 = {2}>"
        " { p = Gather(x, c0) q = Gather(x, c1) r = Gather(x, c2) }",
        every(has("Split"), gone("Gather")),
    ),
)
