"""store-sparse: smaller files, the same bits."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from graphwright.compiler.core.graph import clone_model
from graphwright.compiler.core.passes import Context, parse_pipeline
from graphwright.compiler.core.target import Target

from .pruned_models import model_of, outputs_of

PLAIN = "m (float[N, 96] x, float[96, 64] A) => (float[N, 64] y) {\n y = MatMul(x, A) }"


def stored(model: ir.Model, text: str = "store-sparse", target: Target | None = None) -> tuple[ir.Model, int]:
    copy = clone_model(model)
    context = Context() if target is None else Context(target)
    changes = [step.run(copy, context) for step in parse_pipeline(text)]
    onnx.checker.check_model(ir.to_proto(copy), full_check=True)
    return copy, changes[0]


def with_content(content: np.ndarray, text: str = PLAIN) -> ir.Model:
    model = model_of(text)
    model.graph.initializers["A"].const_value = ir.tensor(content, name="A")
    return model


def half_zero(shape: tuple[int, ...], dtype: type = np.float32, share: float = 0.5, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.where(random.random(shape) >= share, random.normal(size=shape), 0.0).astype(dtype)


def bytes_of(model: ir.Model) -> int:
    return len(ir.to_proto(model).SerializeToString())


def decoded(model: ir.Model) -> np.ndarray:
    """What the operators that unpack make, as ONNX Runtime computes it."""
    proto = ir.to_proto(model)
    name = next(node.input[1] for node in proto.graph.node if node.op_type == "MatMul")
    proto.graph.output.append(onnx.ValueInfoProto(name=name))
    feed = {"x": np.zeros((1, 96), np.float32)}
    return ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).run([name], feed)[0]


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9, 0.999])
def test_the_file_shrinks_by_the_zeros_but_for_a_bit_a_number(share: float) -> None:
    model = with_content(half_zero((96, 64), share=share))
    found, changes = stored(model)
    assert changes == 1
    before = 4 * 96 * 64
    assert bytes_of(model) - bytes_of(found) > before * share - before / 32 - 4500


@pytest.mark.parametrize("level", [ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL])
def test_answers_are_the_same_bits(level: ort.GraphOptimizationLevel) -> None:
    model = with_content(half_zero((96, 64)))
    answers = []
    for one in (model, stored(model)[0]):
        options = ort.SessionOptions()
        options.graph_optimization_level = level
        session = ort.InferenceSession(ir.to_proto(one).SerializeToString(), options, providers=["CPUExecutionProvider"])
        answers.append(session.run(None, {"x": np.random.default_rng(1).normal(size=(5, 96)).astype(np.float32)})[0])
    np.testing.assert_array_equal(*answers)


def test_the_runtime_unpacks_once_when_it_loads(tmp_path: object) -> None:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")  # type: ignore[operator]
    ort.InferenceSession(ir.to_proto(stored(with_content(half_zero((96, 64))))[0]).SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node] == ["MatMul"]


@pytest.mark.parametrize("shape", [(96, 64), (96, 63), (96, 43)])
def test_numbers_come_back_bit_by_bit(shape: tuple[int, int]) -> None:
    content = half_zero(shape)
    content.reshape(-1)[:6] = [-0.0, np.nan, np.inf, -np.inf, 1e-45, 0.0]
    model = with_content(content, PLAIN.replace("96, 64] A", f"96, {shape[1]}] A").replace("N, 64", f"N, {shape[1]}"))
    found, changes = stored(model)
    assert changes == 1
    np.testing.assert_array_equal(decoded(found).view(np.uint32), content.view(np.uint32))


def product(weight: np.ndarray, dtype: type, zero: int | None = None) -> ir.Model:
    """x times a weight; with ``zero`` the weight is codes that are dequantised."""
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes, constants = [onnx.helper.make_node("MatMul", ["x", "A"], ["y"])], [onnx.numpy_helper.from_array(weight, "A")]
    if zero is not None:
        nodes = [onnx.helper.make_node("DequantizeLinear", ["A", "s", "z"], ["B"]), onnx.helper.make_node("MatMul", ["x", "B"], ["y"])]
        constants += [onnx.numpy_helper.from_array(np.float32(0.1), "s"), onnx.numpy_helper.from_array(np.array(zero, weight.dtype), "z")]
    ends = [onnx.helper.make_tensor_value_info(name, kind, ["N", size]) for name, size in zip("xy", weight.shape, strict=True)]
    graph = onnx.helper.make_graph(nodes, "m", ends[:1], ends[1:], constants)
    return ir.from_proto(onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)]))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_other_widths_of_floats_are_packed_too(dtype: type) -> None:
    model = product(half_zero((96, 64), dtype), dtype)
    found, changes = stored(model)
    assert changes == 1
    feed = {"x": np.random.default_rng(1).normal(size=(5, 96)).astype(dtype)}
    np.testing.assert_array_equal(outputs_of(found, feed)[0], outputs_of(model, feed)[0])


@pytest.mark.parametrize(("dtype", "zero"), [(np.int8, 0), (np.uint8, 128)])
def test_codes_are_packed_around_the_one_there_is_most_of(dtype: type, zero: int) -> None:
    codes = np.clip(np.rint(half_zero((192, 128), share=0.6) * 30) + zero, zero - 128 if zero else -127, zero + 127).astype(dtype)
    model = product(codes, np.float32, zero)
    found, changes = stored(model)
    assert changes == 1
    assert bytes_of(found) < 0.75 * bytes_of(model)
    feed = {"x": np.random.default_rng(1).normal(size=(5, 192)).astype(np.float32)}
    np.testing.assert_array_equal(outputs_of(found, feed)[0], outputs_of(model, feed)[0])


@pytest.mark.parametrize("content", [half_zero((96, 64), share=0.0), half_zero((96, 64), share=0.05)], ids=["dense", "nearly dense"])
def test_what_would_not_get_smaller_stays(content: np.ndarray) -> None:
    assert stored(with_content(content))[1] == 0


def test_small_constants_and_inputs_with_defaults_stay() -> None:
    assert stored(with_content(half_zero((96, 64))), "store-sparse{smallest=30000}")[1] == 0
    model = with_content(half_zero((96, 64)))
    model.graph.inputs.append(model.graph.initializers["A"])
    assert stored(model)[1] == 0


def test_weights_of_one_graph_share_the_table_of_bits() -> None:
    model = model_of("m (float[N, 96] x, float[96, 96] A, float[96, 96] B) => (float[N, 96] y) {\n a = MatMul(x, A)\n y = MatMul(a, B) }")
    for name in "AB":
        model.graph.initializers[name].const_value = ir.tensor(half_zero((96, 96)), name=name)
    found, changes = stored(model)
    assert changes == 2
    assert sum(value.shape is not None and list(value.shape) == [256, 8] for value in found.graph.initializers.values()) == 1


def test_weights_in_branches_are_packed_there() -> None:
    model = model_of("""m (float[N, 96] x, bool c, float[96, 64] A) => (float[N, 64] y) {
    y = If(c) <then_branch = t () => (float[N, 64] p) { p = MatMul(x, A) }, else_branch = e () => (float[N, 64] q) { k = MatMul(x, A)
        q = Neg(k) }> }""")
    model.graph.initializers["A"].const_value = ir.tensor(half_zero((96, 64)), name="A")
    found, changes = stored(model)
    assert changes == 1
    feed = {"x": np.random.default_rng(1).normal(size=(5, 96)).astype(np.float32), "c": np.array(False)}
    np.testing.assert_array_equal(outputs_of(found, feed)[0], outputs_of(model, feed)[0])


def test_no_folding_makes_it_dense_again() -> None:
    found, _ = stored(with_content(half_zero((96, 64))), "store-sparse,fold-constants,fold-shapes,eliminate-common-subexpressions,eliminate-dead-code")
    assert "CumSum" in {node.op_type for node in found.graph}


def test_nothing_is_packed_for_a_target_that_ships_no_model_file() -> None:
    assert stored(with_content(half_zero((96, 64))), target=Target("elsewhere", "elsewhere"))[1] == 0
