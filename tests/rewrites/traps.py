"""Look-alikes: whatever is done with them, the numbers must stay."""

from __future__ import annotations

import numpy as np

from .graphs import Graph, trap

X = "g (float[B,S,8] x) => (float[B,S,8] y)"
ONE = "g (float[N,8] a) => (float[N,8] y)"
AXIS = "int64[1] a = {-1}, float e = {0.00001}"
IMAGE = "g (float[N,3,H,W] x) => (float[N,4,P,Q] y)"
FOUR = "float[4] s, float[4] t, float[4] m, float[4] var"

OPTIMISERS: tuple[Graph, ...] = (
    trap(
        "a constant along the width, as wide as there are channels",
        "g (float[N,2,3,3] x) => (float[N,3,3,3] y) <float[3,2,1,1] w, float[3] s = {2,3,5}> { c = Conv(x, w) y = Mul(c, s) }",
    ),
    trap(
        "a shift along the width, as wide as there are channels",
        "g (float[N,2,3,3] x) => (float[N,3,3,3] y) <float[3,2,1,1] w, float[3] s = {2,3,5}> { c = Conv(x, w) y = Add(s, c) }",
    ),
    trap("a dropout whose mask is used", "g (float[N,4] x) => (float[N,4] y, bool[N,4] m) { a, m = Dropout(x) y = Relu(a) }"),
    trap(
        "a sum with five rows does not make one row five",
        "g (float[N,4] x) => (float[5,4] y, int64[2] s) <float[5,4] c> { y = Add(x, c) s = Shape(x) }",
        samples=({"x": np.ones((1, 4), np.float32)},),
    ),
    trap(
        "two sizes that are broadcast are not the same",
        "g (float[N,2] x, float[M,2] z) => (float[K,2] y, float[N2,2] e, int64[2] s)"
        " { y = Add(x, z) n = Shape(x) e0 = Expand(z, n) e = Relu(e0) s = Shape(z) }",
        samples=({"x": np.ones((3, 2), np.float32), "z": np.ones((1, 2), np.float32)}, {"x": np.ones((1, 2), np.float32), "z": np.ones((4, 2), np.float32)}),
    ),
    trap("an integer product and sum", "g (int32[N,2] x) => (int32[N,2] y) <int32[2,2] w = {1,2,3,4}, int32[2] b = {5,6}> { m = MatMul(x, w) y = Add(m, b) }"),
    trap("a zero in the second reshape", "g (float[2,6] x) => (float[4,3] y) <int64[2] a = {4,3}, int64[2] b = {0,3}> { r = Reshape(x, a) y = Reshape(r, b) }"),
    trap(
        "a reshape that allows zero",
        "g (float[0,6] x) => (float[0,3] y) <int64[2] a = {6,0}, int64[2] b = {0,3}> { r = Reshape<allowzero=1>(x, a) y = Reshape<allowzero=1>(r, b) }",
    ),
    trap(
        "a pad of zeros is no max pool's pad",
        "g (float[N,1,2,2] x) => (float[N,1,A,B] y) <int64[8] p = {0,0,1,1,0,0,1,1}>"
        " { n = Abs(x) m = Neg(n) a = Pad(m, p) y = MaxPool<kernel_shape=[2,2], strides=[1,1]>(a) }",
    ),
    trap(
        "a shape that starts behind its end",
        "g (float[2,3,4] x) => (int64[K] y, float[A,B,C] z) <int64[1] o = {1}>"
        " { y = Shape<start=2, end=1>(x) t = ConstantOfShape(y) u = Reshape(t, o) z = Add(x, u) }",
    ),
    trap(
        "a batch norm in training",
        "g (float[3,1,2,2] x) => (float[3,4,2,2] y, float[4] rm, float[4] rv) <float[4,1,1,1] w, "
        + FOUR
        + "> { c = Conv(x, w) y, rm, rv = BatchNormalization<training_mode=1>(c, s, t, m, var) }",
    ),
    trap("clips of disjoint ranges", ONE + " <float p = {0}, float q = {1}, float r = {2}, float s = {3}> { t = Clip(a, p, q) y = Clip(t, r, s) }"),
    trap("a relu of a negative clip", ONE + " <float p = {-2}, float q = {-1}> { t = Clip(a, p, q) y = Relu(t) }"),
    trap("a clip whose bounds are crossed", ONE + " <float p = {2}, float q = {-1}> { t = Clip(a, p, q) y = Neg(t) }"),
    trap("a minimum of a maximum with crossed numbers", ONE + " <float p = {2}, float q = {-1}> { t = Max(a, p) y = Min(t, q) }"),
    trap(
        "a sequence stays one",
        "g (float[4,2] x) => (float[A,B] y, seq(float[C,D]) z) <int64 one = {1}, int64 two = {2}>"
        " { s = SplitToSequence<axis=0>(x, two) a = SequenceAt(s, one) z = SequenceInsert(s, a) y ="
        " ConcatFromSequence<axis=0>(z) }",
    ),
    trap(
        "a constant affine grid",
        "g (float[1,1,3,3] x) => (float[1,1,2,2] y) <float[1,2,3] t, int64[4] s = {1,1,2,2}> { g0 = AffineGrid(t, s) y = GridSample(x, g0) }",
    ),
    trap(
        "constants folded inside branches",
        "g (float[2] x, bool c) => (float[2] y) <float[2] k = {1,2}> { y0 = If(c) <then_branch = t () => (float[2] p)"
        " { a = Add(k, k) b = Mul(a, k) p = Add(b, x) },"
        " else_branch = e () => (float[2] q) { d = Sub(k, k) f = Exp(d) q = Mul(f, x) }> y = Identity(y0) }",
    ),
    trap(
        "a matrix view of attention's output",
        "g (float[2,3,4] x) => (float[6,2] y) <int64[4] s = {0,0,2,2}, int64[2] r = {6,4}, float[4,2] w, float[2] b, float c = {0.7}>"
        " { h = Reshape(x, s) q = Transpose<perm=[0,2,1,3]>(h) k = Transpose<perm=[0,2,3,1]>(h) m = MatMul(q, k) n = Mul(m, c)"
        " p = Softmax(n) o = MatMul(p, q)"
        " t = Transpose<perm=[0,2,1,3]>(o) f = Reshape(t, r) y = Gemm(f, w, b) }",
    ),
)

ACTIVATIONS: tuple[Graph, ...] = (
    trap(
        "gelu with another root",
        X + " <float r = {1.5}, float one = {1}, float h = {0.5}> { a = Div(x, r) e = Erf(a) p = Add(e, one) m = Mul(x, p) y = Mul(m, h) }",
    ),
    trap("gelu without its half", X + " <float r = {1.4142135}, float one = {1}> { a = Div(x, r) e = Erf(a) p = Add(e, one) y = Mul(x, p) }"),
    trap(
        "gelu of something else",
        "g (float[N,8] x, float[N,8] z) => (float[N,8] y) <float r = {1.4142135}, float one = {1}, float h = {0.5}>"
        " { a = Div(x, r) e = Erf(a) p = Add(e, one) m = Mul(z, p) y = Mul(m, h) }",
    ),
    trap(
        "gelu by tanh with another coefficient",
        X + " <float c = {0.44715}, float s = {0.7978846}, float one = {1}, float h = {0.5}>"
        " { a = Mul(x, x) b = Mul(a, x) d = Mul(b, c) f = Add(x, d) i = Mul(f, s) t = Tanh(i) u = Add(t, one) v = Mul(x, u) y ="
        " Mul(v, h) }",
    ),
    trap(
        "gelu that grows by broadcasting",
        "g (float[8] x) => (float[2,8] y) <float[2,1] r = {1.4142135,1.4142135}, float one = {1}, float h = {0.5}>"
        " { a = Div(x, r) e = Erf(a) p = Add(e, one) m = Mul(x, p) y = Mul(m, h) }",
    ),
    trap(
        "gelu in double precision",
        "g (double[N,8] x) => (double[N,8] y) <double r = {1.4142135623730951}, double one = {1}, double h = {0.5}>"
        " { a = Div(x, r) e0 = Tanh(a) p = Add(e0, one) m = Mul(x, p) y = Mul(m, h) }",
    ),
    trap("silu of two things", "g (float[N,8] x, float[N,8] z) => (float[N,8] y) { s = Sigmoid(x) y = Mul(z, s) }"),
    trap("silu in double precision", "g (double[N,8] x) => (double[N,8] y) { s = Sigmoid(x) y = Mul(x, s) }"),
    trap(
        "hard swish with a narrower clip",
        X + " <float three = {3}, float lo = {0}, float hi = {5}, float six = {6}> { a = Add(x, three) c = Clip(a, lo, hi) m = Mul(x, c) y = Div(m, six) }",
    ),
    trap(
        "hard sigmoid clipped at six",
        X + " <float three = {3}, float lo = {0}, float hi = {6}, float five = {5}> { a = Add(x, three) c = Clip(a, lo, hi) y = Div(c, five) }",
    ),
    trap("a choice by sign lets no NaN through", X + " <float zero = {0}> { c = Greater(x, zero) y = Where(c, x, zero) }"),
    trap("max(x, 2x)", X + " <float k = {2}> { m = Mul(x, k) y = Max(x, m) }"),
    trap("max(x, -x/2)", X + " <float k = {-0.5}> { m = Mul(x, k) y = Max(x, m) }"),
    trap(
        "a slope along the width", "g (float[N,3,3,3] x) => (float[N,3,3,3] y) <float[3] k> { r = Relu(x) n = Neg(x) s = Relu(n) m = Mul(s, k) y = Sub(r, m) }"
    ),
    trap("softplus of large numbers", "g (double[N,8] x) => (double[N,8] y) <double one = {1}> { e = Exp(x) p = Add(e, one) y = Log(p) }"),
    trap("log(2 + exp(x))", X + " <float one = {2}> { e = Exp(x) p = Add(e, one) y = Log(p) }"),
    trap("2 sigmoid(x) - 1", X + " <float two = {2}, float one = {1}> { s = Sigmoid(x) b = Mul(s, two) y = Sub(b, one) }"),
    trap(
        "softmax with the maximum of another axis",
        "g (float[B,4,4] x) => (float[B,4,4] y) <int64[1] a = {-1}, int64[1] b = {1}>"
        " { m = ReduceMax(x, b) d = Sub(x, m) e = Exp(d) s = ReduceSum(e, a) y = Div(e, s) }",
    ),
    trap(
        "softmax with a sum of another axis",
        "g (float[B,4,4] x) => (float[B,4,4] y) <int64[1] a = {-1}, int64[1] b = {1}>"
        " { m = ReduceMax(x, a) d = Sub(x, m) e = Exp(d) s = ReduceSum(e, b) y = Div(e, s) }",
    ),
    trap(
        "x / max(norm, tiny), pytorch's normalize", ONE + " <int64[1] x = {-1}, float t = {0.000000000001}> { n = ReduceL2(a, x) c = Clip(n, t) y = Div(a, c) }"
    ),
    trap("x / norm of a vector of zeros", ONE + " <int64[1] x = {-1}> { n = ReduceL2(a, x) y = Div(a, n) }", samples=({"a": np.zeros((2, 8), np.float32)},)),
    trap(
        "the largest of a softmax among equals",
        "g (float[N,4] a) => (int64[N,1] y) { s = Softmax<axis=-1>(a) y = ArgMax<axis=1>(s) }",
        samples=({"a": np.array([[9.9999994e-09, 1e-8, 0, 0]], np.float32)},),
    ),
)

NORMS: tuple[Graph, ...] = (
    trap(
        "layer norm with epsilon behind the root",
        X + f" <{AXIS}, float[8] w> {{ m = ReduceMean(x, a) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, a) r = Sqrt(v) p = Add(r,"
        " e) n = Div(d, p) y = Mul(n, w) }",
    ),
    trap(
        "rms norm with epsilon behind the root",
        X + f" <{AXIS}, float[8] w> {{ q = Mul(x, x) v = ReduceMean(q, a) r = Sqrt(v) p = Add(r, e) n = Div(x, p) y = Mul(n, w) }}",
    ),
    trap(
        "rms norm of sums instead of means",
        X + f" <{AXIS}, float[8] w> {{ q = Mul(x, x) v = ReduceSum(q, a) p = Add(v, e) r = Sqrt(p) n = Div(x, r) y = Mul(n, w) }}",
    ),
    trap(
        "layer norm with the mean of another axis",
        "g (float[B,8,8] x) => (float[B,8,8] y) <int64[1] a = {-1}, int64[1] b = {1}, float e = {0.1}>"
        " { m = ReduceMean(x, b) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, a) p = Add(v, e) r = Sqrt(p) y = Div(d, r) }",
    ),
    trap(
        "layer norm of one thing with the deviation of another",
        f"g (float[B,8] x, float[B,8] z) => (float[B,8] y) <{AXIS}>"
        " { m = ReduceMean(x, a) d = Sub(x, m) c = Sub(z, m) q = Mul(c, c) v = ReduceMean(q, a) p = Add(v, e) r = Sqrt(p) y ="
        " Div(d, r) }",
    ),
    trap(
        "layer norm with a weight for each place",
        f"g (float[B,4,8] x) => (float[B,4,8] y) <{AXIS}, float[4,1] w, float[4,8] b>"
        " { m = ReduceMean(x, a) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, a) p = Add(v, e) r = Sqrt(p) n = Div(d, r) o ="
        " Mul(n, w) y = Add(o, b) }",
    ),
    trap(
        "layer norm with a weight that adds an axis",
        f"g (float[B,8] x) => (float[3,B,8] y) <{AXIS}, float[3,1,8] w>"
        " { m = ReduceMean(x, a) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, a) p = Add(v, e) r = Sqrt(p) n = Div(d, r) y ="
        " Mul(n, w) }",
    ),
    trap(
        "layer norm whose deviation is needed elsewhere",
        f"g (float[B,8] x) => (float[B,8] y, float[B,8] d, float[B,1] v) <{AXIS}>"
        " { m = ReduceMean(x, a) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, a) p = Add(v, e) r = Sqrt(p) y = Div(d, r) }",
    ),
    trap(
        "layer norm in double precision",
        "g (double[B,8] x) => (double[B,8] y) <int64[1] a = {-1}, double e = {0.00001}, double[8] w, double[8] b>"
        " { m = ReduceMean(x, a) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, a) p = Add(v, e) r = Sqrt(p) n = Div(d, r) o ="
        " Mul(n, w) y = Add(o, b) }",
    ),
    trap(
        "rms norm in double precision",
        "g (double[B,8] x) => (double[B,8] y) <int64[1] a = {-1}, double e = {0.00001}, double[8] w>"
        " { q = Mul(x, x) v = ReduceMean(q, a) p = Add(v, e) r = Sqrt(p) n = Div(x, r) y = Mul(n, w) }",
    ),
    trap("rms norm with a cube", X + f" <{AXIS}, float three = {{3}}> {{ q = Pow(x, three) v = ReduceMean(q, a) p = Add(v, e) r = Sqrt(p) y = Div(x, r) }}"),
    trap(
        "group norm with a weight for each group only",
        "g (float[N,4,H,W] x) => (float[N,4,H,W] y) <int64[3] s = {0,2,-1}, float[2] w, float[2] b>"
        " { r = Reshape(x, s) n = InstanceNormalization(r, w, b) t = Shape(x) y = Reshape(n, t) }",
    ),
    trap(
        "an instance norm and a scale along the width",
        "g (float[N,3,H,3] x) => (float[N,3,H,3] y) <float[3] w, float[3] b, float[3] k> { n = InstanceNormalization(x, w, b) y = Mul(n, k) }",
    ),
    trap(
        "a residual that broadcasts, into layer norm",
        "g (float[B,S,8] x, float[8] r) => (float[B,S,8] y) <float[8] w, float[8] b> { s = Add(x, r) y = LayerNormalization(s, w, b) }",
    ),
    trap(
        "a residual of one row, into layer norm",
        "g (float[B,S,8] x, float[1,S,8] r) => (float[B,S,8] y) <float[8] w, float[8] b> { s = Add(r, x) y = LayerNormalization(s, w, b) }",
    ),
    trap(
        "a residual that makes the result larger, into layer norm",
        "g (float[1,S,8] x, float[B,1,8] r) => (float[B,S,8] y) <float[8] w, float[8] b> { s = Add(r, x) y = LayerNormalization(s, w, b) }",
    ),
    trap(
        "layer norm from an axis in the middle with a residual",
        "g (float[B,4,8] x, float[B,4,8] r) => (float[B,4,8] y) <float[4,8] w> { s = Add(r, x) y = LayerNormalization<axis=1>(s, w) }",
    ),
    trap(
        "embeddings counted from the end, added and normalised",
        "g (int64[B,4] ids, int64[B,4] kinds) => (float[B,4,8] y) <float[30,8] words, float[4,8] places, float[2,8] types,"
        " float[8] w, float[8] b, int64[1,4] p = {0,1,2,3}>"
        " { e = Gather(words, ids) t = Gather(types, kinds) q = Gather(places, p) s = Add(e, t) u = Add(s, q) y = LayerNormalization(u, w, b) }",
        samples=({"ids": np.array([[-1, -30, 0, 29]]), "kinds": np.array([[-1, 0, 1, -2]])},),
    ),
    trap("a bias of two axes into gelu", "g (float[B,3,8] x) => (float[B,3,8] y) <float[3,8] b> { s = Add(x, b) y = Gelu(s) }"),
)

WEIGHTS: tuple[Graph, ...] = (
    trap(
        "batch norm before a padded convolution",
        IMAGE + " <float[4,3,3,3] w, float[3] s, float[3] t, float[3] m, float[3] var>"
        " { n = BatchNormalization(x, s, t, m, var) y = Conv<pads=[1,1,1,1]>(n, w) }",
    ),
    trap("pixels shifted before a padded convolution", IMAGE + " <float[4,3,3,3] w, float k = {0.5}> { n = Sub(x, k) y = Conv<pads=[1,1,1,1]>(n, w) }"),
    trap(
        "a convolution needed before and after its batch norm",
        IMAGE.replace("Q] y)", "Q] y, float[N,4,P,Q] c)") + f" <float[4,3,3,3] w, {FOUR}> {{ c = Conv(x, w) y = BatchNormalization(c, s, t, m, var) }}",
    ),
    trap("a negative scale behind a relu", IMAGE + " <float[4,3,3,3] w, float k = {-0.5}> { c = Conv(x, w) r = Relu(c) y = Mul(r, k) }"),
    trap(
        "a negative scale before a max pool",
        IMAGE + " <float[4,3,3,3] w, float[4,1,1] k = {1,-1,2,-2}> { c = Conv(x, w) p = MaxPool<kernel_shape=[2,2]>(c) y = Mul(p, k) }",
    ),
    trap(
        "a shift before an average pool that counts its pads",
        "g (float[N,3,4,4] x) => (float[N,3,P,Q] y) <float[3,3,1,1] w, float k = {2}>"
        " { c = Conv(x, w) s = Add(c, k) y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(s) }",
    ),
    trap(
        "a scale that makes the result larger",
        "g (float[N,3,4,4] x) => (float[5,N,2,4,4] y) <float[2,3,1,1] w, float[5,1,1,1,1] k> { c = Conv(x, w) y = Mul(c, k) }",
    ),
    trap(
        "a scale for each image of a batch", "g (float[2,3,4,4] x) => (float[2,2,4,4] y) <float[2,3,1,1] w, float[2,1,1,1] k> { c = Conv(x, w) y = Mul(c, k) }"
    ),
    trap(
        "a grouped convolution and a scale of its input",
        "g (float[N,4,H,W] x) => (float[N,4,H,W] y) <float[4,2,1,1] w, float[4,1,1] k> { s = Mul(x, k) y = Conv<group=2>(s, w) }",
    ),
    trap(
        "a transposed grouped convolution and a scale",
        "g (float[N,4,H,W] x) => (float[N,6,P,Q] y) <float[4,3,2,2] w, float[6,1,1] k> { s = ConvTranspose<group=2, strides=[2,2]>(x, w) y = Mul(s, k) }",
    ),
    trap(
        "branches with different pads",
        "g (float[N,4,6,6] x) => (float[N,4,4,4] y) <float[4,4,3,3] a, float[4,4,5,5] b> { p = Conv(x, a) q = Conv<pads=[1,1,1,1]>(x, b) y = Add(p, q) }",
    ),
    trap(
        "branches with different strides",
        "g (float[N,4,1,1] x) => (float[N,4,1,1] y) <float[4,4,1,1] a, float[4,4,1,1] b> { p = Conv<strides=[2,2]>(x, a) q = Conv(x, b) y = Add(p, q) }",
    ),
    trap(
        "convolutions in a row, the first padded",
        IMAGE + " <float[6,3,3,3] a, float[4,6,3,3] b, float[6] c> { m = Conv<pads=[1,1,1,1]>(x, a, c) y = Conv<pads=[1,1,1,1]>(m, b) }",
    ),
    trap(
        "convolutions of one pixel in a row, the second padded",
        IMAGE + " <float[6,3,1,1] a, float[4,6,1,1] b, float[6] c> { m = Conv(x, a, c) y = Conv<pads=[1,1,1,1]>(m, b) }",
    ),
    trap(
        "a pad of ones before a convolution",
        IMAGE + " <float[4,3,3,3] w, int64[8] p = {0,0,1,1,0,0,1,1}, float one = {1}> { u = Pad(x, p, one) y = Conv(u, w) }",
    ),
    trap(
        "a pad of channels before a convolution",
        "g (float[N,2,H,W] x) => (float[N,4,P,Q] y) <float[4,3,3,3] w, int64[8] p = {0,0,0,0,0,1,0,0}> { u = Pad(x, p) y = Conv(u, w) }",
    ),
    trap(
        "a reflected pad before a convolution",
        'g (float[N,3,5,5] x) => (float[N,4,P,Q] y) <float[4,3,3,3] w, int64[8] p = {0,0,1,1,0,0,1,1}> { u = Pad<mode="reflect">(x, p) y = Conv(u, w) }',
    ),
    trap("a bias of a vector product", "g (float[N,8] x) => (float[N] y) <float[8] w, float b = {2}> { m = MatMul(x, w) y = Add(m, b) }"),
    trap("a bias that adds an axis", "g (float[N,8] x) => (float[3,N,4] y) <float[8,4] w, float[3,1,4] b> { m = MatMul(x, w) y = Add(m, b) }"),
    trap("a bias that makes one row many", "g (float[1,8] x) => (float[3,4] y) <float[8,4] w, float[3,4] b> { m = MatMul(x, w) y = Add(m, b) }"),
    trap("a bias for each row", "g (float[4,8] x) => (float[4,4] y) <float[8,4] w, float[4,1] b> { m = MatMul(x, w) y = Add(m, b) }"),
    trap("a scale for each row behind a square product", "g (float[4,4] x) => (float[4,4] y) <float[4,4] w, float[4,1] k> { m = MatMul(x, w) y = Mul(m, k) }"),
    trap(
        "a half product and bias",
        "g (float16[N,8] x) => (float16[N,4] y) <float16[8,4] w, float16[4] b, float16[4] k> { m = MatMul(x, w) n = Mul(m, k) y = Add(n, b) }",
    ),
    trap(
        "projections of which one weight has batches",
        "g (float[3,S,8] x) => (float[3,S,8] q, float[3,S,8] k) <float[8,8] a, float[3,8,8] b> { q = MatMul(x, a) k = MatMul(x, b) }",
    ),
    trap(
        "a convolution with a constant input", "g (float[4,3,1,1] w) => (float[1,4,5,5] y) <float[1,3,5,5] x, float[4,1,1] k> { c = Conv(x, w) y = Mul(c, k) }"
    ),
    trap(
        "a lora adapter whose middle is bent",
        "g (float[B,S,8] x) => (float[B,S,8] y) <float[8,8] w, float[8,2] a, float[2,8] b>"
        " { m = MatMul(x, w) p = MatMul(x, a) r = Relu(p) q = MatMul(r, b) y = Add(m, q) }",
    ),
)

GRAPHS = (*OPTIMISERS, *ACTIVATIONS, *NORMS, *WEIGHTS)
