"""What does nothing, is done twice, or could have been done before."""

from __future__ import annotations

from .graphs import Graph, at_most, every, gone, graph, has

X = "g (float[B,S,8] x) => (float[B,S,8] y)"

GRAPHS: tuple[Graph, ...] = (
    graph("identities in a row", X + " { a = Identity(x) b = Identity(a) y = Relu(b) }", at_most(1)),
    graph("a dropout at inference", X + " <float r = {0.1}> { a = Dropout(x, r) y = Relu(a) }", at_most(1)),
    graph("the same twice", X + " { a = Exp(x) b = Exp(x) y = Mul(a, b) }", at_most(1, "Exp")),
    graph(
        "the same twice, operands the other way about",
        "g (float[N,8] a, float[N,8] b) => (float[N,8] y) { p = Mul(a, b) q = Mul(b, a) r = Sin(p) s = Cos(q) y = Sub(r, s) }",
        at_most(1, "Mul"),
    ),
    graph(
        "the same weight twice",
        "g (float[N,2] a, float[N,2] b) => (float[N,2] y) <float[2] v = {1,2}, float[2] w = {1,2}>"
        " { p = Exp(a) q = Add(p, v) r = Exp(a) s = Add(r, w) y = Max(q, s) }",
        at_most(3),
    ),
    graph("what nobody reads", X + " { a = Exp(x) b = Log(a) c = Softmax(b) y = Relu(x) }", at_most(1)),
    graph(
        "arithmetic on constants", X + " <float[8] k = {1,2,3,4,5,6,7,8}, float two = {2}> { a = Sqrt(k) b = Mul(a, two) c = Neg(b) y = Add(x, c) }", at_most(1)
    ),
    graph("constants as nodes", X + " { k = Constant<value = float[1] {2.0}>() l = Constant<value_float = 3.0>() m = Mul(k, l) y = Add(x, m) }", at_most(1)),
    graph(
        "dynamo: a weight cast like the input, expanded to its own size",
        "g (float[N,3,H,W] x) => (float[N,4,A,B] y) <float[4,3,3,3] w, float b0 = {0}, int64[1] s = {4}>"
        " { b1 = CastLike(b0, x) b = Expand(b1, s) y = Conv(x, w, b) }",
        at_most(1),
    ),
    graph(
        "torchscript: a flatten written as arithmetic on its own shape",
        "g (float[B,S,4,8] x) => (float[B,S,32] y) <int64 zero = {0}, int64 one = {1}, int64[1] ax = {0}, int64[1] minus = {-1}>"
        " { h = Shape(x) b = Gather(h, zero) s = Gather(h, one) bu = Unsqueeze(b, ax) su = Unsqueeze(s, ax) t ="
        " Concat<axis=0>(bu, su, minus) y = Reshape(x, t) }",
        at_most(1),
        opset=17,
    ),
    graph(
        "sizes known although the shape is read at run time",
        "g (float[2,3,4] x) => (float[A,B] y) <int64 zero = {0}, int64 two = {2}, int64[1] ax = {0}>"
        " { h = Shape(x) a = Gather(h, zero) b = Gather(h, two) c = Mul(a, b) cu = Unsqueeze(c, ax) m ="
        " Constant<value_ints=[-1]>() t = Concat<axis=0>(cu, m) y = Reshape(x, t) }",
        at_most(1),
    ),
    graph("a cast to what it is", X + " { a = Cast<to=1>(x) y = Relu(a) }", at_most(1)),
    graph(
        "a range of constants",
        "g (float[B,4] x) => (float[B,4] y) <float a = {0}, float b = {4}, float c = {1}> { r = Range(a, b, c) y = Add(x, r) }",
        at_most(1),
    ),
    graph("a choice by a constant", X + " <bool c = {1}> { z = Neg(x) w = Where(c, x, z) y = Exp(w) }", at_most(1)),
    graph("a maximum, a sum and a mean of one", X + " { a = Max(x) b = Sum(a) c = Mean(b) y = Exp(c) }", at_most(1)),
    graph(
        "outputs of a split that nobody reads",
        "g (float[B,8] x) => (float[B,2] y) <int64[3] s = {2,2,4}> { p, q, r = Split<axis=1>(x, s) y = Exp(p) }",
        every(has("Slice", "Split"), at_most(2)),
    ),
    graph("the mask of a dropout nobody reads", X + " { a, m = Dropout(x) y = Relu(a) }", at_most(1)),
    graph(
        "a local function",
        'g (float[N,8] x) => (float[N,8] y) { a = local.twice(x) y = Relu(a) }\n<domain: "local", opset_import: ["" :'
        " 20]>\ntwice (v) => (w) { i = Identity(v) w = Add(i, v) }",
        every(gone("Identity"), at_most(2)),
    ),
    graph(
        "a size in the middle of arithmetic that cancels",
        "g (float[B,S,8] x) => (float[B,S,8] y) <int64 two = {2}> { h = Shape(x) d = Mul(h, two) e = Div(d, two) r = Reshape(x, e) y = Relu(r) }",
        at_most(1),
    ),
    graph(
        "a mask filled and expanded from a constant",
        "g (float[4,8] x) => (float[4,8] y) <int64[2] s = {4,8}> { z = ConstantOfShape<value = float[1] {2.0}>(s) m = Mul(x, z) y = Exp(m) }",
        at_most(2),
    ),
    graph("a maximum of one pixel", "g (float[N,3,6,5] x) => (float[N,3,6,5] y) { p = MaxPool<kernel_shape=[1,1]>(x) y = Relu(p) }", at_most(1)),
    graph("a reduction over an axis of one", "g (float[N,1,8] x) => (float[N,8] y) <int64[1] a = {1}> { y = ReduceMax<keepdims=0>(x, a) }", gone("ReduceMax")),
    graph(
        "a batch norm that does nothing but one scale",
        "g (float[N,2,H,W] x) => (float[N,2,H,W] y) <float[2] s = {1,1}, float[2] t = {0,0}, float[2] m = {0,0}, float[2] v ="
        " {1,1}> { n = BatchNormalization<epsilon=0.0>(x, s, t, m, v) y = Relu(n) }",
        at_most(2),
    ),
)
