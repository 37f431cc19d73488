"""The planner: the examples of the papers, and what every plan promises."""

from __future__ import annotations

import cProfile
import pstats
from collections.abc import Sequence

import networkx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from graphwright.compiler.core.graph import bind_opsets
from graphwright.compiler.core.planning.extended import extend
from graphwright.compiler.core.planning.mapping import Mapping
from graphwright.compiler.core.planning.plan import Constraints, Plan
from graphwright.compiler.core.planning.planner import plan, plan_model
from graphwright.compiler.core.shapes import infer_shapes

HEAD = '<ir_version: 10, opset_import: ["" : 21]>\n'


class Prices:
    """A profile that charges for each block by its operators; unknown ones were never measured."""

    def __init__(self, prices: dict[str, float]) -> None:
        self.prices = prices

    def cost(self, nodes: Sequence[ir.Node]) -> float | None:
        return self.prices.get("+".join(node.op_type for node in nodes))


def read(text: str) -> ir.Model:
    model = ir.from_onnx_text(HEAD + text)
    bind_opsets(model)
    infer_shapes(model)
    return model


def titles(text: str, constraints: Constraints | None = None, prices: dict[str, float] | None = None) -> list[str]:
    found = plan(read(text), constraints, Prices(prices) if prices is not None else None)
    return [block.title for block in found.blocks]


EXAMPLE = """g (float[1,4,8] a, float[8,16] w, float[4,4,3] k) => (float[1,4,14] y) <float[4,1] b = {1,2,3,4}, float two = {2}> {
    m = MatMul(a, w) i = Add(m, b) c = Conv(i, k) e = Relu(c) u = Mul(e, two) y = Sub(u, two) }"""


def test_the_worked_example_leaves_the_gemm_out() -> None:
    found = plan(read(EXAMPLE))
    assert [block.title for block in found.blocks] == ["MatMul", "Add+Conv+Relu+Mul+Sub"]
    assert found.blocks[1].mapping is Mapping.MANY_TO_MANY and found.rate == 3.0


def test_transposed_convolution_relu_and_concat_are_one_block() -> None:
    text = """g (float[1,4,5,5] x, float[4,3,2,2] w, float[1,2,10,10] z) => (float[1,5,10,10] y) {
        c = ConvTranspose<strides=[2,2]>(x, w) r = Relu(c) y = Concat<axis=1>(r, z) }"""
    assert titles(text) == ["ConvTranspose+Relu+Concat"]


def test_matmul_reshape_transpose_and_add_are_one_block() -> None:
    text = """g (float[2,3,8] x, float[8,8] w, float[2,4,3,2] z) => (float[2,4,3,2] y) <int64[4] s = {2,3,4,2}> {
        m = MatMul(x, w) r = Reshape(m, s) t = Transpose<perm=[0,2,1,3]>(r) y = Add(t, z) }"""
    assert titles(text) == ["MatMul+Reshape+Transpose+Add"]


def test_sub_pow_mean_add_and_sqrt_are_one_block() -> None:
    text = """g (float[2,3,8] x, float[2,3,1] m) => (float[2,3,1] y) <int64[1] last = {-1}, float two = {2}, float tiny = {0.00001}> {
        d = Sub(x, m) p = Pow(d, two) v = ReduceMean(p, last) e = Add(v, tiny) y = Sqrt(e) }"""
    assert titles(text) == ["Sub+Pow+ReduceMean+Add+Sqrt"]


def test_without_arithmetic_to_repeat_the_add_stays_behind_the_gemm() -> None:
    assert titles(EXAMPLE, Constraints(repeated=0)) == ["MatMul+Add", "Conv+Relu+Mul+Sub"]


def test_the_smallest_result_is_the_first_seed() -> None:
    text = "g (float[8,8] x, float[8,2] w) => (float[8,2] y) { a = Relu(x) b = MatMul(a, w) y = Tanh(b) }"
    block = plan(read(text)).blocks[-1]
    assert block.seed.op_type == "Tanh" and block.title == "Relu+MatMul+Tanh"


def test_unknown_sizes_are_seeds_last() -> None:
    text = "g (float[N,8] x, float[8,8] z) => (float[N,8] y, float[8,8] v) { y = Relu(x) v = Tanh(z) }"
    model = read(text)
    facts = [extend(model.graph).nodes[node]["facts"] for node in model.graph]
    assert [item.bytes for item in facts] == [None, 256]
    assert [item.removable for item in facts] == [False, False]


def test_a_block_around_an_operator_that_is_not_in_it_is_refused() -> None:
    text = """g (float[4] x) => (float[4] y) { a = Relu(x) b = NonMaxSuppressed(a) y = Add(a, b) }""".replace("NonMaxSuppressed", "Unknown")
    model = ir.from_onnx_text(HEAD + text)
    for node in model.graph:
        node.outputs[0].shape, node.outputs[0].type = ir.Shape([4]), ir.TensorType(ir.DataType.FLOAT)
    assert [block.title for block in plan(model).blocks] == ["Relu", "Unknown", "Add"]


def test_what_only_moves_data_is_seeded_second() -> None:
    text = """g (float[2,3,4] x) => (float[4,6] y) <int64[2] s = {4,6}> { t = Transpose<perm=[2,0,1]>(x) y = Reshape(t, s) }"""
    (block,) = plan(read(text)).blocks
    assert block.title == "Transpose+Reshape" and "moves data" in block.reason


def test_a_measurement_decides_where_the_table_does_not() -> None:
    text = """g (float[2,8] x, float[8,8] w) => (float[8,2] y) { m = MatMul(x, w) y = Transpose(m) }"""
    assert titles(text, prices={"MatMul": 2.0, "Transpose": 1.0, "MatMul+Transpose": 2.5}) == ["MatMul+Transpose"]
    assert titles(text, prices={"MatMul": 2.0, "Transpose": 1.0, "MatMul+Transpose": 3.5}) == ["MatMul", "Transpose"]


def test_a_measurement_has_no_say_where_the_table_says_never() -> None:
    text = """g (float[1,3,8,8] x, float[3,3,3,3] w) => (float[1,3,4,4] y) { m = Conv(x, w) y = Conv(m, w) }"""
    assert titles(text, prices={"Conv": 1.0, "Conv+Conv": 0.1}) == ["Conv", "Conv"]


def test_rows_promote_never_to_a_measurement() -> None:
    text = "g (float[2,3,8] x, float[8,8] w) => (float[2,3,8] y) <float[8] s = {1,1,1,1,1,1,1,1}> { n = LayerNormalization(x, s) y = MatMul(n, w) }"
    both = "LayerNormalization+MatMul"
    assert titles(text) == ["LayerNormalization", "MatMul"]
    assert titles(text, prices={"LayerNormalization": 1.0, "MatMul": 1.0, both: 1.5}) == [both]
    assert titles(text, prices={"LayerNormalization": 1.0, "MatMul": 1.0, both: 2.5}) == ["LayerNormalization", "MatMul"]
    assert titles(text, Constraints(deep=True)) == [both]
    assert titles(text, Constraints(deep=True, live_bytes=16)) == ["LayerNormalization", "MatMul"]


def test_arithmetic_is_not_put_where_it_would_be_repeated() -> None:
    text = "g (float[4,8] x, float[8,8] v, float[8,8] w) => (float[4,8] y) { m = MatMul(x, v) e = Erf(m) y = MatMul(e, w) }"
    assert titles(text) == ["MatMul+Erf", "MatMul"]


def test_reading_what_is_stored_in_fewer_bits_is_no_arithmetic() -> None:
    text = """g (uint8[4,8] x, float[8,8] w) => (float[4,8] y) <float s = {0.1}, uint8 z = {3}> {
        d = DequantizeLinear(x, s, z) m = MatMul(d, w) y = Relu(m) }"""
    assert titles(text, Constraints(repeated=0)) == ["DequantizeLinear+MatMul+Relu"]


def test_a_computed_shape_is_not_in_the_block_that_needs_it() -> None:
    text = """g (float[2,6] x, int64[2] s, int64[2] t) => (float[?,?] y) { n = Mul(s, t) a = Relu(x) y = Reshape(a, n) }"""
    assert sorted(titles(text)) == ["Mul", "Relu+Reshape"]


def test_blocks_hold_no_more_than_is_allowed() -> None:
    text = "g (float[4] x) => (float[4] y) { " + " ".join(f"v{step + 1} = Relu(v{step})" for step in range(10)).replace("v0", "x").replace("v10", "y") + " }"
    assert [len(block.nodes) for block in plan(read(text), Constraints(operators=4)).blocks] == [4, 4, 2]
    wide = "g (float[4] a, float[4] b, float[4] c, float[4] d) => (float[4] y) { p = Add(a, b) q = Add(p, c) y = Add(q, d) }"
    assert titles(wide, Constraints(inputs=3)) == ["Add+Add", "Add"]


def test_bodies_are_planned_on_their_own_and_the_node_that_holds_them_stays_alone() -> None:
    text = """g (float[4] x, bool b) => (float[4] y) {
        t = Exp(x)
        r = If (b) <then_branch = p () => (float[4] u) { n = Neg(t) u = Abs(n) }, else_branch = q () => (float[4] v) { v = Cos(t) }>
        y = Relu(r) }"""
    main, first, second = plan_model(read(text))
    assert [block.title for block in main.blocks] == ["Exp", "If", "Relu"]
    assert [[block.title for block in found.blocks] for found in (first, second)] == [["Neg+Abs"], ["Cos"]]


def test_what_a_body_reads_is_made_before_the_node_that_holds_it() -> None:
    text = """g (float[4] x, bool b) => (float[4] y) {
        t = Exp(x)
        r = If (b) <then_branch = p () => (float[4] u) { u = Neg(t) }, else_branch = q () => (float[4] v) { v = Cos(x) }>
        y = Add(t, r) }"""
    assert titles(text) == ["Exp", "If", "Add"]


def test_the_report_says_what_was_taken_and_what_was_not() -> None:
    block = plan(read(EXAMPLE)).blocks[1]
    assert "not MatMul: Many-to-Many then Many-to-Many is never fused" in block.reason
    assert block.saved_values == 4 and block.saved_bytes == 4 * (4 * 16 + 3 * 4 * 14)


def checked(found: Plan) -> Plan:
    """Each node once; an order that can run; no cycle among blocks."""
    nodes = [node for block in found.blocks for node in block.nodes]
    assert len(nodes) == len(set(nodes)) and set(nodes) == set(found.graph)
    owner = {node: place for place, block in enumerate(found.blocks) for node in block.nodes}
    assert all(owner[one] <= owner[other] for one, other in extend(found.graph).edges)
    assert networkx.is_directed_acyclic_graph(networkx.DiGraph([(owner[a], owner[b]) for a, b in extend(found.graph).edges if owner[a] != owner[b]]))
    return found


def chain(length: int) -> ir.Model:
    kinds = ("Relu", "Sigmoid", "Softmax", "Tanh", "Neg", "Transpose", "MatMul")
    nodes = [
        helper.make_node(kinds[step % 7], [f"v{step}", *(["w"] if kinds[step % 7] == "MatMul" else [])], [f"v{step + 1}"]) for step in range(length)
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [8, 8]) for name in ("v0", "w", f"v{length}")]
    graph = helper.make_graph(nodes, "chain", ports[:2], ports[2:])
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))


def ladder(rungs: int) -> ir.Model:
    """Two chains that read each other: many chances for cycles."""
    nodes = []
    for step in range(rungs):
        nodes.append(helper.make_node("Relu" if step % 3 else "Softmax", [f"a{step}"], [f"r{step}"]))
        nodes.append(helper.make_node("Add", [f"r{step}", f"b{step}"], [f"a{step + 1}"]))
        nodes.append(helper.make_node("Mul", [f"b{step}", f"a{step + 1}" if step % 2 else f"r{step}"], [f"b{step + 1}"]))
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [8, 8]) for name in ("a0", "b0", f"a{rungs}", f"b{rungs}")]
    graph = helper.make_graph(nodes, "ladder", ports[:2], ports[2:])
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))


@pytest.mark.parametrize("model", [chain(60), ladder(40)], ids=["chain", "ladder"])
@pytest.mark.parametrize("constraints", [Constraints(), Constraints(operators=5), Constraints(deep=True), Constraints(repeated=0)], ids=str)
def test_every_plan_holds_each_node_once_in_an_order_that_can_run(model: ir.Model, constraints: Constraints) -> None:
    infer_shapes(model)
    checked(plan(model, constraints))


def test_the_same_graph_gives_the_same_plan() -> None:
    texts = []
    for _ in range(2):
        model = ladder(30)
        infer_shapes(model)
        texts.append([(block.title, block.reason) for block in plan(model).blocks])
    assert texts[0] == texts[1]


def test_work_grows_with_the_graph_and_not_with_its_square() -> None:
    """Counted in calls, since time depends on the machine."""

    def calls(length: int) -> int:
        model = chain(length)
        infer_shapes(model)
        profiler = cProfile.Profile()
        profiler.runcall(plan, model)
        return pstats.Stats(profiler).total_calls  # type: ignore[attr-defined]

    assert calls(600) < 2.3 * calls(300)
