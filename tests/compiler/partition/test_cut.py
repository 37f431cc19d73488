"""A graph cut into parts computes what it did."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.core.shapes import infer_shapes
from graphwright.compiler.partition.cut import Part, Uncut, cut, take_turns
from graphwright.compiler.partition.runner import PartsRunner, steps_of

BRANCHES = """
<ir_version: 9, opset_import: ["" : 18]>
g (float[3,4] x, bool c) => (float[3,4] y, float[N] z)
<float[4] w = {1, 2, 3, 4}>
{
    a = Relu(x)
    b = Add(a, w)
    t = If(c) <
        then_branch = one () => (float[3,4] u) { u = Mul(b, a) },
        else_branch = other () => (float[3,4] v) { s = Sigmoid(a)  v = Sub(s, w) }
    >
    q = SequenceConstruct(t, a)
    k = Constant<value_int = 0>()
    f = SequenceAt(q, k)
    y = Tanh(f)
    n = NonZero(y)
    m = ReduceSum<keepdims = 0>(n, o)
    z = Cast<to = 1>(m)
}
"""
FORK = """
<ir_version: 9, opset_import: ["" : 18]>
g (float[4] x) => (float[4] y)
{
    a1 = Relu(x)  b1 = Tanh(a1)  a2 = Relu(x)  b2 = Tanh(a2)  c = Add(b1, b2)  y = Relu(c)
}
"""


def model_of(text: str) -> ir.Model:
    model = ir.from_proto(onnx.parser.parse_model(text))
    infer_shapes(model)
    return model


def branches() -> ir.Model:
    return model_of(BRANCHES.replace("(n, o)", "(n, one)").replace("<float[4] w", "<int64[1] one = {0}, float[4] w"))


def run_parts(model: ir.Model, parts: tuple[Part, ...], feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs, one part after the other."""
    backend = OrtBackend()
    runners = [backend.reference(part.model) for part in parts]
    whole = backend.reference(model)
    steps = steps_of(runners, [part.needs for part in parts], [port.name for port in whole.outputs])
    return PartsRunner(whole.inputs, whole.outputs, steps).run(feeds)


@pytest.mark.parametrize("seed", range(12))
def test_a_graph_cut_anywhere_computes_the_same(seed: int) -> None:
    model = branches()
    rng = np.random.default_rng(seed)
    places = {node: str(rng.integers(3)) for node in model.graph}
    parts = cut(model, take_turns(model.graph, places))
    feeds = {"x": rng.standard_normal((3, 4)).astype(np.float32), "c": np.array(bool(seed % 2))}
    expected = OrtBackend().reference(model).run(feeds)
    found = run_parts(model, parts, feeds)
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_parts_hold_each_node_once_and_only_the_weights_they_read() -> None:
    model = branches()
    places = {node: "b" if node.op_type in ("If", "NonZero") else "a" for node in model.graph}
    parts = cut(model, take_turns(model.graph, places))
    assert sorted(node.op_type for part in parts for node in part.model.graph) == sorted(node.op_type for node in model.graph)
    holders = [part for part in parts if "w" in part.model.graph.initializers]
    assert {node.op_type for part in holders for node in part.model.graph} >= {"Add", "If"}
    assert all(part.model.graph.initializers["w"].const_value is model.graph.initializers["w"].const_value for part in holders)


def test_the_model_that_is_cut_stays_as_it_was() -> None:
    model = branches()
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    cut(model, take_turns(model.graph, {node: node.op_type for node in model.graph}))
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_what_a_branch_reads_from_outside_feeds_its_part() -> None:
    model = branches()
    places = {node: "b" if node.op_type == "If" else "a" for node in model.graph}
    (part,) = [part for part in cut(model, take_turns(model.graph, places)) if part.place == "b"]
    assert set(part.needs) == {"c", "a", "b"}


def test_branches_that_do_not_depend_on_each_other_run_together() -> None:
    graph = model_of(FORK).graph
    groups = take_turns(graph, {node: "t" if node.op_type == "Tanh" else "o" for node in graph})
    assert [(place, len(nodes)) for place, nodes in groups] == [("o", 2), ("t", 2), ("o", 2)]


def test_the_order_is_the_same_every_time() -> None:
    orders = []
    for _ in range(3):
        graph = branches().graph
        groups = take_turns(graph, {node: "ab"[len(node.op_type) % 2] for node in graph})
        orders.append([(place, [node.outputs[0].name for node in nodes]) for place, nodes in groups])
    assert orders[0] == orders[1] == orders[2]


def test_an_output_that_nothing_computes_cannot_be_cut() -> None:
    model = model_of('<ir_version: 9, opset_import: ["" : 18]> g (float[4] x) => (float[4] y, float[4] x) { y = Relu(x) }')
    with pytest.raises(Uncut, match="'x' is not computed"):
        cut(model, [("a", tuple(model.graph))])
