"""eliminate-common-subexpressions: what is computed twice is computed once, and nothing that differs is merged."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.core.graph import all_graphs, bind_opsets
from graphwright.compiler.core.ledger import Ledger
from graphwright.compiler.core.passes import Context, format_pipeline, parse_pipeline
from graphwright.compiler.core.wellformed import check
from graphwright.passes.cleanup.cse import EliminateCommonSubexpressions

HEAD = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>'
SPECIAL = np.array([[0.0, -0.0, np.inf], [-np.inf, np.nan, -1.5]], np.float32)
OTHER = np.array([[-0.0, 0.0, 1.0], [np.nan, 2.0, 3.0]], np.float32)


def _load(text: str) -> ir.Model:
    model = ir.from_onnx_text(text)
    bind_opsets(model)
    return model


def _pair(first: str, second: str, declared: str = "", head: str = HEAD) -> ir.Model:
    """Two nodes whose results are told apart by a Concat that is the output."""
    return _load(
        f"""{head} g (float[2,3] x, float[2,3] w, int64[2,3] i, int64[2,3] j, bool[2,3] p, bool[2,3] q) => (float[...] y) {declared} {{
        {first} {second} y = Concat<axis=0>(a, b) }}""".replace("float[...] y", "float[4,3] y")
    )


FEEDS = {
    "x": SPECIAL,
    "w": OTHER,
    "i": np.array([[1, -2, 3], [4, 5, 6]]),
    "j": np.array([[6, 5, 4], [3, 2, 1]]),
    "p": np.array([[True, False, True]] * 2),
    "q": np.array([[True, True, False]] * 2),
}

EQUAL = {
    "the same": ("a = Exp(x)", "b = Exp(x)"),
    "commuted sum": ("a = Add(x, w)", "b = Add(w, x)"),
    "commuted product": ("a = Mul(x, w)", "b = Mul(w, x)"),
    "commuted Sum of two": ("a = Sum(x, w)", "b = Sum(w, x)"),
    "commuted Mean of two": ("a = Mean(x, w)", "b = Mean(w, x)"),
    "default written out": ("a = LeakyRelu(x)", "b = LeakyRelu<alpha = 0.01>(x)"),
    "default of another name": ("a = Softmax<axis = -1>(x)", "b = Softmax(x)"),
    "equal attributes in another order": ("a = Selu<alpha = 1.0, gamma = 2.0>(x)", "b = Selu<gamma = 2.0, alpha = 1.0>(x)"),
    "missing input at the end": ("a = Clip(x, k)", "b = Clip(x, k, )"),
    "equal constants": ("a = Add(x, k)", "b = Add(m, x)"),
}
DIFFERENT = {
    "difference": ("a = Sub(x, w)", "b = Sub(w, x)"),
    "attribute": ("a = LeakyRelu<alpha = 0.1>(x)", "b = LeakyRelu<alpha = 0.2>(x)"),
    "sign of a zero attribute": ("a = LeakyRelu<alpha = 0.0>(x)", "b = LeakyRelu<alpha = -0.0>(x)"),
    "sign of a zero constant": ("a = Add(x, z)", "b = Add(x, n)"),
    "maximum of floats, commuted": ("a = Max(x, w)", "b = Max(w, x)"),
    "minimum of floats, commuted": ("a = Min(x, w)", "b = Min(w, x)"),
    "sum of three, commuted": ("a = Sum(x, w, k)", "b = Sum(w, k, x)"),
    "random": ("a = RandomNormalLike<seed = 1.0>(x)", "b = RandomNormalLike<seed = 1.0>(x)"),
    "random choice": ("a = Bernoulli(r)", "b = Bernoulli(r)"),
    "missing input in the middle": ("a = Clip(x, k)", "b = Clip(x, , k)"),
    "dropout that trains": ("a = Dropout(x, h, t)", "b = Dropout(x, h, t)"),
}
HELD = "<float k = {0.5}, float m = {0.5}, float z = {0.0}, float n = {-0.0}, float h = {0.5}, bool t = {1}, float[2,3] r = {0.5,0.5,0.5,0.5,0.5,0.5}>"


@pytest.mark.parametrize("name", EQUAL)
def test_equal_nodes_become_one(name: str, run_onnx, assert_same_bits) -> None:
    model = _pair(*EQUAL[name], HELD)
    before = run_onnx(model, FEEDS)
    context = Context()
    assert EliminateCommonSubexpressions().run(model, context) == 1
    assert [(entry.rule, entry.where) for entry in context.ledger.entries] == [("merge-equal-nodes", "b")]
    check(model)
    assert_same_bits(before, run_onnx(model, FEEDS))
    assert EliminateCommonSubexpressions().run(model, Context()) == 0


@pytest.mark.parametrize("name", DIFFERENT)
def test_different_nodes_stay_apart(name: str) -> None:
    model = _pair(*DIFFERENT[name], HELD)
    assert EliminateCommonSubexpressions().run(model, Context()) == 0


@pytest.mark.parametrize("op", ["And", "Or", "Xor"])
def test_commuted_logic_is_equal(op: str) -> None:
    assert EliminateCommonSubexpressions().run(_pair(f"c = {op}(p, q) a = Cast<to=1>(c)", f"d = {op}(q, p) b = Cast<to=1>(d)"), Context()) == 2


@pytest.mark.parametrize("op", ["Max", "Min", "Equal", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Add", "Mul"])
def test_commuted_integers_are_equal(op: str) -> None:
    assert EliminateCommonSubexpressions().run(_pair(f"c = {op}(i, j) a = Cast<to=1>(c)", f"d = {op}(j, i) b = Cast<to=1>(d)"), Context()) == 2


def test_merging_goes_on_behind_what_was_merged() -> None:
    before = ["x", *range(19)]
    chain = "".join(f"u{index} = Exp({'u' * (index > 0)}{last}) v{index} = Exp({'v' * (index > 0)}{last}) " for index, last in enumerate(before))
    model = _pair(chain + "a = Neg(u19)", "b = Neg(v19)")
    assert EliminateCommonSubexpressions().run(model, Context()) == 21
    assert len(model.graph) == 22


def test_outputs_of_the_graph_keep_their_names(run_onnx, assert_same_bits) -> None:
    model = _load(f"""{HEAD} g (float[2,3] x) => (float[2,3] y, float[2,3] z, float[2,3] u) {{
        t = Exp(x) y = Exp(x) z = Exp(x) s = Add(t, y) r = Add(z, y) v = Neg(r) u = Add(s, v) }}""")
    before = run_onnx(model, {"x": SPECIAL})
    assert EliminateCommonSubexpressions().run(model, Context()) == 3
    check(model)
    assert [value.name for value in model.graph.outputs] == ["y", "z", "u"]
    assert_same_bits(before, run_onnx(model, {"x": SPECIAL}))
    assert EliminateCommonSubexpressions().run(model, Context()) == 0


def test_two_copies_that_are_both_outputs_are_left() -> None:
    model = _load(f"{HEAD} g (float[2,3] x) => (float[2,3] y, float[2,3] z) {{ y = Identity(x) z = Identity(x) }}")
    assert EliminateCommonSubexpressions().run(model, Context()) == 0


NESTED = f"""{HEAD} g (float[2,3] x, bool b) => (float[2,3] y, float[2,3] z) {{
    t = Exp(x)
    y = If (b) <then_branch = p () => (float[2,3] u) {{ c = Exp(x) d = Neg(x) u = Add(c, d) }},
                else_branch = q () => (float[2,3] v) {{ e = Neg(x) v = Exp(x) }}>
    d2 = Neg(x) z = Add(t, d2) }}"""


def test_node_in_a_branch_uses_the_equal_one_outside_and_never_the_other_way(run_onnx, assert_same_bits) -> None:
    model = _load(NESTED)
    feeds = [{"x": SPECIAL, "b": np.array(flag)} for flag in (True, False)]
    before = [run_onnx(model, feed) for feed in feeds]
    context = Context()
    assert EliminateCommonSubexpressions().run(model, context) == 2
    check(model)
    assert [entry.where for entry in context.ledger.entries] == ["c", "v"]
    assert [[node.op_type for node in graph] for graph in all_graphs(model)] == [["Exp", "If", "Neg", "Add"], ["Neg", "Add"], ["Neg", "Identity"]]
    for feed, old in zip(feeds, before, strict=True):
        assert_same_bits(old, run_onnx(model, feed))
    assert EliminateCommonSubexpressions().run(model, Context()) == 0


def test_loop_invariant_node_uses_the_one_outside(run_onnx, assert_same_bits) -> None:
    model = _load(f"""{HEAD} g (float[2,3] x) => (float[2,3] y, float[2,3] z) <int64 n = {{3}}> {{
        z = Exp(x)
        y = Loop(n, , x) <body = l (int64 i, bool go, float[2,3] s) => (bool more, float[2,3] next) {{
            more = Identity(go) e = Exp(x) f = Exp(s) g2 = Exp(s) h = Add(e, f) next = Add(h, g2) }}> }}""")
    before = run_onnx(model, {"x": OTHER})
    assert EliminateCommonSubexpressions().run(model, Context()) == 2
    check(model)
    assert_same_bits(before, run_onnx(model, {"x": OTHER}))


def test_name_that_means_something_else_inside_is_not_reached_for() -> None:
    model = _load(NESTED)
    inner = next(node for graph in all_graphs(model) for node in graph if node.outputs[0].name == "d")
    inner.outputs[0].name = "t"
    assert EliminateCommonSubexpressions().run(model, Context()) == 0


def test_nodes_asked_for_different_outputs_stay_apart() -> None:
    model = _load(f"""{HEAD} g (float[1,1,4] x) => (float[1,1,2] y, float[1,1,2] z, int64[1,1,2] i) {{
        y = MaxPool<kernel_shape = [2], strides = [2]>(x) z, i = MaxPool<kernel_shape = [2], strides = [2]>(x) }}""")
    assert EliminateCommonSubexpressions().run(model, Context()) == 0


def test_equal_constant_nodes_and_tensor_attributes_are_merged(run_onnx) -> None:
    model = _pair("c = Constant<value = float[3] {1, 2, 3}>() a = Add(x, c)", "d = Constant<value = float[3] {1, 2, 3}>() b = Add(x, d)")
    assert EliminateCommonSubexpressions().run(model, Context()) == 2
    assert [node.op_type for node in model.graph] == ["Constant", "Add", "Concat"]


def test_operators_of_unknown_domains_and_functions_are_left() -> None:
    model = _load("""<ir_version: 10, opset_import: ["" : 21, "local" : 1, "odd" : 1]> g (float[2] x) => (float[2] y) {
        a = odd.Op(x) b = odd.Op(x) c = local.f(x) d = local.f(x) e = Add(a, b) h = Add(c, d) y = Add(e, h) }
        <domain: "local", opset_import: ["" : 21]> f (a) => (c) { c = RandomNormalLike(a) }""")
    assert EliminateCommonSubexpressions().run(model, Context()) == 0


def test_kernels_of_the_runtime_are_merged(run_onnx, assert_same_bits) -> None:
    model = _pair("a = com.microsoft.QuickGelu(x)", "b = com.microsoft.QuickGelu(x)")
    before = run_onnx(model, FEEDS)
    assert EliminateCommonSubexpressions().run(model, Context()) == 1
    assert_same_bits(before, run_onnx(model, FEEDS))


def test_sequences_are_merged(run_onnx, assert_same_bits) -> None:
    model = _pair(
        "s = SequenceConstruct(x, w) c = Constant<value_int = 1>() a = SequenceAt(s, c)",
        "t = SequenceConstruct(x, w) d = Constant<value_int = 1>() b = SequenceAt(t, d)",
    )
    before = run_onnx(model, FEEDS)
    assert EliminateCommonSubexpressions().run(model, Context()) == 3
    check(model)
    assert_same_bits(before, run_onnx(model, FEEDS))


def test_ledger_says_no() -> None:
    model = _load(NESTED)
    assert EliminateCommonSubexpressions().run(model, Context(ledger=Ledger(denied=frozenset({("merge-equal-nodes", "c")})))) == 1
    check(model)


def test_pass_reads_and_writes_as_text() -> None:
    assert parse_pipeline(format_pipeline([EliminateCommonSubexpressions()])) == (EliminateCommonSubexpressions(),)
