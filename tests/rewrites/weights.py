"""Constants that belong into weights."""

from __future__ import annotations

from .graphs import CONV, MATMUL, MUL, Graph, at_most, every, gone, graph, has

IMAGE = "g (float[N,3,H,W] x) => (float[N,4,A,B] y)"
SAME = "g (float[N,4,H,W] x) => (float[N,4,H,W] y)"
BATCH_NORM = "float[4] s, float[4] t, float[4] m, float[4] var"
THREE = BATCH_NORM.replace("[4]", "[3]")
ONE = every(has(*CONV), at_most(1))
LINEAR = "g (float[B,S,8] x) => (float[B,S,4] y)"

GRAPHS: tuple[Graph, ...] = (
    graph("batch norm behind a convolution", f"{IMAGE} <float[4,3,3,3] w, {BATCH_NORM}> {{ c = Conv(x, w) y = BatchNormalization(c, s, t, m, var) }}", ONE),
    graph(
        "batch norm behind a depthwise convolution with a bias",
        f"{SAME} <float[4,1,3,3] w, float[4] b, {BATCH_NORM}> {{ c = Conv<group=4, pads=[1,1,1,1]>(x, w, b) y = BatchNormalization(c, s, t, m, var) }}",
        ONE,
    ),
    graph(
        "batch norm behind a transposed convolution",
        f"{IMAGE} <float[3,4,2,2] w, {BATCH_NORM}> {{ c = ConvTranspose<strides=[2,2]>(x, w) y = BatchNormalization(c, s, t, m, var) }}",
        every(has("ConvTranspose"), at_most(1)),
    ),
    graph(
        "batch norm before a convolution without padding",
        f"{IMAGE} <float[4,3,3,3] w, {THREE}> {{ n = BatchNormalization(x, s, t, m, var) y = Conv(n, w) }}",
        ONE,
    ),
    graph(
        "batch norm behind a linear layer",
        f"g (float[N,8] x) => (float[N,4] y) <float[4,8] w, float[4] b, {BATCH_NORM}>"
        " { c = Gemm<transB=1>(x, w, b) y = BatchNormalization(c, s, t, m, var) }",
        every(has(*MATMUL), at_most(1)),
    ),
    graph(
        "batch norm before a linear layer, flattened in between",
        f"g (float[N,4,2,2] x) => (float[N,5] y) <float[5,16] w, float[5] b, {BATCH_NORM}>"
        " { n = BatchNormalization(x, s, t, m, var) f = Flatten(n) y = Gemm<transB=1>(f, w, b) }",
        gone("BatchNormalization", *MUL),
    ),
    graph(
        "batch norm of one dimension behind a transpose, speech",
        f"g (float[B,S,4] x) => (float[B,4,S] y) <float[4,4] w, {BATCH_NORM}>"
        " { p = MatMul(x, w) q = Transpose<perm=[0,2,1]>(p) y = BatchNormalization(q, s, t, m, var) }",
        gone("BatchNormalization", *MUL),
    ),
    graph(
        "a scale for each channel behind a convolution", f"{IMAGE} <float[4,3,3,3] w, float[4] b, float[4,1,1] k> {{ c = Conv(x, w, b) y = Mul(k, c) }}", ONE
    ),
    graph("a shift in front of the sum", f"{IMAGE} <float[4,3,3,3] w, float[4] b, float[4,1,1] k> {{ c = Conv(x, w, b) y = Add(k, c) }}", ONE),
    graph("a constant minus a convolution", f"{IMAGE} <float[4,3,3,3] w, float[1,4,1,1] k> {{ c = Conv(x, w) y = Sub(k, c) }}", ONE),
    graph("a convolution divided", f"{IMAGE} <float[4,3,3,3] w, float d = {{255}}> {{ c = Conv(x, w) y = Div(c, d) }}", ONE),
    graph(
        "pixels scaled before a convolution",
        f"{IMAGE} <float[4,3,3,3] w, float[4] b, float d = {{255}}> {{ u = Div(x, d) y = Conv<pads=[1,1,1,1]>(u, w, b) }}",
        ONE,
    ),
    graph(
        "pixels normalised before a convolution without padding",
        f"{IMAGE} <float[4,3,3,3] w, float[1,3,1,1] m, float[1,3,1,1] var> {{ u = Sub(x, m) v = Div(u, var) y = Conv(v, w) }}",
        ONE,
    ),
    graph(
        "a positive scale behind a relu",
        f"{IMAGE} <float[4,3,3,3] w, float k = {{0.5}}> {{ c = Conv(x, w) r = Relu(c) y = Mul(r, k) }}",
        gone(*MUL),
    ),
    graph(
        "a scale behind an average pool",
        f"{IMAGE} <float[4,3,3,3] w, float[4,1,1] k> {{ c = Conv(x, w) p = AveragePool<kernel_shape=[2,2]>(c) y = Mul(p, k) }}",
        gone(*MUL),
    ),
    graph(
        "a scale and shift behind a linear layer",
        LINEAR + " <float[8,4] w, float[4] k, float[4] b> { m = MatMul(x, w) s = Mul(m, k) y = Add(s, b) }",
        every(gone(*MUL), at_most(2)),
    ),
    graph("a scale for each feature before a linear layer", LINEAR + " <float[8,4] w, float[8] k> { s = Mul(x, k) y = MatMul(s, w) }", at_most(1)),
    graph(
        "a scale before a linear layer, a reshape in between",
        "g (float[B,2,8] x) => (float[B,4] y) <float[16,4] w, float k = {0.1}, int64[2] z = {-1,16}> { s = Mul(x, k) r = Reshape(s, z) y = MatMul(r, w) }",
        every(gone(*MUL), at_most(2)),
    ),
    graph("two biases in a row", LINEAR + " <float[8,4] w, float[4] a, float[4] b> { m = MatMul(x, w) s = Add(m, a) y = Add(s, b) }", at_most(2)),
    graph("two linear layers with nothing in between", LINEAR + " <float[8,6] a, float[6,4] b> { m = MatMul(x, a) y = MatMul(m, b) }", at_most(1)),
    graph(
        "two linear layers with biases and nothing in between",
        "g (float[N,8] x) => (float[N,4] y) <float[8,6] a, float[6,4] b, float[6] c, float[4] d> { m = Gemm(x, a, c) y = Gemm(m, b, d) }",
        at_most(1),
    ),
    graph("two convolutions of one pixel in a row", f"{IMAGE} <float[6,3,1,1] a, float[4,6,1,1] b, float[6] c> {{ m = Conv(x, a, c) y = Conv(m, b) }}", ONE),
    graph(
        "repvgg: a 3x3, a 1x1 and the identity, each normalised",
        f"{SAME} <float[4,4,3,3] a, float[4,4,1,1] b, {BATCH_NORM}, float[4] s2, float[4] t2, float[4] s3, float[4] t3>"
        " { p = Conv<pads=[1,1,1,1]>(x, a) pn = BatchNormalization(p, s, t, m, var) q = Conv(x, b) qn = BatchNormalization(q, s2, t2, m, var)"
        " i = BatchNormalization(x, s3, t3, m, var) u = Add(pn, qn) y = Add(u, i) }",
        ONE,
    ),
    graph(
        "two parallel convolutions added",
        f"{SAME} <float[4,4,3,3] a, float[4,4,3,3] b, float[4] c> {{ p = Conv<pads=[1,1,1,1]>(x, a, c) q = Conv<pads=[1,1,1,1]>(x, b) y = Add(p, q) }}",
        ONE,
    ),
    graph(
        "low-rank adapters merged",
        "g (float[B,S,16] x) => (float[B,S,16] y) <float[16,16] w, float[16,2] a, float[2,16] b, float k = {2}>"
        " { m = MatMul(x, w) p = MatMul(x, a) q = MatMul(p, b) s = Mul(q, k) y = Add(m, s) }",
        at_most(1),
    ),
    graph(
        "a scale and shift between a plain layer norm and a linear layer",
        "g (float[B,S,16] x) => (float[B,S,4] y) <float[16] one = {1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1}, float[16] s, float[16] t, float[16,4] w>"
        " { n = LayerNormalization(x, one) k = Mul(n, s) u = Add(k, t) y = MatMul(u, w) }",
        every(gone(*MUL), at_most(3)),
    ),
    graph(
        "a scale between a plain rms norm and a linear layer",
        "g (float[B,S,16] x) => (float[B,S,4] y) <float[16] s, float[16,4] w, int64[1] a = {-1}, float e = {0.00001}>"
        " { q = Mul(x, x) v = ReduceMean(q, a) p = Add(v, e) r = Sqrt(p) n = Div(x, r) k = Mul(n, s) y = MatMul(k, w) }",
        at_most(2),
    ),
    graph("padding into a convolution", f"{IMAGE} <float[4,3,3,3] w, int64[8] p = {{0,0,1,1,0,0,1,1}}> {{ u = Pad(x, p) y = Conv(u, w) }}", ONE),
    graph(
        "a table of embeddings and a projection of it",
        "g (int64[B,S] ids) => (float[B,S,4] y) <float[20,8] e, float[8,4] w> { u = Gather(e, ids) y = MatMul(u, w) }",
        gone(*MATMUL),
    ),
    graph(
        "alpha and beta of a gemm",
        "g (float[N,8] x) => (float[N,4] y) <float[8,4] w, float[4] b, float k = {0.5}> { m = Gemm(x, w, b) y = Mul(m, k) }",
        at_most(1),
    ),
    graph(
        "a head's features reordered behind a linear layer",
        LINEAR.replace("S,4] y", "S,4] y") + " <float[8,4] w, int64[4] i = {2,0,3,1}> { m = MatMul(x, w) y = Gather<axis=2>(m, i) }",
        at_most(1),
    ),
)
