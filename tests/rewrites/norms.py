"""Normalisations as they are written out."""

from __future__ import annotations

from .graphs import LAYER_NORM, RMS_NORM, Graph, at_most, every, gone, graph, has, runtime_graph

X = "g (float[B,S,16] x) => (float[B,S,16] y)"
AXIS = "int64[1] a = {-1}, float e = {0.00001}"
IMAGE = "g (float[2,8,6,5] x) => (float[2,8,6,5] y)"
LAYER = every(has(*LAYER_NORM), gone("ReduceMean", "Sqrt", "Pow"))
RMS = every(has(*RMS_NORM), gone("ReduceMean", "Sqrt", "Pow", "Reciprocal"))
GROUP = every(has("GroupNormalization", "GroupNorm"), gone("InstanceNormalization", "ReduceMean"))

GRAPHS: tuple[Graph, ...] = (
    graph(
        "layer norm, torchscript: the square as a power, axes as attributes",
        X + " <float two = {2}, float e = {0.00001}, float[16] w, float[16] b>"
        " { m = ReduceMean<axes=[-1]>(x) d = Sub(x, m) q = Pow(d, two) v = ReduceMean<axes=[-1]>(q) p = Add(v, e) r = Sqrt(p) n"
        " = Div(d, r) o = Mul(n, w) y = Add(o, b) }",
        LAYER,
        opset=14,
    ),
    graph(
        "layer norm, jax: the square as a product, times a reciprocal root",
        X + f" <{AXIS}, float[16] w, float[16] b>"
        " { m = ReduceMean(x, a) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, a) p = Add(e, v) r = Sqrt(p) i = Reciprocal(r) s"
        " = Mul(i, w) n = Mul(d, s) y = Add(n, b) }",
        LAYER,
    ),
    graph(
        "layer norm without weights",
        X + f" <{AXIS}> {{ m = ReduceMean(x, a) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, a) p = Add(v, e) r = Sqrt(p) y = Div(d, r) }}",
        LAYER,
    ),
    graph(
        "layer norm without a bias, modernbert",
        X + f" <{AXIS}, float two = {{2}}, float[16] w>"
        " { m = ReduceMean(x, a) d = Sub(x, m) q = Pow(d, two) v = ReduceMean(q, a) p = Add(v, e) r = Sqrt(p) n = Div(d, r) y = Mul(w, n) }",
        LAYER,
    ),
    graph(
        "layer norm, keras: scale and shift gathered first",
        X + f" <{AXIS}, float[16] w, float[16] b>"
        " { m = ReduceMean(x, a) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, a) p = Add(v, e) r = Sqrt(p) i = Reciprocal(r) s = Mul(i, w)"
        " xs = Mul(x, s) ms = Mul(m, s) t = Sub(b, ms) y = Add(xs, t) }",
        LAYER,
    ),
    graph(
        "layer norm, the deviation subtracted twice",
        X + f" <{AXIS}, float two = {{2}}, float[16] w, float[16] b>"
        " { m = ReduceMean(x, a) d = Sub(x, m) c = Sub(x, m) q = Pow(c, two) v = ReduceMean(q, a) p = Add(v, e) r = Sqrt(p) n ="
        " Div(d, r) o = Mul(n, w) y = Add(o, b) }",
        LAYER,
    ),
    graph(
        "layer norm in half precision, computed in single",
        "g (float16[B,S,16] h) => (float16[B,S,16] y)"
        f" <{AXIS}, float two = {{2}}, float16[16] w, float16[16] b>"
        " { x = Cast<to=1>(h) m = ReduceMean(x, a) d = Sub(x, m) q = Pow(d, two) v = ReduceMean(q, a) p = Add(v, e) r = Sqrt(p) n = Div(d, r)"
        " c = Cast<to=10>(n) o = Mul(c, w) y = Add(o, b) }",
        LAYER,
    ),
    graph(
        "layer norm over the last two axes",
        "g (float[B,4,8] x) => (float[B,4,8] y) <int64[2] a = {1,2}, float e = {0.00001}, float two = {2}, float[4,8] w, float[4,8] b>"
        " { m = ReduceMean(x, a) d = Sub(x, m) q = Pow(d, two) v = ReduceMean(q, a) p = Add(v, e) r = Sqrt(p) n = Div(d, r) o ="
        " Mul(n, w) y = Add(o, b) }",
        LAYER,
    ),
    graph(
        "layer norm over channels between two transposes, convnext",
        "g (float[N,8,H,W] x) => (float[N,8,H,W] y) <int64[1] a = {1}, float e = {0.000001}, float two = {2}, float[8,1,1] w, float[8,1,1] b>"
        " { m = ReduceMean(x, a) d = Sub(x, m) q = Pow(d, two) v = ReduceMean(q, a) p = Add(v, e) r = Sqrt(p) n = Div(d, r) o ="
        " Mul(n, w) y = Add(o, b) }",
        every(has(*LAYER_NORM), gone("ReduceMean")),
    ),
    graph(
        "rms norm, llama: x times 1 / sqrt",
        X + f" <{AXIS}, float two = {{2}}, float one = {{1}}, float[16] w>"
        " { q = Pow(x, two) v = ReduceMean(q, a) p = Add(v, e) r = Sqrt(p) i = Div(one, r) n = Mul(x, i) y = Mul(w, n) }",
        RMS,
    ),
    graph(
        "rms norm, x divided by the root",
        X + f" <{AXIS}, float two = {{2}}, float[16] w> {{ q = Pow(x, two) v = ReduceMean(q, a) p = Add(v, e) r = Sqrt(p) n = Div(x, r) y = Mul(n, w) }}",
        RMS,
    ),
    graph(
        "rms norm, products and a reciprocal",
        X + f" <{AXIS}, float[16] w> {{ q = Mul(x, x) v = ReduceMean(q, a) p = Add(v, e) r = Sqrt(p) i = Reciprocal(r) n = Mul(i, x) y = Mul(n, w) }}",
        RMS,
    ),
    graph(
        "rms norm, the root as a power of minus a half",
        X + f" <{AXIS}, float half = {{-0.5}}, float two = {{2}}, float[16] w>"
        " { q = Pow(x, two) v = ReduceMean(q, a) p = Add(v, e) i = Pow(p, half) n = Mul(x, i) y = Mul(n, w) }",
        RMS,
    ),
    graph(
        "rms norm, gemma: one plus the weight",
        X + f" <{AXIS}, float two = {{2}}, float one = {{1}}, float[16] w>"
        " { q = Pow(x, two) v = ReduceMean(q, a) p = Add(v, e) r = Sqrt(p) i = Reciprocal(r) n = Mul(x, i) s = Add(w, one) y = Mul(n, s) }",
        RMS,
    ),
    graph(
        "rms norm, the sum of squares over a count",
        X + f" <{AXIS}, float c = {{16}}, float[16] w> {{ q = ReduceSumSquare(x, a) v = Div(q, c) p = Add(v, e) r = Sqrt(p) n = Div(x, r) y = Mul(n, w) }}",
        every(has(*RMS_NORM), gone("ReduceSumSquare", "Sqrt")),
    ),
    graph(
        "rms norm, t5 in half precision, computed in single",
        "g (float16[B,S,16] h) => (float16[B,S,16] y)"
        f" <{AXIS}, float two = {{2}}, float16[16] w>"
        " { x = Cast<to=1>(h) q = Pow(x, two) v = ReduceMean(q, a) p = Add(v, e) r = Sqrt(p) i = Reciprocal(r) n = Mul(x, i) c"
        " = Cast<to=10>(n) y = Mul(w, c) }",
        RMS,
    ),
    graph(
        "group norm, torch: an instance norm between reshapes",
        IMAGE + " <int64[3] s = {0,4,-1}, float[4] one = {1,1,1,1}, float[4] zero = {0,0,0,0}, float[8,1,1] w, float[8,1,1] b>"
        " { r = Reshape(x, s) n = InstanceNormalization<epsilon=0.00001>(r, one, zero) t = Shape(x) u = Reshape(n, t) m = Mul(u, w) y = Add(m, b) }",
        GROUP,
    ),
    graph(
        "group norm, decomposed",
        IMAGE + " <int64[3] s = {0,4,-1}, int64[1] a = {2}, float e = {0.00001}, float[8,1,1] w, float[8,1,1] b>"
        " { r = Reshape(x, s) m = ReduceMean(r, a) d = Sub(r, m) q = Mul(d, d) v = ReduceMean(q, a) p = Add(v, e) k = Sqrt(p) n = Div(d, k)"
        " t = Shape(x) u = Reshape(n, t) o = Mul(u, w) y = Add(o, b) }",
        every(has("GroupNormalization", "GroupNorm", "InstanceNormalization"), gone("ReduceMean")),
    ),
    graph(
        "instance norm, decomposed",
        IMAGE + " <int64[2] a = {2,3}, float e = {0.00001}, float two = {2}, float[8,1,1] w, float[8,1,1] b>"
        " { m = ReduceMean(x, a) d = Sub(x, m) q = Pow(d, two) v = ReduceMean(q, a) p = Add(v, e) r = Sqrt(p) n = Div(d, r) o ="
        " Mul(n, w) y = Add(o, b) }",
        every(has("InstanceNormalization"), gone("ReduceMean")),
    ),
    graph(
        "instance norm takes the scale and shift behind it",
        IMAGE + " <float[8] one = {1,1,1,1,1,1,1,1}, float[8] zero = {0,0,0,0,0,0,0,0}, float[1,8,1,1] w, float[1,8,1,1] b>"
        " { n = InstanceNormalization<epsilon=0.00001>(x, one, zero) m = Mul(n, w) y = Add(m, b) }",
        at_most(1),
    ),
    graph(
        "batch norm, decomposed at inference, is one scale and shift",
        IMAGE + " <float[8,1,1] m, float[8,1,1] var, float e = {0.001}, float[8,1,1] w, float[8,1,1] b>"
        " { d = Sub(x, m) p = Add(var, e) r = Sqrt(p) n = Div(d, r) o = Mul(n, w) y = Add(o, b) }",
        at_most(2),
    ),
    graph(
        "the euclidean norm: root of the sum of squares",
        "g (float[B,16] x) => (float[B,1] y) <int64[1] a = {-1}, float two = {2}> { q = Pow(x, two) s = ReduceSum(q, a) y = Sqrt(s) }",
        every(has("ReduceL2"), gone("Sqrt")),
    ),
    graph(
        "the euclidean distance of two vectors",
        "g (float[B,16] p, float[B,16] q) => (float[B] y) <int64[1] a = {-1}> { d = Sub(p, q) m = Mul(d, d) s = ReduceSum<keepdims=0>(m, a) y = Sqrt(s) }",
        every(has("ReduceL2"), gone("Sqrt")),
    ),
    graph(
        "a sum of squares",
        "g (float[B,16] x) => (float[B,1] y) <int64[1] a = {1}> { m = Mul(x, x) y = ReduceSum(m, a) }",
        has("ReduceSumSquare"),
    ),
    graph(
        "the logarithm of a sum of exponentials, the maximum taken off and added again",
        "g (float[B,16] x) => (float[B,1] y) <int64[1] a = {1}> { m = ReduceMax(x, a) d = Sub(x, m) e = Exp(d) s = ReduceSum(e, a) l = Log(s) y = Add(l, m) }",
        has("ReduceLogSumExp", "ReduceLogSum"),
    ),
    graph(
        "an l1 norm",
        "g (float[B,16] x) => (float[B,1] y) <int64[1] a = {1}> { e = Abs(x) y = ReduceSum(e, a) }",
        has("ReduceL1"),
    ),
    runtime_graph(
        "embeddings of what is not negative, added and normalised",
        "g (uint8[B,8] i8, uint8[B,8] k8) => (float[B,8,16] y) <float[30,16] words, float[8,16] places, float[2,16] types,"
        " float[16] w, float[16] b, int64[1,8] p = {0,1,2,3,4,5,6,7}>"
        " { ids = Cast<to=7>(i8) kinds = Cast<to=7>(k8) e = Gather(words, ids) t = Gather(types, kinds) q = Gather(places, p) s"
        " = Add(e, t) u = Add(s, q) y ="
        " LayerNormalization<axis=-1, epsilon=0.00001>(u, w, b) }",
        has("EmbedLayerNormalization", "SkipLayerNormalization"),
    ),
)
