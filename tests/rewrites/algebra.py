"""Laws of arithmetic that save work: the associative, distributive and commutative rules printed by DNNFusion, and their kin."""

from __future__ import annotations

from .graphs import ADD, MATMUL, MUL, Graph, at_most, cheaper, every, gone, graph, has

ABC = "g (float[N,8] a, float[N,8] b, float[N,8] c) => (float[N,8] y)"
AB = "g (float[N,8] a, float[N,8] b) => (float[N,8] y)"
ONE = "g (float[N,8] a) => (float[N,8] y)"
SMALL = "g (float[N,8] a) => (float[N,1] y)"
AXIS = "int64[1] ax = {1}"

GRAPHS: tuple[Graph, ...] = (
    graph("a common factor: ac + ab", ABC + " { p = Mul(a, c) q = Mul(a, b) y = Add(p, q) }", at_most(1, *MUL)),
    graph("a common factor of a difference: ca - ba", ABC + " { p = Mul(c, a) q = Mul(b, a) y = Sub(p, q) }", at_most(1, *MUL)),
    graph("a common divisor: a/c + b/c", ABC + " { p = Div(a, c) q = Div(b, c) y = Add(p, q) }", at_most(1, *MUL)),
    graph("the thing itself and a multiple of it: a + 3a", ONE + " <float k = {3}> { p = Mul(a, k) y = Add(a, p) }", at_most(1)),
    graph("a square less a product: (a+b)^2 - (a+b)c", ABC + " { s = Add(a, b) q = Mul(s, s) p = Mul(s, c) y = Sub(q, p) }", at_most(1, *MUL)),
    graph("the thing added to itself", ONE + " { y0 = Add(a, a) y = Add(y0, a) }", at_most(1)),
    graph("a number times a number: (a * 2) * 3", ONE + " <float k = {2}, float l = {3}> { p = Mul(a, k) y = Mul(l, p) }", at_most(1)),
    graph("a number after a number: (a + 2) - 3", ONE + " <float k = {2}, float l = {3}> { p = Add(a, k) y = Sub(p, l) }", at_most(1)),
    graph(
        "two scales and shifts in a row",
        ONE + " <float[8] k, float[8] l, float[8] m, float[8] n> { p = Mul(a, k) q = Add(p, l) r = Mul(q, m) y = Add(r, n) }",
        at_most(2),
    ),
    graph("numbers on both sides of a product: (2a)(3b)", AB + " <float k = {2}, float l = {3}> { p = Mul(a, k) q = Mul(b, l) y = Mul(p, q) }", at_most(2)),
    graph("division by a number and by another", ONE + " <float k = {2}, float l = {3}> { p = Div(a, k) y = Div(p, l) }", at_most(1)),
    graph("the logarithm's sum: exp(a) exp(b)", AB + " { c = Tanh(a) d = Sigmoid(b) p = Exp(c) q = Exp(d) y = Mul(p, q) }", at_most(1, "Exp")),
    graph(
        "a product of reduced exponentials: prod(exp(a))",
        SMALL + f" <{AXIS}> {{ c = Tanh(a) e = Exp(c) y = ReduceProd(e, ax) }}",
        every(has("ReduceSum"), gone("ReduceProd")),
    ),
    graph("a sum of multiples", SMALL + f" <{AXIS}, float k = {{0.5}}> {{ s = Mul(a, k) y = ReduceSum(s, ax) }}", cheaper(0.8)),
    graph("a mean of shifted numbers", SMALL + f" <{AXIS}, float k = {{0.5}}> {{ s = Add(a, k) y = ReduceMean(s, ax) }}", cheaper(0.8)),
    graph("a largest exponential", SMALL + f" <{AXIS}> {{ s = Exp(a) y = ReduceMax(s, ax) }}", cheaper(0.8)),
    graph("a smallest negative", SMALL + f" <{AXIS}> {{ s = Neg(a) y = ReduceMin(s, ax) }}", cheaper(0.8)),
    graph(
        "two reductions in a row",
        "g (float[N,4,6] a) => (float[N] y) <int64[1] p = {2}, int64[1] q = {1}> { r = ReduceSum<keepdims=0>(a, p) y = ReduceSum<keepdims=0>(r, q) }",
        at_most(1),
    ),
    graph(
        "two means in a row",
        "g (float[N,4,6,5] a) => (float[N,4,1,1] y) <int64[1] p = {3}, int64[1] q = {2}> { r = ReduceMean(a, p) y = ReduceMean(r, q) }",
        at_most(1),
    ),
    graph(
        "a root of a square, of what lies between -3 and -0.5",
        ONE + " <float k = {-3}, float l = {-0.5}> { c = Clip(a, k, l) q = Mul(c, c) y = Sqrt(q) }",
        every(has("Abs", "Neg"), gone("Sqrt")),
    ),
    graph("a square as a power", ONE + " <float k = {2}> { y = Pow(a, k) }", every(has("Mul"), gone("Pow"))),
    graph("the fourth power", ONE + " <float k = {4}> { y = Pow(a, k) }", every(has("Mul"), gone("Pow"))),
    graph("a reciprocal as a power", ONE + " <float k = {-1}> { y = Pow(a, k) }", every(has("Reciprocal", "Div"), gone("Pow"))),
    graph("the absolute values of a product", AB + " { p = Abs(a) q = Abs(b) y = Mul(p, q) }", at_most(1, "Abs")),
    graph("the negative of a negative", ONE + " { n = Neg(a) y = Neg(n) }", gone("Neg")),
    graph("a negative added", AB + " { n = Neg(b) y = Add(a, n) }", every(has("Sub"), at_most(1))),
    graph("a negative subtracted", AB + " { n = Neg(b) y = Sub(a, n) }", every(has("Add"), at_most(1))),
    graph("two negatives multiplied", AB + " { m = Neg(a) n = Neg(b) y = Mul(m, n) }", gone("Neg")),
    graph(
        "a reciprocal multiplied, of what is at least one",
        AB + " <float one = {1}> { c = Abs(b) d = Add(c, one) r = Reciprocal(d) y = Mul(a, r) }",
        every(has("Div"), gone("Reciprocal")),
    ),
    graph("one divided by", ONE + " <float k = {1}> { y = Div(k, a) }", has("Reciprocal")),
    graph(
        "a fraction divided, by what lies between one and two",
        ABC + " <float one = {1}> { d = Sigmoid(b) e = Add(d, one) f = Sigmoid(c) h = Add(f, one) p = Div(a, e) y = Div(p, h) }",
        at_most(1, "Div"),
    ),
    graph("absolute value twice", ONE + " { p = Abs(a) y = Abs(p) }", at_most(1)),
    graph("relu twice", ONE + " { p = Relu(a) y = Relu(p) }", at_most(1)),
    graph("the absolute value of a negative", ONE + " { p = Neg(a) y = Abs(p) }", at_most(1)),
    graph("rounded twice", ONE + " { p = Floor(a) y = Ceil(p) }", at_most(1)),
    graph("a clip of a clip", ONE + " <float k = {-1}, float l = {1}, float m = {-2}, float n = {0.5}> { p = Clip(a, k, l) y = Clip(p, m, n) }", at_most(1)),
    graph("a relu and a clip", ONE + " <float k = {0}, float l = {6}> { p = Relu(a) y = Clip(p, k, l) }", at_most(1)),
    graph("the largest of a relu: max(relu(a))", SMALL + f" <{AXIS}> {{ p = Relu(a) y = ReduceMax(p, ax) }}", cheaper(0.8)),
    graph("the largest of three", ABC + " { p = Max(a, b) y = Max(p, c) }", at_most(1)),
    graph("two minima with numbers", ONE + " <float k = {2}, float l = {3}> { p = Min(a, k) y = Min(l, p) }", at_most(1)),
    graph("not not", "g (bool[N,8] a) => (bool[N,8] y) { p = Not(a) y = Not(p) }", gone("Not")),
    graph("not less is at least, of integers", "g (int64[N,8] a, int64[N,8] b) => (bool[N,8] y) { p = Less(a, b) y = Not(p) }", at_most(1)),
    graph("a choice upside down", "g (bool[N,8] c, float[N,8] a, float[N,8] b) => (float[N,8] y) { n = Not(c) y = Where(n, a, b) }", at_most(1)),
    graph("a choice between the same", "g (bool[N,8] c, float[N,8] a) => (float[N,8] y) { z = Where(c, a, a) y = Relu(z) }", gone("Where")),
    graph(
        "a choice by the same condition twice",
        "g (bool[N,8] c, float[N,8] a, float[N,8] b, float[N,8] d) => (float[N,8] y) { p = Where(c, a, b) y = Where(c, p, d) }",
        at_most(1),
    ),
    graph("a number added to what is only chosen among: softmax(a + k)", ONE + " <float k = {3}> { p = Add(a, k) y = Softmax<axis=-1>(p) }", at_most(1)),
    graph("a maximum taken off before a softmax", ONE + f" <{AXIS}> {{ m = ReduceMax(a, ax) p = Sub(a, m) y = Softmax<axis=-1>(p) }}", at_most(1)),
    graph(
        "two products that share the left side: AB + AC",
        "g (float[16,16] a, float[16,16] b, float[16,16] c) => (float[16,16] y) { p = MatMul(a, b) q = MatMul(a, c) y = Add(p, q) }",
        at_most(1, *MATMUL),
    ),
    graph(
        "two products that share the right side: AC + BC",
        "g (float[16,16] a, float[16,16] b, float[16,16] c) => (float[16,16] y) { p = MatMul(a, c) q = MatMul(b, c) y = Add(p, q) }",
        at_most(1, *MATMUL),
    ),
    graph(
        "products of matrices in the cheaper order",
        "g (float[64,64] a, float[64,64] b, float[64,1] c) => (float[64,1] y) { p = MatMul(a, b) y = MatMul(p, c) }",
        cheaper(0.2),
    ),
    graph(
        "the sum of a product's rows",
        "g (float[32,16] a, float[16,24] b) => (float[1,24] y) <int64[1] ax = {0}> { p = MatMul(a, b) y = ReduceSum(p, ax) }",
        cheaper(0.2),
    ),
    graph(
        "a product of transposes",
        "g (float[8,16] a, float[4,8] b) => (float[16,4] y) { p = Transpose<perm=[1,0]>(a) q = Transpose<perm=[1,0]>(b) y = MatMul(p, q) }",
        at_most(1, "Transpose"),
    ),
    graph(
        "a product of what is finite by the identity",
        "g (uint8[N,3] a) => (float[N,3] y) <float[3,3] i = {1,0,0,0,1,0,0,0,1}> { t = Cast<to=1>(a) p = MatMul(t, i) y = Relu(p) }",
        gone(*MATMUL),
    ),
    graph(
        "an einsum that is a product of matrices",
        'g (float[B,S,8] a) => (float[B,S,4] y) <float[8,4] w> { y = Einsum<equation="bsi,io->bso">(a, w) }',
        every(has(*MATMUL), gone("Einsum")),
    ),
    graph(
        "an einsum that is a transpose",
        'g (float[B,S,8] a) => (float[S,B,8] y) { y = Einsum<equation="bsi->sbi">(a) }',
        every(has("Transpose"), gone("Einsum")),
    ),
    graph("a cast there and back", "g (float[N,8] a) => (float[N,8] y) { p = Cast<to=11>(a) q = Cast<to=1>(p) y = Relu(q) }", gone("Cast")),
    graph("a cast through a wider integer", "g (int32[N,8] a) => (float[N,8] y) { p = Cast<to=7>(a) y = Cast<to=1>(p) }", at_most(1)),
    graph("a boolean turned into a number and back", "g (bool[N,8] a) => (bool[N,8] y) { p = Cast<to=6>(a) q = Cast<to=9>(p) y = Not(q) }", gone("Cast")),
    graph(
        "reciprocals multiplied, of what lies between one and two: 1/a * 1/(ab)",
        AB + " <float one = {1}> { c = Sigmoid(a) d = Add(c, one) e = Sigmoid(b) f = Add(e, one)"
        " p = Reciprocal(d) m = Mul(d, f) q = Reciprocal(m) y = Mul(p, q) }",
        at_most(1, "Reciprocal", "Div"),
    ),
    graph(
        "a sum that appears twice in a product",
        "g (float[N,8] a, float[N,8] b, float[N,8] c) => (float[N,8] y) <int64[1] ax = {1}>"
        " { s = ReduceSum(b, ax) p = Mul(a, s) t = ReduceSum(b, ax) q = Mul(t, c) y = Mul(p, q) }",
        at_most(1, "ReduceSum"),
    ),
    graph(
        "a sum of four as one",
        "g (float[N,8] a, float[N,8] b, float[N,8] c, float[N,8] d) => (float[N,8] y) { p = Sum(a, b) q = Sum(c, d) y = Sum(p, q) }",
        at_most(1),
    ),
    graph("nothing taken off, twice", ONE + " <float k = {0}> { q = Sub(a, k) p = Sub(q, k) r = Relu(p) y = Exp(r) }", gone(*ADD)),
    graph("one times, one over, to the power of one", ONE + " <float k = {1}> { p = Mul(a, k) q = Div(p, k) r = Pow(q, k) y = Exp(r) }", at_most(1)),
)
