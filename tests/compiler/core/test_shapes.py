"""Every inferred shape is the real one, whatever sizes the model is fed."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from graphwright.compiler.core import dims, shapes
from graphwright.compiler.core.errors import ModelError

from .inferring import SIZES, assert_shapes_hold, feeds_for, inferred, read, run_everything, shape_of, value_of

# Each with the inferred shapes of some of its values; N, M and K may be 0 or 1.
SHAPED = {
    "view": ("g (float[N,M,8] x) => (float[A,B,C,D] y) <int64[4] s = {0,0,2,4}> { y = Reshape(x, s) }", {"y": "[N,M,2,4]"}),
    "view back": ("g (float[N,M,2,4] x) => (float[A,B,C] y) <int64[3] s = {0,0,-1}> { y = Reshape(x, s) }", {"y": "[N,M,8]"}),
    "view by shape": (
        "g (float[N,M,8] x) => (float[A,B,C,D] y) <int64[2] t = {2,4}> { s = Shape<end=2>(x) r = Concat<axis=0>(s, t) y = Reshape<allowzero=1>(x, r) }",
        {"y": "[N,M,2,4]"},
    ),
    "flatten tokens": (
        "g (float[N,M,8] x) => (float[A,B] y) <int64[1] w = {8}> { a = Shape<end=1>(x) b = Shape<start=1, end=2>(x) c = Mul(a, b)"
        " s = Concat<axis=0>(c, w) y = Reshape<allowzero=1>(x, s) }",
        {"y": "[M*N,8]"},
    ),
    "reshape of reshape with a 0 that copies": (
        "g (float[N,6] x) => (float[A,B,C] y) <int64[2] s = {-1,3}, int64[3] t = {0,3,1}> { a = Reshape(x, s) y = Reshape(a, t) }",
        {"a": "[2*N,3]", "y": "[2*N,3,1]"},
    ),
    "transposed view": (
        "g (float[N,M,8] x) => (float[A,B] y) { t = Transpose<perm=[1,0,2]>(x) y = Flatten<axis=2>(t) z = Flatten(t) }", {"y": "[M*N,8]", "z": "[M,8*N]"},
    ),
    "expand": (
        "g (float[N,1] x, float[M,K] z) => (float[A,B,C] y) <int64[1] one = {1}> { s = Shape(z) d = Shape<end=1>(x) t = Concat<axis=0>(one, d, one)"
        " y = Expand(x, t) }",
        {"y": "[1,N,1]"},
    ),
    "shape with start beyond end": ("g (float[N,M,8] x) => (int64[A] y) { y = Shape<start=2, end=1>(x) }", {"y": "[0]"}),
    "shape with negative bounds": ("g (float[N,M,8] x) => (int64[A] y) { y = Shape<start=-2, end=-1>(x) }", {"y": "[1]"}),
    "last token": (
        "g (float[N,M,8] x) => (float[A,B,C] y) <int64[1] s = {-1}, int64[1] e = {9223372036854775807}, int64[1] a = {1}> { y = Slice(x, s, e, a) }",
        {"y": "[N,min(1, M),8]"},
    ),
    "table cut to length": (
        "g (float[N,M,8] x, float[64,8] table) => (float[A,B,C] y) <int64[1] z = {0}> { e = Shape<start=1, end=2>(x) t = Slice(table, z, e, z) y = Add(x, t) }",
        {"t": "[min(64, M),8]", "y": "[N,M,8]"},
    ),
    "every second": (
        "g (float[N,M] x) => (float[A,B] y) <int64[2] s = {1,-1}, int64[2] e = {9223372036854775807,-9223372036854775807}, int64[2] a = {1,0},"
        " int64[2] p = {2,-1}> { y = Slice(x, s, e, a, p) }",
        {},
    ),
    "concat and split": (
        "g (float[N,M] x, float[N,K] z) => (float[A,B] y) { c = Concat<axis=1>(x, z) d = Concat<axis=-1>(c, c) y, r = Split<axis=1, num_outputs=2>(d) }",
        {"c": "[N,K + M]", "y": "[N,K + M]"},
    ),
    "tile and pad": (
        "g (float[N,M] x) => (float[A,B] y) <int64[2] r = {2,3}, int64[4] p = {1,0,0,2}> { t = Tile(x, r) y = Pad(t, p) }", {"y": "[2*N + 1,3*M + 2]"},
    ),
    "pad along axes": (
        "g (float[N,M] x) => (float[A,B] y) <int64[2] p = {1,2}, int64[1] a = {-1}> { y = Pad(x, p, , a) }", {"y": "[N,M + 3]"},
    ),
    "matmul": ("g (float[N,4,M,8] x, float[8,K] w) => (float[A,B,C,D] y) { y = MatMul(x, w) }", {"y": "[N,4,M,K]"}),
    "gather": ("g (float[9,8] t, int64[N,M] i) => (float[A,B,C] y) { y = Gather(t, i) }", {"y": "[N,M,8]"}),
    "range": (
        "g (float[N,M] x) => (int64[A] y) <int64 z = {0}, int64 two = {2}, int64[1] s = {1}> { h = Shape(x)"
        " n = Gather(h, s) e = Squeeze(n) y = Range(z, e, two) }",
        {"y": "[div(M + 1, 2)]"},
    ),
    "filled": ("g (float[N,M] x) => (float[A,B] y) { s = Shape(x) y = ConstantOfShape(s) }", {"y": "[N,M]"}),
    "one hot and top": (
        "g (int64[N,M] x, float[K,9] z) => (float[A,B,C] y) <int64 d = {5}, float[2] v = {0,1}, int64[1] k = {4}>"
        " { y = OneHot<axis=1>(x, d, v) t, i = TopK(z, k) }",
        {"y": "[N,5,M]", "t": "[K,4]"},
    ),
    "pixels": (
        "g (float[1,4,N,M] x) => (float[A,B,C,D] y) <float[4] s = {1,1,2,3}> { d = DepthToSpace<blocksize=2>(x) y = SpaceToDepth<blocksize=2>(d)"
        " r = Resize(x, , s) }",
        {"d": "[1,1,2*N,2*M]", "y": "[1,4,N,M]", "r": "[1,4,2*N,3*M]"},
    ),
    "size and product": (
        "g (float[N,M] x) => (float[A] y) <int64[1] m = {-1}> { s = Shape(x) p = ReduceProd<keepdims=0>(s) q = Size(x) r = Max(p, q) t = Reshape(r, m)"
        " y = Reshape<allowzero=1>(x, t) }",
        {"y": "[M*N]"},
    ),
    "expand as torch writes it": (
        "g (float[1,8] x, float[N,M] z) => (float[A,B] y) <int64[1] w = {8}, int64[2] o = {1,1}, int64 m = {-1}> { a = Shape<end=1>(z) s = Concat<axis=0>(a, w)"
        " q = Equal(s, m) c = Where(q, o, s) y = Expand(x, c) }",
        {"y": "[N,8]"},
    ),
    "floor division as torch writes it": (
        "g (float[N,M] x) => (float[A,B,C] y) <int64[1] two = {2}, int64[1] one = {1}> { n = Shape<end=1>(x) m = Shape<start=1>(x) a = Add(m, one)"
        " h = Div(a, two)"
        " r = Mod(m, two) s = Concat<axis=0>(n, h, r) y = ConstantOfShape(s) }",
        {"y": "[N,div(M + 1, 2),mod(M, 2)]"},
    ),
    "pads computed": (
        "g (float[N,M] x) => (float[A,B] y) <int64[2,2] p = {1,2,3,4}, int64[1] m = {-1}> { t = Transpose<perm=[1,0]>(p) f = Reshape(t, m) y = Pad(x, f) }",
        {"y": "[N + 3,M + 7]"},
    ),
    "einsum": ("g (float[N,M,K] x, float[N,K,8] z) => (float[A,B,C] y) { y = Einsum<equation=\"bij,bjk->bik\">(x, z) }", {"y": "[N,M,8]"}),
    "attention": (
        "<ir_version: 11, opset_import: [\"\" : 23]>\ng (float[N,2,M,8] q, float[N,2,K,8] k, float[N,2,K,8] v, float[N,2,3,8] pk, float[N,2,3,8] pv)"
        " => (float[A,B,C,D] y, float[E,F,G,H] nk) { y, nk, nv = Attention(q, k, v, , pk, pv) }",
        {"y": "[N,2,M,8]", "nk": "[N,2,K + 3,8]"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPED)
def test_a_shape_keeps_its_symbols_and_is_right_for_every_size(name: str) -> None:
    text, expected = SHAPED[name]
    model = inferred(text)
    assert {value: shape_of(model, value) for value in expected} == expected
    ran = 0
    for sizes in SIZES:
        try:
            run_everything(model, feeds_for(model, sizes))
        except Exception:
            continue
        assert_shapes_hold(model, feeds_for(model, sizes))
        ran += 1
    assert ran >= 3, "the model runs for too few sizes to show anything"


SPATIAL = [
    "Conv<pads=[1,1,1,1]>(x, w)", "Conv<strides=[2,3]>(x, w)", "Conv<dilations=[2,1], pads=[0,1,2,1]>(x, w)",
    'Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w)',
    'Conv<auto_pad="VALID">(x, w)', "MaxPool<kernel_shape=[2,3], strides=[2,2]>(x)", "MaxPool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x)",
    'AveragePool<kernel_shape=[2,2], auto_pad="SAME_LOWER", strides=[2,1]>(x)', "ConvTranspose<strides=[2,2], output_padding=[1,0]>(x, w)",
    "ConvTranspose<pads=[1,0,1,2], dilations=[2,1]>(x, w)", "GlobalAveragePool(x)", "AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]>(x)",
]  # fmt: skip


@pytest.mark.parametrize("call", SPATIAL)
def test_windows_over_symbolic_sizes_are_counted_right(call: str) -> None:
    model = inferred(
        f"g (float[N,4,H,W] x, float[4,4,3,3] w) => (float[A,B,C,D] y) {{ a = {call} b = Relu(a) y = MaxPool<kernel_shape=[1,1], strides=[2,2]>(b) }}"
    )
    for height, width in ((7, 8), (8, 9), (9, 12), (16, 5)):
        assert_shapes_hold(model, feeds_for(model, {"N": 2, "H": height, "W": width}))
    if "ceil_mode" not in call:
        assert not any(map(shapes.is_ours, value_of(model, "y").shape or ()))


def test_a_dynamic_size_is_not_frozen_by_what_it_meets() -> None:
    model = inferred("g (float[N] x, float[5] z) => (float[A] y, float[N] w) { y = Add(x, z) w = Relu(x) }")
    assert shape_of(model, "y") == "[5]"
    assert shape_of(model, "w") == "[N]"
    assert_shapes_hold(model, feeds_for(model, {"N": 1}))


def test_two_symbols_that_meet_are_not_merged() -> None:
    model = inferred("g (float[N] x, float[M] z) => (float[A] y) { a = Add(x, z) b = Relu(x) y = Mul(a, b) }")
    (met,) = value_of(model, "a").shape or ()
    assert shapes.is_ours(met) and shape_of(model, "b") == "[N]"
    for sizes in ({"N": 1, "M": 4}, {"N": 4, "M": 1}, {"N": 3, "M": 3}):
        assert_shapes_hold(model, feeds_for(model, sizes))


def test_unknown_dimensions_of_two_values_get_different_symbols() -> None:
    model = inferred("g (float[?] x) => (int64[A,B] y, int64[C,D] z) { y = NonZero(x) r = Relu(x) z = NonZero(r) }")
    first, second = (value_of(model, name).shape for name in "yz")
    assert first is not None and second is not None
    assert first[0] == second[0] == 1 and not dims.same(first[1], second[1])


def test_a_reshape_that_reads_a_size_of_0_as_a_copy_is_not_trusted() -> None:
    """[N,4] as [M,-1], where M is the size of another tensor: with M = 0 ONNX copies N."""
    model = inferred("g (float[N,4] x, float[M] z) => (float[A,B] y) <int64[1] m = {-1}> { d = Shape(z) s = Concat<axis=0>(d, m) y = Reshape(x, s) }")
    assert shapes.is_ours((value_of(model, "y").shape or ())[0])
    for sizes in ({"N": 3, "M": 0}, {"N": 3, "M": 2}):
        assert_shapes_hold(model, feeds_for(model, sizes))


def test_a_reshape_that_cannot_run_on_an_empty_tensor_shows_that_there_is_none() -> None:
    text = (
        "g (float[N,M,8] x) => (float[A,B,C] y) <int64[3] s = {{{first}}}, int64[1] e = {{8}}, int64[1] m = {{-1}}> {{ a = Reshape(x, s) n = Shape<end=1>(x)"
        " l = Shape<start=1, end=2>(x) t = Transpose<perm=[0,2,1]>(x) r = Concat<axis=0>(m, l, e) y = Reshape(t, r) }}"
    )
    assert shape_of(inferred(text.format(first="0,0,-1")), "y") == "[N,M,8]"
    assert shapes.is_ours((value_of(inferred(text.format(first="0,0,8")), "y").shape or ())[1])


@pytest.mark.parametrize(("text", "node"), [
    ("g (float[N,3] x, float[4,5] w) => (float[A,B] y) { y = MatMul(x, w) }", "y"),
    ("g (float[2] x, float[3] z) => (float[A] y) { q = Add(x, z) y = Relu(q) }", "q"),
    ("g (float[2,3] x) => (float[A] y) <int64[2] s = {4,-1}> { y = Reshape(x, s) }", "y"),
    ("g (float[2,3] x, float[3,3] z) => (float[A,B] y) { y = Concat<axis=1>(x, z) }", "y"),
])  # fmt: skip
def test_a_contradiction_names_its_node(text: str, node: str) -> None:
    with pytest.raises(ModelError, match=f"'{node}'"):
        inferred(text)


def test_hints_survive_only_where_nobody_knows_the_operator() -> None:
    model = inferred(
        '<ir_version: 10, opset_import: ["" : 21, "mine" : 1]>\ng (float[N,3] x) => (float[A,B] y) <float[9,9] a, float[N,7] b>'
        " { a = Relu(x) b = mine.Thing(a) y = Neg(b) }"
    )
    assert (shape_of(model, "a"), shape_of(model, "b"), shape_of(model, "y")) == ("[N,3]", "[N,7]", "[N,7]")


def test_the_model_gets_its_own_names_back() -> None:
    model = read("g (float[N,?] x, float[M,?] z) => (float[batch,width] y) { a = NonZero(x) y = Add(x, z) }")
    shapes.infer_shapes(model)
    shapes.infer_shapes(model)
    assert all(dims.is_known(dim) for value in model.graph.inputs for dim in value.shape or ())
    shapes.forget_ours(model)
    assert [str(value.shape) for value in model.graph.inputs] == ["[N,None]", "[M,None]"]
    assert str(model.graph.outputs[0].shape) == "[batch,width]"
    assert shape_of(model, "a") == "[2,None]"


def test_a_new_node_is_inferred_alone() -> None:
    model = inferred("g (float[N,3] x) => (float[A,B] y) { y = Relu(x) }")
    node = ir.Node("", "Transpose", [model.graph.inputs[0]])
    shapes.infer_node(node)
    assert (str(node.outputs[0].shape), node.outputs[0].dtype) == ("[3,N]", ir.DataType.FLOAT)
    unknown = ir.Node("", "NonZero", [model.graph.inputs[0]])
    shapes.infer_node(unknown)
    assert shapes.is_ours((unknown.outputs[0].shape or ())[1])


def test_known_numbers_stop_at_what_the_type_can_hold() -> None:
    model = inferred(
        "g (float[N] x) => (int32[1] y) <int64[1] big = {3000000000}> { a = Cast<to=6>(big) s = Shape(x) c = Cast<to=6>(s) y = Add(a, c) b = Mul(c, c) }"
    )
    assert shapes.known_ints(value_of(model, "a")) is None
    assert [str(item) for item in shapes.known_ints(value_of(model, "b")) or ()] == ["N*N"]
