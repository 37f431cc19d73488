"""Shape arithmetic becomes constants that are right for every size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.core.graph import all_graphs, array, bind_opsets, clone_model
from graphwright.compiler.core.ledger import Ledger
from graphwright.compiler.core.passes import Context, parse_pipeline
from graphwright.compiler.core.shapes import forget_ours, infer_shapes, known_ints
from graphwright.compiler.core.wellformed import check
from graphwright.models.tiny import FAMILIES, find_tiny
from graphwright.passes.fold.reshape import constant_target
from graphwright.passes.fold.shapes import FoldShapes

HEAD = '<ir_version: 10, opset_import: ["" : 21]>\n'
SIZES = [{"N": n, "M": m} for n, m in ((3, 5), (1, 1), (2, 1), (1, 4), (0, 3), (4, 0), (0, 0))]


def read(text: str) -> ir.Model:
    model = ir.from_onnx_text(text if text.startswith("<") else HEAD + text)
    bind_opsets(model)
    return model


def fold(model: ir.Model) -> Ledger:
    context = Context()
    changes = FoldShapes().run(model, context)
    check(model)
    assert changes == len(context.ledger.entries)
    return context.ledger


def ops(model: ir.Model) -> list[str]:
    return sorted(node.op_type for graph in all_graphs(model) for node in graph)


def feeds_for(model: ir.Model, sizes: dict[str, int]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    feeds = {}
    for value in model.graph.inputs:
        assert value.dtype is not None and value.shape is not None
        shape = [dim if isinstance(dim, int) else sizes[dim.value or ""] for dim in value.shape]
        numbers = np.asarray(random.standard_normal(shape) * 3)
        feeds[value.name or ""] = np.asarray(numbers > 0) if value.dtype == ir.DataType.BOOL else numbers.astype(value.dtype.numpy())
    return feeds


def assert_same_at_every_size(before: ir.Model, after: ir.Model, run_onnx, assert_same_bits, least: int = 4) -> None:
    """Wherever the model runs at all, it gives the same as before."""
    forget_ours(after)
    ran = 0
    for sizes in SIZES:
        feeds = feeds_for(before, sizes)
        try:
            expected = run_onnx(before, feeds)
        except Exception:
            continue
        assert_same_bits(expected, run_onnx(after, feeds))
        ran += 1
    assert ran >= least


# Each with the operators that are left.
FOLDED = {
    "the size of a fixed dimension": (
        "g (float[N,8] x) => (float[N,8] y) <int64 one = {1}> { s = Shape(x) d = Gather(s, one) f = Cast<to=1>(d) y = Div(x, f) }", ["Cast", "Div"],
    ),
    "a shape with start beyond end": ("g (float[N,8] x) => (int64[0] y) { y = Shape<start=2, end=1>(x) }", ["Identity"]),
    "a comparison of sizes": (
        "g (float[N,8] x) => (float[N,8] y) <int64 m = {-1}> { n = Size(x) q = Equal(n, m) f = Cast<to=1>(q) y = Add(x, f) }", ["Add", "Cast"],
    ),
    "a view": (
        "g (float[N,M,8] x) => (float[A,B,C,D] y) <int64[2] t = {2,4}> { s = Shape<end=2>(x) r = Concat<axis=0>(s, t) y = Reshape(x, r) }", ["Reshape"],
    ),
    "a view where zeros count": (
        "g (float[N,M,8] x) => (float[A,B,C,D] y) <int64[2] t = {2,4}> { s = Shape<end=2>(x) r = Concat<axis=0>(s, t)"
        " y = Reshape<allowzero=1>(x, r) }",
        ["Reshape"],
    ),
    "flattened tokens": (
        "g (float[N,M,8] x) => (float[A,B] y) <int64[1] w = {8}> { n = Shape<end=1>(x) m = Shape<start=1, end=2>(x) c = Mul(n, m) s = Concat<axis=0>(c, w)"
        " y = Reshape<allowzero=1>(x, s) }",
        ["Reshape"],
    ),
    "a reshape to the shape it has": ("g (float[N,M,8] x) => (float[N,M,8] y) { s = Shape(x) a = Reshape(x, s) y = Relu(a) }", ["Relu"]),
    "two expands that the sum of their sources does": (
        "g (float[N,1] x, float[1,M] z, float[N,M] w) => (float[N,M] y)"
        " { s = Shape(w) a = Expand(x, s) t = Shape(w) b = Expand(z, t) c = Mul(a, b) y = Add(c, w) }",
        ["Add", "Mul"],
    ),
    "a tile that only expands": ("g (float[N,1] x, float[N,3] z) => (float[N,3] y) <int64[2] r = {1,3}> { a = Tile(x, r) y = Sub(a, z) }", ["Sub"]),
    "an expand to the shape it has": ("g (float[N,M] x) => (float[N,M] y) { s = Shape(x) a = Expand(x, s) y = Relu(a) }", ["Relu"]),
    "an expand that its reader does": (
        "g (float[N,M] x, float[M] z) => (float[N,M] y) { s = Shape(x) a = Expand(z, s) y = Mul(a, x) }", ["Mul"],
    ),
    "a filled tensor that its reader spreads": (
        "g (float[N,M] x) => (float[N,M] y) { s = Shape(x) a = ConstantOfShape<value = float[1] {3}>(s) b = ConstantOfShape(s) c = Mul(x, a)"
        " y = Sub(b, c) }",
        ["Mul", "Sub"],
    ),
    "an expand of an expand": (
        "g (float[1,8] x, float[N,M,8] z) => (float[N,M,8] y) <int64[1] o = {1}, int64[1] e = {8}> { m = Shape<start=1, end=2>(z) s = Concat<axis=0>(m, e)"
        " a = Expand(x, s) t = Shape(z) y = Expand(a, t) }",
        ["Expand", "Shape"],
    ),
    "expand as torch writes it": (
        "g (float[1,8] x, float[N,8] z) => (float[N,8] y) <int64[1] w = {8}, int64[2] o = {1,1}, int64 m = {-1}> { a = Shape<end=1>(z) s = Concat<axis=0>(a, w)"
        " q = Equal(s, m) c = Where(q, o, s) e = Expand(x, c) y = Add(e, z) }",
        ["Add"],
    ),
    "the same shape from two tensors": (
        "g (float[N,M] x) => (float[N,M] y, float[N,M] z) <float o = {1}> { a = Relu(x) s = Shape(x) t = Shape(a) y = Expand(o, s) z = Expand(o, t) }",
        ["Expand", "Expand", "Shape"],
    ),
    "a shape inside a branch": (
        "g (bool c, float[N,8] x) => (float[N,8] y) { y = If(c) <then_branch = t () => (float[N,8] r) { s = Shape(x) a = Reshape(x, s) r = Relu(a) },"
        " else_branch = e () => (float[N,8] q) { q = Neg(x) }> }",
        ["If", "Neg", "Relu"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDED)
def test_it_folds(name: str, run_onnx, assert_same_bits) -> None:
    text, left = FOLDED[name]
    model = read(text)
    before = clone_model(model)
    assert fold(model).entries
    assert ops(model) == left
    assert_same_at_every_size(before, model, run_onnx, assert_same_bits)
    assert not fold(model).entries, "it fires on its own result"


LEFT = {
    "a size that is not known": "g (float[N,8] x) => (int64[2] y) { s = Shape(x) y = Neg(s) }",
    "a reshape where a copy would fail on an empty tensor": (
        "g (float[N,2,M,8] x) => (float[A,B,C] y) <int64[2] t = {2,-1}> { n = Shape<end=1>(x) m = Shape<start=2, end=3>(x) e = Constant<value_int=16>()"
        " o = Constant<value_ints=[1]>() f = Reshape(e, o) r = Concat<axis=0>(n, m, f) y = Reshape<allowzero=1>(x, r) }"
    ),
    "an expand that its reader does not do": "g (float[N,1] x, float[1,M] z) => (float[N,M] y) { s = Shape(z) a = Expand(x, s) y = Add(a, x) }",
    "an expand whose size may exceed the reader's": "g (float[N] x, float[1] z, float[M] w) => (float[A] y) { s = Shape(w) a = Expand(z, s) y = Add(a, x) }",
    "a tile of more than one": "g (float[N,2] x, float[N,4] z) => (float[N,4] y) <int64[2] r = {1,2}> { a = Tile(x, r) y = Sub(a, z) }",
    "a tile of what may not be one": "g (float[N,M] x, float[N,3] z) => (float[N,3] y) <int64[2] r = {1,3}> { a = Tile(x, r) y = Sub(a, z) }",
    "an expand that is an output": "g (float[1] x, float[N] z) => (float[N] y) { s = Shape(z) y = Expand(x, s) }",
    "an expand that a matrix product reads": "g (float[1,3] x, float[N,3,4] z) => (float[N,1,4] y) <int64[2] t = {1,3}> { n = Shape<end=1>(z)"
    " s = Concat<axis=0>(n, t) a = Expand(x, s) y = MatMul(a, z) }",
    "a reshape of a sequence's tensor": (
        "g (float[N] x, float[M] z) => (float[A] y) <int64 i = {0}> { s = SequenceConstruct(x, z) a = SequenceAt(s, i) t = Shape(x) y = Expand(a, t) }"
    ),
    "what an old operator would not spread": (
        '<ir_version: 10, opset_import: ["" : 7]>\ng (float[N,M] x) => (float[N,M] y) <float[1] o = {2}> { s = Shape(x) a = Tile(o, s) y = Sum(x, x) }'
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_it_leaves(name: str) -> None:
    model = read(LEFT[name])
    before = ops(model)
    entries = fold(model).entries
    assert not [entry for entry in entries if entry.rule not in ("fold-known-numbers",)]
    if not entries:
        assert ops(model) == before


def test_a_reshape_that_copies_in_place_keeps_empty_tensors_whole(run_onnx, assert_same_bits) -> None:
    model = read(FOLDED["a view where zeros count"][0])
    before = clone_model(model)
    fold(model)
    (node,) = model.graph
    target = array(node.inputs[1])
    assert target is not None and target.tolist() == [0, 0, 2, 4] and "allowzero" not in node.attributes
    assert_same_at_every_size(before, model, run_onnx, assert_same_bits, least=7)


@pytest.mark.parametrize(("data", "made", "positive", "target"), [
    (("N", "M", 8), ("N", "M", 2, 4), (), [0, 0, 2, 4]),
    (("N", "M", 8), ("N*M", 8), (), [-1, 8]),
    (("N", 2, "M"), ("N", "M", 2), (), None),
    (("N", 2, "M"), ("N", "M", 2), ("N",), [0, -1, 2]),
    (("N", "M"), ("M", "N"), ("N", "M"), None),
    ((4, 6), (3, 8), (), [3, 8]),
    ((0, 6), (0, 3, 2), (), [0, 3, 2]),
    ((6, 0), (0, 6), (), [-1, 6]),
    ((0, 6), (3, 0), (), [3, -1]),
    (("N", 6), ("?", 6), (), [-1, 6]),
])  # fmt: skip
def test_a_target_is_written_only_where_it_is_right_for_empty_tensors(data, made, positive, target) -> None:
    def dims(shape: tuple[object, ...]) -> tuple[object, ...]:
        return tuple(size if isinstance(size, int) else ir.SymbolicDim(str(size)) for size in shape)

    assert constant_target(dims(data), dims(made), frozenset(positive)) == target


def test_a_reshape_that_reads_an_empty_size_as_a_copy_stays_as_it_is(run_onnx, assert_same_bits) -> None:
    model = read("g (float[N,4] x, float[M] z) => (float[A,B] y) <int64[1] m = {-1}> { d = Shape(z) s = Concat<axis=0>(d, m) y = Reshape(x, s) }")
    before = clone_model(model)
    fold(model)
    assert_same_at_every_size(before, model, run_onnx, assert_same_bits)


def test_a_shape_computed_for_something_that_goes_is_not_taken_for_another(run_onnx, assert_same_bits) -> None:
    """The second shape is found in the first, which disappears before the third is looked at."""
    model = read(
        "g (float[N,M] x) => (float[A,B] y) <int64[2] o = {1,1}, float f = {2}> { a = Relu(x) s = Shape(x) t = Mul(s, o) u = Max(t, o) v = Max(u, s)"
        " b = Shape(a) c = Mul(b, o) y = Expand(f, c) }"
    )
    before = clone_model(model)
    fold(model)
    assert_same_at_every_size(before, model, run_onnx, assert_same_bits)


def test_what_the_ledger_refuses_stays() -> None:
    text = FOLDED["expand as torch writes it"][0]
    count = len(fold(read(text)).entries)
    for limit in range(count):
        model = read(text)
        assert FoldShapes().run(model, Context(ledger=Ledger(limit=limit))) == limit
        check(model)


@pytest.mark.parametrize(("name", "exporter"), [("bert", "dynamo"), ("bert", "torchscript"), ("llama", "dynamo")])
def test_exported_transformers_lose_their_shape_arithmetic(name: str, exporter: str, tmp_path: Path, run_onnx, assert_same_bits) -> None:
    _assert_family_folds(name, exporter, tmp_path, run_onnx, assert_same_bits)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "exporter"), [(tiny.name, exporter) for tiny in FAMILIES for exporter in tiny.exporters])
def test_every_exported_family_loses_its_shape_arithmetic(name: str, exporter: str, tmp_path: Path, run_onnx, assert_same_bits) -> None:
    _assert_family_folds(name, exporter, tmp_path, run_onnx, assert_same_bits)


def _assert_family_folds(name: str, exporter: str, folder: Path, run_onnx, assert_same_bits) -> None:
    tiny = find_tiny(name)
    model = ir.load(tiny.export(folder, exporter, optimize=False))  # type: ignore[arg-type]
    bind_opsets(model)
    before = clone_model(model)
    for step in parse_pipeline("drop-no-ops,fold-shapes"):
        step.run(model, Context())
    check(model)
    assert 4 * _shape_arithmetic(model) <= _shape_arithmetic(before)
    forget_ours(model)
    wanted = {value.name for value in model.graph.inputs}
    for feeds in tiny.feeds(4):
        chosen = {key: value for key, value in feeds.items() if key in wanted}
        assert_same_bits(run_onnx(before, chosen), run_onnx(model, chosen))


def _shape_arithmetic(model: ir.Model) -> int:
    """How many nodes compute sizes."""
    measured = clone_model(model)
    infer_shapes(measured)
    return sum(known_ints(value) is not None and node.op_type != "Constant" for node in measured.graph for value in node.outputs)
