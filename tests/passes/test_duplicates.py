"""deduplicate-initialisers: same dtype, shape and bits, and nothing else."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.core.graph import all_graphs, bind_opsets
from graphwright.compiler.core.ledger import Ledger
from graphwright.compiler.core.passes import Context, format_pipeline, parse_pipeline
from graphwright.compiler.core.wellformed import check
from graphwright.passes.cleanup.duplicates import DeduplicateInitialisers

HEAD = '<ir_version: 10, opset_import: ["" : 21]>'


def _load(text: str) -> ir.Model:
    model = ir.from_onnx_text(text)
    bind_opsets(model)
    return model


def _holding(*tensors: ir.TensorProtocol) -> ir.Model:
    """A model whose initialisers t0, t1, ... hold the tensors, each read by an Identity that is an output."""
    values = [
        ir.Value(name=f"t{index}", shape=ir.Shape(tensor.shape), type=ir.TensorType(tensor.dtype), const_value=tensor) for index, tensor in enumerate(tensors)
    ]
    nodes = [ir.node("Identity", [value]) for value in values]
    for index, node in enumerate(nodes):
        node.outputs[0].name = f"y{index}"
    graph = ir.Graph([], [node.outputs[0] for node in nodes], nodes=nodes, initializers=values, opset_imports={"": 21}, name="g")
    return ir.Model(graph, ir_version=10)


def test_equal_initialisers_become_one(run_onnx, assert_same_bits) -> None:
    model = _load(f"""{HEAD} g (float[2] x) => (float[2] y) <float[2] a = {{1, 2}}, float[2] b = {{1, 2}}, float[2] c = {{1, 3}}, float[2] d = {{1, 2}}> {{
        p = Add(x, a) q = Mul(p, b) r = Sub(q, c) y = Div(r, d) }}""")
    feeds = {"x": np.array([np.nan, -0.0], np.float32)}
    before = run_onnx(model, feeds)
    context = Context()
    assert DeduplicateInitialisers().run(model, context) == 2
    check(model)
    assert list(model.graph.initializers) == ["a", "c"]
    assert [entry.where for entry in context.ledger.entries] == ["b", "d"]
    assert_same_bits(before, run_onnx(model, feeds))
    assert DeduplicateInitialisers().run(model, Context()) == 0


QUIET_NAN, OTHER_NAN = np.array([0x7FC00000, 0x7FC00001], np.uint32).view(np.float32)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (np.zeros(2, np.float32), np.zeros((2, 1), np.float32)),
        (np.zeros(2, np.float32), np.zeros(2, np.int32)),
        (np.array([0.0], np.float32), np.array([-0.0], np.float32)),
        (np.array([QUIET_NAN], np.float32), np.array([OTHER_NAN], np.float32)),
        (np.zeros(5000, np.float32), np.concatenate([np.zeros(4999, np.float32), np.ones(1, np.float32)])),
        (np.array([1, 2], ml_dtypes.int4), np.array([1, 3], ml_dtypes.int4)),
        (np.array(["ab", "c"]), np.array(["a", "bc"])),
    ],
)
def test_what_differs_in_a_bit_stays_apart(first: np.ndarray, second: np.ndarray) -> None:
    model = _holding(ir.tensor(first), ir.tensor(second))
    assert DeduplicateInitialisers().run(model, Context()) == 0
    model = _holding(ir.tensor(first), ir.tensor(first.copy()))
    assert DeduplicateInitialisers().run(model, Context()) == 1


def test_tensors_on_disk_are_compared_with_those_in_memory(tmp_path: Path) -> None:
    content = np.arange(4_000_000, dtype=np.float32)
    other = content.copy()
    other[-1] = 0
    (tmp_path / "w.data").write_bytes(content.tobytes() + other.tobytes())
    size, shape = content.nbytes, ir.Shape([content.size])
    on_disk = [ir.ExternalTensor("w.data", start, size, ir.DataType.FLOAT, shape=shape, name=f"t{start}", base_dir=tmp_path) for start in (0, size)]
    model = _holding(ir.tensor(content), *on_disk)
    assert DeduplicateInitialisers().run(model, Context()) == 1
    assert list(model.graph.initializers) == ["t0", "t2"]


def test_subgraph_uses_the_equal_one_outside(run_onnx, assert_same_bits) -> None:
    model = _load(f"""{HEAD} g (float[2] x, bool b) => (float[2] y, float[2] z) <float[2] k = {{1, 2}}> {{
        z = Add(x, k)
        y = If (b) <then_branch = p () => (float[2] u) <float[2] m = {{1, 2}}, float[2] n = {{3, 4}}> {{ t = Mul(x, m) u = Add(t, n) }},
                    else_branch = q () => (float[2] v) <float[2] o = {{3, 4}}> {{ v = Mul(x, o) }}> }}""")
    feeds = [{"x": np.array([1, 2], np.float32), "b": np.array(flag)} for flag in (True, False)]
    before = [run_onnx(model, feed) for feed in feeds]
    assert DeduplicateInitialisers().run(model, Context()) == 1
    check(model)
    assert [list(graph.initializers) for graph in all_graphs(model)] == [["k"], ["n"], ["o"]]
    for feed, old in zip(feeds, before, strict=True):
        assert_same_bits(old, run_onnx(model, feed))


def test_name_that_means_something_else_inside_is_not_reached_for() -> None:
    model = _load(f"""{HEAD} g (float[2] x, bool b) => (float[2] y, float[2] z) <float[2] k = {{1, 2}}> {{
        z = Add(x, k)
        y = If (b) <then_branch = p () => (float[2] u) <float[2] m = {{1, 2}}> {{ t = Mul(x, m) u = Neg(t) }},
                    else_branch = q () => (float[2] v) {{ v = Neg(x) }}> }}""")
    inner = next(node for graph in all_graphs(model) for node in graph if node.op_type == "Mul")
    inner.outputs[0].name = "k"
    assert DeduplicateInitialisers().run(model, Context()) == 0


def test_what_a_caller_can_override_or_an_output_shows_stays() -> None:
    model = _load(f"""{HEAD} g (float[2] x, float[2] a) => (float[2] y, float[2] b) <float[2] a = {{1, 2}}, float[2] b = {{1, 2}}, float[2] c = {{1, 2}}> {{
        p = Add(x, a) q = Mul(p, b) y = Sub(q, c) }}""")
    assert DeduplicateInitialisers().run(model, Context()) == 1
    assert list(model.graph.initializers) == ["a", "b"]
    check(model)


def test_statistics_that_training_overwrites_are_shared_with_nothing() -> None:
    model = _load(f"""{HEAD} g (float[2,1,2,2] x) => (float[2,1,2,2] y) <float[1] s = {{1}}, float[1] b = {{0}}, float[1] m = {{0}}, float[1] v = {{1}}> {{
        y, p, q = BatchNormalization<training_mode=1>(x, s, b, m, v)
    }}""")
    assert DeduplicateInitialisers().run(model, Context()) == 0


def test_ledger_says_no() -> None:
    model = _holding(*[ir.tensor(np.ones(3, np.float32)) for _ in range(4)])
    assert DeduplicateInitialisers().run(model, Context(ledger=Ledger(denied=frozenset({("merge-initialisers", "t2")})))) == 2
    assert list(model.graph.initializers) == ["t0", "t2"]


def test_pass_reads_and_writes_as_text() -> None:
    assert parse_pipeline(format_pipeline([DeduplicateInitialisers()])) == (DeduplicateInitialisers(),)
