"""The graph verifier finds each way of breaking a graph, and names it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.core.errors import PassError
from graphwright.compiler.core.graph import bind_opsets
from graphwright.compiler.core.wellformed import check

TEXT = (
    '<ir_version: 10, opset_import: ["" : 21]>\n'
    "g (float[2] x, bool c) => (float[2] y) <float[2] w = {1, 2}> { a = Add(x, w) b = Relu(a)"
    " y = If(c) <then_branch = t () => (float[2] p) { p = Neg(b) }, else_branch = e () => (float[2] q) { q = Abs(a) }> }"
)


@pytest.fixture
def model() -> ir.Model:
    made = ir.from_onnx_text(TEXT)
    bind_opsets(made)
    for value in (*made.graph.inputs, *made.graph.initializers.values()):
        assert value.name
    return made


def node(model: ir.Model, op_type: str) -> ir.Node:
    return next(item for item in model.graph.all_nodes() if item.op_type == op_type)


def test_a_sound_model_passes(model: ir.Model) -> None:
    check(model)


def test_use_before_making(model: ir.Model) -> None:
    relu = node(model, "Relu")
    model.graph.remove(relu)
    model.graph.insert_before(model.graph[0], relu)
    with pytest.raises(PassError, match="'a' is used before it is made"):
        check(model)


def test_a_value_of_no_graph(model: ir.Model) -> None:
    node(model, "Neg").replace_input_with(0, ir.Value(name="ghost"))
    with pytest.raises(PassError, match="'ghost' is used before it is made"):
        check(model)


def test_two_values_of_one_name(model: ir.Model) -> None:
    node(model, "Relu").outputs[0].name = "a"
    with pytest.raises(PassError, match="two values are called 'a'"):
        check(model)


def test_another_value_of_the_same_name(model: ir.Model) -> None:
    node(model, "Relu").replace_input_with(0, ir.Value(name="a"))
    with pytest.raises(PassError, match="'a' is another value of the same name"):
        check(model)


def test_a_used_output_without_a_name(model: ir.Model) -> None:
    node(model, "Add").outputs[0].name = ""
    with pytest.raises(PassError, match="no name"):
        check(model)


def test_an_operator_that_is_not_there(model: ir.Model) -> None:
    node(model, "Relu").op_type = "Relux"
    with pytest.raises(PassError, match="no operator Relux in opset 21"):
        check(model)


def test_a_domain_that_is_not_imported(model: ir.Model) -> None:
    node(model, "Relu").domain = "com.example"
    with pytest.raises(PassError, match="'com.example', which the model does not import"):
        check(model)


def test_too_many_inputs(model: ir.Model) -> None:
    relu = node(model, "Relu")
    relu.resize_inputs(2)
    relu.replace_input_with(1, model.graph.inputs[0])
    with pytest.raises(PassError, match="has 2 inputs; the operator takes 1 to 1"):
        check(model)


def test_attributes_that_do_not_belong_are_of_another_kind_or_missing(model: ir.Model) -> None:
    relu = node(model, "Relu")
    relu.attributes["alpha"] = ir.AttrFloat32("alpha", 1.0)
    with pytest.raises(PassError, match="'alpha', which Relu does not take"):
        check(model)
    relu.op_type = "Elu"
    relu.attributes["alpha"] = ir.AttrInt64("alpha", 1)
    with pytest.raises(PassError, match="is a INT, not a FLOAT"):
        check(model)
    relu.op_type = "Cast"
    del relu.attributes["alpha"]
    with pytest.raises(PassError, match="lacks the attribute 'to'"):
        check(model)


def test_operands_of_different_types(model: ir.Model) -> None:
    model.graph.inputs[0].type = ir.TensorType(ir.DataType.DOUBLE)
    with pytest.raises(PassError, match="mixes DOUBLE and FLOAT"):
        check(model)


def test_an_initialiser_that_is_not_what_it_says(model: ir.Model) -> None:
    model.graph.initializers["w"].const_value = ir.tensor(np.zeros(3, np.float32))
    with pytest.raises(PassError, match="declared .* but holds"):
        check(model)
    model.graph.initializers["w"].const_value = None
    with pytest.raises(PassError, match="holds no tensor"):
        check(model)


def test_a_graph_output_that_nobody_makes(model: ir.Model) -> None:
    model.graph.outputs[0] = ir.Value(name="z")
    with pytest.raises(PassError, match="output 'z' is made by no node"):
        check(model)
