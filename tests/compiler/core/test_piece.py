"""A match and its replacement stand alone as two models that compute the same."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from graphwright.compiler.core.build import Build
from graphwright.compiler.core.dims import free_symbols
from graphwright.compiler.core.drift import EXACT
from graphwright.compiler.core.engine import apply_rules
from graphwright.compiler.core.graph import bind_opsets
from graphwright.compiler.core.passes import Context
from graphwright.compiler.core.reasons import Skip, skip
from graphwright.compiler.core.rule import Match, Rule, rule
from graphwright.compiler.core.shapes import infer_shapes, known_ints
from graphwright.compiler.core.wellformed import check

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'


def model_of(text: str) -> ir.Model:
    model = ir.from_onnx_text(HEADER + text)
    bind_opsets(model)
    infer_shapes(model)
    return model


class Witness:
    """A judge that keeps what it is shown, and refuses it."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, ir.Model, ir.Model]] = []

    def refusal(self, rule: str, before: ir.Model, after: ir.Model, doubtful: bool) -> Skip | None:
        self.seen.append((rule, before, after))
        return skip("it was only looked at")


def shown(model: ir.Model, item: Rule) -> list[tuple[ir.Model, ir.Model]]:
    """The pieces the engine hands to the judge; the graph is as it was."""
    witness = Witness()
    text = ir.to_proto(model).graph.SerializeToString(deterministic=True)
    assert apply_rules(model, [item], Context(judge=witness)) == 0
    assert ir.to_proto(model).graph.SerializeToString(deterministic=True) == text
    return [(before, after) for _, before, after in witness.seen]


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def assert_same(before: ir.Model, after: ir.Model, size: int = 3) -> None:
    """Both are whole models, and compute the same."""
    feeds = {}
    for value in before.graph.inputs:
        shape = [dim if isinstance(dim, int) else size for dim in value.shape or ()]
        feeds[value.name] = np.random.default_rng(0).normal(size=shape).astype(value.dtype.numpy())
    results = []
    for piece in (before, after):
        check(piece)
        session = ort.InferenceSession(ir.to_proto(piece).SerializeToString())
        results.append(session.run([value.name for value in piece.graph.outputs], feeds))
    for old, new in zip(*results, strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-6)


def doubled(op, x, c):
    return op.Mul(op.Add(x, x), c)


@rule(doubled, drift=EXACT, measured=True)
def scale_once(op: Build, m: Match):
    """(x + x) c -> x (c + c)"""
    return op.Mul(m.x, op.Add(m.c, m.c))


@rule(doubled, drift=EXACT, measured=True, shared=True)
def scale_once_shared(op: Build, m: Match):
    """(x + x) c -> x (c + c), whoever else needs x + x"""
    return op.Mul(m.x, op.Add(m.c, m.c))


def test_both_pieces_have_the_inputs_and_outputs_of_the_match() -> None:
    model = model_of("g (float[N,2] x, float[2] c) => (float[N,2] y) { n = Neg(x) a = Add(n, n) b = Mul(a, c) y = Relu(b) }")
    ((before, after),) = shown(model, scale_once)
    assert operators(before) == ["Add", "Mul"] and operators(after) == ["Add", "Mul"]
    assert [value.name for value in before.graph.inputs] == [value.name for value in after.graph.inputs] == ["n", "c"]
    assert len(before.graph.outputs) == len(after.graph.outputs) == 1
    assert_same(before, after)


def test_a_value_that_stays_because_others_need_it_is_computed_by_both() -> None:
    model = model_of("g (float[N,2] x, float[2] c) => (float[N,2] y, float[N,2] z) { a = Add(x, x) y = Mul(a, c) z = Relu(a) }")
    ((before, after),) = shown(model, scale_once_shared)
    assert operators(before) == ["Add", "Mul"]
    assert sorted(operators(after)) == ["Add", "Add", "Mul"]
    assert len(after.graph.outputs) == 2
    assert_same(before, after)


def test_constants_are_the_same_tensors_and_no_inputs() -> None:
    model = model_of("g (float[N,2] x) => (float[N,2] y) <float[2] c = {2,3}> { a = Add(x, x) y = Mul(a, c) }")
    ((before, after),) = shown(model, scale_once)
    assert [value.name for value in before.graph.inputs] == ["x"]
    weights = model.graph.initializers["c"].const_value
    assert before.graph.initializers["c"].const_value is weights and after.graph.initializers["c"].const_value is weights
    assert_same(before, after)


def test_symbolic_dims_stay_symbols_and_what_is_known_of_small_integers_comes_along() -> None:
    text = "g (float[N,6] x) => (float[M,3] y) <int64[1] three = {3}, int64[1] minus = {-1}> { s = Shape<end=1>(x) d = Concat<axis=0>(s, three)"
    text += " a = Reshape(x, d) b = Reshape(a, d) y = Relu(b) }"

    def twice(op, x, shape):
        return op.Reshape(op.Reshape(x, shape), shape)

    @rule(twice, drift=EXACT, measured=True)
    def reshape_once(op: Build, m: Match):
        """reshape twice -> once"""
        return op.Reshape(m.x, m.shape)

    ((before, _),) = shown(model_of(text), reshape_once)
    x, shape = before.graph.inputs
    assert free_symbols(x.shape[0]) == {"N"}
    first, second = known_ints(shape) or ()
    assert free_symbols(first) == {"N"} and second == 3


def test_a_replacement_by_an_input_is_still_a_model() -> None:
    def two_negs(op, x):
        return op.Neg(op.Neg(x))

    @rule(two_negs, drift=EXACT, measured=True)
    def drop_two(op: Build, m: Match):
        """Neg(Neg(x)) -> x"""
        return m.x

    ((before, after),) = shown(model_of("g (float[N] x) => (float[N] z) { a = Neg(x) y = Neg(a) z = Relu(y) }"), drop_two)
    assert operators(after) == ["Identity"]
    assert_same(before, after)


def test_outputs_of_the_replacement_that_nobody_needs_have_no_name() -> None:
    def relu(op, x):
        return op.Relu(x)

    @rule(relu, drift=EXACT, measured=True)
    def pool(op: Build, m: Match):
        """Relu(x) -> MaxPool(x), for the second output's sake"""
        return op.MaxPool(m.x, kernel_shape=[1], _outputs=2)[0]

    ((_, after),) = shown(model_of("g (float[1,1,4] x) => (float[1,1,4] z) { y = Relu(x) z = Relu(y) }"), pool)[:1]
    assert [bool(value.name) for value in after.graph.node(0).outputs] == [True, False]


def test_nodes_with_subgraphs_cannot_be_cut_out() -> None:
    text = "g (bool c, float[2] x) => (float[2] z) { y = If(c) <then_branch = t () => (float[2] p) { p = Neg(x) },"
    text += " else_branch = e () => (float[2] q) { q = Abs(x) }> z = Relu(y) }"
    refused = []

    @rule("If", drift=EXACT, measured=True)
    def abs_instead(op: Build, m: Match):
        """If -> Abs"""
        refused.append(m)
        return op.Abs(m.root.attributes["then_branch"].as_graph().node(0).inputs[0])

    assert shown(model_of(text), abs_instead) == [] and refused


def test_a_model_that_imports_a_domain_for_the_replacement_gives_it_to_the_piece() -> None:
    def relu(op, x):
        return op.Relu(x)

    @rule(relu, drift=EXACT, measured=True)
    def quick(op: Build, m: Match):
        """Relu -> QuickGelu"""
        return op.QuickGelu(m.x, _domain="com.microsoft")

    ((_, after),) = shown(model_of("g (float[2] x) => (float[2] z) { y = Relu(x) z = Neg(y) }"), quick)
    assert after.graph.opset_imports["com.microsoft"] == 1
