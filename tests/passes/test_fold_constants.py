"""What only depends on constants is folded, and nothing else."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.core.graph import all_graphs, bind_opsets, clone_model
from graphwright.compiler.core.ledger import Ledger
from graphwright.compiler.core.passes import Context, format_pass, parse_pipeline
from graphwright.compiler.core.wellformed import check
from graphwright.passes.fold.constants import FoldConstants

HEAD = '<ir_version: 10, opset_import: ["" : 21]>\n'
X = {"x": np.array([[0.5, -2, 3]], np.float32)}


def read(text: str) -> ir.Model:
    model = ir.from_onnx_text(text if text.startswith("<") else HEAD + text)
    bind_opsets(model)
    return model


def fold(model: ir.Model, **options: int) -> Ledger:
    context = Context()
    changes = FoldConstants(**options).run(model, context)
    check(model)
    assert changes == len(context.ledger.entries)
    return context.ledger


def ops(model: ir.Model) -> list[str]:
    return sorted(node.op_type for graph in all_graphs(model) for node in graph)


FOLDED = {
    "a chain": ("g (float[N,3] x) => (float[N,3] y) <float[3] w = {1,4,9}> { a = Sqrt(w) b = Neg(a) c = Exp(b) y = Mul(x, c) }", ["Mul"]),
    "several outputs": (
        "g (float[N,3] x) => (float[N,3] y) <float[2,3] w = {1,2,3,4,5,6}, int64[1] k = {1}> { v, i = TopK<axis=0>(w, k) f = Cast<to=1>(i)"
        " a = Add(x, v) y = Add(a, f) }",
        ["Add", "Add"],
    ),
    "Constant nodes": ("g (float[N,3] x) => (float[N,3] y) { a = Constant<value_floats=[1.0, 2.0, 3.0]>() b = Neg(a) y = Add(x, b) }", ["Add"]),
    "a graph output": ("g (float[N,3] x) => (float[N,3] y, float[2] z) <float[2] w = {1,2}> { y = Relu(x) z = Exp(w) }", ["Identity", "Relu"]),
    "a result used inside and outside": (
        "g (float[N,3] x) => (float[N,3] y, float[3] z) <float[3] w = {1,2,3}> { z = Exp(w) a = Neg(z) y = Mul(x, a) }", ["Identity", "Mul"],
    ),
    "a size that only the numbers tell": (
        "g (float[N,3] x) => (float[A,B] y) <float[3] w = {1,0,2}> { a = NonZero(w) t = Transpose(a) i = Squeeze(t) y = Gather<axis=1>(x, i) }", ["Gather"],
    ),
    "NaN and infinity": ("g (float[N,3] x) => (float[N,3] y) <float[3] w = {-1,0,1}> { a = Log(w) c = Less(x, x) y = Where(c, x, a) }", ["Less", "Where"]),
    "a constant affine grid": (
        "g (float[N,3,2,2] x) => (float[N,3,2,2] y) <float[1,2,3] t = {1,0,0.5,0,1,0}, int64[4] s = {1,3,2,2}> { g = AffineGrid(t, s) y = GridSample(x, g) }",
        ["GridSample"],
    ),
    "half precision": ("g (float16[N,3] x) => (float16[N,3] y) <float[3] w = {1,2,3}> { a = Cast<to=10>(w) b = Neg(a) y = Mul(x, b) }", ["Mul"]),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDED)
def test_it_folds(name: str, run_onnx, assert_same_bits) -> None:
    text, left = FOLDED[name]
    model = read(text)
    before = clone_model(model)
    assert fold(model).entries
    assert ops(model) == left
    feeds = {}
    for value in model.graph.inputs:
        assert value.dtype is not None and value.shape is not None
        shape = [dim if isinstance(dim, int) else 1 for dim in value.shape]
        feeds[value.name] = np.linspace(-3, 3, int(np.prod(shape))).reshape(shape).astype(value.dtype.numpy())
    assert_same_bits(run_onnx(before, feeds), run_onnx(model, feeds))
    assert not fold(model).entries, "it fires on its own result"


LEFT = {
    "an initialiser that callers can override": "g (float[3] x, float[3] w) => (float[3] y) <float[3] w = {1,2,3}> { a = Neg(w) y = Add(x, a) }",
    "chance": "g (float[3] x) => (float[3] y) { a = RandomNormal<shape=[3]>() y = Add(x, a) }",
    "chance with a constant shape": "g (float[3] x) => (float[3] y) <float[3] w = {1,2,3}> { a = RandomUniformLike(w) y = Add(x, a) }",
    "a coin": "g (float[3] x) => (float[3] y) <float[3] w = {0.5,0.5,0.5}> { a = Bernoulli(w) y = Add(x, a) }",
    "dropout in training": "g (float[3] x) => (float[3] y) <float[3] w = {1,2,3}, float r = {0.5}, bool t = {1}> { a = Dropout(w, r, t) y = Add(x, a) }",
    "batch normalisation in training": (
        "g (float[1,2] x) => (float[1,2] y, float[2] m) <float[1,2] w = {1,2}, float[2] s = {1,1}, float[2] b = {0,0}, float[2] e = {0,0}, float[2] v = {1,1}>"
        " { a, m, r = BatchNormalization<training_mode=1>(w, s, b, e, v) y = Add(x, a) }"
    ),
    "old dropout, which trains": (
        '<ir_version: 10, opset_import: ["" : 6]>\ng (float[3] x) => (float[3] y) <float[3] w = {1,2,3}> { a = Dropout(w) y = Sum(x, a) }'
    ),
    "strings": 'g (string[2] x) => (bool[2] y) <string[2] w = {"a", "b"}> { a = Identity(w) y = Equal(x, a) }',
    "sequences": (
        "g (float[3] x) => (float[A] y) <float[3] w = {1,2,3}, int64 i = {0}> { s = SequenceConstruct(w, w) a = SequenceAt(s, i) y = Add(x, a) }"
    ),
    "dequantised weights": (
        "g (float[1,2] x) => (float[1,2] y) <int8[2,2] w = {1,2,3,4}, float s = {0.5}, int8 z = {0}> { a = DequantizeLinear(w, s, z) y = MatMul(x, a) }"
    ),
    "a node that cannot run": "g (float[3] x) => (float[3] y) <int64[1] i = {9}, float[3] w = {1,2,3}> { a = Gather(w, i) y = Add(x, a) }",
    "a division by zero": "g (int64[1] x) => (int64[1] y) <int64[1] o = {1}, int64[1] z = {0}> { a = Div(o, z) y = Add(x, a) }",
    "a divisor that is 0": "g (int64[1] x) => (int64[1] y) <int64[1] o = {1}> { a = Sub(o, o) y = Mod(x, a) }",
    "a division that would stop the process": (
        "g (int64[1] x) => (int64[1] y) <int64[1] o = {-9223372036854775808}, int64[1] z = {-1}> { a = Div(o, z) y = Add(x, a) }"
    ),
    "an output that already is a constant": "g (float[3] x) => (float[3] y, float[3] z) <float[3] w = {1,2,3}> { y = Relu(x) z = Identity(w) }",
    "a foreign operator": (
        '<ir_version: 10, opset_import: ["" : 21, "mine" : 1]>\ng (float[3] x) => (float[3] y) <float[3] w = {1,2,3}> { a = mine.Exp(w) y = Add(x, a) }'
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_it_leaves(name: str) -> None:
    model = read(LEFT[name])
    before = ops(model)
    assert not fold(model).entries
    assert ops(model) == before


GROWING = {
    "Expand": "int64[2] s = {1000,1000}, float v = {1}> { a = Expand(v, s)",
    "ConstantOfShape": "int64[2] s = {1000,1000}> { a = ConstantOfShape(s)",
    "Tile": "int64[2] s = {1000,500}, float[1,2] v = {1,2}> { a = Tile(v, s)",
    "OneHot": "int64[2] i = {1,2}, int64 d = {500000}, float[2] v = {0,1}> { a = OneHot(i, d, v)",
    "Range": "float z = {0}, float o = {1}, float e = {1000000}> { a = Range(z, e, o)",
    "a detour over a large value": "int64[2] s = {100000,1000}, float v = {1}> { e = Expand(v, s) a = ReduceSum<keepdims=0>(e)",
}


@pytest.mark.parametrize("name", GROWING)
def test_a_small_recipe_is_not_blown_up(name: str) -> None:
    model = read(f"g (float[1] x) => (float[A,B] y) <{GROWING[name]} y = Add(x, a) }}")
    before = ops(model)
    assert not fold(model).entries
    assert ops(model) == before


def test_a_large_result_is_stored_where_it_replaces_as_much() -> None:
    text = "g (float[N,1000] x) => (float[N,400] y{extra}) {{ t = Transpose(w) y = MatMul(x, t) {more} }}"
    for extra, more, left in (("", "", ["MatMul"]), (", float[N,1000] z", "u = MatMul(y, w) z = Relu(u)", ["MatMul", "MatMul", "Relu", "Transpose"])):
        model = read(text.format(extra=extra, more=more))
        weight = next(node for node in model.graph if node.op_type == "Transpose").inputs[0]
        assert weight is not None
        weight.const_value = ir.tensor(np.zeros((400, 1000), np.float32))
        model.graph.register_initializer(weight)
        fold(model)
        assert ops(model) == left


def test_a_weight_that_two_results_share_is_not_counted_twice() -> None:
    model = read(
        "g (float[N,1000] x) => (float[N,400] y) { t = Transpose(w) u = Exp(w) v = Transpose(u) a = MatMul(x, t) b = MatMul(x, v) c = Mul(a, b) y = Relu(c) }"
    )
    weight = model.graph[0].inputs[0]
    assert weight is not None
    weight.const_value = ir.tensor(np.zeros((400, 1000), np.float32))
    model.graph.register_initializer(weight)
    fold(model)
    assert "Transpose" in ops(model)


def test_the_cap_is_an_option() -> None:
    text = "g (float[8] x) => (float[8] y) <int64[1] s = {8}, float v = {2}> { a = Expand(v, s) y = Mul(x, a) }"
    assert fold(read(text), max_bytes=32).entries
    assert not fold(read(text), max_bytes=31).entries
    (step,) = parse_pipeline("fold-constants{max_bytes=31}")
    assert step == FoldConstants(max_bytes=31) and format_pass(step) == "fold-constants{max_bytes=31}"


SUBGRAPHS = (
    "g (bool c, float[N,3] x) => (float[N,3] y) <float[3] w = {1,2,3}> { o = Exp(w) y = If(c) <then_branch = t () => (float[N,3] r)"
    " { a = Neg(w) b = Sqrt(w) d = Mul(a, b) e = Add(d, o) r = Mul(x, e) }, else_branch = f () => (float[3] q)"
    " { k = Constant<value_float=2.0>() q = Mul(w, k) }> }"
)


def test_constants_fold_inside_branches_and_stay_in_order(run_onnx, assert_same_bits) -> None:
    model = read(SUBGRAPHS)
    before = clone_model(model)
    fold(model)
    assert ops(model) == ["Identity", "If", "Mul"]
    for truth in (True, False):
        feeds = {**X, "c": np.array(truth)}
        assert_same_bits(run_onnx(before, feeds), run_onnx(model, feeds))
    assert not fold(model).entries


def test_constants_fold_inside_a_loop(run_onnx, assert_same_bits) -> None:
    model = read(
        "g (int64 n, float[3] x) => (float[3] y) <float[3] w = {1,2,3}> { y = Loop(n, , x) <body = b (int64 i, bool c, float[3] a) => (bool d, float[3] e)"
        " { d = Identity(c) k = Exp(w) l = Neg(k) e = Add(a, l) }> }"
    )
    before = clone_model(model)
    fold(model)
    assert ops(model) == ["Add", "Identity", "Loop"]
    for count in (0, 3):
        feeds = {"x": np.ones(3, np.float32), "n": np.array(count)}
        assert_same_bits(run_onnx(before, feeds), run_onnx(model, feeds))


@pytest.mark.parametrize(
    ("dtype", "kind"), [(ir.DataType.BFLOAT16, ml_dtypes.bfloat16), (ir.DataType.INT4, ml_dtypes.int4), (ir.DataType.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fn)]
)
def test_narrow_types_keep_their_type(dtype: ir.DataType, kind: type) -> None:
    model = read(
        f"g (float[3] x) => (float[3] y) <float[3] w = {{1,2,3}}, int64[1] s = {{3}}> {{ a = Cast<to={int(dtype)}>(w) b = Reshape(a, s)"
        f" c = Cast<to=1>(b) y = Add(x, c) z = Identity(b) }}"
    )
    model.graph.outputs.append(model.graph[-1].outputs[0])
    fold(model)
    kept = next(value for value in model.graph.initializers.values() if value.dtype == dtype)
    assert kept.const_value is not None and kept.const_value.numpy().dtype == kind
    np.testing.assert_array_equal(kept.const_value.numpy().astype(np.float32), [1, 2, 3])


def test_without_a_default_opset_nothing_is_guessed() -> None:
    model = read("g (float[3] x) => (float[3] y) <float[3] w = {1,2,3}> { a = Exp(w) y = Add(x, a) }")
    del model.graph.opset_imports[""]
    for node in model.graph:
        node.version = None
    context = Context()
    FoldConstants().run(model, context)
    assert not context.ledger.entries


def test_what_the_ledger_refuses_stays() -> None:
    text = "g (float[3] x) => (float[3] y, float[3] z) <float[3] w = {1,2,3}> { a = Exp(w) b = Neg(w) y = Mul(x, a) z = Mul(x, b) }"
    model = read(text)
    assert FoldConstants().run(model, Context(ledger=Ledger(limit=1))) == 1
    assert ops(model) == ["Mul", "Mul", "Neg"]
    model = read(text)
    assert FoldConstants().run(model, Context(ledger=Ledger(denied=frozenset({("fold-constants", "a")})))) == 1
    assert ops(model) == ["Exp", "Mul", "Mul"]
    check(model)


def test_names_survive_where_they_can() -> None:
    model = read("g (float[3] x) => (float[3] y) <float[3] w = {1,2,3}> { scaled = Exp(w) y = Add(x, scaled) }")
    fold(model)
    assert "scaled" in model.graph.initializers
