"""Control flow that need not be."""

from __future__ import annotations

from .graphs import Graph, at_most, every, gone, graph, has

GRAPHS: tuple[Graph, ...] = (
    graph(
        "a condition that is constant",
        "g (float[N] x) => (float[N] y) <bool c = {1}> { y = If(c) <then_branch = t () => (float[N] p)"
        " { p = Exp(x) }, else_branch = e () => (float[N] q) { q = Neg(x) }> }",
        at_most(1),
    ),
    graph(
        "a condition computed from a static shape",
        "g (float[N,1] x) => (float[A,B] y) <int64 one = {1}, int64 axis = {1}, int64[1] ax = {1}>"
        " { s = Shape(x) d = Gather(s, axis) c = Equal(d, one)"
        " y = If(c) <then_branch = t () => (float[N,1] p) { p = Exp(x) }, else_branch = e () => (float[N,1] q) { q = Neg(x) }> }",
        at_most(1),
    ),
    graph(
        "torchscript's squeeze: a condition on a dimension that is known",
        "g (float[N,1,4] x) => (float[A,B] y) <int64 one = {1}, int64 axis = {1}, int64[1] ax = {1}>"
        " { s = Shape(x) d = Gather(s, axis) c = Equal(one, d)"
        " y = If(c) <then_branch = t () => (float[N,4] p) { p = Squeeze(x, ax) }, else_branch = e () => (float[A2,B2,C2] q) { q = Identity(x) }> }",
        gone("If"),
    ),
    graph(
        "two cheap branches are a choice",
        "g (float[N] x, bool c) => (float[N] y) { y = If(c) <then_branch = t () => (float[N] p)"
        " { p = Neg(x) }, else_branch = e () => (float[N] q) { q = Relu(x) }> }",
        every(has("Where"), gone("If")),
    ),
    graph(
        "two branches that are the same",
        "g (float[N] x, bool c) => (float[N] y) { y = If(c) <then_branch = t () => (float[N] p)"
        " { p = Exp(x) }, else_branch = e () => (float[N] q) { q = Exp(x) }> }",
        gone("If"),
    ),
    graph(
        "a condition turned round",
        "g (float[4,16,16] x, bool c) => (float[4,16,16] y) { n = Not(c) y = If(n) <then_branch = t () => (float[4,16,16] p) { p = MatMul(x, x) },"
        " else_branch = e () => (float[4,16,16] q) { r = MatMul(x, x) s = MatMul(r, x) q = MatMul(s, r) }> }",
        gone("Not"),
    ),
    graph(
        "a loop of three rounds",
        "g (float[N] x) => (float[N] y) <int64 n = {3}, bool c = {1}, float k = {0.5}>"
        " { y = Loop(n, c, x) <body = b (int64 i, bool ci, float[N] a) => (bool co, float[N] o) { co = Identity(ci) s = Sin(a) o = Mul(s, k) }> }",
        gone("Loop"),
    ),
    graph(
        "a loop of two rounds that collects, and uses its counter",
        "g (float[N] x) => (float[N] y, float[2,N] z) <int64 n = {2}>"
        " { y, z = Loop(n, , x) <body = b (int64 i, bool ci, float[N] a) => (bool co, float[N] o, float[N] e)"
        " { co = Identity(ci) f = Cast<to=1>(i) o = Add(a, f) e = Exp(o) }> }",
        gone("Loop"),
    ),
    graph(
        "a loop of no rounds",
        "g (float[N] x) => (float[N] y) <int64 n = {0}, bool c = {1}>"
        " { w = Loop(n, c, x) <body = b (int64 i, bool ci, float[N] a) => (bool co, float[N] o) { co = Identity(ci) o = Exp(a) }> y = Relu(w) }",
        gone("Loop"),
    ),
    graph(
        "a scan over an axis that is known",
        "g (float[4] h, float[3,4] x) => (float[4] y, float[3,4] z)"
        " { y, z = Scan(h, x) <num_scan_inputs = 1, body = b (float[4] s, float[4] e) => (float[4] t, float[4] o)"
        " { u = Add(s, e) t = Tanh(u) o = Neg(t) }> }",
        gone("Scan"),
    ),
    graph(
        "constants inside a branch",
        "g (float[4] x, bool c) => (float[4] y) <float[4] k = {1,2,3,4}, int64[1] s = {4}>"
        " { y = If(c) <then_branch = t () => (float[4] p) { a = Exp(k) b = Sin(a) d = MatMul(x, b) e = Expand(d, s) p = Add(e, b) },"
        " else_branch = e () => (float[4] q) { q = Softmax<axis=0>(x) }> }",
        gone("Exp", "Sin"),
    ),
)
