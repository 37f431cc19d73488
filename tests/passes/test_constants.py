"""constants-to-initialisers: every way to write a constant becomes an initialiser of the same graph and name."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from graphwright.compiler.core.graph import all_graphs, bind_opsets
from graphwright.compiler.core.ledger import Ledger
from graphwright.compiler.core.passes import Context, format_pipeline, parse_pipeline
from graphwright.compiler.core.wellformed import check
from graphwright.passes.cleanup.constants import ConstantsToInitialisers

FORMS = """<ir_version: 10, opset_import: ["" : 21]> g (float[3] x, string[2] t) => (float[3] y, int64[2] z, bool[2] e, double[0] d) {
    a = Constant<value = float[3] {1.5, -0.0, 3}>() b = Constant<value_float = 2.0>() c = Constant<value_floats = [1.0, 2.0, 3.0]>()
    i = Constant<value_int = 7>() l = Constant<value_ints = [1, 2]>() s = Constant<value_string = "p">() r = Constant<value_strings = ["p", "q"]>()
    n = Constant<value = double[0] {}>() d = Identity(n)
    xa = Div(x, a) xb = Mul(xa, b) y = Add(xb, c) z = Add(l, i) es = Equal(t, s) er = Equal(t, r) e = And(es, er) }"""


def _load(text: str) -> ir.Model:
    model = ir.from_onnx_text(text)
    bind_opsets(model)
    return model


def test_every_form_becomes_an_initialiser(run_onnx, assert_same_bits) -> None:
    model = _load(FORMS)
    feeds = {"x": np.array([0.0, 1.0, np.inf], np.float32), "t": np.array(["p", "q"], dtype=object)}
    before = run_onnx(model, feeds)
    context = Context()
    assert ConstantsToInitialisers().run(model, context) == 8
    check(model)
    assert list(model.graph.initializers) == ["a", "b", "c", "i", "l", "s", "r", "n"]
    assert not any(node.op_type == "Constant" for node in model.graph)
    assert [(entry.rule, entry.where) for entry in context.ledger.entries[:2]] == [("constant-to-initialiser", "a"), ("constant-to-initialiser", "b")]
    assert_same_bits(before, run_onnx(model, feeds))
    assert ConstantsToInitialisers().run(model, Context()) == 0


def test_constant_of_a_branch_stays_in_its_branch(run_onnx, assert_same_bits) -> None:
    model = _load("""<ir_version: 10, opset_import: ["" : 21]> g (float[2] x, bool b) => (float[2] y) {
        k = Constant<value_float = 3.0>()
        y = If (b) <then_branch = p () => (float[2] u) { c = Constant<value_float = 2.0>() t = Mul(x, c) u = Add(t, k) },
                    else_branch = q () => (float[2] v) { v = Constant<value = float[2] {4, 5}>() }> }""")
    feeds = [{"x": np.array([1, 2], np.float32), "b": np.array(flag)} for flag in (True, False)]
    before = [run_onnx(model, feed) for feed in feeds]
    assert ConstantsToInitialisers().run(model, Context()) == 2
    check(model)
    assert [list(graph.initializers) for graph in all_graphs(model)] == [["k"], ["c"], []]
    for feed, old in zip(feeds, before, strict=True):
        assert_same_bits(old, run_onnx(model, feed))


def test_constant_that_is_an_output_stays_a_node(run_onnx) -> None:
    model = _load('<ir_version: 10, opset_import: ["" : 21]> g (float[1] x) => (float y, float[1] z) { y = Constant<value_float = 3.0>() z = Add(x, y) }')
    assert ConstantsToInitialisers().run(model, Context()) == 0
    assert run_onnx(model, {"x": np.zeros(1, np.float32)})["y"] == 3


def test_tensor_is_shared_and_not_copied() -> None:
    model = _load(FORMS)
    tensor = model.graph[0].attributes["value"].value
    ConstantsToInitialisers().run(model, Context())
    assert model.graph.initializers["a"].const_value is tensor


def test_old_ir_versions_are_raised_to_one_with_free_initialisers() -> None:
    model = _load('<ir_version: 3, opset_import: ["" : 9]> g (float[1] x) => (float[1] y) { k = Constant<value = float[1] {2}>() y = Add(x, k) }')
    assert ConstantsToInitialisers().run(model, Context()) == 1
    assert model.ir_version == 4
    onnx.checker.check_model(ir.to_proto(model))


def test_parameters_of_functions_stay() -> None:
    model = _load("""<ir_version: 10, opset_import: ["" : 21, "local" : 1]> g (float[1] x) => (float[1] y) { y = local.f<k = 2.0>(x) }
        <domain: "local", opset_import: ["" : 21]> f <k> (a) => (c) { v = Constant<value_float: float = @k>() c = Mul(a, v) }""")
    assert ConstantsToInitialisers().run(model, Context()) == 0


def test_ledger_says_no() -> None:
    model = _load(FORMS)
    assert ConstantsToInitialisers().run(model, Context(ledger=Ledger(denied=frozenset({("constant-to-initialiser", "a")})))) == 7
    assert model.graph[0].op_type == "Constant"
    check(model)


def test_pass_reads_and_writes_as_text() -> None:
    assert parse_pipeline(format_pipeline([ConstantsToInitialisers()])) == (ConstantsToInitialisers(),)
