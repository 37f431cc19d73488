"""The rewrite that saves most goes first, what saves nothing stays, and the work grows with the graph."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from graphwright.compiler.core.graph import bind_opsets
from graphwright.compiler.core.ledger import Ledger
from graphwright.compiler.core.passes import Context
from graphwright.compiler.core.reasons import Reasons
from graphwright.compiler.core.rulepass import rules_below
from graphwright.compiler.core.shapes import infer_shapes
from graphwright.compiler.core.wellformed import check
from graphwright.passes.algebra.selection import Selection, pays, stretches
from graphwright.passes.algebra.simplify import SimplifyAlgebra

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'
RULES = rules_below("passes.algebra")


def model_of(text: str) -> ir.Model:
    model = ir.from_onnx_text(HEADER + text)
    bind_opsets(model)
    infer_shapes(model)
    return model


def simplified(text: str, context: Context | None = None) -> tuple[list[str], list[str]]:
    """The operators left, and the rules that fired, in order."""
    model, context = model_of(text), context or Context()
    SimplifyAlgebra().run(model, context)
    check(model)
    return [node.op_type for node in model.graph], [entry.rule for entry in context.ledger.entries]


def test_the_largest_saving_goes_first() -> None:
    text = (
        "g (float[8,8] x, float[8,8] a, float[8,8] b) => (float[8,8] y)"
        " { n = Neg(x) m = Neg(n) p = MatMul(m, a) q = MatMul(m, b) s = Add(p, q) t = Sigmoid(s) y = Relu(t) }"
    )
    left, fired = simplified(text)
    assert fired[0] == "factor-left-matrix-under-add"
    assert left == ["Add", "MatMul", "Sigmoid"]


def test_a_match_that_overlaps_a_better_one_waits_for_it() -> None:
    """(a + b)^2 - (a + b) c has a common factor, which is worth more than writing the square as a product."""
    body = "{ s = Add(a, b) q = Pow(s, two) p = Mul(s, c) y = Sub(q, p) }"
    left, _ = simplified(f"g (float[N,3] a, float[N,3] b, float[N,3] c) => (float[N,3] y) <float two = {{2}}> {body}")
    assert left == ["Add", "Sub", "Mul"]


@pytest.mark.parametrize(
    "text",
    [
        "g (float[N,3] x) => (float[N,3] y) <float c = {3}> { t = Mul(x, c) y = Add(t, c) }",
        "g (float[N,1,4] x) => (float[N,1,4] y) { t = Tanh(x) y = MaxPool<kernel_shape=[1]>(t) }",
        "g (float[4,3] x) => (float[8,3] y) <int64[8] i = {0,1,2,3,0,1,2,3}> { t = Tanh(x) y = Gather(t, i) }",
        "g (float[N,3] x) => (float[N,3] y) <int64[2] s = {1,3}> { t = Expand(x, s) y = Tanh(t) }",
        "g (float[1,3] x, float[3,1] z) => (float[3,3] y) <float c = {2}> { a = Mul(x, c) b = Mul(z, c) y = Add(a, b) }",
    ],
)
def test_what_saves_nothing_stays(text: str) -> None:
    assert simplified(text)[1] == []


@pytest.mark.parametrize(
    ("saved", "worth"),
    [((1, 0, 0), True), ((0, 4, -1), True), ((0, 0, 1), True), ((0, 0, 0), False), ((0, -4, 9), False), ((5, -6, 1), False)],
)
def test_arithmetic_counts_before_bytes_and_bytes_before_operators(saved: tuple[int, int, int], worth: bool) -> None:
    assert pays(saved) is worth


def test_the_last_rows_are_taken_before_the_layer() -> None:
    """Of a last layer whose first token alone is used, only that token is computed."""
    text = (
        "g (float[N,16,8] x, float[8,32] w, float[32] b, float[32,8] v, float[8] k, float[8] l) => (float[N,8] y) <int64 zero = {0}>"
        " { p = MatMul(x, w) q = Add(p, b) r = Gelu(q) s = MatMul(r, v) t = Add(x, s) u = LayerNormalization(t, k, l) y = Gather<axis=1>(u, zero) }"
    )
    left, _ = simplified(text)
    assert left[0] == "Gather" and left.count("Gather") == 1 or left[:2] == ["Gather", "Gather"]


def test_a_graph_is_cut_at_operators_without_laws() -> None:
    model = model_of("g (float[N,3] x) => (float[N,3] y) { a = Neg(x) b = Neg(a) c = Hardmax(b) d = Neg(c) y = Neg(d) }")
    assert [[node.op_type for node in piece] for piece in stretches(model, RULES)] == [["Neg", "Neg"], ["Neg", "Neg"]]


def chain_of(count: int) -> str:
    body = " ".join(f"v{step + 1} = {'Add' if step % 2 else 'Mul'}(v{step}, {'c' if step % 3 else 'd'})" for step in range(count))
    return f"g (float[N,64] v0) => (float[N,64] y) <float c = {{1.01}}, float d = {{0.99}}> {{ {body} y = Softmax(v{count}) }}"


def test_a_chain_of_constants_is_one_rewrite_and_few_attempts() -> None:
    selection = Selection(model_of(chain_of(4000)), RULES, Context())
    assert selection.run() == 1
    assert [node.op_type for node in selection.model.graph] == ["Mul", "Add", "Softmax"]
    assert selection.attempts <= 4 * 4000


def test_attempts_grow_with_the_graph() -> None:
    def attempts(count: int) -> int:
        body = " ".join(f"v{step + 1} = Neg(v{step})" for step in range(count))
        selection = Selection(model_of(f"g (float[N] v0) => (float[N] y) {{ {body} y = Softmax(v{count}) }}"), RULES, Context())
        assert selection.run() == count // 2
        return selection.attempts

    assert attempts(400) <= 2.2 * attempts(200)


def test_a_fan_of_siblings_is_factored_pair_by_pair() -> None:
    products = " ".join(f"p{step} = Mul(x{step}, z)" for step in range(8))
    sums = " ".join(f"s{step + 1} = Add({'p0' if step == 0 else f's{step}'}, p{step + 1})" for step in range(7))
    inputs = ", ".join(f"float[N,3] x{step}" for step in range(8))
    left, _ = simplified(f"g ({inputs}, float[N,3] z) => (float[N,3] y) {{ {products} {sums} y = Hardmax(s7) }}")
    assert left.count("Mul") == 1 and left.count("Add") == 7


def test_a_rewrite_that_was_rolled_back_stays_away_and_others_go_on() -> None:
    text = "g (float[N,3] x) => (float[N,3] y) { a = Neg(x) b = Neg(a) c = Relu(b) d = Relu(c) y = Tanh(d) }"
    assert sorted(simplified(text)[1]) == ["cancel-negations", "drop-relu-of-relu"]
    denied = Context(ledger=Ledger(denied=frozenset({("cancel-negations", "b")})))
    left, fired = simplified(text, denied)
    assert "cancel-negations" not in fired and left == ["Neg", "Neg", "Relu", "Tanh"]


def test_reasons_are_given() -> None:
    context = Context(reasons=Reasons(only="multiply-exponentials"))
    simplified("g (float[N,3] x, float[N,3] z) => (float[N,3] y) { a = Exp(x) b = Exp(z) y = Mul(a, b) }", context)
    assert context.reasons is not None
    assert "not proven" in context.reasons.misses[0].reason


def test_fast_math_needs_no_proof() -> None:
    text = "g (float[N,3] x, float[N,3] z) => (float[N,3] y) { a = Exp(x) b = Exp(z) y = Mul(a, b) }"
    assert simplified(text)[1] == []
    assert simplified(text, Context(fast_math=True))[1] == ["multiply-exponentials"]


@pytest.mark.parametrize(
    "body", ["y = Relu(x)", "y = Abs(x)", "t = Tan(x) y = Atan(t)", "t = Pow(x, two) y = Pow(t, half)", "y = Max(x, two)", "t = Floor(x) y = Cast<to=1>(t)"]
)
def test_fast_math_waives_no_condition_without_which_the_sides_differ(body: str) -> None:
    """sqrt(x^2) may become |x|, but never x."""
    left, _ = simplified(f"g (float[N,3] x) => (float[N,3] y) <float two = {{2}}, float half = {{0.5}}> {{ {body} }}", Context(fast_math=True))
    assert {"Relu", "Abs", "Max", "Atan", "Floor"} & set(left)


def test_there_are_enough_laws_and_the_papers_are_among_them() -> None:
    assert len(RULES) >= 149
    assert sum("DNNFusion" in item.equation for item in RULES) >= 8
