"""Models that random ones were cut down to when they failed: each must stay right."""

from __future__ import annotations

HEADER = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>\n'
FOUND = {
    "statistics that training overwrites, equal to the scale": (
        "g (float[2,1,3,3] x) => (float[2,1,3,3] y) <float[1] s = {1}, float[1] b = {0}, float[1] m = {1}, float[1] v = {4}>"
        " { y, p, q = BatchNormalization<training_mode=1>(x, s, b, m, v) }"
    ),
    "a gemm of doubles with a scalar bias and a factor": (
        "g (double[N,4] x) => (double[N,1] y) <double[1,4] w = {0.2,0.05,-0.6,-0.1}, double b = {0}> { y = Gemm<alpha=0.5, transB=1>(x, w, b) }"
    ),
    "the square root of an infinity that comes of a zero": (
        "g (float[N,M,4] x) => (float[N,M,4] y) <float a = {-1}, float[1] b = {0.5}> { p = Pow(x, a) y = Pow(p, b) }"
    ),
    "a number times its own reciprocal, where that is infinite": "g (float[1,4,4] x) => (float[1,4,4] y) <float a = {-1}> { p = Pow(x, a) y = Mul(x, p) }",
    "the pool of an only pixel": "g (float[N,1,1,1] x) => (float[N,1,1,1] y) { y = MaxPool<kernel_shape=[1,1], pads=[0,0,0,0]>(x) }",
    "a softplus far below zero": "g (float[N,4] x) => (float[N,4] y) <float k = {-12}> { a = Mul(x, x) b = Mul(a, k) y = Softplus(b) }",
    "an elu near zero": "g (float[N,4,4,4] x) => (float[N,4,4,4] y) { y = Elu<alpha=1.0>(x) }",
    "pieces of halves, joined again": (
        "g (float16[M,4] x) => (float16[M,4] y, double[M,3] z) <float h = {14336}, int64[2] s = {3,1}>"
        " { k = Cast<to=10>(h) m = Mul(x, k) p, q = Split<axis=1>(m, s) y = Concat<axis=1>(p, q) n = Neg(p) z = Cast<to=11>(n) }"
    ),
    "a shift that cancels what a normalisation scales": (
        "g (float[N,2,3,3] x) => (float[N,2,3,3] y) <float[2] b = {0,1}, float[2] s = {2,4}, float k = {3}>"
        " { n = InstanceNormalization(x, s, b) y = Mul(k, n) }"
    ),
    "the reciprocal of a zero whose sign a factor took": (
        "g (float[2,2,4] x) => (float[2,1,4] y) <float[1,2,1] w = {0.4,1.2}, float[1] p = {-1}>"
        " { c = Conv<kernel_shape=[1]>(x, w) n = Neg(c) y = Pow(n, p) }"
    ),
    "groups whose scale is their shift": (
        "g (float[2,4,3,2] x, float[4] s) => (float[2,4,3,2] y) { y = GroupNormalization<num_groups=2>(x, s, s) }"
    ),
    "a sum that a skip normalisation gives and nobody reads": (
        "g (float[N,3,2] p, float[N,3,2] q) => (float[N,3,2] y) <float[2] b = {3,4}, float[2] s = {0.5,1}, int64[2] k = {1,1}>"
        ' { a = Add(p, b) n, "", "", z = com.microsoft.SkipLayerNormalization<epsilon=0.001>(q, a, s) f, l = Split<axis=2>(n, k) y = Concat<axis=2>(f, l) }'
    ),
    "a guarded softmax under two masks of the lowest number": (
        "g (int8[M,2,N,4] a, int8[M,2,M,4] b, bool[N,M] c, bool[1,M] d, float[M,2,M,4] v) => (float[M,2,N,4] y) <float z = {0}, float l = {-3.4028235e+38}>"
        " { p = Cast<to=1>(a) q = Cast<to=1>(b) t = Transpose<perm=[0,1,3,2]>(q) s = MatMul(p, t) m = Where(c, z, l) n = Where(d, z, l)"
        " r = Add(s, m) u = Add(r, n) f = Softmax(u) g = IsNaN(f) w = Where(g, z, f) y = MatMul(w, v) }"
    ),
    "numbers further apart than the largest": (
        "g (int64[2] x, bool b) => (int64[2] y) <int64[2] c = {-9223372036854775807,9223372036854775807}> { w = Where(b, c, c) y = Mul(x, w) }"
    ),
    "groups of whole numbers whose mean is none": (
        "g (float[2,4,3,2] x) => (float[2,4,3,2] y) <int64[3] s = {0,2,-1}, float[12] w = {1,1,1,1,1,1,1,1,1,1,1,1}, int64[4] t = {-1,4,3,2}>"
        " { r = Reshape(x, s) n = LayerNormalization(r, w) y = Reshape(n, t) }"
    ),
    "a spelled logarithm of a softmax that something holds above an infinity": (
        "g (float[N,4] x) => (float[N,1] y) <int64[1] a = {-1}, int64[1] i = {-2}, float k = {-1}>"
        " { l = ReduceLogSumExp(x, a) d = Sub(x, l) c = Gather<axis=1>(d, i) y = Max(c, k) }"
    ),
    "a sigmoid stretched to a tanh, whose tiny numbers are not the model's only ones": (
        "g (float[N,3,4] c, float[M,4] x) => (float[M,4] y, bool[N,3,4] z) <float o = {1}, float t = {2}>"
        " { z = Cast<to=9>(c) m = Mul(x, t) s = Sigmoid(m) d = Mul(s, t) y = Sub(d, o) }"
    ),
    "a skip normalisation that gives no sum, and adds what is no bias": (
        "g (float[N,2,2] x) => (float[N,2,2] y) <float[2,1] b = {3,4}, float[2] s = {1,2}>"
        " { a = Add(b, x) y = com.microsoft.SkipLayerNormalization(a, x, s, s) }"
    ),
}
"""In ONNX text, by what is special about them."""
