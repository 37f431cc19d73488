"""A head that multiplies by the turned table of the embedding: its codes are stored once, and never beside the floats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.core.graph import all_graphs
from graphwright.compiler.core.judge import Willing
from graphwright.compiler.core.reasons import Skip, skip
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.rtn import Rtn

ROWS, WIDTH = 200, 64
BOTH = pytest.mark.parametrize("target", ["ort-cpu", "onnx"])
TEXT = """g (int64[N,L] ids) => (float[N,L,200] logits) {
    e = Gather(table, ids) h = MatMul(e, w) r = Tanh(h) t = Transpose<perm = [1, 0]>(table) logits = MatMul(r, t)
}"""


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture
def model(draw: Callable) -> ir.Model:
    return draw(TEXT, table=noise(ROWS, WIDTH), w=noise(WIDTH, WIDTH, seed=1) / 8)


def stored(model: ir.Model) -> int:
    """Bytes of all constants."""
    return sum(value.const_value.nbytes for graph in all_graphs(model) for value in graph.initializers.values() if value.const_value is not None)


def operators(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for graph in all_graphs(model) for node in graph)


class Unwilling(Willing):
    """Says that no product is faster in another form."""

    def slower(self, rule: str, before: ir.Model, after: ir.Model) -> Skip | None:
        return skip("not today")


@BOTH
@pytest.mark.parametrize(("form", "bits"), [("u8s8", 8), ("u8s7", 7)])
def test_an_embedding_reads_the_integers_of_its_head(form: str, bits: int, target: str, model: ir.Model, compress: Callable, run_twice: Callable) -> None:
    small, context = compress(model, f"quantize-dynamic{{format={form}}},eliminate-dead-code,fold-constants", target)
    assert context.coverage.taken == 3
    assert stored(small) < ROWS * WIDTH + WIDTH * WIDTH + 12 * (ROWS + WIDTH)
    assert 8 <= context.coverage.records["e"].bits < 9.5
    ids = np.arange(ROWS).reshape(4, -1)
    row = Rtn().quantize(np.ascontiguousarray(noise(ROWS, WIDTH).T), None, Grid(bits, True, 0, narrow=True)).matrix().T
    exact = run_twice(model, {"ids": ids})[0]["logits"]
    for found in run_twice(small, {"ids": ids}):
        assert np.linalg.norm(found["logits"] - exact) < 0.06 * np.linalg.norm(exact)
    for found in run_twice(_without_head(small), {"ids": ids}):
        np.testing.assert_allclose(found["rows"], row.reshape(4, -1, WIDTH), atol=1e-6)


def _without_head(model: ir.Model) -> ir.Model:
    """The model that hands the embedding out."""
    copy = ir.from_proto(ir.to_proto(model))
    product = next(node for node in copy.graph if node.op_type == "DynamicQuantizeLinear")
    rows = product.inputs[0]
    assert rows is not None
    rows.name = "rows"
    copy.graph.outputs.append(rows)
    return copy


@BOTH
def test_a_table_stays_where_its_head_stays(target: str, model: ir.Model, compress: Callable, run_twice: Callable) -> None:
    small, context = compress(model, "quantize-dynamic,eliminate-dead-code", target, judge=Unwilling())
    assert "'logits' too" in context.coverage.records["e"].why
    assert stored(small) == stored(model)
    small, context = compress(model, "quantize-weights{keep=logits},eliminate-dead-code", target)
    assert "stored twice" in context.coverage.records["e"].why
    assert operators(small)["Gather"] == 1
    assert stored(small) < ROWS * WIDTH * 4 + WIDTH * WIDTH
    for found in run_twice(small, {"ids": np.arange(6).reshape(2, 3)}):
        exact = run_twice(model, {"ids": np.arange(6).reshape(2, 3)})[0]["logits"]
        assert np.linalg.norm(found["logits"] - exact) < 0.2 * np.linalg.norm(exact)


def test_a_table_that_is_asked_for_alone_is_stored_as_integers(model: ir.Model, compress: Callable) -> None:
    for step in ("quantize-dynamic", "quantize-weights"):
        _, context = compress(model, f"{step}{{only=e}}")
        assert context.coverage.records["e"].form


def test_a_table_nobody_multiplies_by_has_its_own_eight_bits(draw: Callable, compress: Callable) -> None:
    model = draw("g (int64[N] ids) => (float[N,64] y) { e = Gather(table, ids) y = MatMul(e, w) }", table=noise(ROWS, WIDTH), w=noise(WIDTH, WIDTH))
    small, context = compress(model, "quantize-dynamic")
    assert context.coverage.taken == 2
    assert operators(small)["GatherBlockQuantized"] == 1
