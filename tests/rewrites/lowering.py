"""What ONNX Runtime has a kernel of its own for, and operators that run into one."""

from __future__ import annotations

from .graphs import ADD, CONV, LAYER_NORM, MATMUL, RMS_NORM, Graph, at_most, every, gone, graph, has, runtime_graph

X = "g (float[B,S,16] x, float[B,S,16] r) => (float[B,S,16] y)"
NORM = "float[16] w, float[16] b"
IMAGE = "g (float[N,3,H,W] x) => (float[N,4,H,W] y) <float[4,3,3,3] w, float[4] b"
CONV_CALL = "c = Conv<pads=[1,1,1,1]>(x, w, b)"
ONE_CONV = every(has(*CONV), at_most(1))

GRAPHS: tuple[Graph, ...] = (
    runtime_graph(
        "a residual into layer norm", X + f" <{NORM}> {{ s = Add(x, r) y = LayerNormalization<axis=-1>(s, w, b) }}", every(has(*LAYER_NORM), at_most(1))
    ),
    runtime_graph(
        "a residual into layer norm, used again",
        X.replace("16] y)", "16] y, float[B,S,16] s)") + f" <{NORM}> {{ s = Add(r, x) y = LayerNormalization<axis=-1>(s, w, b) }}",
        every(has(*LAYER_NORM), at_most(1)),
    ),
    runtime_graph(
        "a bias and a residual into layer norm",
        X + f" <{NORM}, float[16,16] m, float[16] k> {{ p = MatMul(x, m) q = Add(p, k) s = Add(q, r) y = LayerNormalization<axis=-1>(s, w, b) }}",
        every(has(*LAYER_NORM), at_most(2)),
    ),
    runtime_graph(
        "a residual into rms norm",
        X + " <float[16] w, int64[1] a = {-1}, float e = {0.000001}>"
        " { s = Add(x, r) q = Mul(s, s) v = ReduceMean(q, a) p = Add(v, e) t = Sqrt(p) n = Div(s, t) y = Mul(n, w) }",
        every(has(*RMS_NORM), gone("ReduceMean"), at_most(2)),
    ),
    runtime_graph(
        "a bias into gelu",
        "g (float[B,S,16] x) => (float[B,S,8] y) <float[16,8] w, float[8] b> { m = MatMul(x, w) a = Add(m, b) y = Gelu(a) }",
        every(has("Gelu", "BiasGelu", "FastGelu"), at_most(2)),
    ),
    runtime_graph(
        "a bias into gelu by tanh",
        'g (float[B,S,16] x) => (float[B,S,8] y) <float[16,8] w, float[8] b> { m = MatMul(x, w) a = Add(b, m) y = Gelu<approximate="tanh">(a) }',
        every(has("Gelu", "BiasGelu", "FastGelu"), at_most(2)),
    ),
    runtime_graph(
        "a product with a transposed right side",
        "g (float[B,H,S,8] x, float[B,H,T,8] z) => (float[B,H,S,T] y) { t = Transpose<perm=[0,1,3,2]>(z) y = MatMul(x, t) }",
        every(gone("Transpose"), at_most(1)),
    ),
    runtime_graph(
        "a product with a transposed left side",
        "g (float[B,8,S] x, float[B,8,T] z) => (float[B,S,T] y) { t = Transpose<perm=[0,2,1]>(x) y = MatMul(t, z) }",
        every(gone("Transpose"), at_most(1)),
    ),
    runtime_graph(
        "a product divided by a number",
        "g (float[B,S,8] x, float[B,8,T] z) => (float[B,S,T] y) <float d = {8}> { m = MatMul(x, z) y = Div(m, d) }",
        at_most(1),
    ),
    runtime_graph(
        "an operand scaled before a product",
        "g (float[B,S,8] x, float[B,8,T] z) => (float[B,S,T] y) <float d = {0.125}> { u = Mul(x, d) y = MatMul(u, z) }",
        at_most(1),
    ),
    graph(
        "a product and a bias of matrices",
        "g (float[N,8] x) => (float[N,4] y) <float[8,4] w, float[4] b> { m = MatMul(x, w) y = Add(b, m) }",
        every(has("Gemm"), at_most(1)),
    ),
    graph(
        "a transposed operand of a gemm",
        "g (float[8,N] x) => (float[N,4] y) <float[8,4] w, float[4] b> { t = Transpose<perm=[1,0]>(x) y = Gemm(t, w, b) }",
        every(gone("Transpose"), at_most(1)),
    ),
    graph(
        "pytorch's linear layer: a transposed weight",
        "g (float[B,S,16] x) => (float[B,S,8] y) <float[8,16] w, float[8] b> { t = Transpose<perm=[1,0]>(w) m = MatMul(x, t) y = Add(m, b) }",
        every(has(*MATMUL), gone("Transpose")),
    ),
    runtime_graph("a convolution and a relu", f"{IMAGE}> {{ {CONV_CALL} y = Relu(c) }}", ONE_CONV),
    runtime_graph("a convolution and a leaky relu", f"{IMAGE}> {{ {CONV_CALL} y = LeakyRelu<alpha=0.1>(c) }}", ONE_CONV),
    runtime_graph("a convolution and a clip", f"{IMAGE}, float lo = {{0}}, float hi = {{6}}> {{ {CONV_CALL} y = Clip(c, lo, hi) }}", ONE_CONV),
    runtime_graph("a convolution and a sigmoid", f"{IMAGE}> {{ {CONV_CALL} y = Sigmoid(c) }}", ONE_CONV),
    runtime_graph("a convolution and a hard sigmoid", f"{IMAGE}> {{ {CONV_CALL} y = HardSigmoid<alpha=0.16666667, beta=0.5>(c) }}", ONE_CONV),
    runtime_graph(
        "a convolution, a residual and a relu",
        "g (float[N,4,H,W] x) => (float[N,4,H,W] y) <float[4,4,3,3] w, float[4] b> { c = Conv<pads=[1,1,1,1]>(x, w, b) a = Add(c, x) y = Relu(a) }",
        ONE_CONV,
    ),
    runtime_graph("a gemm and a relu", "g (float[N,8] x) => (float[N,4] y) <float[8,4] w, float[4] b> { m = Gemm(x, w, b) y = Relu(m) }", at_most(1)),
    graph(
        "a bias added to a convolution",
        "g (float[N,3,H,W] x) => (float[N,4,A,B] y) <float[4,3,3,3] w, float[1,4,1,1] b> { c = Conv(x, w) y = Add(c, b) }",
        every(has(*CONV), gone(*ADD)),
    ),
)
