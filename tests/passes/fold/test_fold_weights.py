"""Constants go into weights over several steps, and stay out where a copy of a weight would cost more than it saves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.core.graph import bind_opsets, clone_model
from graphwright.compiler.core.passes import Context
from graphwright.compiler.core.wellformed import check
from graphwright.passes.fold.constants import MAX_BYTES
from graphwright.passes.fold.weights import FoldWeights

HEAD = '<ir_version: 10, opset_import: ["" : 21]>\n'
Run = Callable[..., dict[str, np.ndarray]]


def model_of(text: str, **weights: np.ndarray) -> ir.Model:
    model = ir.from_onnx_text(HEAD + text)
    for name, content in weights.items():
        value = next(value for node in model.graph for value in node.inputs if value is not None and value.name == name)
        value.const_value, value.shape, value.type = ir.tensor(content, name=name), ir.Shape(content.shape), ir.TensorType(ir.DataType(content_type(content)))
        model.graph.register_initializer(value)
    bind_opsets(model)
    return model


def content_type(content: np.ndarray) -> ir.DataType:
    return ir.DataType.from_numpy(content.dtype)


def folded(model: ir.Model) -> ir.Model:
    result = clone_model(model)
    FoldWeights().run(result, Context())
    check(result)
    return result


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


@pytest.fixture
def assert_close(run_onnx: Run) -> Callable[[ir.Model, ir.Model, list[int]], None]:
    def compare(before: ir.Model, after: ir.Model, shape: list[int]) -> None:
        feeds = {"x": np.random.default_rng(5).normal(size=shape).astype(np.float32)}
        for old, new in zip(run_onnx(before, feeds).values(), run_onnx(after, feeds).values(), strict=True):
            np.testing.assert_allclose(new, old, rtol=2e-5, atol=2e-5 * np.abs(old).max())

    return compare


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def test_the_three_normalised_branches_of_repvgg_become_one_conv(assert_close: Callable) -> None:
    norms = {f"{name}{index}": np.abs(drawn(4)) + 0.5 for name in "stuv" for index in range(3)}
    model = model_of(
        "g (float[N,4,6,6] x) => (float[N,4,6,6] y) { a = Conv<pads=[1,1,1,1]>(x, w) b = BatchNormalization(a, s0, t0, u0, v0) c = Conv(x, p)"
        " d = BatchNormalization(c, s1, t1, u1, v1) e = BatchNormalization(x, s2, t2, u2, v2) f = Add(b, d) z = Add(f, e) y = Relu(z) }",
        w=drawn(4, 4, 3, 3), p=drawn(4, 4, 1, 1), **norms,
    )  # fmt: skip
    assert operators(folded(model)) == ["Conv", "Relu"]
    assert_close(model, folded(model), [2, 4, 6, 6])


def test_a_scaled_adapter_is_merged_into_a_projection_with_a_bias(assert_close: Callable) -> None:
    model = model_of(
        "g (float[N,3,8] x) => (float[N,3,8] y) { a = MatMul(x, w) b = Add(a, t) c = MatMul(x, low) d = MatMul(c, up) e = Mul(d, k) y = Add(b, e) }",
        w=drawn(8, 8), t=drawn(8), low=drawn(8, 2), up=drawn(2, 8), k=np.float32(0.5),
    )  # fmt: skip
    assert operators(folded(model)) == ["MatMul", "Add"]
    assert_close(model, folded(model), [2, 3, 8])


def test_pixels_are_normalised_by_the_first_conv_as_far_as_its_padding_allows(assert_close: Callable) -> None:
    text = "g (float[N,3,6,6] x) => (float[N,2,A,B] y) {{ a = Div(x, k) b = Sub(a, m) c = Div(b, s) y = Conv<pads={pads}>(c, w) }}"
    weights = {"k": np.float32(255), "m": drawn(3, 1, 1), "s": np.abs(drawn(3, 1, 1)) + 0.5, "w": drawn(2, 3, 3, 3)}
    inside, padded = (model_of(text.format(pads=pads), **weights) for pads in ("[0,0,0,0]", "[1,1,1,1]"))
    assert operators(folded(inside)) == ["Conv"]
    assert operators(folded(padded)) == ["Add", "Conv"]
    assert_close(inside, folded(inside), [2, 3, 6, 6])
    assert_close(padded, folded(padded), [2, 3, 6, 6])


def test_a_large_weight_that_two_operators_share_is_not_copied() -> None:
    side = int((MAX_BYTES / 4) ** 0.5) + 1
    text = f"g (float[N,{side}] x) => (float[N,{side}] y, float[N,{side}] z) {{ a = MatMul(x, w) y = Mul(a, k) z = MatMul(y, w) }}"
    model = model_of(text, w=np.ones((side, side), np.float32), k=np.float32(0.5))
    assert operators(folded(model)) == ["MatMul", "Mul", "MatMul"]


def test_what_a_number_that_large_rounds_away_is_not_folded_back_in(assert_close: Callable) -> None:
    model = model_of(
        "g (float[N,3,8] x) => (float[N,3,8] y) { a = MatMul(x, w) b = Add(a, k) y = Sub(b, k) }", w=drawn(8, 8), k=np.float32(3 * 2.0**22)
    )
    assert operators(folded(model)) == ["MatMul", "Add", "Sub"]


def test_only_the_first_token_goes_through_the_last_feed_forward(assert_close: Callable) -> None:
    model = model_of(
        "g (float[N,5,8] x) => (float[N,2] y) { n = LayerNormalization(x, s, t) a = MatMul(n, w) b = Gelu(a) c = MatMul(b, v) d = Add(c, x)"
        " e = LayerNormalization(d, s, t) f = Gather<axis=1>(e, z) y = Gemm(f, h) }",
        s=drawn(8), t=drawn(8), w=drawn(8, 16), v=drawn(16, 8), h=drawn(8, 2), z=np.array(0),
    )  # fmt: skip
    result = folded(model)
    assert {node.op_type for node in result.graph if any(value is model.graph.inputs[0] or value.name == "x" for value in node.inputs)} == {"Slice"}
    assert_close(model, result, [2, 5, 8])
