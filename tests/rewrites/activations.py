"""Activation functions in the words of exporters, to be raised to the operator that they are."""

from __future__ import annotations

from .graphs import GELU, MUL, SWISH, Graph, at_most, either, every, gone, graph, has, runtime_graph

X = "g (float[B,S,8] x) => (float[B,S,8] y)"
BYTES = "g (int8[B,S,8] x) => (float[B,S,8] y)"
IMAGE = "g (float[N,3,H,W] x) => (float[N,3,H,W] y)"
ERF = every(has(*GELU), gone("Erf"))
TANH = every(has(*GELU), gone("Tanh", "Sigmoid", "Pow"))
HARD_SWISH = every(has("HardSwish"), gone("Clip", "Min", "Max", *MUL))

GRAPHS: tuple[Graph, ...] = (
    graph(
        "gelu, erf, torchscript: x / sqrt 2 and a half at the end",
        X + " <float r = {1.4142135}, float one = {1}, float h = {0.5}> { a = Div(x, r) e = Erf(a) p = Add(e, one) m = Mul(x, p) y = Mul(m, h) }",
        ERF,
        opset=14,
    ),
    graph(
        "gelu, erf, dynamo: half of x times one plus erf",
        X + " <float r = {0.70710677}, float one = {1}, float h = {0.5}> { a = Mul(x, h) b = Mul(x, r) e = Erf(b) p = Add(e, one) y = Mul(a, p) }",
        ERF,
    ),
    graph(
        "gelu, erf, keras: the constants in vectors of one, half inside",
        X + " <float[1] r = {1.4142135}, float[1] one = {1}, float[1] h = {0.5}> { a = Div(x, r) e = Erf(a) p = Add(one, e) q = Mul(h, p) y = Mul(x, q) }",
        ERF,
        opset=17,
    ),
    graph(
        "gelu, erf, jax: through the complement 1 - erf(-z)",
        X + " <float r = {0.70710677}, float one = {1}, float h = {0.5}> { n = Neg(x) b = Mul(n, r) e = Erf(b) c = Sub(one, e) a = Mul(h, x) y = Mul(a, c) }",
        ERF,
    ),
    graph(
        "gelu, erf, paddle: the square root computed, the half divided by two",
        X + " <float two = {2}, float one = {1}> { r = Sqrt(two) a = Div(x, r) e = Erf(a) p = Add(e, one) m = Mul(x, p) y = Div(m, two) }",
        ERF,
    ),
    graph(
        "gelu, erf, in half precision",
        "g (float16[B,S,8] x) => (float16[B,S,8] y) <float16 r, float16 one, float16 h>"
        " { a = Div(x, r) e = Erf(a) p = Add(e, one) m = Mul(x, p) y = Mul(m, h) }",
        ERF,
        weights={"r": 1.4140625, "one": 1, "h": 0.5},
    ),
    graph(
        "gelu, tanh, gpt-2: the cube as a power",
        X + " <float three = {3}, float c = {0.044715}, float s = {0.7978846}, float one = {1}, float h = {0.5}>"
        " { a = Mul(x, h) p = Pow(x, three) q = Mul(p, c) r = Add(x, q) t = Mul(r, s) u = Tanh(t) v = Add(u, one) y = Mul(a, v) }",
        TANH,
    ),
    graph(
        "gelu, tanh, tf2onnx: the cube as products, s first",
        X + " <float c = {0.044715}, float s = {0.7978846}, float one = {1}, float h = {0.5}>"
        " { x2 = Mul(x, x) x3 = Mul(x2, x) q = Mul(c, x3) r = Add(q, x) t = Mul(s, r) u = Tanh(t) v = Add(one, u) w = Mul(h, v) y = Mul(x, w) }",
        TANH,
        opset=15,
    ),
    graph(
        "gelu, tanh, gelu_fast: factored polynomial",
        X + " <float c = {0.044715}, float s = {0.79788456}, float one = {1}, float h = {0.5}>"
        " { a = Mul(x, h) sx = Mul(x, s) cx = Mul(x, c) c2 = Mul(cx, x) p = Add(c2, one) t = Mul(sx, p) u = Tanh(t) v = Add(u, one) y = Mul(a, v) }",
        TANH,
    ),
    graph(
        "gelu, tanh, as a sigmoid of twice the polynomial",
        X + " <float three = {3}, float c = {0.044715}, float s = {1.5957691}>"
        " { p = Pow(x, three) q = Mul(p, c) r = Add(x, q) t = Mul(r, s) u = Sigmoid(t) y = Mul(x, u) }",
        TANH,
    ),
    runtime_graph(
        "quick gelu, clip: x sigmoid(1.702 x)",
        X + " <float c = {1.702}> { a = Mul(x, c) s = Sigmoid(a) y = Mul(x, s) }",
        every(has(*SWISH), gone("Sigmoid")),
    ),
    graph(
        "swish with a slope, in a standard operator",
        X + " <float c = {1.702}> { a = Mul(c, x) s = Sigmoid(a) y = Mul(s, x) }",
        every(has(*SWISH), gone("Sigmoid")),
    ),
    graph("silu: x sigmoid(x)", IMAGE + " { s = Sigmoid(x) y = Mul(x, s) }", every(has(*SWISH), gone("Sigmoid"))),
    graph(
        "silu, by hand: x / (1 + exp(-x))",
        X + " <float one = {1}> { n = Neg(x) e = Exp(n) d = Add(one, e) y = Div(x, d) }",
        every(either(has(*SWISH), has("Sigmoid")), gone("Exp")),
    ),
    graph("mish: x tanh(softplus(x))", IMAGE + " { s = Softplus(x) t = Tanh(s) y = Mul(x, t) }", every(has("Mish"), gone("Softplus", "Tanh"))),
    graph(
        "mish, darknet: the softplus written out",
        IMAGE + " <float one = {1}> { e = Exp(x) p = Add(e, one) l = Log(p) t = Tanh(l) y = Mul(x, t) }",
        every(has("Mish"), gone("Log", "Tanh")),
    ),
    graph(
        "hard swish, torchscript: relu6(x + 3) / 6",
        IMAGE + " <float three = {3}, float lo = {0}, float hi = {6}> { a = Add(x, three) c = Clip(a, lo, hi) m = Mul(x, c) y = Div(m, hi) }",
        HARD_SWISH,
        opset=13,
    ),
    graph(
        "hard swish, tf2onnx: min and max, a sixth in front",
        IMAGE + " <float[1] three = {3}, float[1] zero = {0}, float[1] six = {6}, float[1] sixth = {0.16666667}>"
        " { a = Add(x, three) l = Max(a, zero) h = Min(l, six) b = Mul(x, sixth) y = Mul(b, h) }",
        HARD_SWISH,
    ),
    graph(
        "hard swish, paddle: x hard_sigmoid(x)",
        IMAGE + " { s = HardSigmoid<alpha=0.16666667, beta=0.5>(x) y = Mul(s, x) }",
        every(has("HardSwish"), gone("HardSigmoid")),
    ),
    graph(
        "hard sigmoid, mobilenet v3: relu6(x + 3) / 6",
        IMAGE + " <float three = {3}, float lo = {0}, float hi = {6}> { a = Add(x, three) c = Clip(a, lo, hi) y = Div(c, hi) }",
        every(has("HardSigmoid", "HardSwish"), gone("Clip", "Div")),
    ),
    graph(
        "hard sigmoid, keras: clip(0.2 x + 0.5, 0, 1)",
        IMAGE + " <float a = {0.2}, float b = {0.5}, float lo = {0}, float hi = {1}> { m = Mul(x, a) n = Add(m, b) y = Clip(n, lo, hi) }",
        every(has("HardSigmoid"), gone("Clip")),
    ),
    graph(
        "softplus of what is bounded: log(1 + exp(x))",
        BYTES + " <float one = {1}> { c = Cast<to=1>(x) t = Tanh(c) e = Exp(t) p = Add(one, e) y = Log(p) }",
        every(has("Softplus"), gone("Log", "Exp")),
    ),
    graph(
        "softplus, torch: x itself above 20",
        X + " <float one = {1}, float top = {20}> { c = Greater(x, top) e = Exp(x) p = Add(e, one) l = Log(p) y = Where(c, x, l) }",
        every(has("Softplus"), gone("Log", "Exp")),
    ),
    graph(
        "softplus, jax: max(x, 0) + log1p(exp(-|x|))",
        X + " <float zero = {0}, float one = {1}> { m = Max(x, zero) a = Abs(x) n = Neg(a) e = Exp(n) p = Add(e, one) l = Log(p) y = Add(m, l) }",
        every(has("Softplus"), gone("Log", "Exp")),
    ),
    graph("sigmoid: 1 / (1 + exp(-x))", X + " <float one = {1}> { n = Neg(x) e = Exp(n) p = Add(e, one) y = Div(one, p) }", every(has("Sigmoid"), gone("Exp"))),
    graph(
        "sigmoid, with a reciprocal",
        X + " <float one = {1}, float minus = {-1}> { n = Mul(x, minus) e = Exp(n) p = Add(one, e) y = Reciprocal(p) }",
        every(has("Sigmoid"), gone("Exp")),
    ),
    graph(
        "tanh: 2 sigmoid(2x) - 1",
        X + " <float two = {2}, float one = {1}> { a = Mul(x, two) s = Sigmoid(a) b = Mul(s, two) y = Sub(b, one) }",
        every(has("Tanh"), gone("Sigmoid")),
    ),
    graph("leaky relu: max(x, 0.1 x)", IMAGE + " <float a = {0.1}> { m = Mul(x, a) y = Max(m, x) }", every(has("LeakyRelu"), gone("Max"))),
    graph(
        "leaky relu, chosen by sign",
        IMAGE + " <float a = {0.2}, float zero = {0}> { c = Greater(x, zero) m = Mul(a, x) y = Where(c, x, m) }",
        every(has("LeakyRelu"), gone("Where")),
    ),
    graph(
        "elu, chosen by sign",
        IMAGE + " <float one = {1}, float zero = {0}> { c = Greater(x, zero) e = Exp(x) m = Sub(e, one) y = Where(c, x, m) }",
        every(has("Elu", "Celu"), gone("Where")),
    ),
    graph("relu: max(x, 0)", IMAGE + " <float zero = {0}> { y = Max(zero, x) }", every(has("Relu", "Clip"), gone("Max"))),
    graph(
        "parametric relu, tf2onnx: relu(x) - a relu(-x)",
        IMAGE + " <float[3,1,1] a> { r = Relu(x) n = Neg(x) s = Relu(n) m = Mul(s, a) y = Sub(r, m) }",
        every(has("PRelu"), gone("Relu")),
    ),
    graph("softsign: x / (1 + |x|)", X + " <float one = {1}> { a = Abs(x) p = Add(a, one) y = Div(x, p) }", every(has("Softsign"), gone("Div"))),
    graph(
        "log softmax of what is bounded: log(softmax(x))",
        BYTES + " { c = Cast<to=1>(x) t = Tanh(c) s = Softmax<axis=-1>(t) y = Log(s) }",
        every(has("LogSoftmax"), gone("Log")),
    ),
    graph(
        "softmax, written out: exp(x - max) / sum",
        X + " <int64[1] a = {-1}> { m = ReduceMax<keepdims=1>(x, a) d = Sub(x, m) e = Exp(d) s = ReduceSum<keepdims=1>(e, a) y = Div(e, s) }",
        every(has("Softmax"), gone("Exp")),
    ),
    graph(
        "log softmax, written out: d - log(sum(exp(d)))",
        X + " <int64[1] a = {-1}> { m = ReduceMax<keepdims=1>(x, a) d = Sub(x, m) e = Exp(d) s = ReduceSum<keepdims=1>(e, a) l = Log(s) y = Sub(d, l) }",
        every(has("LogSoftmax"), gone("Exp")),
    ),
    graph("relu6 as minimum and maximum", IMAGE + " <float zero = {0}, float six = {6}> { a = Max(x, zero) y = Min(a, six) }", at_most(1)),
)
