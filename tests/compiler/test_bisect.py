"""Where two models part ways is found and named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.bisect import bisect_files, bisect_models, bisect_pipeline
from graphwright.compiler.core.errors import InputError
from graphwright.compiler.core.graph import bind_opsets, clone_model


def deep(count: int = 60, seed: int = 0) -> ir.Model:
    """x -> MatMul -> Tanh, ``count`` times, with a side branch that joins at the end."""
    rng = np.random.default_rng(seed)
    lines, before = [], "x"
    for number in range(count):
        lines.append(f"m_{number} = MatMul({before}, w_{number}) t_{number} = Tanh(m_{number})")
        before = f"t_{number}"
    inputs = ", ".join(["float[N,8] x", *(f"float[8,8] w_{number}" for number in range(count))])
    text = f"g ({inputs}) => (float[N,8] y) {{ {' '.join(lines)} side = Sigmoid(t_3) y = Add({before}, side) }}"
    model = ir.from_onnx_text(f'<ir_version: 9, opset_import: ["" : 18]>\n{text}')
    for value in [value for value in model.graph.inputs if value.name != "x"]:
        model.graph.inputs.remove(value)
        value.const_value = ir.tensor(rng.standard_normal((8, 8)).astype(np.float32) / 2, name=value.name)
        model.graph.register_initializer(value)
    bind_opsets(model)
    return model


def change_weight(model: ir.Model, name: str, factor: float) -> ir.Model:
    """A copy with one element of a weight scaled."""
    copy = clone_model(model)
    content = copy.graph.initializers[name].const_value.numpy().copy()  # type: ignore[union-attr]
    content[2, 5] *= factor
    copy.graph.initializers[name].const_value = ir.tensor(content, name=name)
    return copy


def renamed(model: ir.Model) -> ir.Model:
    """A copy in which every inner value and weight has another name."""
    copy = clone_model(model)
    values = [value for node in copy.graph for value in node.outputs if not value.is_graph_output()]
    for number, value in enumerate(values):
        value.name = f"other_{number}"
    for number, value in enumerate(list(copy.graph.initializers.values())):
        del copy.graph.initializers[value.name or ""]
        value.name = f"weight_{number}"
        copy.graph.register_initializer(value)
    return copy


def test_equal_models_do_not_diverge() -> None:
    assert bisect_models(deep(), clone_model(deep())) is None


def test_rounding_is_no_divergence() -> None:
    model = deep(8)
    other = clone_model(model)
    for node in [node for node in other.graph if node.op_type == "MatMul"]:
        halves = [ir.node("Mul", [node.inputs[1], _scalar(other, 1 / 3)]), ir.node("Mul", [None, _scalar(other, 3.0)])]
        for place, half in enumerate(halves):
            half.outputs[0].name = f"{node.outputs[0].name}_{place}"
        halves[1].replace_input_with(0, halves[0].outputs[0])
        other.graph.insert_before(node, halves)
        node.replace_input_with(1, halves[1].outputs[0])
    assert bisect_models(model, other) is None


def _scalar(model: ir.Model, number: float) -> ir.Value:
    name = f"scalar_{len(model.graph.initializers)}"
    value = ir.Value(name=name, const_value=ir.tensor(np.array(number, np.float32), name=name))
    value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([])
    model.graph.register_initializer(value)
    return value


@pytest.mark.parametrize("place", [0, 1, 17, 42, 59])
def test_the_first_value_that_differs_is_found(place: int) -> None:
    model = deep()
    found = bisect_models(model, change_weight(model, f"w_{place}", 1.05))
    assert found is not None and found.output == "y" and (found.value, found.other) == (f"m_{place}", f"m_{place}")
    changed = [line for line in found.text.splitlines() if line.startswith(">")]
    assert len(changed) == 1 and changed[0].count(f"w_{place}: float[8,8] #") == 2, "the weight is told apart by a hash of its content"
    assert "MatMul" in found.node and found.difference.broken and found.difference.index[-1] == 5
    assert found.compared < 60


def test_models_that_name_everything_differently_are_matched_by_how_they_compute() -> None:
    model = deep()
    found = bisect_models(model, renamed(change_weight(model, "w_31", 1.05)))
    assert found is not None and found.value == "m_31" and found.other.startswith("other_")


def test_an_operator_that_was_replaced_is_shown_beside_the_original() -> None:
    model = deep(12)
    other = clone_model(model)
    node = next(node for node in other.graph if node.outputs[0].name == "t_6")
    wrong = ir.node("HardSigmoid", node.inputs)
    node.outputs[0].name, wrong.outputs[0].name = "t_6_before", "t_6"
    other.graph.insert_before(node, wrong)
    node.outputs[0].replace_all_uses_with(wrong.outputs[0])
    other.graph.remove(node, safe=True)
    found = bisect_models(model, other)
    assert found is not None and found.value == "t_6" and "Tanh" in found.node and "HardSigmoid" in found.other_node
    marked = [line for line in found.text.splitlines() if ">" in line]
    assert any("Tanh" in line and "HardSigmoid" in line for line in marked)


def test_a_branch_that_does_not_reach_the_output_in_question_is_not_blamed() -> None:
    text = "g (float[4] x) => (float[4] y, float[4] z) { a = Neg(x) b = Exp(a) y = Sqrt(b) c = Abs(x) z = Log(c) }"
    model = ir.from_onnx_text(f'<ir_version: 9, opset_import: ["" : 18]>\n{text}')
    other = ir.from_onnx_text(f'<ir_version: 9, opset_import: ["" : 18]>\n{text.replace("Abs(x)", "Relu(x)")}')
    found = bisect_models(model, other, [{"x": np.array([1, -2, 3, -4], np.float32)}])
    assert found is not None and (found.output, found.value) == ("z", "c")


def test_models_with_other_inputs_or_outputs_are_refused() -> None:
    model = deep(4)
    other = clone_model(model)
    other.graph.inputs[0].name = "z"
    with pytest.raises(InputError, match="different inputs"):
        bisect_models(model, other)
    fewer = clone_model(model)
    fewer.graph.outputs.append(next(iter(fewer.graph)).outputs[0])
    with pytest.raises(InputError, match="different outputs"):
        bisect_models(model, fewer)


def test_outputs_under_other_names_are_compared_in_order() -> None:
    model = deep(6)
    other = clone_model(model)
    other.graph.outputs[0].name = "result"
    assert bisect_models(model, other) is None
    found = bisect_models(model, renamed(change_weight(other, "w_4", 1.05)))
    assert found is not None and found.value == "m_4"


def test_two_files_are_compared(tmp_path: Path) -> None:
    model = deep(10)
    ir.save(model, tmp_path / "a.onnx")
    ir.save(change_weight(model, "w_7", 1.05), tmp_path / "b.onnx")
    found = bisect_files(tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert found is not None and found.value == "m_7"


def test_the_rewrites_of_a_pipeline_to_blame_are_listed() -> None:
    from graphwright.passes.fold.weights import FoldWeights

    model = deep(4)
    assert bisect_pipeline(model, [FoldWeights()]) == ()
