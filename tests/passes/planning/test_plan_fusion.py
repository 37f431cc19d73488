"""plan-fusion: a planned model runs as it stands, and inlining its functions gives the model back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphwright.compiler.core.graph import all_graphs, bind_opsets, clone_model
from graphwright.compiler.core.ledger import Ledger
from graphwright.compiler.core.passes import Context, format_pipeline, parse_pipeline
from graphwright.compiler.core.planning.outline import DOMAIN, isolate
from graphwright.compiler.core.planning.planner import plan
from graphwright.compiler.core.shapes import infer_shapes
from graphwright.compiler.core.wellformed import check
from graphwright.passes.cleanup.functions import InlineFunctions
from graphwright.passes.planning.plan_fusion import PlanFusion

HEAD = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>\n'
MODELS = {
    "a chain": "g (float[2,4] x) => (float[2,4] y) { a = Relu(x) b = Exp(a) y = Neg(b) }",
    "weights become inputs of the function": """g (float[2,4] x) => (float[2,4] y) <float[4,4] w = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7}, float[4] b = {1,2,3,4}> {
        m = MatMul(x, w) a = Add(m, b) y = Relu(a) }""",
    "one weight read twice": "g (float[4] x) => (float[4] y) <float[4] w = {1,2,3,4}> { a = Add(x, w) y = Mul(a, w) }",
    "a weight that callers may override": """g (float[4] x, float[4] w) => (float[4] y) <float[4] w = {1,2,3,4}> { a = Add(x, w) y = Relu(a) }""",
    "shapes and axes belong to the function": """g (float[2,6] x) => (float[3,4] y) <int64[2] s = {3,4}, int64[1] a = {0}> {
        e = Relu(x) r = Reshape(e, s) u = Unsqueeze(r, a) y = Squeeze(u, a) }""",
    "an inner value is an output of the graph": "g (float[2,4] x) => (float[2,4] a, float[2,4] y) { a = Relu(x) b = Exp(a) y = Neg(b) }",
    "an inner value is read elsewhere": """g (float[2,4] x, float[4,4] w, float[4,4] v) => (float[2,4] y, float[2,4] z) {
        a = Relu(x) m = MatMul(a, w) y = Neg(m) n = MatMul(a, v) z = Exp(n) }""",
    "an input is left out": """g (float[2,4] x) => (float[2,4] y) <float high = {1.5}> { a = Relu(x) b = Clip(a, , high) y = Neg(b) }""",
    "an output is not asked for": """g (float[2,4] x) => (float[2,2] y) { a = Relu(x) b, unused = Split<axis=1, num_outputs=2>(a) y = Neg(b) }""",
    "an output has no name": """g (float[2,4] x) => (float[2,4] y, float[2,1] z) <float[4] w = {1,2,3,4}> {
        a = Relu(x) n, , d = LayerNormalization(a, w) y = Neg(n) z = Exp(d) }""",
    "attributes": """g (float[2,4] x) => (float[2,4] y) { a = LeakyRelu<alpha=0.3>(x) b = Elu<alpha=0.7>(a) y = Softmax<axis=0>(b) }""",
    "two blocks that do the same": """g (float[2,4] x) => (float[2,4] y)
        <float[4,4] w = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7}, float[4,4] v = {1,2,1,4,5,1,7,8,1,1,2,1,4,1,6,1}> {
        m = MatMul(x, w) a = Relu(m) n = MatMul(a, v) y = Relu(n) }""",
    "blocks in branches that read what is outside": """g (float[2,4] x, bool c) => (float[2,4] y) {
        t = Exp(x) s = Neg(t)
        r = If (c) <then_branch = p () => (float[2,4] u) { n = Neg(s) u = Abs(n) }, else_branch = q () => (float[2,4] v) { o = Cos(t) v = Sin(o) }>
        y = Relu(r) }""",
    "blocks in a loop": """g (float[2,4] x) => (float[2,4] y) <int64 n = {3}, bool go = {1}> {
        s = Abs(x)
        y = Loop (n, go, s) <body = b (int64 i, bool c, float[2,4] v) => (bool d, float[2,4] w) { d = Identity(c) e = Sqrt(v) f = Add(e, s) w = Relu(f) }> }""",
    "symbolic sizes": "g (float[N,4] x, float[N,4] z) => (float[N,4] y) { a = Add(x, z) b = Relu(a) y = Neg(b) }",
    "a computed shape stays outside": """g (float[2,6] x, float[3,4] z) => (float[?,?] y) { s = Shape(z) e = Relu(x) r = Reshape(e, s) y = Neg(r) }""",
    "operators of the runtime": """g (float[2,4] x) => (float[2,4] y) <float[4] b = {1,2,3,4}> { a = com.microsoft.BiasGelu(x, b) y = Neg(a) }""",
    "integers": "g (int64[4] i) => (float[4] y) <float[4] t = {1,2,3,4}> { two = Constant<value = int64 {2}>() j = Mod(i, two) g1 = Gather(t, j) y = Neg(g1) }",
    "rows are normalised": """g (float[2,4] x) => (float[2,4] y) <int64[1] l = {1}, float tiny = {0.001}> {
        m = ReduceMean(x, l) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, l) e = Add(v, tiny) s = Sqrt(e) y = Div(d, s) }""",
}  # fmt: skip


def read(text: str) -> ir.Model:
    model = ir.from_onnx_text(HEAD + text)
    bind_opsets(model)
    check(model)
    return model


def feeds(model: ir.Model) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    made: dict[str, np.ndarray] = {}
    for value in model.graph.inputs:
        if value.is_initializer():
            continue
        shape = [dim if isinstance(dim, int) else 2 for dim in value.shape or ()]
        kind = (value.dtype or ir.DataType.FLOAT).numpy()
        made[value.name or ""] = (random.standard_normal(shape) * 3).astype(kind) if kind != np.bool_ else np.array(True)
    return made


@pytest.mark.parametrize("text", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("options", [{}, {"deep": True}, {"repeated": 0}, {"operators": 2}], ids=str)
def test_a_planned_model_runs_as_it_stands_and_inlined(
    text: str, options: dict[str, object], run_onnx: Callable[..., dict], assert_same_bits: Callable[..., None]
) -> None:
    model = read(text)
    expected = run_onnx(model, feeds(model))
    written = PlanFusion(**options).run(model, Context())  # type: ignore[arg-type]
    check(model)
    onnx.checker.check_model(ir.to_proto(model), full_check="com.microsoft" not in text)
    assert written == sum(node.domain == DOMAIN for graph in all_graphs(model) for node in graph)
    assert written > 0
    assert_same_bits(expected, run_onnx(model, feeds(model)))
    InlineFunctions().run(model, Context())
    check(model)
    assert not model.functions
    assert_same_bits(expected, run_onnx(model, feeds(model)))


def test_every_block_of_several_operators_becomes_a_function_and_no_other() -> None:
    model = read(MODELS["an inner value is read elsewhere"])
    infer_shapes(model)
    blocks = plan(model).blocks
    PlanFusion().run(model, Context())
    assert len(model.functions) == sum(block.fused for block in blocks)
    assert [node.op_type for node in model.graph if node.domain != DOMAIN] == [block.title for block in blocks if not block.fused]


def test_blocks_that_do_the_same_share_a_function() -> None:
    model = read(MODELS["two blocks that do the same"])
    assert PlanFusion(repeated=0).run(model, Context()) == 2
    (function,) = model.functions.values()
    assert [len(node.inputs) for node in model.graph] == [2, 2] and len(function.inputs) == 2
    assert "Relu: the One-to-One operator" in function.metadata_props["graphwright.reason"]


def test_what_says_what_an_operator_does_is_in_the_function() -> None:
    model = read(MODELS["shapes and axes belong to the function"])
    PlanFusion().run(model, Context())
    (function,) = model.functions.values()
    assert [node.op_type for node in function].count("Constant") == 2 and len(function.inputs) == 1


def test_values_keep_their_types_and_shapes_inside() -> None:
    model = read(MODELS["a chain"])
    PlanFusion().run(model, Context())
    (function,) = model.functions.values()
    assert [str(value.shape) for node in function for value in node.outputs] == ["[2,4]"] * 3


def test_a_second_run_plans_nothing_more() -> None:
    model = read(MODELS["weights become inputs of the function"])
    assert PlanFusion().run(model, Context()) == 1
    assert PlanFusion().run(model, Context()) == 0


def test_a_new_function_takes_no_name_that_is_taken() -> None:
    model = read(MODELS["a chain"])
    PlanFusion().run(model, Context())
    (name,) = (function.name for function in model.functions.values())
    again = read(MODELS["a chain"])
    body = model.functions[next(iter(model.functions))].clone()
    body = ir.Function(DOMAIN, "block_1_Relu_Exp_Neg", graph=body.graph, attributes=[])
    again.functions[body.identifier()] = body
    PlanFusion().run(again, Context())
    assert len(again.functions) == 2 and name == "block_0_Relu_Exp_Neg"


def test_a_block_that_is_denied_stays_written_out() -> None:
    model = read(MODELS["a chain"])
    assert PlanFusion().run(model, Context(ledger=Ledger(denied=frozenset({("fuse-block", "y")})))) == 0
    assert not model.functions and [node.op_type for node in model.graph] == ["Relu", "Exp", "Neg"]


def test_what_nobody_reads_is_no_function() -> None:
    model = read("g (float[2,4] x) => (float[2,4] y) { a = Relu(x) b = Exp(a) y = Neg(x) }")
    assert PlanFusion().run(model, Context()) == 0
    assert sorted(node.op_type for node in model.graph) == ["Exp", "Neg", "Relu"]


def test_a_block_can_be_cut_out_as_a_model(run_onnx: Callable[..., dict]) -> None:
    model = read(MODELS["weights become inputs of the function"])
    infer_shapes(model)
    whole = run_onnx(model, feeds(model))
    (block,) = plan(model).blocks
    piece = isolate(block.nodes)
    check(piece)
    assert [value.name for value in piece.graph.inputs] == ["x"] and set(piece.graph.initializers) == {"w", "b"}
    assert np.array_equal(run_onnx(piece, feeds(model))["y"], whole["y"])


def test_planning_leaves_the_original_alone() -> None:
    model = read(MODELS["a chain"])
    copy = clone_model(model)
    PlanFusion().run(copy, Context())
    assert [node.op_type for node in model.graph] == ["Relu", "Exp", "Neg"]


def test_the_pass_reads_and_writes_as_text() -> None:
    text = "plan-fusion{operators=8,deep=true}"
    assert format_pipeline(parse_pipeline(text)) == text
