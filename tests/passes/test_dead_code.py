"""eliminate-dead-code: what nobody needs goes, and nothing else."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.core.graph import all_graphs, bind_opsets
from graphwright.compiler.core.ledger import Ledger
from graphwright.compiler.core.passes import Context, format_pipeline, parse_pipeline
from graphwright.compiler.core.wellformed import check
from graphwright.passes.cleanup.dead_code import EliminateDeadCode

HEAD = '<ir_version: 10, opset_import: ["" : 21]>'
X = np.array([[-1.5, 0.0, 2.0], [np.inf, np.nan, -0.0]], np.float32)


def _load(text: str) -> ir.Model:
    model = ir.from_onnx_text(text)
    bind_opsets(model)
    return model


def _ops(model: ir.Model) -> list[list[str]]:
    return [[node.op_type for node in graph] for graph in all_graphs(model)]


def test_nodes_and_what_only_they_read_go(run_onnx, assert_same_bits) -> None:
    model = _load(f"""{HEAD} g (float[2,3] x, float[2,3] unread) => (float[2,3] y) <float k = {{1}}, float m = {{2}}, float n = {{3}}> {{
        a = Add(x, k) b = Mul(a, m) e = Constant<value_ints = [1]>() c, d = TopK(b, e) f = Exp(c) y = Sub(x, k) h = Neg(y) }}""")
    before = run_onnx(_load(f"{HEAD} g (float[2,3] x, float[2,3] unread) => (float[2,3] y) <float k = {{1}}> {{ y = Sub(x, k) }}"), {"x": X, "unread": X})
    context = Context()
    assert EliminateDeadCode().run(model, context) == 8
    check(model)
    assert _ops(model) == [["Sub"]] and list(model.graph.initializers) == ["k"]
    assert [value.name for value in model.graph.inputs] == ["x", "unread"]
    assert [entry.rule for entry in context.ledger.entries] == ["remove-node"] * 6 + ["remove-initialiser"] * 2
    assert_same_bits(before, run_onnx(model, {"x": X, "unread": X}))
    assert EliminateDeadCode().run(model, Context()) == 0


def test_nodes_in_branches_go_with_what_fed_them_from_outside(run_onnx, assert_same_bits) -> None:
    model = _load(f"""{HEAD} g (float[2,3] x, bool b) => (float[2,3] y) <float k = {{2}}> {{
        outer = Exp(x) kept = Neg(x)
        y = If (b) <then_branch = p () => (float[2,3] u) <float m = {{3}}> {{ t = Mul(outer, k) s = Mul(t, m) u = Abs(kept) }},
                    else_branch = q () => (float[2,3] v) {{ v = Abs(x) }}> }}""")
    feeds = [{"x": X, "b": np.array(flag)} for flag in (True, False)]
    before = [run_onnx(model, feed) for feed in feeds]
    assert EliminateDeadCode().run(model, Context()) == 5
    check(model)
    assert _ops(model) == [["Neg", "If"], ["Abs"], ["Abs"]] and not any(graph.initializers for graph in all_graphs(model))
    for feed, old in zip(feeds, before, strict=True):
        assert_same_bits(old, run_onnx(model, feed))


def test_dead_loop_goes_with_all_it_read() -> None:
    model = _load(f"""{HEAD} g (float[2,3] x) => (float[2,3] y) <int64 n = {{3}}> {{
        a = Exp(x)
        z = Loop(n, , x) <body = l (int64 i, bool go, float[2,3] s) => (bool more, float[2,3] next) {{ more = Identity(go) next = Add(s, a) }}>
        y = Neg(x) }}""")
    assert EliminateDeadCode().run(model, Context()) == 3
    assert _ops(model) == [["Neg"]]
    check(model)


def test_overridable_initialisers_are_inputs_and_stay() -> None:
    model = _load(f"{HEAD} g (float[1] x, float[1] k) => (float[1] y, float[1] o) <float[1] k = {{1}}, float[1] o = {{2}}> {{ y = Neg(x) }}")
    assert EliminateDeadCode().run(model, Context()) == 0
    assert list(model.graph.initializers) == ["k", "o"]


def test_dropout_mask_that_is_used_stays_and_the_unused_one_goes(run_onnx, assert_same_bits) -> None:
    model = _load(f"{HEAD} g (float[2,3] x) => (float[2,3] y, bool[2,3] m, float[2,3] z) {{ y, m = Dropout(x) z, n = Dropout(x) }}")
    before = run_onnx(model, {"x": X})
    assert EliminateDeadCode().run(model, Context()) == 1
    check(model)
    assert [len(node.outputs) for node in model.graph] == [2, 1]
    assert_same_bits(before, run_onnx(model, {"x": X}))


def test_outputs_in_the_middle_become_empty(run_onnx, assert_same_bits) -> None:
    model = _load(f"""{HEAD} g (float[4,2,3] x, float[1,8,3] w, float[1,8,2] r) => (float[1,2,2] c, float[4,1,2,2] y) {{
        s, h, c = LSTM<hidden_size = 2>(x, w, r) y, k, l = LSTM<hidden_size = 2>(x, w, r) }}""")
    generator = np.random.default_rng(0)
    feeds = {value.name: generator.standard_normal(value.shape.numpy()).astype(np.float32) for value in model.graph.inputs}
    before = run_onnx(model, feeds)
    assert EliminateDeadCode().run(model, Context()) == 4
    check(model)
    assert [[value.name for value in node.outputs] for node in model.graph] == [["", "", "c"], ["y"]]
    assert_same_bits(before, run_onnx(model, feeds))
    assert EliminateDeadCode().run(model, Context()) == 0


@pytest.mark.parametrize(("training", "dropped"), [(0, 2), (1, 0)])
def test_batch_normalization_that_trains_keeps_its_outputs(training: int, dropped: int) -> None:
    model = _load(f"""{HEAD} g (float[2,3,4] x, float[3] s) => (float[2,3,4] y) {{
        y, m, v = BatchNormalization<training_mode = {training}>(x, s, s, s, s) }}""")
    assert EliminateDeadCode().run(model, Context()) == dropped
    assert len(model.graph[0].outputs) == 3 - dropped


def test_batch_normalization_of_old_trains_by_having_outputs() -> None:
    model = _load(
        """<ir_version: 7, opset_import: ["" : 9]> g (float[2,3,4] x, float[3] s) => (float[2,3,4] y) { y, m, v = BatchNormalization(x, s, s, s, s) }"""
    )
    assert EliminateDeadCode().run(model, Context()) == 0


def test_outputs_of_split_and_loop_are_no_options() -> None:
    model = _load(f"""{HEAD} g (float[2,3] x) => (float[1,3] y) <int64 n = {{3}}> {{ y, z = Split<num_outputs = 2>(x) }}""")
    assert EliminateDeadCode().run(model, Context()) == 1
    assert len(model.graph[0].outputs) == 2


def test_functions_and_imports_without_users_go() -> None:
    model = _load("""<ir_version: 10, opset_import: ["" : 21, "local" : 1, "odd" : 3, "com.microsoft" : 1]> g (float[1] x) => (float[1] y) { y = local.f(x) }
        <domain: "local", opset_import: ["" : 21, "local" : 1]> f (a) => (c) { t = Exp(a) c = local.h(a) }
        <domain: "local", opset_import: ["" : 21, "com.microsoft" : 1]> h (a) => (c) { c = com.microsoft.QuickGelu(a) }
        <domain: "local", opset_import: ["" : 21, "odd" : 3]> unused (a) => (c) { c = odd.Op(a) }""")
    context = Context()
    assert EliminateDeadCode().run(model, context) == 3
    assert [(entry.rule, entry.where) for entry in context.ledger.entries] == [
        ("remove-function", "local::unused"),
        ("remove-node", "t"),
        ("remove-import", "odd"),
    ]
    assert model.opset_imports == {"": 21, "local": 1, "com.microsoft": 1}
    check(model)


def test_model_without_the_default_domain_keeps_its_imports() -> None:
    model = _load('<ir_version: 10, opset_import: ["com.microsoft" : 1]> g (float[1] x) => (float[1] y) { y = com.microsoft.QuickGelu(x) }')
    assert EliminateDeadCode().run(model, Context()) == 0
    assert model.opset_imports == {"com.microsoft": 1}


def test_sequence_operators_go_when_unused(run_onnx, assert_same_bits) -> None:
    model = _load(f"""{HEAD} g (float[2,3] x) => (float[2,3] y) {{
        s = SequenceConstruct(x, x) i = Constant<value_int = 0>() t = SequenceErase(s, i) u = SequenceInsert(t, x) y = SequenceAt(s, i) }}""")
    before = run_onnx(model, {"x": X})
    assert EliminateDeadCode().run(model, Context()) == 2
    assert_same_bits(before, run_onnx(model, {"x": X}))


def test_node_without_outputs_is_there_for_an_effect() -> None:
    model = _load('<ir_version: 10, opset_import: ["" : 21, "odd" : 1]> g (float[1] x) => (float[1] y) { y = Neg(x) z = odd.Print(x) }')
    model.graph[1].resize_outputs(0)
    assert EliminateDeadCode().run(model, Context()) == 0


def test_ledger_says_no() -> None:
    model = _load(f"{HEAD} g (float[1] x) => (float[1] y) {{ a = Exp(x) b = Exp(a) y = Neg(x) }}")
    assert EliminateDeadCode().run(model, Context(ledger=Ledger(denied=frozenset({("remove-node", "b")})))) == 0
    assert EliminateDeadCode().run(model, Context(ledger=Ledger(denied=frozenset({("remove-node", "a")})))) == 1
    assert _ops(model) == [["Exp", "Neg"]]


def test_pass_reads_and_writes_as_text() -> None:
    assert parse_pipeline(format_pipeline([EliminateDeadCode()])) == (EliminateDeadCode(),)
