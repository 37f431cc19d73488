"""What looks like attention and is something else: every tool must leave it as it is or get it right."""

from __future__ import annotations

from .graphs import Graph, trap

QKV = "g (float[B,2,S,8] q, float[B,2,T,8] k, float[B,2,T,8] v) => (float[B,2,S,8] y)"
KEYS = "kt = Transpose<perm=[0,1,3,2]>(k)"

GRAPHS: tuple[Graph, ...] = (
    trap(
        "attention whose softmax is over queries",
        QKV.replace("T,8] k", "S,8] k").replace("T,8] v", "S,8] v")
        + f" <float d = {{0.35}}> {{ {KEYS} a = MatMul(q, kt) b = Mul(a, d) p = Softmax<axis=2>(b) y = MatMul(p, v) }}",
    ),
    trap(
        "attention with keys not transposed",
        "g (float[B,2,8,8] q, float[B,2,8,8] k, float[B,2,8,8] v) => (float[B,2,8,8] y) { a = MatMul(q, k) p = Softmax<axis=-1>(a) y = MatMul(p, v) }",
    ),
    trap(
        "attention masked behind the softmax",
        QKV.replace("] v)", "] v, float[S,T] m)") + f" {{ {KEYS} a = MatMul(q, kt) p = Softmax<axis=-1>(a) b = Add(p, m) y = MatMul(b, v) }}",
    ),
    trap(
        "attention with scores multiplied by a mask",
        QKV.replace("] v)", "] v, float[S,T] m)") + f" {{ {KEYS} a = MatMul(q, kt) b = Mul(a, m) p = Softmax<axis=-1>(b) y = MatMul(p, v) }}",
    ),
    trap(
        "attention whose masked scores are zero",
        QKV.replace("] v)", "] v, bool[S,T] m)")
        + f" <float zero = {{0}}> {{ {KEYS} a = MatMul(q, kt) b = Where(m, a, zero) p = Softmax<axis=-1>(b) y = MatMul(p, v) }}",
    ),
    trap(
        "attention whose masked scores are minus one",
        QKV.replace("] v)", "] v, bool[S,T] m)")
        + f" <float low = {{-1}}> {{ {KEYS} a = MatMul(q, kt) b = Where(m, a, low) p = Softmax<axis=-1>(b) y = MatMul(p, v) }}",
    ),
    trap(
        "attention whose weights are an output",
        QKV.replace("8] y)", "8] y, float[B,2,S,T] p)")
        + f" <float d = {{0.35}}> {{ {KEYS} a = MatMul(q, kt) b = Mul(a, d) p = Softmax<axis=-1>(b) y = MatMul(p, v) }}",
    ),
    trap(
        "attention with heads cut without a transpose",
        "g (float[B,6,16] x) => (float[B,6,16] y) <float[16,16] w, int64[4] s = {0,2,6,8}, int64[3] z = {0,6,16}>"
        " { m = MatMul(x, w) h = Reshape(m, s) kt = Transpose<perm=[0,1,3,2]>(h) a = MatMul(h, kt) p = Softmax<axis=-1>(a) o ="
        " MatMul(p, h) y = Reshape(o, z) }",
    ),
    trap(
        "attention with key heads tiled, not repeated",
        "g (float[2,4,S,8] q, float[2,2,T,8] k, float[2,2,T,8] v) => (float[2,4,S,8] y) <int64[4] r = {1,2,1,1}>"
        " { kx = Tile(k, r) vx = Tile(v, r) kt = Transpose<perm=[0,1,3,2]>(kx) a = MatMul(q, kt) p = Softmax<axis=-1>(a) y = MatMul(p, vx) }",
    ),
    trap(
        "attention with key heads repeated and value heads tiled",
        "g (float[2,4,S,8] q, float[2,2,T,8] k, float[2,2,T,8] v) => (float[2,4,S,8] y) <int64[4] r = {1,2,1,1}, int64[1] ax ="
        " {2}, int64[5] e = {1,1,2,1,1}, int64[4] h = {0,4,-1,8}>"
        " { ku = Unsqueeze(k, ax) kx0 = Expand(ku, e) kx = Reshape(kx0, h) vx = Tile(v, r) kt = Transpose<perm=[0,1,3,2]>(kx) a"
        " = MatMul(q, kt) p = Softmax<axis=-1>(a) y = MatMul(p, vx) }",
    ),
    trap(
        "a causal mask that hides the diagonal, too",
        "g (float[B,2,6,8] q, float[B,2,6,8] k, float[B,2,6,8] v) => (float[B,2,6,8] y) <int64[2] n = {6,6}, int64 zero = {0}, int64 one = {1}>"
        " { f = ConstantOfShape<value = float[1] {-10000.0}>(n) w = Trilu<upper=1>(f, zero)"
        f" {KEYS} a = MatMul(q, kt) c = Add(a, w) p = Softmax<axis=-1>(c) y = MatMul(p, v) }}",
    ),
    trap(
        "a causal mask of more keys than queries",
        "g (float[B,2,4,8] q, float[B,2,6,8] k, float[B,2,6,8] v) => (float[B,2,4,8] y) <int64[2] n = {4,6}, int64 three = {3}>"
        " { f = ConstantOfShape<value = float[1] {-inf}>(n) w = Trilu<upper=1>(f, three)"
        f" {KEYS} a = MatMul(q, kt) c = Add(a, w) p = Softmax<axis=-1>(c) y = MatMul(p, v) }}",
    ),
    trap(
        "a causal mask that lets too many keys through",
        "g (float[B,2,4,8] q, float[B,2,6,8] k, float[B,2,6,8] v) => (float[B,2,4,8] y) <int64[2] n = {4,6}, int64 one = {1}>"
        " { f = ConstantOfShape<value = float[1] {-inf}>(n) w = Trilu<upper=1>(f, one)"
        f" {KEYS} a = MatMul(q, kt) c = Add(a, w) p = Softmax<axis=-1>(c) y = MatMul(p, v) }}",
    ),
    trap(
        "attention with a scale for each head",
        QKV + f" <float[2,1,1] d = {{0.3,0.5}}> {{ {KEYS} a = MatMul(q, kt) b = Mul(a, d) p = Softmax<axis=-1>(b) y = MatMul(p, v) }}",
    ),
    trap(
        "attention with a scale for each feature", QKV + f" <float[8] d> {{ {KEYS} b = Mul(q, d) a = MatMul(b, kt) p = Softmax<axis=-1>(a) y = MatMul(p, v) }}"
    ),
    trap(
        "attention bent by a tanh of another height",
        QKV + f" <float d = {{50}}, float u = {{30}}> {{ {KEYS} a = MatMul(q, kt) b = Div(a, d) t = Tanh(b) c = Mul(t, u) p ="
        " Softmax<axis=-1>(c) y = MatMul(p, v) }",
    ),
    trap(
        "attention scaled behind its mask",
        QKV.replace("] v)", "] v, float[S,T] m)")
        + f" <float d = {{0.35}}> {{ {KEYS} a = MatMul(q, kt) c = Add(a, m) b = Mul(c, d) p = Softmax<axis=-1>(b) y = MatMul(p, v)"
        " }",
    ),
    trap(
        "rows that see nothing become one, not zero",
        QKV.replace("] v)", "] v, bool[S,T] m)") + " <float one = {1}, float zero = {0}, float low = {-inf}> { w = Where(m, zero, low)"
        f" {KEYS} a = MatMul(q, kt) c = Add(a, w) p = Softmax<axis=-1>(c) n = IsNaN(p) g0 = Where(n, one, p) y = MatMul(g0, v)"
        " }",
    ),
    trap(
        "rows that see nothing",
        QKV.replace("] v)", "] v, bool[S,T] m)") + " <float zero = {0}, float low = {-inf}> { w = Where(m, zero, low)"
        f" {KEYS} a = MatMul(q, kt) c = Add(a, w) p = Softmax<axis=-1>(c) y = MatMul(p, v) }}",
    ),
    trap(
        "attention in double precision",
        QKV.replace("float", "double") + f" <double d = {{0.35}}> {{ {KEYS} a = MatMul(q, kt) b = Mul(a, d) p = Softmax<axis=-1>(b) y = MatMul(p, v) }}",
    ),
    trap(
        "a mask of more batches than there are queries",
        "g (float[1,2,S,8] q, float[1,2,T,8] k, float[1,2,T,8] v, float[B,1,S,T] m) => (float[B,2,S,8] y)"
        + f" {{ {KEYS} a = MatMul(q, kt) c = Add(a, m) p = Softmax<axis=-1>(c) y = MatMul(p, v) }}",
    ),
    trap(
        "a mask that is one column",
        QKV.replace("] v)", "] v, float[S,1] m)") + f" {{ {KEYS} a = MatMul(q, kt) c = Add(a, m) p = Softmax<axis=-1>(c) y = MatMul(p, v) }}",
    ),
    trap(
        "values wider than keys",
        QKV.replace("T,8] v", "T,5] v").replace("S,8] y", "S,5] y") + f" {{ {KEYS} a = MatMul(q, kt) p = Softmax<axis=-1>(a) y = MatMul(p, v) }}",
    ),
    trap(
        "rotary with tables whose halves differ",
        "g (float[B,2,S,8] x, float[S,8] cos, float[S,8] sin) => (float[B,2,S,8] y) <int64[2] s = {4,4}>"
        " { a, b = Split<axis=-1>(x, s) n = Neg(b) h = Concat<axis=-1>(n, a) u = Mul(x, cos) w = Mul(h, sin) y = Add(u, w) }",
    ),
    trap(
        "rotary with the other half negated",
        "g (float[B,2,S,8] x, float[S,4] f) => (float[B,2,S,8] y) <int64[2] s = {4,4}>"
        " { f2 = Concat<axis=-1>(f, f) cos = Cos(f2) sin = Sin(f2) a, b = Split<axis=-1>(x, s) n = Neg(a) h ="
        " Concat<axis=-1>(b, n) u = Mul(x, cos) w = Mul(h, sin) y = Add(u, w) }",
    ),
    trap(
        "rotary with halves in place",
        "g (float[B,2,S,8] x, float[S,4] f) => (float[B,2,S,8] y) <int64[2] s = {4,4}>"
        " { f2 = Concat<axis=-1>(f, f) cos = Cos(f2) sin = Sin(f2) a, b = Split<axis=-1>(x, s) n = Neg(a) h ="
        " Concat<axis=-1>(n, b) u = Mul(x, cos) w = Mul(h, sin) y = Add(u, w) }",
    ),
    trap(
        "rotary subtracted",
        "g (float[B,2,S,8] x, float[S,4] f) => (float[B,2,S,8] y) <int64[2] s = {4,4}>"
        " { f2 = Concat<axis=-1>(f, f) cos = Cos(f2) sin = Sin(f2) a, b = Split<axis=-1>(x, s) n = Neg(b) h ="
        " Concat<axis=-1>(n, a) u = Mul(x, cos) w = Mul(h, sin) y = Sub(u, w) }",
    ),
    trap(
        "rotary by unequal halves",
        "g (float[B,2,S,8] x, float[S,4] f) => (float[B,2,S,8] y) <int64[2] s = {3,5}>"
        " { f2 = Concat<axis=-1>(f, f) cos = Cos(f2) sin = Sin(f2) a, b = Split<axis=-1>(x, s) n = Neg(b) h ="
        " Concat<axis=-1>(n, a) u = Mul(x, cos) w = Mul(h, sin) y = Add(u, w) }",
    ),
)
