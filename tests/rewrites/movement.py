"""Data movement that cancels, merges, or moves to where it is cheap."""

from __future__ import annotations

from .graphs import Graph, at_most, either, every, gone, graph, has

X = "g (float[B,4,6,8] x)"
MAX = "9223372036854775807"
FOCUS = f"int64[1] c0 = {{0}}, int64[1] c1 = {{1}}, int64[1] end = {{{MAX}}}, int64[1] two = {{2}}, int64[1] rows = {{2}}, int64[1] columns = {{3}}"

GRAPHS: tuple[Graph, ...] = (
    graph(
        "a transpose and its inverse",
        f"{X} => (float[B,4,6,8] y) {{ p = Transpose<perm=[0,2,3,1]>(x) q = Transpose<perm=[0,3,1,2]>(p) y = Relu(q) }}",
        gone("Transpose"),
    ),
    graph("two transposes in a row", f"{X} => (float[6,4,B,8] y) {{ p = Transpose<perm=[0,2,1,3]>(x) y = Transpose<perm=[1,2,0,3]>(p) }}", at_most(1)),
    graph(
        "transposes around a relu",
        f"{X} => (float[B,4,6,8] y) {{ p = Transpose<perm=[0,2,3,1]>(x) q = Relu(p) y = Transpose<perm=[0,3,1,2]>(q) }}",
        gone("Transpose"),
    ),
    graph(
        "transposes around a scale of the last axis, nhwc",
        f"{X} => (float[B,4,6,8] y) <float[4] k> {{ p = Transpose<perm=[0,2,3,1]>(x) q = Mul(p, k) y = Transpose<perm=[0,3,1,2]>(q) }}",
        gone("Transpose"),
    ),
    graph(
        "transposes around a sum of two",
        "g (float[B,4,6,8] x, float[B,4,6,8] z) => (float[B,4,6,8] y)"
        " { p = Transpose<perm=[0,2,3,1]>(x) q = Transpose<perm=[0,2,3,1]>(z) s = Add(p, q) y = Transpose<perm=[0,3,1,2]>(s) }",
        gone("Transpose"),
    ),
    graph(
        "transposes around a concatenation",
        "g (float[B,4,6,8] x, float[B,2,6,8] z) => (float[B,6,6,8] y)"
        " { p = Transpose<perm=[0,2,3,1]>(x) q = Transpose<perm=[0,2,3,1]>(z) s = Concat<axis=3>(p, q) y ="
        " Transpose<perm=[0,3,1,2]>(s) }",
        gone("Transpose"),
    ),
    graph(
        "transposes around a softmax",
        f"{X} => (float[B,4,6,8] y) {{ p = Transpose<perm=[0,2,3,1]>(x) q = Softmax<axis=-1>(p) y = Transpose<perm=[0,3,1,2]>(q) }}",
        gone("Transpose"),
    ),
    graph(
        "transposes around a mean, nhwc",
        f"{X} => (float[B,4,1,1] y) <int64[2] a = {{1,2}}> {{ p = Transpose<perm=[0,2,3,1]>(x) q = ReduceMean(p, a) y = Transpose<perm=[0,3,1,2]>(q) }}",
        gone("Transpose"),
    ),
    graph(
        "transposes around a pad",
        f"{X} => (float[B,4,8,10] y) <int64[8] w = {{0,1,1,0,0,1,1,0}}> {{ p = Transpose<perm=[0,2,3,1]>(x) q = Pad(p, w) y = Transpose<perm=[0,3,1,2]>(q) }}",
        gone("Transpose"),
    ),
    graph(
        "transposes around a slice",
        f"{X} => (float[B,4,5,8] y) <int64[1] s = {{1}}, int64[1] e = {{6}}, int64[1] a = {{1}}>"
        " { p = Transpose<perm=[0,2,3,1]>(x) q = Slice(p, s, e, a) y = Transpose<perm=[0,3,1,2]>(q) }",
        gone("Transpose"),
    ),
    graph(
        "transposes around a split",
        f"{X} => (float[B,2,6,8] y, float[B,2,6,8] z) <int64[2] s = {{2,2}}>"
        " { p = Transpose<perm=[0,2,3,1]>(x) q, r = Split<axis=3>(p, s) y = Transpose<perm=[0,3,1,2]>(q) z = Transpose<perm=[0,3,1,2]>(r) }",
        gone("Transpose"),
    ),
    graph(
        "transposes around a quick gelu, two branches",
        f"{X} => (float[B,4,6,8] y) {{ p = Transpose<perm=[0,2,3,1]>(x) s = Sigmoid(p) q = Mul(p, s) y = Transpose<perm=[0,3,1,2]>(q) }}",
        gone("Transpose"),
    ),
    graph(
        "tf2onnx: transposes between two convolutions",
        "g (float[B,3,H,W] x) => (float[B,4,P,Q] y) <float[4,3,3,3] w, float[4,4,3,3] v, float[4] b>"
        " { c = Conv(x, w) p = Transpose<perm=[0,2,3,1]>(c) s = Add(p, b) q = Relu(s) r = Transpose<perm=[0,3,1,2]>(q) y = Conv(r, v) }",
        gone("Transpose"),
    ),
    graph("a transpose of axes of size one", "g (float[B,1,6,8] x) => (float[B,6,1,8] y) { p = Transpose<perm=[0,2,1,3]>(x) y = Relu(p) }", gone("Transpose")),
    graph(
        "a transpose of axes of size one, then a reshape",
        "g (float[B,4,1,1] x) => (float[B,4] y) <int64[2] s = {-1,4}> { p = Transpose<perm=[0,2,3,1]>(x) y = Reshape(p, s) }",
        every(gone("Transpose"), at_most(1)),
    ),
    graph(
        "two reshapes in a row",
        f"{X} => (float[B,192] y) <int64[3] s = {{0,24,8}}, int64[2] t = {{-1,192}}> {{ p = Reshape(x, s) y = Reshape(p, t) }}",
        at_most(1),
    ),
    graph("a flatten after a reshape", f"{X} => (float[B,192] y) <int64[3] s = {{0,24,8}}> {{ p = Reshape(x, s) y = Flatten(p) }}", at_most(1)),
    graph(
        "a squeeze after an unsqueeze",
        f"{X} => (float[B,4,6,8] y) <int64[1] a = {{1}}> {{ p = Unsqueeze(x, a) q = Squeeze(p, a) y = Relu(q) }}",
        gone("Squeeze", "Unsqueeze", "Reshape"),
    ),
    graph(
        "two unsqueezes in a row",
        f"{X} => (float[1,B,4,6,8,1] y) <int64[1] a = {{0}}, int64[1] b = {{5}}> {{ p = Unsqueeze(x, a) y = Unsqueeze(p, b) }}",
        at_most(1),
    ),
    graph(
        "two squeezes in a row",
        "g (float[B,1,6,1] x) => (float[B,6] y) <int64[1] a = {3}, int64[1] b = {1}> { p = Squeeze(x, a) y = Squeeze(p, b) }",
        at_most(1),
    ),
    graph(
        "an unsqueeze and a reshape back",
        f"{X} => (float[B,4,6,8] y) <int64[1] a = {{2}}, int64[4] s = {{-1,4,6,8}}> {{ p = Unsqueeze(x, a) q = Reshape(p, s) y = Relu(q) }}",
        gone("Reshape", "Unsqueeze"),
    ),
    graph(
        "a reshape, an activation and the reshape back",
        f"{X} => (float[B,4,6,8] y) <int64[2] s = {{-1,8}}, int64[4] t = {{-1,4,6,8}}> {{ p = Reshape(x, s) q = Relu(p) y = Reshape(q, t) }}",
        gone("Reshape"),
    ),
    graph(
        "reshapes to a matrix around a linear layer",
        "g (float[B,S,8] x) => (float[B,S,4] y) <float[8,4] w, int64[2] s = {-1,8}>"
        " { h = Shape<end=2>(x) four = Constant<value_ints=[4]>() t = Concat<axis=0>(h, four) p = Reshape(x, s) q = MatMul(p,"
        " w) y = Reshape(q, t) }",
        either(gone("Reshape"), at_most(3)),
    ),
    graph(
        "a slice of a slice, one axis",
        f"{X} => (float[B,2,6,8] y) <int64[1] a = {{1}}, int64[1] s = {{1}}, int64[1] e = {{4}}, int64[1] s2 ="
        " {0}, int64[1] e2 = {2}> { p = Slice(x, s, e, a) y = Slice(p, s2, e2, a) }",
        at_most(1),
    ),
    graph(
        "a slice of a slice, two axes",
        f"{X} => (float[B,2,3,8] y) <int64[1] a = {{1}}, int64[1] b = {{2}}, int64[1] s = {{1}}, int64[1] e ="
        " {3}, int64[1] e2 = {4}> { p = Slice(x, s, e, a) y = Slice(p, s, e2, b) }",
        at_most(1),
    ),
    graph(
        "a slice of everything",
        f"{X} => (float[B,4,6,8] y) <int64[1] s = {{0}}, int64[1] e = {{{MAX}}}, int64[1] a = {{2}}> {{ p = Slice(x, s, e, a) y = Relu(p) }}",
        gone("Slice"),
    ),
    graph(
        "reversed twice",
        f"{X} => (float[B,4,6,8] y) <int64[1] s = {{-1}}, int64[1] e = {{-{MAX}}}, int64[1] a = {{1}}>"
        " { p = Slice(x, s, e, a, s) q = Slice(p, s, e, a, s) y = Relu(q) }",
        gone("Slice"),
    ),
    graph(
        "a concatenation of a concatenation",
        "g (float[B,2] a, float[B,3] b, float[B,4] c) => (float[B,9] y) { p = Concat<axis=1>(a, b) y = Concat<axis=1>(p, c) }",
        at_most(1),
    ),
    graph("a concatenation of one", f"{X} => (float[B,4,6,8] y) {{ p = Concat<axis=0>(x) y = Relu(p) }}", gone("Concat")),
    graph(
        "a split joined again",
        f"{X} => (float[B,4,6,8] y) <int64[2] s = {{1,3}}> {{ p, q = Split<axis=1>(x, s) r = Concat<axis=1>(p, q) y = Relu(r) }}",
        gone("Split", "Concat"),
    ),
    graph(
        "slices joined again",
        f"{X} => (float[B,4,6,8] y) <int64[1] z = {{0}}, int64[1] m = {{2}}, int64[1] e = {{4}}, int64[1] a = {{1}}>"
        " { p = Slice(x, z, m, a) q = Slice(x, m, e, a) r = Concat<axis=1>(p, q) y = Relu(r) }",
        gone("Slice", "Concat"),
    ),
    graph(
        "a concatenation split where it was joined",
        "g (float[B,2] a, float[B,3] b) => (float[B,2] y, float[B,3] z) <int64[2] s = {2,3}>"
        " { p = Concat<axis=1>(a, b) q, r = Split<axis=1>(p, s) y = Relu(q) z = Exp(r) }",
        gone("Split", "Concat"),
    ),
    graph(
        "a slice of what was joined",
        "g (float[B,2] a, float[B,3] b) => (float[B,3] z) <int64[1] s = {2}, int64[1] e = {5}, int64[1] ax = {1}>"
        " { p = Concat<axis=1>(a, b) q = Slice(p, s, e, ax) z = Exp(q) }",
        gone("Slice", "Concat"),
    ),
    graph(
        "an expand before a sum that broadcasts",
        "g (float[8] b, float[4,8] x) => (float[4,8] y) <int64[2] s = {4,8}> { e = Expand(b, s) y = Add(x, e) }",
        gone("Expand"),
    ),
    graph(
        "a tile before a product that broadcasts",
        "g (float[1,8] b, float[4,8] x) => (float[4,8] y) <int64[2] s = {4,1}> { e = Tile(b, s) y = Mul(x, e) }",
        gone("Tile"),
    ),
    graph("a tile by ones", f"{X} => (float[B,4,6,8] y) <int64[4] s = {{1,1,1,1}}> {{ p = Tile(x, s) y = Relu(p) }}", gone("Tile")),
    graph("an expand to what it is", "g (float[4,8] x) => (float[4,8] y) <int64[2] s = {4,8}> { p = Expand(x, s) y = Relu(p) }", gone("Expand")),
    graph("a pad of nothing", f"{X} => (float[B,4,6,8] y) <int64[8] w = {{0,0,0,0,0,0,0,0}}> {{ p = Pad(x, w) y = Relu(p) }}", gone("Pad")),
    graph("a pad of a pad", f"{X} => (float[B,4,10,8] y) <int64[8] w = {{0,0,1,0,0,0,1,0}}> {{ p = Pad(x, w) y = Pad(p, w) }}", at_most(1)),
    graph(
        "yolo's focus: space to depth by slices",
        f"g (float[B,3,8,8] x) => (float[B,12,4,4] y) <{FOCUS}>"
        " { e = Slice(x, c0, end, rows, two) o = Slice(x, c1, end, rows, two) a = Slice(e, c0, end, columns, two) b = Slice(o,"
        " c0, end, columns, two)"
        " c = Slice(e, c1, end, columns, two) d = Slice(o, c1, end, columns, two) y = Concat<axis=1>(a, b, c, d) }",
        every(has("SpaceToDepth"), gone("Slice")),
    ),
    graph(
        "pixel shuffle: depth to space by reshapes",
        "g (float[B,8,5,6] x) => (float[B,2,10,12] y) <int64[6] s = {-1,2,2,2,5,6}, int64[4] t = {-1,2,10,12}>"
        " { p = Reshape(x, s) q = Transpose<perm=[0,1,4,2,5,3]>(p) y = Reshape(q, t) }",
        every(has("DepthToSpace"), at_most(1)),
    ),
    graph(
        "pixel unshuffle: space to depth by reshapes",
        "g (float[B,2,10,12] x) => (float[B,8,5,6] y) <int64[6] s = {-1,2,5,2,6,2}, int64[4] t = {-1,8,5,6}>"
        " { p = Reshape(x, s) q = Transpose<perm=[0,3,5,1,2,4]>(p) y = Reshape(q, t) }",
        every(has("SpaceToDepth"), at_most(1)),
    ),
    graph(
        "a gather of places in a row", f"{X} => (float[B,4,3,8] y) <int64[3] i = {{1,2,3}}> {{ y = Gather<axis=2>(x, i) }}", every(has("Slice"), gone("Gather"))
    ),
    graph("a gather of every place", f"{X} => (float[B,4,6,8] y) <int64[4] i = {{0,1,2,3}}> {{ p = Gather<axis=1>(x, i) y = Relu(p) }}", gone("Gather")),
    graph(
        "a gather of a gather",
        f"{X} => (float[B,2,6,8] y) <int64[3] i = {{3,1,0}}, int64[2] j = {{2,0}}> {{ p = Gather<axis=1>(x, i) y = Gather<axis=1>(p, j) }}",
        at_most(1),
    ),
    graph("a resize by nothing", f'{X} => (float[B,4,6,8] y) <float[4] s = {{1,1,1,1}}> {{ p = Resize<mode="linear">(x, , s) y = Relu(p) }}', gone("Resize")),
    graph("a reshape to the same shape", f"{X} => (float[B,4,6,8] y) <int64[4] s = {{0,4,-1,8}}> {{ p = Reshape(x, s) y = Relu(p) }}", gone("Reshape")),
    graph(
        "a reshape to a shape read off another value of the same shape",
        "g (float[B,S,8] x) => (float[B,S,8] y) <int64[2] s = {-1,8}> { h = Shape(x) p = Reshape(x, s) e = Exp(p) q = Reshape(e, h) y = Relu(q) }",
        gone("Reshape"),
    ),
    graph(
        "a transpose that only reorders what a matrix takes",
        "g (float[B,S,8] x) => (float[B,8,S] y) <float[8,8] w>"
        " { p = Transpose<perm=[0,2,1]>(x) q = Transpose<perm=[0,2,1]>(p) r = MatMul(q, w) y = Transpose<perm=[0,2,1]>(r) }",
        at_most(1, "Transpose"),
    ),
    graph(
        "a depth to space and back",
        "g (float[B,8,5,6] x) => (float[B,8,5,6] y) { p = DepthToSpace<blocksize=2>(x) q = SpaceToDepth<blocksize=2>(p) y = Relu(q) }",
        gone("DepthToSpace", "SpaceToDepth"),
    ),
    graph(
        "index_put over everything",
        "g (float[4,8] x, float[4,8] u) => (float[4,8] y) <int64[4,1] i = {0,1,2,3}> { p = ScatterND(x, i, u) y = Relu(p) }",
        gone("ScatterND"),
    ),
    graph(
        "a sequence joined where it was made",
        "g (float[B,4] a, float[B,4] b) => (float[B,8] y) { s = SequenceConstruct(a, b) y = ConcatFromSequence<axis=1>(s) }",
        every(has("Concat"), at_most(1)),
    ),
    graph(
        "an item of a sequence that was made of items",
        "g (float[B,4] a, float[B,4] b) => (float[B,4] y) <int64 i = {1}> { s = SequenceConstruct(a, b) p = SequenceAt(s, i) y = Relu(p) }",
        at_most(1),
    ),
)
