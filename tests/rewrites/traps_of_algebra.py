"""Look-alikes in arithmetic, data movement, control flow and quantisation: whatever is done with them, the numbers must stay."""

from __future__ import annotations

import numpy as np

from .graphs import Graph, trap

ONE = "g (float[N,8] a) => (float[N,8] y)"
AB = "g (float[N,8] a, float[N,8] b) => (float[N,8] y)"
X = "g (float[B,4,6,8] x)"

ARITHMETIC: tuple[Graph, ...] = (
    trap("x - x where x is infinite", ONE + " { y = Sub(a, a) }"),
    trap("x / x where x is zero", ONE + " { y = Div(a, a) }"),
    trap("zero times x", ONE + " <float k = {0}> { y = Mul(a, k) }"),
    trap("zero minus x has no negative zero", ONE + " <float k = {0}> { y = Sub(k, a) }"),
    trap("x to the power of nothing", ONE + " <float k = {0}> { y = Pow(a, k) }"),
    trap("a root as a power", ONE + " <float k = {0.5}> { y = Pow(a, k) }"),
    trap("a power of another shape", "g (float[8] a) => (float[2,8] y) <float[2,1] k = {2,2}> { y = Pow(a, k) }"),
    trap("a clip without bounds, which the kernel takes for the largest finite numbers", ONE + " { c = Clip(a) y = Reciprocal(c) }"),
    trap(
        "an average of one pixel, which adds it to zero",
        "g (float[N,3,2,2] x) => (float[N,3,2,2] y) { p = AveragePool<kernel_shape=[1,1]>(x) y = Reciprocal(p) }",
        samples=({"x": np.full((1, 3, 2, 2), -0.0, np.float32)},),
    ),
    trap(
        "a maximum of the only pixel, which the kernel takes for the lowest number where it is NaN",
        "g (float[N,3,1,1] x) => (float[N,3,1,1] y) { p = MaxPool<kernel_shape=[1,1]>(x) y = Relu(p) }",
        samples=({"x": np.full((1, 3, 1, 1), np.nan, np.float32)},),
    ),
    trap("nothing added makes a negative zero positive", ONE + " <float k = {0}> { p = Add(a, k) y = Reciprocal(p) }"),
    trap("the square of a root", ONE + " { r = Sqrt(a) y = Mul(r, r) }"),
    trap("the logarithm of an exponential", ONE + " { r = Exp(a) y = Log(r) }"),
    trap("the exponential of a logarithm", ONE + " { r = Log(a) y = Exp(r) }"),
    trap("not less, with NaN", "g (float[N,8] a, float[N,8] b) => (bool[N,8] y) { p = Less(a, b) y = Not(p) }"),
    trap("not greater or equal, with NaN", "g (float[N,8] a, float[N,8] b) => (bool[N,8] y) { p = GreaterOrEqual(a, b) y = Not(p) }"),
    trap("a value equal to itself, with NaN", "g (float[N,8] a) => (bool[N,8] y) { y = Equal(a, a) }"),
    trap(
        "a cast to integers and back",
        ONE + " { p = Cast<to=7>(a) y = Cast<to=1>(p) }",
        samples=({"a": np.linspace(-3, 3, 16, dtype=np.float32).reshape(2, 8)},),
    ),
    trap("a cast to half precision and back", ONE + " { p = Cast<to=10>(a) y = Cast<to=1>(p) }"),
    trap("a cast through a narrower integer", "g (int64[N,8] a) => (int64[N,8] y) { p = Cast<to=6>(a) y = Cast<to=7>(p) }"),
    trap("a cast of a number to a boolean and back", ONE + " { p = Cast<to=9>(a) y = Cast<to=1>(p) }"),
    trap("integers halved and doubled", "g (int64[N,8] a) => (int64[N,8] y) <int64 k = {2}> { p = Div(a, k) y = Mul(p, k) }"),
    trap("integers doubled and halved", "g (int32[N,8] a) => (int32[N,8] y) <int32 k = {2}> { p = Mul(a, k) y = Div(p, k) }"),
    trap("unsigned integers less a number", "g (uint8[N,8] a) => (uint8[N,8] y) <uint8 k = {200}, uint8 l = {100}> { p = Add(a, k) y = Sub(p, l) }"),
    trap("a common factor that broadcasts", "g (float[N,1] a, float[1,8] b, float[N,8] c) => (float[N,8] y) { p = Mul(a, b) q = Mul(a, c) y = Add(p, q) }"),
    trap(
        "a common factor of what differs in shape", "g (float[8] a, float[N,1] b, float[1] c) => (float[N,8] y) { p = Mul(a, b) q = Mul(c, a) y = Add(p, q) }"
    ),
    trap(
        "a sum of matrices that broadcasts before a product",
        "g (float[4,4] a, float[1,4] b, float[4,4] c) => (float[4,4] y) { p = MatMul(a, c) q = MatMul(b, c) y = Add(p, q) }",
    ),
    trap(
        "right sides of different shape", "g (float[4,4] a, float[4,4] b, float[4,1] c) => (float[4,4] y) { p = MatMul(a, b) q = MatMul(a, c) y = Add(p, q) }"
    ),
    trap("a vector added before softmax", ONE + " <float[8] k> { p = Add(a, k) y = Softmax<axis=-1>(p) }"),
    trap("a column added before a softmax over columns", "g (float[8,8] a) => (float[8,8] y) <float[8,1] k> { p = Add(a, k) y = Softmax<axis=0>(p) }"),
    trap("the largest of negatives", "g (float[N,8] a) => (float[N,1] y) <int64[1] ax = {1}> { p = Neg(a) y = ReduceMax(p, ax) }"),
    trap(
        "the largest of scaled numbers, scale negative",
        "g (float[N,8] a) => (float[N,1] y) <int64[1] ax = {1}, float k = {-2}> { p = Mul(a, k) y = ReduceMax(p, ax) }",
    ),
    trap("a sum of shifted numbers", "g (float[N,M] a) => (float[N,1] y) <int64[1] ax = {1}, float k = {2}> { p = Add(a, k) y = ReduceSum(p, ax) }"),
    trap(
        "a mean of means over sizes that may be nothing",
        "g (float[N,M,K] a) => (float[N] y) <int64[1] p = {2}, int64[1] q = {1}> { r = ReduceMean<keepdims=0>(a, p) y = ReduceMean<keepdims=0>(r, q) }",
    ),
    trap("a sum over no axes", "g (float[N,8] a) => (float[N,8] y) <int64[0] ax> { p = ReduceSum<noop_with_empty_axes=1>(a, ax) y = Relu(p) }"),
    trap("a sum over empty axes is a sum over all", "g (float[N,8] a) => (float[1,1] y) <int64[0] ax> { p = ReduceSum(a, ax) y = Relu(p) }"),
    trap("a scale along the reduced axis", "g (float[N,8] a) => (float[N,1] y) <int64[1] ax = {1}, float[8] k> { p = Mul(a, k) y = ReduceSum(p, ax) }"),
    trap(
        "a sum of multiples of large integers, which the kernel adds up in doubles",
        "g (int64[N,8] a) => (int64[N,1] y) <int64 k = {3}, int64[1] ax = {1}> { s = Mul(k, a) y = ReduceSum(s, ax) }",
        samples=({"a": np.array([[2**63 - 1, -(2**63), 2**62, 5, 2**61 + 1, -7, 0, 1]], np.int64)},),
    ),
    trap("an einsum of a diagonal", 'g (float[B,4,4] a) => (float[B,4] y) { y = Einsum<equation="bii->bi">(a) }'),
    trap("an einsum that sums one operand first", 'g (float[B,4] a, float[4,3] b) => (float[B] y) { y = Einsum<equation="bi,ij->b">(a, b) }'),
    trap("a choice whose condition makes it larger", "g (bool[5,1] c, float[1,8] a) => (float[5,8] y) { y = Where(c, a, a) }"),
    trap(
        "choices by different conditions",
        "g (bool[N,8] c, bool[N,8] d, float[N,8] a, float[N,8] b) => (float[N,8] y) { p = Where(c, a, b) y = Where(d, p, b) }",
    ),
    trap(
        "a product by a matrix that is nearly the identity", "g (float[N,3] a) => (float[N,3] y) <float[3,3] i = {1,0,0,0,1,0,0,0.001,1}> { y = MatMul(a, i) }"
    ),
    trap("an infinity times the identity", "g (float[N,3] a) => (float[N,3] y) <float[3,3] i = {1,0,0,0,1,0,0,0,1}> { y = MatMul(a, i) }"),
    trap("the logarithm of a sum of large exponentials", "g (float[N,8] a) => (float[N,1] y) <int64[1] x = {1}> { e = Exp(a) s = ReduceSum(e, x) y = Log(s) }"),
    trap("a remainder of negative integers", "g (int64[N,8] a) => (int64[N,8] y) <int64 k = {3}> { p = Mod(a, k) y = Mod(p, k) }"),
    trap(
        "numbers in half precision that overflow when gathered",
        "g (float16[N,8] a) => (float16[N,8] y) <float16 k, float16 l> { p = Mul(a, k) y = Mul(p, l) }",
        weights={"k": 300, "l": 0.003},
    ),
    trap("a constant infinity that cancels", ONE + " <float k = {3e38}, float l = {3e38}> { p = Add(a, k) q = Add(p, l) y = Sub(q, l) }"),
)

MOVEMENT: tuple[Graph, ...] = (
    trap("two transposes that are not inverse", f"{X} => (float[B,8,4,6] y) {{ p = Transpose<perm=[0,2,3,1]>(x) y = Transpose<perm=[0,2,3,1]>(p) }}"),
    trap(
        "a transpose of an axis that may be one",
        "g (float[B,S,6] x) => (float[S,B,6] y) { y = Transpose<perm=[1,0,2]>(x) }",
        samples=({"x": np.arange(36, dtype=np.float32).reshape(2, 3, 6)},),
    ),
    trap(
        "transposes around a vector",
        "g (float[B,8,8,8] x) => (float[B,8,8,8] y) <float[8] k>"
        " { p = Transpose<perm=[0,2,3,1]>(x) q = Add(p, k) r = Relu(q) y = Transpose<perm=[0,3,1,2]>(r) }",
    ),
    trap(
        "transposes around a softmax of another axis",
        "g (float[B,4,4,4] x) => (float[B,4,4,4] y) { p = Transpose<perm=[0,2,3,1]>(x) q = Softmax<axis=1>(p) y = Transpose<perm=[0,3,1,2]>(q) }",
    ),
    trap(
        "a transpose needed elsewhere",
        "g (float[B,4,6] x) => (float[B,4,6] y, float[B,6,4] p) { p = Transpose<perm=[0,2,1]>(x) q = Relu(p) y = Transpose<perm=[0,2,1]>(q) }",
    ),
    trap("a flatten behind a transpose", "g (float[B,4,6] x) => (float[B,24] y) { p = Transpose<perm=[0,2,1]>(x) y = Flatten(p) }"),
    trap(
        "an unsqueeze and the squeeze of another axis",
        "g (float[1,4,6] x) => (float[4,1,6] y) <int64[1] p = {2}, int64[1] q = {0}> { u = Unsqueeze(x, p) y = Squeeze(u, q) }",
    ),
    trap(
        "a slice behind the end of a slice",
        f"{X} => (float[B,P,6,8] y) <int64[1] a = {{1}}, int64[1] s = {{1}}, int64[1] e = {{3}}, int64[1] f = {{4}}>"
        " { p = Slice(x, s, e, a) y = Slice(p, s, f, a) }",
    ),
    trap(
        "a slice counted from the end of a slice",
        f"{X} => (float[B,P,6,8] y) <int64[1] a = {{1}}, int64[1] s = {{0}}, int64[1] e = {{3}}, int64[1] m ="
        " {-2}, int64[1] n = {-1}> { p = Slice(x, s, e, a) y = Slice(p, m, n, a) }",
    ),
    trap(
        "a slice with steps of a slice",
        "g (float[B,N] x) => (float[B,M] y) <int64[1] a = {1}, int64[1] s = {1}, int64[1] e = {100}, int64[1] t ="
        " {2}, int64[1] u = {3}> { p = Slice(x, s, e, a, t) y = Slice(p, s, e, a, u) }",
        samples=({"x": np.arange(60, dtype=np.float32).reshape(2, 30)},),
    ),
    trap(
        "a slice of a size that is not known",
        "g (float[B,N] x) => (float[B,M] y) <int64[1] a = {1}, int64[1] s = {-3}, int64[1] e = {9223372036854775807}>"
        " { p = Slice(x, s, e, a) y = Slice(p, s, e, a) }",
    ),
    trap("a split joined the other way about", f"{X} => (float[B,4,6,8] y) <int64[2] s = {{2,2}}> {{ p, q = Split<axis=1>(x, s) y = Concat<axis=1>(q, p) }}"),
    trap("a split joined on another axis", f"{X} => (float[B,2,12,8] y) <int64[2] s = {{2,2}}> {{ p, q = Split<axis=1>(x, s) y = Concat<axis=2>(p, q) }}"),
    trap(
        "slices that overlap, joined",
        f"{X} => (float[B,6,6,8] y) <int64[1] z = {{0}}, int64[1] m = {{3}}, int64[1] l = {{1}}, int64[1] e ="
        " {4}, int64[1] a = {1}> { p = Slice(x, z, m, a) q = Slice(x, l, e, a) y = Concat<axis=1>(p, q) }",
    ),
    trap(
        "a concatenation split elsewhere",
        "g (float[B,2] a, float[B,3] b) => (float[B,3] y, float[B,2] z) <int64[2] s = {3,2}> { p = Concat<axis=1>(a, b) y, z = Split<axis=1>(p, s) }",
    ),
    trap("an expand that makes a sum larger", "g (float[1,8] b, float[1,8] x) => (float[4,8] y) <int64[2] s = {4,8}> { e = Expand(b, s) y = Add(x, e) }"),
    trap(
        "an expand beside an axis that may be one",
        "g (float[1,8] b, float[N,8] x) => (float[M,8] y) <int64[2] s = {4,8}> { e = Expand(b, s) y = Add(x, e) }",
        samples=({"b": np.ones((1, 8), np.float32), "x": np.ones((1, 8), np.float32)},),
    ),
    trap("a tile of more than one", "g (float[2,8] b, float[4,8] x) => (float[4,8] y) <int64[2] s = {2,1}> { e = Tile(b, s) y = Mul(x, e) }"),
    trap(
        "space to depth with places in another order",
        "g (float[B,1,4,4] x) => (float[B,4,2,2] y) <int64[1] c0 = {0}, int64[1] c1 = {1}, int64[1] e = {9}, int64[1] t ="
        " {2}, int64[1] r = {2}, int64[1] w = {3}>"
        " { p = Slice(x, c0, e, r, t) q = Slice(x, c1, e, r, t) a = Slice(p, c0, e, w, t) b = Slice(p, c1, e, w, t) c ="
        " Slice(q, c0, e, w, t) d = Slice(q, c1, e, w, t) y = Concat<axis=1>(d, b, c, a) }",
    ),
    trap(
        "a pixel shuffle with a perm of another kind",
        "g (float[B,8,3,3] x) => (float[B,2,6,6] y) <int64[6] s = {-1,2,2,2,3,3}, int64[4] t = {-1,2,6,6}>"
        " { p = Reshape(x, s) q = Transpose<perm=[0,1,5,2,4,3]>(p) y = Reshape(q, t) }",
    ),
    trap("a gather of places out of order", f"{X} => (float[B,3,6,8] y) <int64[3] i = {{2,1,3}}> {{ y = Gather<axis=1>(x, i) }}"),
    trap("a gather from the end", f"{X} => (float[B,3,6,8] y) <int64[3] i = {{-2,-1,0}}> {{ y = Gather<axis=1>(x, i) }}"),
    trap(
        "a pad of another number around a pad",
        f"{X} => (float[B,4,10,8] y) <int64[8] w = {{0,0,1,0,0,0,1,0}}, float one = {{1}}> {{ p = Pad(x, w) y = Pad(p, w, one) }}",
    ),
    trap(
        "a pad that cuts off what a pad added",
        f"{X} => (float[B,4,6,8] y) <int64[8] w = {{0,0,1,0,0,0,1,0}}, int64[8] v = {{0,0,-2,0,0,0,0,0}}> {{ p = Pad(x, w) y = Pad(p, v) }}",
    ),
    trap(
        "a pad that adds to what a pad cut off",
        f"{X} => (float[B,4,6,8] y) <int64[8] w = {{0,0,-1,0,0,0,0,0}}, int64[8] v = {{0,0,1,0,0,0,0,0}}> {{ p = Pad(x, w) y = Pad(p, v) }}",
    ),
    trap("index_put over nearly everything", "g (float[4,8] x, float[3,8] u) => (float[4,8] y) <int64[3,1] i = {0,1,2}> { y = ScatterND(x, i, u) }"),
    trap("index_put in another order", "g (float[4,8] x, float[4,8] u) => (float[4,8] y) <int64[4,1] i = {1,0,2,3}> { y = ScatterND(x, i, u) }"),
    trap("index_put that adds", 'g (float[4,8] x, float[4,8] u) => (float[4,8] y) <int64[4,1] i = {0,1,2,3}> { y = ScatterND<reduction="add">(x, i, u) }'),
    trap("a squeeze of all axes of one", "g (float[N,1,M] x) => (float y) { y0 = Squeeze(x) y = ReduceSum<keepdims=0>(y0) }"),
    trap(
        "a resize by one that shifts",
        "g (float[1,1,4,4] x) => (float[1,1,4,4] y) <float[8] r = {0,0,0.25,0.25,1,1,0.75,0.75}, float[4] s = {1,1,1,1}>"
        ' { y = Resize<coordinate_transformation_mode="tf_crop_and_resize", mode="linear">(x, r, s) }',
    ),
)

CONTROL: tuple[Graph, ...] = (
    trap(
        "a branch that would fail where it is not taken",
        "g (float[4] x, int64 i) => (float y) <int64 n = {4}, float zero = {0}>"
        " { c = Less(i, n) y = If(c) <then_branch = t () => (float p) { p = Gather(x, i) }, else_branch = e () => (float q)"
        " { q = Identity(zero) }> }",
        samples=({"x": np.ones(4, np.float32), "i": np.array(9)}, {"x": np.ones(4, np.float32), "i": np.array(2)}),
    ),
    trap(
        "branches of different shape",
        "g (float[4] x, bool c) => (float[N] y) <int64[1] one = {1}, int64[1] zero = {0}>"
        " { y = If(c) <then_branch = t () => (float[4] p) { p = Neg(x) }, else_branch = e () => (float[1] q)"
        " { q = Slice(x, zero, one) }> }",
    ),
    trap(
        "a loop that stops before its count",
        "g (float[1] x) => (float[1] y) <int64 n = {5}, bool c = {1}, float k = {4}, int64[0] sc>"
        " { y = Loop(n, c, x) <body = b (int64 i, bool ci, float[1] a) => (bool co, float[1] o)"
        " { o = Add(a, a) l = Less(o, k) co = Reshape(l, sc) }> }",
        samples=({"x": np.ones(1, np.float32)},),
    ),
    trap(
        "a loop that never starts",
        "g (float[1] x) => (float[1] y) <int64 n = {5}, bool c = {0}>"
        " { y = Loop(n, c, x) <body = b (int64 i, bool ci, float[1] a) => (bool co, float[1] o)"
        " { co = Identity(ci) o = Add(a, a) }> }",
    ),
    trap(
        "a loop of no rounds that collects nothing",
        "g (float[2] x) => (float[2] y, float[K,2] z) <int64 n = {0}>"
        " { y, z = Loop(n, , x) <body = b (int64 i, bool ci, float[2] a) => (bool co, float[2] o, float[2] e)"
        " { co = Identity(ci) o = Add(a, a) e = Exp(a) }> }",
    ),
    trap(
        "a name used inside and outside of a branch",
        "g (float[4] x, bool c) => (float[4] y) { a = Exp(x) z = If(c) <then_branch = t () => (float[4] p)"
        " { b = Neg(x) p = Add(b, a) }, else_branch = e () => (float[4] q)"
        " { b = Abs(a) q = Mul(b, x) }> b = Sin(z) y = Add(b, a) }",
    ),
    trap(
        "a condition read again inside the branch",
        "g (float[4] x, bool c) => (float[4] y) { y = If(c) <then_branch = t () => (float[4] p)"
        " { f = Cast<to=1>(c) p = Add(x, f) }, else_branch = e () => (float[4] q) { f = Cast<to=1>(c) q = Sub(x, f) }> }",
    ),
    trap(
        "a scan from the end",
        "g (float[4] h, float[3,4] x) => (float[4] y, float[3,4] z)"
        " { y, z = Scan(h, x) <num_scan_inputs = 1, scan_input_directions = [1], scan_output_directions = [1],"
        " body = b (float[4] s, float[4] e) => (float[4] t, float[4] o) { u = Add(s, e) t = Tanh(u) o = Neg(t) }> }",
    ),
)

QUANTISED: tuple[Graph, ...] = (
    trap(
        "pairs of different scales",
        "g (float[B,8] x) => (float[B,8] y) <float s = {0.05}, uint8 z = {128}, float t = {0.07}>"
        " { a = QuantizeLinear(x, s, z) b = DequantizeLinear(a, s, z) c = QuantizeLinear(b, t, z) y = DequantizeLinear(c, t, z)"
        " }",
    ),
    trap(
        "dequantised and quantised with another zero",
        "g (uint8[B,8] x) => (uint8[B,8] y) <float s = {0.05}, uint8 z = {128}, uint8 w = {120}> { a = DequantizeLinear(x, s, z) y = QuantizeLinear(a, s, w) }",
    ),
    trap(
        "dequantised and quantised to a signed number",
        "g (uint8[B,8] x) => (int8[B,8] y) <float s = {0.05}, uint8 z = {128}, int8 w = {0}> { a = DequantizeLinear(x, s, z) y = QuantizeLinear(a, s, w) }",
    ),
    trap(
        "quantised and dequantised is no identity",
        "g (float[B,8] x) => (float[B,8] y) <float s = {0.05}, uint8 z = {128}> { a = QuantizeLinear(x, s, z) y = DequantizeLinear(a, s, z) }",
    ),
    trap(
        "scales for each channel through a reshape",
        "g (uint8[B,4,2] x) => (uint8[B,8] y) <float[4] s = {0.1,0.2,0.3,0.4}, uint8[4] z = {1,2,3,4}, float t ="
        " {0.1}, uint8 w = {1}, int64[2] r = {-1,8}>"
        " { a = DequantizeLinear<axis=1>(x, s, z) b = Reshape(a, r) y = QuantizeLinear(b, t, w) }",
    ),
    trap(
        "scales for each channel through a transpose",
        "g (uint8[B,4,4] x) => (uint8[B,4,4] y) <float[4] s = {0.1,0.2,0.3,0.4}, uint8[4] z = {1,2,3,4}>"
        " { a = DequantizeLinear<axis=1>(x, s, z) b = Transpose<perm=[0,2,1]>(a) y = QuantizeLinear<axis=1>(b, s, z) }",
    ),
    trap(
        "a relu before codes with a zero in the middle",
        "g (float[B,8] x) => (uint8[B,8] y) <float s = {0.05}, uint8 z = {128}> { r = Relu(x) y = QuantizeLinear(r, s, z) }",
    ),
    trap(
        "a clip narrower than the codes",
        "g (float[B,8] x) => (uint8[B,8] y) <float s = {0.05}, uint8 z = {128}, float lo = {-1}, float hi = {2}>"
        " { r = Clip(x, lo, hi) y = QuantizeLinear(r, s, z) }",
    ),
    trap(
        "an average pool between a pair",
        "g (uint8[B,1,4,4] x) => (uint8[B,1,2,2] y) <float s = {0.05}, uint8 z = {128}>"
        " { a = DequantizeLinear(x, s, z) b = AveragePool<kernel_shape=[2,2], strides=[2,2]>(a) y = QuantizeLinear(b, s, z) }",
    ),
    trap(
        "codes of different scales joined",
        "g (uint8[B,4] p, uint8[B,2] q) => (uint8[B,6] y) <float s = {0.05}, uint8 z = {128}, float t = {0.1}>"
        " { a = DequantizeLinear(p, s, z) b = DequantizeLinear(q, t, z) r = Concat<axis=1>(a, b) y = QuantizeLinear(r, s, z) }",
    ),
    trap(
        "a pad of zeros between a pair",
        "g (uint8[B,4] p) => (uint8[B,6] y) <float s = {0.05}, uint8 z = {128}, int64[4] w = {0,1,0,1}>"
        " { a = DequantizeLinear(p, s, z) r = Pad(a, w) y = QuantizeLinear(r, s, z) }",
    ),
    trap(
        "a largest of a padded pool between a pair, zero above all codes",
        "g (int8[B,1,4,4] x) => (int8[B,1,4,4] y) <float s = {0.05}, int8 z = {127}>"
        " { a = DequantizeLinear(x, s, z) b = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(a) y = QuantizeLinear(b, s, z) }",
    ),
)

GRAPHS = (*ARITHMETIC, *MOVEMENT, *CONTROL, *QUANTISED)
