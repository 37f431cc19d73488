"""Attention in the words of exporters: where the scale stands, what masks it, how heads are split, shared and cached."""

from __future__ import annotations

from .graphs import ATTENTION, Graph, either, every, gone, graph, has, runtime_graph

FUSED = every(has(*ATTENTION), gone("Softmax"))
HEADS = "g (float[2,2,6,8] q, float[2,2,7,8] k, float[2,2,7,8] v"
OUT = ") => (float[2,2,6,8] y)"
PROJECTED = "g (float[B,S,16] x"
MERGED = ") => (float[B,S,16] y)"
WEIGHTS = "float[16,16] wq, float[16,16] wk, float[16,16] wv"
SPLIT = "int64[4] s = {0,0,2,8}, int64[3] z = {0,0,16}"
KEYS = "kt = Transpose<perm=[0,1,3,2]>(k)"


def split(of: str, name: str, perm: str = "0,2,1,3") -> str:
    """A projection's heads, moved in front of the sequence."""
    return f"r{name} = Reshape({of}, s) {name} = Transpose<perm=[{perm}]>(r{name})"


def projected(body: str, split_key: str = "0,2,3,1") -> str:
    """Three projections of x split into heads q, kt, v; ``body`` makes o of them; then the heads are merged again."""
    made = f"{split('mq', 'q')} {split('mk', 'kt', split_key)} {split('mv', 'v')}"
    return f"{{ mq = MatMul(x, wq) mk = MatMul(x, wk) mv = MatMul(x, wv) {made} {body} t = Transpose<perm=[0,2,1,3]>(o) y = Reshape(t, z) }}"


GRAPHS: tuple[Graph, ...] = (
    graph(
        "attention, bert: scores divided by a root, an additive mask made of ones and zeros",
        HEADS + ", int64[2,7] m" + OUT + " <float d = {2.828427}, float one = {1}, float low = {-3.4028235e38}, int64[2] ax = {1,2}>"
        f" {{ u = Unsqueeze(m, ax) f = Cast<to=1>(u) i = Sub(one, f) w = Mul(i, low) {KEYS} a = MatMul(q, kt) b = Div(a, d) c = Add(b, w)"
        " p = Softmax<axis=-1>(c) y = MatMul(p, v) }",
        FUSED,
    ),
    graph(
        "attention, scores multiplied by a scale, no mask",
        HEADS + OUT + f" <float d = {{0.35355338}}> {{ {KEYS} a = MatMul(q, kt) b = Mul(a, d) p = Softmax<axis=-1>(b) y = MatMul(p, v) }}",
        FUSED,
    ),
    graph(
        "attention, clip: the queries scaled first",
        HEADS + OUT + f" <float d = {{0.35355338}}> {{ {KEYS} b = Mul(q, d) a = MatMul(b, kt) p = Softmax<axis=-1>(a) y = MatMul(p, v) }}",
        FUSED,
    ),
    graph(
        "attention, the keys scaled after they were transposed",
        HEADS + OUT + f" <float d = {{2.828427}}> {{ {KEYS} b = Div(kt, d) a = MatMul(q, b) p = Softmax<axis=-1>(a) y = MatMul(p, v) }}",
        FUSED,
    ),
    graph(
        "attention, dynamo: the root of the scale on both sides",
        HEADS + OUT + f" <float d = {{0.59460354}}> {{ {KEYS} b = Mul(q, d) c = Mul(kt, d) a = MatMul(b, c) p = Softmax<axis=-1>(a) y = MatMul(p, v) }}",
        FUSED,
    ),
    graph(
        "attention, torchscript: the scale computed from the shape of the queries",
        HEADS + OUT + " <int64 three = {3}, float one = {1}>"
        " { h = Shape(q) w = Gather(h, three) f = Cast<to=1>(w) r = Sqrt(f) i = Div(one, r) j = Sqrt(i)"
        f" {KEYS} b = Mul(q, j) c = Mul(kt, j) a = MatMul(b, c)"
        " p = Softmax<axis=-1>(a) y = MatMul(p, v) }",
        FUSED,
        opset=17,
    ),
    graph(
        "attention, t5: no scale, a position bias from a table",
        HEADS + ", int64[6,7] buckets" + OUT + " <float[32,2] table, int64[1] ax = {0}>"
        f" {{ g0 = Gather(table, buckets) t = Transpose<perm=[2,0,1]>(g0) u = Unsqueeze(t, ax) {KEYS} a = MatMul(q, kt) c = Add(a, u)"
        " p = Softmax<axis=-1>(c) y = MatMul(p, v) }",
        FUSED,
    ),
    graph(
        "attention, masked with minus infinity where a mask is true",
        HEADS + ", bool[2,1,6,7] m" + OUT + " <float d = {2.828427}, float low = {-3.4028235e38}>"
        f" {{ {KEYS} a = MatMul(q, kt) b = Div(a, d) c = Where(m, low, b) p = Softmax<axis=-1>(c) y = MatMul(p, v) }}",
        FUSED,
    ),
    graph(
        "attention, distilbert: masked where the mask equals zero",
        HEADS + ", int64[2,7] m" + OUT + " <float d = {2.828427}, float low = {-3.4028235e38}, int64 zero = {0}, int64[2] ax = {1,2}>"
        " { n = Equal(m, zero) u = Unsqueeze(n, ax) sc = Div(q, d)"
        f" {KEYS} a = MatMul(sc, kt) c = Where(u, low, a) p = Softmax<axis=-1>(c) y = MatMul(p, v) }}",
        FUSED,
    ),
    graph(
        "attention, dynamo: a boolean mask made additive",
        HEADS + ", bool[2,1,6,7] m" + OUT + " <float d = {0.59460354}, float zero = {0}, float low = {-inf}>"
        f" {{ w = Where(m, zero, low) {KEYS} b = Mul(q, d) c = Mul(kt, d) a = MatMul(b, c) f = Add(a, w) p = Softmax<axis=-1>(f)"
        " y = MatMul(p, v) }",
        FUSED,
    ),
    graph(
        "attention, dynamo: guarded against rows that see nothing",
        HEADS + ", bool[2,1,6,7] m" + OUT + " <float d = {0.59460354}, float zero = {0}, float low = {-inf}>"
        f" {{ w = Where(m, zero, low) {KEYS} b = Mul(q, d) c = Mul(kt, d) a = MatMul(b, c) f = Add(a, w) p = Softmax<axis=-1>(f)"
        " n = IsNaN(p) g = Where(n, zero, p) y = MatMul(g, v) }",
        FUSED,
    ),
    graph(
        "attention, tf2onnx: a mask of booleans turned into -10000",
        HEADS + ", bool[2,1,1,7] m" + OUT + " <float d = {2.828427}, float one = {1}, float low = {-10000}>"
        f" {{ f = Cast<to=1>(m) i = Sub(one, f) w = Mul(i, low) {KEYS} a = MatMul(q, kt) b = Div(a, d) c = Add(b, w)"
        " p = Softmax<axis=-1>(c) y = MatMul(p, v) }",
        FUSED,
        opset=13,
    ),
    graph(
        "attention, gpt-2: a constant triangle cut to size, then where",
        "g (float[2,2,6,8] q, float[2,2,6,8] k, float[2,2,6,8] v"
        + OUT
        + " <float d = {2.828427}, bool[1,1,32,32] tri, float low = {-3.4028235e38}, int64[1] zero = {0}, int64[1] two ="
        " {2}, int64[1] three = {3}>"
        " { n = Shape<start=2, end=3>(q) r = Slice(tri, zero, n, two) m = Slice(r, zero, n, three)"
        f" {KEYS} a = MatMul(q, kt) b = Div(a, d) c = Where(m, b, low)"
        " p = Softmax<axis=-1>(c) y = MatMul(p, v) }",
        FUSED,
        weights={"tri": [[[[column <= row for column in range(32)] for row in range(32)]]]},
    ),
    graph(
        "attention, a causal mask from a triangle of minus infinities",
        "g (float[2,2,12,8] q, float[2,2,12,8] k, float[2,2,12,8] v) => (float[2,2,12,8] y)"
        " <float d = {0.35355338}, int64[2] n = {12,12}, int64 one = {1}>"
        " { f = ConstantOfShape<value = float[1] {-inf}>(n) w = Trilu<upper=1>(f, one)"
        f" {KEYS} a = MatMul(q, kt) b = Mul(a, d) c = Add(b, w) p = Softmax<axis=-1>(c) y = MatMul(p, v) }}",
        FUSED,
    ),
    graph(
        "attention, a causal mask from positions",
        "g (float[2,2,6,8] q, float[2,2,6,8] k, float[2,2,6,8] v"
        + OUT
        + " <float d = {0.35355338}, int64 zero = {0}, int64 one = {1}, int64 two = {2}, int64[1] c0 = {0}, int64[1] c1 ="
        " {1}, float low = {-inf}, float nil = {0}>"
        " { h = Shape(q) n = Gather(h, two) i = Range(zero, n, one) rows = Unsqueeze(i, c1) columns = Unsqueeze(i, c0) m ="
        " LessOrEqual(columns, rows) w = Where(m, nil, low)"
        f" {KEYS} a = MatMul(q, kt) b = Mul(a, d) c = Add(b, w) p = Softmax<axis=-1>(c) y = MatMul(p, v) }}",
        FUSED,
    ),
    graph(
        "attention, opt: heads folded into the batch",
        "g (float[16,6,8] q, float[16,7,8] k, float[16,7,8] v) => (float[16,6,8] y) <float d = {0.35355338}>"
        " { b = Mul(q, d) kt = Transpose<perm=[0,2,1]>(k) a = MatMul(b, kt) p = Softmax<axis=-1>(a) y = MatMul(p, v) }",
        FUSED,
    ),
    graph(
        "attention with one head over a sequence, vae",
        "g (float[2,6,16] x) => (float[2,6,16] y) <" + WEIGHTS + ", float d = {0.25}>"
        " { q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv) kt = Transpose<perm=[0,2,1]>(k) a = MatMul(q, kt) b = Mul(a,"
        " d) p = Softmax<axis=2>(b) y = MatMul(p, v) }",
        FUSED,
    ),
    graph(
        "attention, keras: sums by einsum, heads third",
        "g (float[2,6,2,8] q, float[2,7,2,8] k, float[2,7,2,8] v) => (float[2,6,2,8] y) <float d = {0.35355338}>"
        ' { b = Mul(q, d) a = Einsum<equation="aecd,abcd->acbe">(k, b) p = Softmax<axis=3>(a) y = Einsum<equation="acbe,aecd->abcd">(p, v) }',
        FUSED,
    ),
    graph(
        "attention, jax: sums by einsum",
        "g (float[2,6,2,8] q, float[2,7,2,8] k, float[2,7,2,8] v) => (float[2,6,2,8] y) <float d = {2.828427}>"
        ' { b = Div(q, d) a = Einsum<equation="bqhd,bkhd->bhqk">(b, k) p = Softmax<axis=-1>(a) y = Einsum<equation="bhqk,bkhd->bqhd">(p, v) }',
        FUSED,
    ),
    graph(
        "attention, softmax written out",
        HEADS + OUT + " <float d = {0.35355338}, int64[1] ax = {-1}>"
        f" {{ {KEYS} a = MatMul(q, kt) b = Mul(a, d) m = ReduceMax(b, ax) u = Sub(b, m) e = Exp(u) n = ReduceSum(e, ax) p ="
        " Div(e, n) y = MatMul(p, v) }",
        every(has(*ATTENTION), gone("Exp")),
    ),
    graph(
        "attention in half precision, softmax in single",
        "g (float16[2,2,6,8] q, float16[2,2,7,8] k, float16[2,2,7,8] v) => (float16[2,2,6,8] y) <float16 d>"
        f" {{ {KEYS} a = MatMul(q, kt) b = Mul(a, d) w = Cast<to=1>(b) p = Softmax<axis=-1>(w) h = Cast<to=10>(p) y = MatMul(h, v) }}",
        FUSED,
        weights={"d": 0.35355338},
    ),
    graph(
        "attention, gemma 2: scores bent by a tanh",
        HEADS + OUT + " <float d = {0.35355338}, float cap = {50}> {"
        f" {KEYS} a = MatMul(q, kt) b = Mul(a, d) c = Div(b, cap) t = Tanh(c) u = Mul(t, cap) p = Softmax<axis=-1>(u) y ="
        " MatMul(p, v) }",
        every(has(*ATTENTION), gone("Softmax", "Tanh")),
    ),
    graph(
        "attention with a dropout that does nothing",
        HEADS + OUT + f" <float d = {{2.828427}}> {{ {KEYS} a = MatMul(q, kt) b = Div(a, d) p = Softmax<axis=-1>(b) r = Dropout(p) y = MatMul(r, v) }}",
        FUSED,
    ),
    runtime_graph(
        "attention, projected, heads split and merged",
        PROJECTED
        + MERGED
        + f" <{WEIGHTS}, {SPLIT}, float d = {{2.828427}}> "
        + projected("a = MatMul(q, kt) b = Div(a, d) p = Softmax<axis=-1>(b) o = MatMul(p, v)"),
        every(has(*ATTENTION), gone("Softmax", "Transpose")),
    ),
    runtime_graph(
        "attention, bert, with biases, in the runtime's kernel",
        "g (float[B,S,16] x, float[B,1,1,S] m" + MERGED + f" <{WEIGHTS}, float[16] bq, float[16] bk, float[16] bv, {SPLIT}, float d = {{2.828427}}>"
        " { nq = MatMul(x, wq) mq = Add(bq, nq) nk = MatMul(x, wk) mk = Add(bk, nk) nv = MatMul(x, wv) mv = Add(bv, nv)"
        f" {split('mq', 'q')} {split('mk', 'kt', '0,2,3,1')} {split('mv', 'v')}"
        " a = MatMul(q, kt) b = Div(a, d) c = Add(b, m) p = Softmax<axis=-1>(c) o = MatMul(p, v) t ="
        " Transpose<perm=[0,2,1,3]>(o) y = Reshape(t, z) }",
        every(has(*ATTENTION), gone("Softmax", "Transpose")),
    ),
    runtime_graph(
        "attention, keys transposed in two steps",
        PROJECTED
        + MERGED
        + f" <{WEIGHTS}, {SPLIT}, float d = {{0.35355338}}> "
        + projected("w = Transpose<perm=[0,1,3,2]>(kt) a = MatMul(q, w) b = Mul(a, d) p = Softmax<axis=-1>(b) o = MatMul(p, v)", "0,2,1,3"),
        every(has(*ATTENTION), gone("Softmax", "Transpose")),
    ),
    runtime_graph(
        "attention, one matrix for all three, split by columns",
        PROJECTED + MERGED + f" <float[16,48] w, {SPLIT}, float d = {{0.35355338}}, int64[3] c = {{16,16,16}}>"
        f" {{ w3 = MatMul(x, w) mq, mk, mv = Split<axis=-1>(w3, c) {split('mq', 'q')} {split('mk', 'kt', '0,2,3,1')} {split('mv', 'v')}"
        " a = MatMul(q, kt) b = Mul(a, d) p = Softmax<axis=-1>(b) o = MatMul(p, v) t = Transpose<perm=[0,2,1,3]>(o) y = Reshape(t, z) }",
        every(has(*ATTENTION), gone("Softmax")),
    ),
    runtime_graph(
        "attention, timm: one matrix, a transpose of five axes, three gathers",
        PROJECTED + MERGED + " <float[16,48] w, int64[5] s = {0,0,3,2,8}, int64[3] z = {0,0,16}, float d = {0.35355338}, int64 i0 = {0}, int64 i1 ="
        " {1}, int64 i2 = {2}>"
        " { w3 = MatMul(x, w) r = Reshape(w3, s) t5 = Transpose<perm=[2,0,3,1,4]>(r) q = Gather<axis=0>(t5, i0) k ="
        " Gather<axis=0>(t5, i1) v = Gather<axis=0>(t5, i2)"
        f" b = Mul(q, d) {KEYS} a = MatMul(b, kt) p = Softmax<axis=-1>(a) o = MatMul(p, v) t = Transpose<perm=[0,2,1,3]>(o) y = Reshape(t, z) }}",
        every(has(*ATTENTION), gone("Softmax")),
    ),
    graph(
        "attention, llama: two key heads repeated for four queries",
        "g (float[2,4,6,8] q, float[2,2,7,8] k, float[2,2,7,8] v) => (float[2,4,6,8] y) <float d = {0.35355338}, int64[1] ax ="
        " {2}, int64[5] e = {1,1,2,1,1}, int64[4] h = {0,4,-1,8}>"
        " { ku = Unsqueeze(k, ax) kx = Expand(ku, e) kr = Reshape(kx, h) vu = Unsqueeze(v, ax) vx = Expand(vu, e) vr = Reshape(vx, h)"
        " kt = Transpose<perm=[0,1,3,2]>(kr) a = MatMul(q, kt) b = Mul(a, d) p = Softmax<axis=-1>(b) y = MatMul(p, vr) }",
        every(has(*ATTENTION), gone("Softmax", "Expand")),
    ),
    graph(
        "attention, one key head broadcast to all queries",
        "g (float[2,4,6,8] q, float[2,1,7,8] k, float[2,1,7,8] v) => (float[2,4,6,8] y) <float d = {0.35355338}>"
        f" {{ {KEYS} a = MatMul(q, kt) b = Mul(a, d) p = Softmax<axis=-1>(b) y = MatMul(p, v) }}",
        FUSED,
    ),
    runtime_graph(
        "attention across two sequences",
        "g (float[B,S,16] x, float[B,T,16] c" + MERGED + f" <{WEIGHTS}, {SPLIT}, float d = {{2.828427}}>"
        f" {{ mq = MatMul(x, wq) mk = MatMul(c, wk) mv = MatMul(c, wv) {split('mq', 'q')} {split('mk', 'kt', '0,2,3,1')} {split('mv', 'v')}"
        " a = MatMul(q, kt) b = Div(a, d) p = Softmax<axis=-1>(b) o = MatMul(p, v) t = Transpose<perm=[0,2,1,3]>(o) y = Reshape(t, z) }",
        every(has(*ATTENTION), gone("Softmax")),
    ),
    graph(
        "attention with a cache in front of keys and values",
        "g (float[2,2,6,8] q, float[2,2,6,8] k0, float[2,2,6,8] v0, float[2,2,4,8] pk, float[2,2,4,8] pv) => (float[2,2,6,8] y,"
        " float[2,2,10,8] k, float[2,2,10,8] v)"
        " <float d = {0.35355338}> { k = Concat<axis=2>(pk, k0) v = Concat<axis=2>(pv, v0)"
        f" {KEYS} a = MatMul(q, kt) b = Mul(a, d) p = Softmax<axis=-1>(b) y = MatMul(p, v) }}",
        FUSED,
    ),
    graph(
        "attention, swin: a table of biases and a window mask",
        "g (float[2,2,9,8] q, float[2,2,9,8] k, float[2,2,9,8] v) => (float[2,2,9,8] y) <float d = {0.35355338}, float[1,2,9,9] bias, float[2,1,9,9] m>"
        f" {{ b = Mul(q, d) {KEYS} a = MatMul(b, kt) c = Add(a, bias) e = Add(c, m) p = Softmax<axis=-1>(e) y = MatMul(p, v) }}",
        FUSED,
    ),
    graph(
        "attention, tf2onnx: the second product transposed, scores by a root",
        HEADS + OUT + " <float[1] d = {2.828427}>"
        f" {{ {KEYS} a = MatMul(q, kt) b = Div(a, d) p = Softmax<axis=3>(b) w = Transpose<perm=[0,1,3,2]>(v) wt ="
        " Transpose<perm=[0,1,3,2]>(w) y = MatMul(p, wt) }",
        FUSED,
        opset=13,
    ),
    graph(
        "attention whose softmax is over the second last axis of transposed scores",
        HEADS + OUT + " <float d = {0.35355338}>"
        " { qt = Transpose<perm=[0,1,3,2]>(q) a = MatMul(k, qt) b = Mul(a, d) p = Softmax<axis=2>(b) pt ="
        " Transpose<perm=[0,1,3,2]>(p) y = MatMul(pt, v) }",
        either(FUSED, gone("Transpose")),
    ),
)
