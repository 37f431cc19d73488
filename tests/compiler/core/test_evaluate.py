"""Constant parts of a graph come out as the runtime would make them."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.core.evaluate import evaluate
from graphwright.compiler.core.graph import bind_opsets
from graphwright.compiler.core.recipe import NoKernel, Recipe
from graphwright.compiler.core.shapes import infer_shapes


def read(text: str, opset: int = 21) -> ir.Model:
    model = ir.from_onnx_text(f'<ir_version: 10, opset_import: ["" : {opset}]>\n{text}')
    bind_opsets(model)
    infer_shapes(model)
    return model


def evaluated(text: str) -> dict[str, ir.TensorProtocol]:
    model = read(text)
    found = evaluate(list(model.graph), model.graph.outputs)
    return {value.name or "": tensor for value, tensor in found.items()}


def test_a_chain_is_worked_out_in_one_session(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = []
    run = Recipe.run
    monkeypatch.setattr(Recipe, "run", lambda self: sessions.append(self) or run(self))
    steps = " ".join(f"v{i} = Neg({f'v{i - 1}' if i else 'c'})" for i in range(301))
    found = evaluated(f"g () => (float[2] y, float[2] z) <float[2] c = {{1,2}}> {{ {steps} y = Sign(v300) z = Abs(v7) }}")
    assert len(sessions) == 1
    np.testing.assert_array_equal(found["y"].numpy(), [-1, -1])
    np.testing.assert_array_equal(found["z"].numpy(), [1, 2])


def test_a_node_that_fails_loses_only_what_depends_on_it() -> None:
    found = evaluated(
        "g () => (float[2] a, float[1] b, float[2] c, float[1] d, int64[1] e) <float[2] w = {1,2}, int64[1] far = {7}, int64[1] zero = {0}, int64[1] one = {1}>"
        " { a = Neg(w) b = Gather(w, far) c = Exp(a) d = Neg(b) e = Div(one, zero) }"
    )
    assert set(found) == {"a", "c"}


NARROW = [
    (ir.DataType.BFLOAT16, ml_dtypes.bfloat16), (ir.DataType.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fn), (ir.DataType.FLOAT8E5M2, ml_dtypes.float8_e5m2),
    (ir.DataType.INT4, ml_dtypes.int4), (ir.DataType.UINT4, ml_dtypes.uint4), (ir.DataType.FLOAT16, np.float16),
]  # fmt: skip


@pytest.mark.parametrize(("dtype", "kind"), NARROW, ids=str)
@pytest.mark.parametrize("columns", [3, 2500])
def test_narrow_types_stay_what_they_are(dtype: ir.DataType, kind: type, columns: int) -> None:
    """Small constants and large ones take different ways to the runtime."""
    numbers = (np.arange(2 * columns) % 7).reshape(2, columns).astype(kind)
    model = read(f"g () => ({dtype.name.lower()}[{columns},2] y) <int64[1] unused = {{0}}> {{ y = Transpose<perm=[1,0]>(w) }}")
    weight = model.graph[0].inputs[0]
    assert weight is not None
    weight.const_value = ir.Tensor(numbers, dtype=dtype)
    weight.type, weight.shape = ir.TensorType(dtype), ir.Shape(numbers.shape)
    model.graph.register_initializer(weight)
    infer_shapes(model)
    (made,) = evaluate(list(model.graph), model.graph.outputs).values()
    assert made.dtype == dtype and made.numpy().dtype == kind
    np.testing.assert_array_equal(made.numpy().astype(np.float32), numbers.T.astype(np.float32))


def test_nan_and_infinity_are_results_like_others() -> None:
    found = evaluated("g () => (float[3] y, float[3] z) <float[3] w = {-1,0,1}, float zero = {0}> { y = Log(w) z = Div(w, zero) }")
    np.testing.assert_array_equal(found["y"].numpy(), np.array([np.nan, -np.inf, 0], np.float32))
    np.testing.assert_array_equal(found["z"].numpy(), np.array([-np.inf, np.nan, np.inf], np.float32))


def test_strings_are_left_to_the_runtime() -> None:
    assert not evaluated('g () => (string[2] y) <string[2] w = {"a", "b"}> { y = Identity(w) }')


def test_results_beyond_the_memory_allowed_are_made_when_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    run = Recipe.run
    monkeypatch.setattr(Recipe, "run", lambda self: runs.append(self) or run(self))
    model = read(
        "g () => (float[3,2] a, float[3,2] b, float[2] c) <float[2,3] w = {1,2,3,4,5,6}, float[2] v = {1,2}> { a = Transpose(w) b = Neg(a) c = Neg(v) }"
    )
    found = {value.name: tensor for value, tensor in evaluate(list(model.graph), model.graph.outputs, in_memory=24).items()}
    assert len(runs) == 1 and isinstance(found["b"], ir.LazyTensor) and isinstance(found["c"], ir.LazyTensor)
    for node in list(model.graph):
        node.replace_input_with(0, None)
    np.testing.assert_array_equal(found["b"].numpy(), -np.array([[1, 4], [2, 5], [3, 6]]))
    assert found["b"].nbytes == 24 and len(runs) == 2


def test_what_no_kernel_takes_is_not_promised_for_later() -> None:
    model = read("g () => (float[1] y) <float[2] w = {1,2}, int64[1] z = {0}> { a = Gather(w, z) y = Neg(a) }")
    model.graph[1].op_type = "NoSuchOperator"
    assert not evaluate(list(model.graph), model.graph.outputs, in_memory=0)


def test_the_reference_steps_in_where_onnx_runtime_has_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Recipe) -> object:
        raise NoKernel

    monkeypatch.setattr(Recipe, "session", refuse)
    found = evaluated("g () => (float[2] y) <float[2] w = {1,2}> { y = Sqrt(w) }")
    np.testing.assert_allclose(found["y"].numpy(), [1, np.sqrt(2)], rtol=1e-7)
