"""Rotary position embeddings in the words of exporters.

Where cosines and sines have the width of a whole head, their halves are the same, and the graph shows it.
"""

from __future__ import annotations

import numpy as np

from .graphs import ROTARY, Graph, every, gone, graph, has

ANGLES = "f2 = Concat<axis=-1>(f, f) cos = Cos(f2) sin = Sin(f2)"
X = "g (float[B,2,S,8] x, float[S,4] f) => (float[B,2,S,8] y)"
ENDS = "int64[1] c0 = {0}, int64[1] c4 = {4}, int64[1] c8 = {9223372036854775807}, int64[1] last = {3}"
HALVES = "a = Slice(x, c0, c4, last) b = Slice(x, c4, c8, last)"
FUSED = every(has(*ROTARY), gone("Neg"))
TURNS = np.outer(np.arange(32), [1, 0.1, 0.01, 0.001])
TABLES = {"ctab": np.cos(np.tile(TURNS, 2)), "stab": np.sin(np.tile(TURNS, 2))}

GRAPHS: tuple[Graph, ...] = (
    graph(
        "rotary, llama: halves by slice, the second negated",
        X + f" <{ENDS}> {{ {ANGLES} {HALVES} n = Neg(b) h = Concat<axis=-1>(n, a) u = Mul(x, cos) w = Mul(h, sin) y = Add(u, w) }}",
        FUSED,
    ),
    graph(
        "rotary, halves by split, products the other way about",
        X + f" <int64[2] s = {{4,4}}> {{ {ANGLES} a, b = Split<axis=-1>(x, s) n = Neg(b) h = Concat<axis=-1>(n, a) w = Mul(sin, h) u"
        " = Mul(cos, x) y = Add(w, u) }",
        FUSED,
    ),
    graph(
        "rotary, the angles computed from positions",
        "g (float[B,2,S,8] x, int64[B,S] p) => (float[B,2,S,8] y) <float[1,4,1] f = {1,0.1,0.01,0.001}, int64[1] one = {1}, int64[2] s = {4,4}>"
        " { pf = Cast<to=1>(p) pu = Unsqueeze(pf, one) g0 = MatMul(f, pu) g1 = Transpose<perm=[0,2,1]>(g0) g2 ="
        " Concat<axis=-1>(g1, g1) c = Cos(g2) i = Sin(g2)"
        " cu = Unsqueeze(c, one) iu = Unsqueeze(i, one) a, b = Split<axis=-1>(x, s) n = Neg(b) h = Concat<axis=-1>(n, a) u ="
        " Mul(x, cu) w = Mul(h, iu) y = Add(u, w) }",
        FUSED,
    ),
    graph(
        "rotary, constant tables gathered by position",
        f"g (float[B,2,S,8] x, int64[B,S] p) => (float[B,2,S,8] y) <float[32,8] ctab, float[32,8] stab, int64[1] one = {{1}}, {ENDS}>"
        " { c = Gather(ctab, p) i = Gather(stab, p) cu = Unsqueeze(c, one) iu = Unsqueeze(i, one)"
        f" {HALVES} n = Neg(b) h = Concat<axis=-1>(n, a) u = Mul(x, cu) w = Mul(h, iu) y = Add(u, w) }}",
        FUSED,
        weights=TABLES,
    ),
    graph(
        "rotary, constant tables, a fixed sequence",
        "g (float[B,2,32,8] x) => (float[B,2,32,8] y) <float[32,8] ctab, float[32,8] stab, int64[2] s = {4,4}>"
        " { a, b = Split<axis=-1>(x, s) n = Neg(b) h = Concat<axis=-1>(n, a) u = Mul(x, ctab) w = Mul(h, stab) y = Add(u, w) }",
        FUSED,
        weights=TABLES,
    ),
    graph(
        "rotary, four products of the halves",
        "g (float[B,2,S,8] x, float[S,4] cos, float[S,4] sin) => (float[B,2,S,8] y) <int64[2] s = {4,4}>"
        " { a, b = Split<axis=-1>(x, s) ac = Mul(a, cos) bs = Mul(b, sin) l = Sub(ac, bs) bc = Mul(b, cos) as = Mul(a, sin) r ="
        " Add(bc, as) y = Concat<axis=-1>(l, r) }",
        every(has(*ROTARY), gone("Sub")),
    ),
    graph(
        "rotary, gpt-j: even and odd interleaved",
        "g (float[B,2,S,8] x, float[S,4] cos, float[S,4] sin) => (float[B,2,S,8] y)"
        " <int64[1] c0 = {0}, int64[1] c1 = {1}, int64[1] c8 = {9223372036854775807}, int64[1] last = {3}, int64[1] two ="
        " {2}, int64[1] four = {4}, int64[4] shape = {0,0,0,8}>"
        " { a = Slice(x, c0, c8, last, two) b = Slice(x, c1, c8, last, two) ac = Mul(a, cos) bs = Mul(b, sin) l = Sub(ac, bs)"
        " bc = Mul(b, cos) as = Mul(a, sin) r = Add(bc, as)"
        " lu = Unsqueeze(l, four) ru = Unsqueeze(r, four) st = Concat<axis=4>(lu, ru) y = Reshape(st, shape) }",
        every(has(*ROTARY), gone("Sub")),
    ),
    graph(
        "rotary, gpt-neox: only the first half of a head turns",
        "g (float[B,2,S,16] x, float[S,4] f) => (float[B,2,S,16] y) <int64[2] h = {8,8}, int64[2] s = {4,4}>"
        f" {{ {ANGLES} t, rest = Split<axis=-1>(x, h) a, b = Split<axis=-1>(t, s) n = Neg(b) g0 = Concat<axis=-1>(n, a) u ="
        " Mul(t, cos) w = Mul(g0, sin) e = Add(u, w) y = Concat<axis=-1>(e, rest) }",
        FUSED,
    ),
    graph(
        "rotary of queries and keys with one pair of tables",
        "g (float[B,4,S,8] q, float[B,2,S,8] k, float[B,S,4] f) => (float[B,4,S,8] y, float[B,2,S,8] z) <int64[1] one = {1}, int64[2] s = {4,4}>"
        f" {{ {ANGLES} cu = Unsqueeze(cos, one) iu = Unsqueeze(sin, one) a, b = Split<axis=-1>(q, s) n = Neg(b) h ="
        " Concat<axis=-1>(n, a) u = Mul(q, cu) w = Mul(h, iu) y = Add(u, w)"
        " a2, b2 = Split<axis=-1>(k, s) n2 = Neg(b2) h2 = Concat<axis=-1>(n2, a2) u2 = Mul(k, cu) w2 = Mul(h2, iu) z = Add(u2, w2) }",
        FUSED,
    ),
)
