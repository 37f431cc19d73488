"""The worklist engine: competing uses, several roots, loops, denial, reasons, and growth."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from graphwright.compiler.core.build import Build
from graphwright.compiler.core.drift import EXACT
from graphwright.compiler.core.engine import LIFTED_FROM, apply_rules
from graphwright.compiler.core.errors import PassError
from graphwright.compiler.core.graph import bind_opsets, opset
from graphwright.compiler.core.ledger import Ledger
from graphwright.compiler.core.passes import Context, parse_pipeline
from graphwright.compiler.core.pattern import ANY, Const, find, trace
from graphwright.compiler.core.reasons import Reasons, skip
from graphwright.compiler.core.rule import Match, rule
from graphwright.compiler.core.shapes import infer_shapes
from graphwright.compiler.core.wellformed import check

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'


def model_of(text: str) -> ir.Model:
    model = ir.from_onnx_text(HEADER + text)
    bind_opsets(model)
    infer_shapes(model)
    return model


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def two_negs(op, x):
    return op.Neg(op.Neg(x))


@rule(two_negs, drift=EXACT)
def drop_two_negs(op: Build, m: Match):
    """Neg(Neg(x)) -> x"""
    return m.x


def relu(op, x):
    return op.Relu(x)


def chain(op_type: str, length: int) -> ir.Model:
    lines = [f"v{index + 1} = {op_type}(v{index})" for index in range(length)]
    return model_of(f"g (float[2] v0) => (float[2] v{length}) {{ {' '.join(lines)} }}")


def test_a_chain_collapses_completely() -> None:
    model = chain("Neg", 4001)
    assert apply_rules(model, [drop_two_negs], Context()) == 2000
    assert operators(model) == ["Neg"]
    assert model.graph.outputs[0].name == "v4001"
    check(model)


def count_visits(length: int) -> int:
    visits = 0

    @rule(two_negs, drift=EXACT)
    def counting(op: Build, m: Match):
        """Neg(Neg(x)) -> x"""
        nonlocal visits
        visits += 1
        return m.x if visits % 2 else skip("every other time")

    apply_rules(chain("Neg", length), [counting], Context())
    return visits


def test_the_number_of_attempts_grows_with_the_number_of_nodes_only() -> None:
    assert count_visits(2000) <= 2.5 * count_visits(1000)


def test_a_fan_of_siblings_is_looked_at_once_each() -> None:
    lines = [f"a{index} = Neg(x) b{index} = Neg(a{index})" for index in range(800)]
    outputs = ", ".join(f"float[2] b{index}" for index in range(800))
    model = model_of(f"g (float[2] x) => ({outputs}) {{ {' '.join(lines)} }}")
    assert apply_rules(model, [drop_two_negs], Context()) == 800
    assert set(operators(model)) == {"Identity"}
    check(model)


def test_a_value_needed_elsewhere_stops_a_rewrite_and_the_reason_is_told() -> None:
    model = model_of("g (float[2] x) => (float[2] y, float[2] a) { a = Neg(x) y = Neg(a) }")
    reasons = Reasons()
    assert apply_rules(model, [drop_two_negs], Context(reasons=reasons)) == 0
    assert any("'a', inside the match, is also needed elsewhere" in miss.reason for miss in reasons.misses)


def test_a_value_captured_by_a_subgraph_stops_a_rewrite() -> None:
    model = model_of(
        "g (float[2] x, bool c) => (float[2] y, float[2] z) { a = Neg(x) y = Neg(a)"
        " z = If(c) <then_branch = t () => (float[2] p) { p = Relu(a) }, else_branch = e () => (float[2] q) { q = Abs(x) }> }"
    )
    assert apply_rules(model, [drop_two_negs], Context()) == 0


def test_a_match_across_a_subgraph_border_is_left_alone() -> None:
    model = model_of(
        "g (float[2] x, bool c) => (float[2] z) { a = Neg(x)"
        " z = If(c) <then_branch = t () => (float[2] p) { b = Neg(a) p = Relu(b) }, else_branch = e () => (float[2] q) { q = Abs(x) }> }"
    )
    assert apply_rules(model, [drop_two_negs], Context()) == 0


def test_an_overridable_initialiser_is_no_constant() -> None:
    def scaled(op, x, c: Const):
        return op.Mul(x, c)

    @rule(scaled, drift=EXACT)
    def drop_it(op: Build, m: Match):
        """x c -> x"""
        return m.x

    model = model_of("g (float[2] x, float[2] c) => (float[2] y) <float[2] c = {1, 1}> { a = Mul(x, c) y = Relu(a) }")
    if not model.graph.inputs[1].is_initializer():
        model.graph.inputs[1].const_value = ir.tensor([1.0, 1.0])
        model.graph.register_initializer(model.graph.inputs[1])
    assert apply_rules(model, [drop_it], Context()) == 0


def test_rules_that_undo_each_other_are_named() -> None:
    def doubled(op, x):
        return op.Mul(x, 2.0)

    def added(op, x):
        return op.Add(x, x)

    @rule(doubled, drift=EXACT)
    def spread_double(op: Build, m: Match):
        """2 x -> x + x"""
        return op.Add(m.x, m.x)

    @rule(added, drift=EXACT)
    def gather_double(op: Build, m: Match):
        """x + x -> 2 x"""
        return op.Mul(m.x, 2.0)

    model = model_of("g (float[2] x) => (float[2] y) <float two = {2}> { a = Mul(x, two) y = Relu(a) }")
    with pytest.raises(PassError, match="gather-double, spread-double undo each other"):
        apply_rules(model, [spread_double, gather_double], Context())


def test_the_ledger_can_deny_one_place_and_bound_the_number() -> None:
    text = "g (float[2] x) => (float[2] y, float[2] z) { a = Neg(x) b = Neg(a) y = Relu(b) c = Neg(x) d = Neg(c) z = Abs(d) }"
    model = model_of(text)
    assert apply_rules(model, [drop_two_negs], Context(ledger=Ledger(denied=frozenset({("drop-two-negs", "b")})))) == 1
    assert operators(model) == ["Neg", "Neg", "Relu", "Abs"]
    model = model_of(text)
    assert apply_rules(model, [drop_two_negs], Context(ledger=Ledger(limit=1))) == 1
    assert operators(model) == ["Relu", "Neg", "Neg", "Abs"]


def siblings(op, x, a, b):
    return op.Add(x, a), op.Sub(x, b)


@rule(siblings, drift=EXACT)
def merge_siblings(op: Build, m: Match):
    """x + a, x - b -> Relu(x + a), Neg(x - b), to have something to see"""
    return op.Relu(op.Max(m.x, m.a)), op.Neg(op.Max(m.x, m.b))


def test_a_pattern_with_two_roots_replaces_both_and_keeps_the_order() -> None:
    model = model_of("g (float[2] x, float[2] a) => (float[2] y, float[2] z) { p = Add(x, a) y = Abs(p) b = Exp(a) q = Sub(x, b) z = Abs(q) }")
    assert apply_rules(model, [merge_siblings], Context()) == 1
    check(model)
    assert sorted(operators(model)) == ["Abs", "Abs", "Exp", "Max", "Max", "Neg", "Relu"]


def test_a_pattern_with_two_roots_is_refused_where_it_would_make_a_cycle() -> None:
    model = model_of("g (float[2] x, float[2] a) => (float[2] z) { p = Add(x, a) b = Exp(p) q = Sub(x, b) z = Abs(q) }")
    reasons = Reasons()
    assert apply_rules(model, [merge_siblings], Context(reasons=reasons)) == 0
    assert any("by way of nodes outside it" in miss.reason for miss in reasons.misses)


def test_commuted_operands_match() -> None:
    def shape(op, x, y):
        return op.Add(op.Mul(x, 2.0), op.Exp(y))

    @rule(shape, drift=EXACT)
    def found(op: Build, m: Match):
        """2 x + exp y"""
        return op.Sub(m.x, m.y)

    for text in ("a = Mul(x, two) b = Exp(y) z = Add(a, b)", "a = Mul(two, x) b = Exp(y) z = Add(b, a)"):
        model = model_of(f"g (float[2] x, float[2] y) => (float[2] w) <float two = {{2}}> {{ {text} w = Abs(z) }}")
        assert apply_rules(model, [found], Context()) == 1
        assert [value.name for value in next(node for node in model.graph if node.op_type == "Sub").inputs] == ["x", "y"]


def test_undrawn_attributes_must_have_their_default() -> None:
    def drawn(op, x):
        return op.Softmax(x)

    @rule(drawn, drift=EXACT)
    def last(op: Build, m: Match):
        """Softmax over the last dim"""
        return op.Relu(m.x)

    assert apply_rules(model_of("g (float[2,3] x) => (float[2,3] y) { y = Softmax(x) }"), [last], Context()) == 1
    assert apply_rules(model_of("g (float[2,3] x) => (float[2,3] y) { y = Softmax<axis=-1>(x) }"), [last], Context()) == 1
    assert apply_rules(model_of("g (float[2,3] x) => (float[2,3] y) { y = Softmax<axis=0>(x) }"), [last], Context()) == 0


def test_optional_inputs_bind_to_none_and_extra_inputs_do_not_match() -> None:
    def clipped(op, x, low=None):
        return op.Clip(x, low)

    @rule(clipped, drift=EXACT)
    def floor(op: Build, m: Match):
        """Clip(x, low)"""
        return op.Relu(m.x) if m.low is None else op.Max(m.x, m.low)

    low, high = "float[2] x, float l", "float[2] x, float l, float h"
    assert apply_rules(model_of(f"g ({low}) => (float[2] y) {{ y = Clip(x, l) }}"), [floor], Context()) == 1
    assert apply_rules(model_of(f"g ({high}) => (float[2] y) {{ y = Clip(x, l, h) }}"), [floor], Context()) == 0


def test_a_replacement_of_another_shape_or_dtype_is_refused() -> None:
    @rule(relu, drift=EXACT)
    def flatten(op: Build, m: Match):
        """a rule with a bug"""
        return op.Flatten(m.x)

    @rule(relu, drift=EXACT)
    def narrow(op: Build, m: Match):
        """a rule with another bug"""
        return op.Cast(m.x, to=10)

    model = model_of("g (float[2,2,2] x) => (float[2,2,2] y) { y = Relu(x) }")
    before = operators(model)
    assert apply_rules(model, [flatten, narrow], Context()) == 0
    assert operators(model) == before
    assert not model.graph.initializers
    check(model)


def test_a_pattern_must_return_what_it_drew() -> None:
    def nothing(op, x):
        return x

    with pytest.raises(TypeError, match="must return operators"):
        trace(nothing)


def test_several_outputs_of_one_operator_are_replaced_together() -> None:
    def halves(op, x, sizes):
        return op.Split(x, sizes, axis=ANY, _outputs=2)

    @rule(halves, drift=EXACT)
    def cut(op: Build, m: Match):
        """Split in two -> two Slices"""
        return op.Slice(m.x, op.const([0]), op.const([1]), op.const([0])), op.Slice(m.x, op.const([1]), op.const([3]), op.const([0]))

    model = model_of("g (float[3] x) => (float[1] y, float[2] z) <int64[2] s = {1, 2}> { y, z = Split<axis=0>(x, s) }")
    assert apply_rules(model, [cut], Context()) == 1
    assert [value.name for value in model.graph.outputs] == ["y", "z"]
    assert operators(model) == ["Slice", "Slice"]
    check(model)


def test_a_refused_attempt_leaves_no_trace_that_stops_the_next_one() -> None:
    def summed(op, x, z):
        return op.Add(op.Neg(x, _name="neg"), z)

    @rule(summed, drift=EXACT)
    def subtract(op: Build, m: Match):
        """-x + z -> z - x"""
        return op.Sub(m.z, m.x)

    model = model_of("g (float[2] x, float[2] w) => (float[2] y, float[2] a) { a = Neg(x) b = Neg(w) y = Add(a, b) }")
    assert apply_rules(model, [subtract], Context()) == 1
    assert operators(model) == ["Neg", "Sub"]
    check(model)


def test_a_pass_of_rules_sees_types_that_nobody_has_inferred_yet() -> None:
    """Rules that ask for a dtype must not depend on which pass ran before."""
    model = ir.from_onnx_text(HEADER + "g (float[2] x, float[3] l) => (float[2] y) { a = Abs(l) b = CastLike(x, a) y = Relu(b) }")
    bind_opsets(model)
    assert parse_pipeline("drop-no-ops")[0].run(model, Context()) == 2
    assert operators(model) == ["Relu"]


def swish(op, x):
    return op.Mul(x, op.Sigmoid(x))


@rule(swish, drift=EXACT, lifts=24)
def raise_swish(op: Build, m: Match):
    """x sigmoid(x) -> Swish(x)"""
    return op.Swish(m.x)


@rule(swish, drift=EXACT, lifts=24)
def refuse_swish(op: Build, m: Match):
    """x sigmoid(x) -> Swish(x), of another dtype"""
    return op.Cast(op.Swish(m.x), to=10)


SWISH = "g (float[2] x) => (float[2] y) { s = Sigmoid(x) y = Mul(s, x) }"


def test_a_model_is_lifted_to_the_opset_that_a_replacement_needs() -> None:
    model = model_of(SWISH)
    assert apply_rules(model, [raise_swish], Context()) == 1
    assert (opset(model), model.graph.meta[LIFTED_FROM]) == (24, 21)
    check(model)


def test_a_model_is_not_lifted_by_a_rule_that_was_refused() -> None:
    model = model_of(SWISH)
    assert apply_rules(model, [refuse_swish], Context()) == 0
    assert opset(model) == 21


def test_a_model_older_than_the_canonical_opset_is_not_lifted() -> None:
    model = ir.from_onnx_text('<ir_version: 8, opset_import: ["" : 17]>' + SWISH)
    bind_opsets(model)
    infer_shapes(model)
    assert apply_rules(model, [raise_swish], Context()) == 0
    assert opset(model) == 17


@rule("Neg", drift=EXACT)
def merge_negs(op: Build, m: Match):
    """Neg(x), Neg(x) -> one Neg(x)"""
    sibling = next((node for node, _ in m.root.inputs[0].uses() if node is not m.root and node.op_type == "Neg"), None)
    if sibling is None:
        return None
    m.also(sibling.outputs[0])
    negated = op.Neg(m.root.inputs[0])
    return negated, negated


def test_a_rule_that_names_only_its_root_may_replace_siblings_too() -> None:
    model = model_of("g (float[2] x) => (float[2] y, float[2] z) { z = Neg(x) a = Neg(x) y = Relu(a) }")
    assert apply_rules(model, [merge_negs], Context()) == 1
    assert sorted(operators(model)) == ["Neg", "Relu"]
    check(model)


def test_rules_that_what_feeds_a_node_rules_out_are_not_even_tried(monkeypatch) -> None:
    tried = []

    def counted(pattern, node, probe=None):
        tried.append(node.op_type)
        return find(pattern, node, probe)

    monkeypatch.setattr("graphwright.compiler.core.engine.find", counted)
    assert apply_rules(chain("Relu", 1000), [drop_two_negs], Context()) == 0
    assert apply_rules(model_of("g (float[2] x) => (float[2] y) { a = Relu(x) b = Neg(a) c = Relu(b) y = Neg(c) }"), [drop_two_negs], Context()) == 0
    assert not tried


@rule("Relu", drift=EXACT)
def split_off(op: Build, m: Match):
    """Relu(x) -> the first half of x"""
    first, _ = op.Split(m.root.inputs[0], _outputs=2, num_outputs=2)
    return first


def test_an_operator_that_makes_all_its_outputs_keeps_their_names() -> None:
    model = model_of("g (float[4] x) => (float[M] y) { y = Relu(x) }")
    model.graph.outputs[0].shape = None
    apply_rules(model, [split_off], Context())
    assert all(value.name for node in model.graph for value in node.outputs)
