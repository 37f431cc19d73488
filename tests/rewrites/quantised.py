"""Quantised graphs: pairs that cancel or move, and integer kernels."""

from __future__ import annotations

from .graphs import CONV, Graph, at_most, every, gone, graph, has, runtime_graph

X = "g (float[B,4,6,8] x)"
CODES = "g (uint8[B,4,6,8] x)"
SCALE = "float s = {0.05}, uint8 z = {128}"
OTHER = "float s2 = {0.02}, uint8 z2 = {100}"
QUANTISED = ("QuantizeLinear", "DequantizeLinear")

GRAPHS: tuple[Graph, ...] = (
    graph(
        "a pair of quantisation twice over",
        f"{X} => (float[B,4,6,8] y) <{SCALE}> {{ a = QuantizeLinear(x, s, z) b = DequantizeLinear(a, s, z) c = QuantizeLinear(b,"
        " s, z) y = DequantizeLinear(c, s, z) }",
        at_most(2),
    ),
    graph(
        "dequantised and quantised again",
        f"{CODES} => (uint8[B,4,6,8] y) <{SCALE}> {{ a = DequantizeLinear(x, s, z) b = QuantizeLinear(a, s, z) y = MaxPool<kernel_shape=[1,1]>(b) }}",
        gone(*QUANTISED),
    ),
    graph(
        "a reshape between a pair",
        f"{CODES} => (uint8[B,192] y) <{SCALE}, int64[2] t = {{-1,192}}> {{ a = DequantizeLinear(x, s, z) r = Reshape(a, t) y = QuantizeLinear(r, s, z) }}",
        every(gone(*QUANTISED), at_most(1)),
    ),
    graph(
        "a transpose between a pair",
        f"{CODES} => (uint8[B,6,8,4] y) <{SCALE}> {{ a = DequantizeLinear(x, s, z) r = Transpose<perm=[0,2,3,1]>(a) y = QuantizeLinear(r, s, z) }}",
        every(gone(*QUANTISED), at_most(1)),
    ),
    graph(
        "a max pool between a pair",
        f"{CODES} => (uint8[B,4,3,4] y) <{SCALE}> {{ a = DequantizeLinear(x, s, z) r = MaxPool<kernel_shape=[2,2],"
        " strides=[2,2]>(a) y = QuantizeLinear(r, s, z) }",
        every(gone(*QUANTISED), at_most(1)),
    ),
    graph(
        "a concatenation of codes of one scale",
        f"g (uint8[B,4] p, uint8[B,2] q) => (uint8[B,6] y) <{SCALE}>"
        " { a = DequantizeLinear(p, s, z) b = DequantizeLinear(q, s, z) r = Concat<axis=1>(a, b) y = QuantizeLinear(r, s, z)"
        " }",
        every(gone(*QUANTISED), at_most(1)),
    ),
    runtime_graph(
        "a convolution between pairs runs on integers",
        f"{CODES} => (uint8[B,5,C,D] y) <{SCALE}, {OTHER}, int8[5,4,3,3] qw, float sw = {{0.01}}, int8 zw ="
        " {0}, int32[5] qb, float sb = {0.0005}, int32 zb = {0}>"
        " { a = DequantizeLinear(x, s, z) w = DequantizeLinear(qw, sw, zw) b = DequantizeLinear(qb, sb, zb) c = Conv(a, w, b) y"
        " = QuantizeLinear(c, s2, z2) }",
        every(has("QLinearConv", "ConvInteger"), gone(*CONV)),
    ),
    runtime_graph(
        "a product of matrices between pairs runs on integers",
        f"g (uint8[B,S,8] x) => (uint8[B,S,4] y) <{SCALE}, {OTHER}, uint8[8,4] qw, float sw = {{0.01}}, uint8 zw = {{10}}>"
        " { a = DequantizeLinear(x, s, z) w = DequantizeLinear(qw, sw, zw) c = MatMul(a, w) y = QuantizeLinear(c, s2, z2) }",
        every(has("QLinearMatMul", "QGemm", "MatMulInteger", "MatMulIntegerToFloat"), gone("MatMul")),
        weights={"qw": [[(7 * row + 3 * column) % 200 for column in range(4)] for row in range(8)]},
    ),
    runtime_graph(
        "a sum between pairs runs on integers",
        f"g (uint8[B,8] p, uint8[B,8] q) => (uint8[B,8] y) <{SCALE}, {OTHER}>"
        " { a = DequantizeLinear(p, s, z) b = DequantizeLinear(q, s2, z2) c = Add(a, b) y = QuantizeLinear(c, s, z) }",
        has("QLinearAdd"),
    ),
    runtime_graph(
        "dynamically quantised: the scales of an integer product",
        "g (float[B,S,8] x) => (float[B,S,4] y) <int8[8,4] qw, float sw = {0.01}, int8 zw = {0}>"
        " { q, s, z = DynamicQuantizeLinear(x) m = MatMulInteger(q, qw, z, zw) f = Cast<to=1>(m) t = Mul(s, sw) y = Mul(f, t) }",
        has("DynamicQuantizeMatMul", "MatMulIntegerToFloat"),
    ),
    graph(
        "a relu that the quantisation behind it makes anyway",
        f"{X} => (uint8[B,4,6,8] y) <float s = {{0.05}}, uint8 z = {{0}}> {{ r = Relu(x) y = QuantizeLinear(r, s, z) }}",
        gone("Relu"),
    ),
    graph(
        "a clip to what the codes can hold",
        f"{X} => (uint8[B,4,6,8] y) <float s = {{0.5}}, uint8 z = {{0}}, float lo = {{-10}}, float hi = {{200}}>"
        " { r = Clip(x, lo, hi) y = QuantizeLinear(r, s, z) }",
        gone("Clip"),
    ),
)
