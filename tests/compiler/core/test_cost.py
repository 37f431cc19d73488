"""Arithmetic and bytes are counted from shapes, and what is not known is not guessed unless asked for."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from graphwright.compiler.core.cost import DIVISION, TRANSCENDENTAL, TYPICAL, bytes_moved, flops, model_size, sizes, typical_size
from graphwright.compiler.core.graph import bind_opsets
from graphwright.compiler.core.shapes import infer_shapes

HEADER = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>\n'


def node_of(text: str) -> ir.Node:
    """The last node of a graph in text."""
    model = ir.from_onnx_text(HEADER + text)
    bind_opsets(model)
    infer_shapes(model)
    return model.graph[-1]


COUNTED = {
    "elementwise": ("g (float[2,3] x, float[3] b) => (float[2,3] y) { y = Add(x, b) }", 6, 4 * (6 + 3 + 6)),
    "division": ("g (float[6] x) => (float[6] y) { y = Reciprocal(x) }", 6 * DIVISION, 48),
    "transcendental": ("g (float16[6] x) => (float16[6] y) { y = Exp(x) }", 6 * TRANSCENDENTAL, 24),
    "variadic": ("g (float[6] a, float[6] b, float[6] c) => (float[6] y) { y = Max(a, b, c) }", 12, 4 * 24),
    "reduction": ("g (float[4,5] x) => (float[4,1] y) <int64[1] a = {1}> { y = ReduceSum(x, a) }", 20, 4 * 24 + 8),
    "softmax": ("g (float[4,5] x) => (float[4,5] y) { y = Softmax(x) }", 20 * (TRANSCENDENTAL + DIVISION + 3), 160),
    "matmul": ("g (float[7,2,3] x, float[3,5] w) => (float[7,2,5] y) { y = MatMul(x, w) }", 2 * 7 * 2 * 3 * 5, 4 * (42 + 15 + 70)),
    "vector": ("g (float[3] x, float[3] w) => (float y) { y = MatMul(x, w) }", 6, 28),
    "gemm": ("g (float[3,2] x, float[3,5] w, float[5] b) => (float[2,5] y) { y = Gemm<transA=1>(x, w, b) }", 2 * 2 * 3 * 5 + 10, 4 * (6 + 15 + 5 + 10)),
    "conv": (
        "g (float[1,4,8,8] x, float[6,2,3,3] w, float[6] b) => (float[1,6,6,6] y) { y = Conv<group=2>(x, w, b) }",
        6 * 6 * 6 * (2 * 2 * 9 + 1),
        4 * (256 + 108 + 6 + 216),
    ),
    "conv transpose": ("g (float[1,4,3,3] x, float[4,2,2,2] w) => (float[1,2,4,4] y) { y = ConvTranspose(x, w) }", 2 * 36 * 8, 4 * (36 + 32 + 32)),
    "pool": ("g (float[1,1,4,4] x) => (float[1,1,2,2] y) { y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x) }", 16, 4 * 20),
    "view": ("g (float[2,3] x) => (float[6] y) <int64[1] s = {-1}> { y = Reshape(x, s) }", 0, 0),
    "slice": ("g (float[100] x) => (float[3] y) <int64[1] s = {0}, int64[1] e = {3}> { y = Slice(x, s, e) }", 0, 12 + 8 + 8 + 12),
    "transpose": ("g (float[2,3] x) => (float[3,2] y) { y = Transpose(x) }", 0, 48),
    "packed": ("g (int4[2,3] x) => (float[2,3] y) { y = Cast<to=1>(x) }", 0, 3 + 24),
    "fused": (
        "g (float[1,4,3,3] x, float[6,4,1,1] w) => (float[1,6,3,3] y) { y = com.microsoft.FusedConv<activation='Relu'>(x, w) }".replace("'", '"'),
        54 * 9,
        4 * (36 + 24 + 54),
    ),
    "einsum": ('g (float[2,3] x, float[3,5] w) => (float[2,5] y) { y = Einsum<equation="ij,jk->ik">(x, w) }', 2 * 2 * 3 * 5, 4 * (18 + 45 + 10)),
    "lstm": (
        "g (float[7,2,3] x, float[1,16,3] w, float[1,16,4] r, float[1,32] b) => (float[7,1,2,4] y) { y = LSTM<hidden_size=4>(x, w, r, b) }",
        7 * 2 * (2 * 16 * (3 + 4) + 32 + 4 * (5 * TRANSCENDENTAL + 4)),
        4 * (42 + 48 + 64 + 32 + 56),
    ),
    "gru, both ways": (
        'g (float[7,2,3] x, float[2,12,3] w, float[2,12,4] r) => (float[7,2,2,4] y) { y = GRU<hidden_size=4, direction="bidirectional">(x, w, r) }',
        7 * 2 * (2 * 2 * 12 * (3 + 4) + 2 * 4 * (3 * TRANSCENDENTAL + 5)),
        4 * (42 + 72 + 96 + 112),
    ),
    "empty": ("g (float[0,3] x, float[3,5] w) => (float[0,5] y) { y = MatMul(x, w) }", 0, 60),
}


@pytest.mark.parametrize(("text", "arithmetic", "traffic"), COUNTED.values(), ids=COUNTED)
def test_a_node_is_counted(text: str, arithmetic: int, traffic: int) -> None:
    node = node_of(text)
    assert flops(node) == arithmetic
    if node.outputs[0].dtype is not None:
        assert bytes_moved(node) == traffic


def test_an_attention_counts_both_products() -> None:
    text = "g (float[1,2,3,4] q, float[1,2,5,4] k, float[1,2,5,6] v) => (float[1,2,3,6] y) { y = Attention(q, k, v) }"
    node = ir.from_onnx_text(HEADER.replace("21", "23") + text).graph[-1]
    assert flops(node) == 2 * 3 * 5 * (2 * 4 + 2 * 6 + TRANSCENDENTAL + DIVISION + 3)


@pytest.mark.parametrize(
    "text",
    [
        "g (float[N,3] x) => (float[N,3] y) { y = Relu(x) }",
        "g (float x) => (float y) <float c = {1}> { y = com.example.Unheard(x) }",
        "g (bool c, float[2] x) => (float[2] y)"
        " { y = If(c)<then_branch = t () => (float[2] a) { a = Abs(x) }, else_branch = e () => (float[2] b) { b = Neg(x) }> }",
    ],
)
def test_what_is_not_known_is_not_guessed(text: str) -> None:
    assert flops(node_of(text)) is None


def test_symbols_count_as_the_size_one_asks_for() -> None:
    node = node_of("g (float[N,3] x, float[3,M] w) => (float[N,M] y) { y = MatMul(x, w) }")
    assert flops(node) is None and bytes_moved(node) is None
    assert flops(node, unknown=4) == 2 * 4 * 3 * 4
    assert bytes_moved(node, unknown=4) == 4 * (12 + 12 + 16)


def test_an_expression_counts_as_its_value() -> None:
    node = node_of("g (float[N,3] x, float[N,3] z) => (float[K,3] y) { y = Concat<axis=0>(x, z) }")
    assert sizes(node.outputs[0], unknown=4) == (8, 3)


def test_an_unknown_rank_has_no_size() -> None:
    node = node_of("g (float[N,3] x, int64[K] s) => (float y) { a = Reshape(x, s) y = Relu(a) }")
    assert sizes(node.inputs[0], unknown=4) is None and flops(node, unknown=4) is None


def test_a_model_is_taken_at_a_size_at_which_none_of_its_values_is_empty() -> None:
    text = "g (float[1,1,N] x, float[4,1,100] w) => (float[1,4,K] y) { c = Conv<strides=[50]>(x, w) y = Relu(c) }"
    model = ir.from_onnx_text(HEADER + text)
    bind_opsets(model)
    infer_shapes(model)
    assert typical_size(model) == 128
    assert model_size(model).flops == 4 * (2 * 100 + 1) == model_size(model, unknown=128).flops
    assert model_size(model, unknown=TYPICAL).flops == 0


def test_codes_of_quantised_numbers_count_as_parameters_and_their_zero_points_do_not() -> None:
    text = (
        "g (float[N,3] x) => (float[N,2] y) <int8[3,2] c = {1,2,3,4,5,6}, float s = {0.1}, int8 z = {0}, int64[2] t = {-1,2}, float[2] b = {0,1}>"
        " { w = DequantizeLinear(c, s, z) m = MatMul(x, w) a = Add(m, b) y = Reshape(a, t) }"
    )
    model = ir.from_onnx_text(HEADER + text)
    bind_opsets(model)
    infer_shapes(model)
    assert model_size(model).parameters == 6 + 1 + 2


def test_a_value_that_is_empty_at_every_size_changes_nothing() -> None:
    text = "g (float[N,3] x) => (float[M,3] y) <int64[1] s = {0}, int64[1] e = {0}> { a = Slice(x, s, e) b = Concat<axis=0>(a, x) y = Relu(b) }"
    model = ir.from_onnx_text(HEADER + text)
    bind_opsets(model)
    infer_shapes(model)
    assert typical_size(model) == TYPICAL
