"""Projections of one input are merged, but for those that an attention takes apart again."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.core.graph import bind_opsets
from graphwright.compiler.core.passes import Context
from graphwright.compiler.core.wellformed import check
from graphwright.passes.merging import weights
from graphwright.passes.merging.merge_parallel import MergeParallel

HEAD = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>\n'
FOUR = "{1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7}"
WEIGHTS = f"float[4,4] a = {FOUR}, float[4,4] b = {FOUR}, float[4,4] c = {FOUR}, float[4,4] d = {FOUR}, float[4,4] e = {FOUR}"
HEADS = "int64[4] s = {0,0,2,2}"


def merged(text: str) -> list[str]:
    model = ir.from_onnx_text(HEAD + text)
    bind_opsets(model)
    MergeParallel().run(model, Context())
    check(model)
    return [node.op_type for node in model.graph]


def test_queries_keys_and_values_stay_apart_and_the_gate_is_merged_with_what_it_gates() -> None:
    operators = merged(
        f"g (float[N,S,4] x) => (float[N,S,4] y, float[N,S,4] u) <{WEIGHTS}> {{ q = MatMul(x, a) k = MatMul(x, b) v = MatMul(x, c)"
        " y = com.microsoft.MultiHeadAttention<num_heads=2>(q, k, v) g = MatMul(x, d) h = MatMul(x, e) i = Sigmoid(g) u = Mul(i, h) }"
    )
    assert operators.count("MatMul") == 4 and operators.count("Split") == 1


def test_the_heads_of_an_attention_that_is_not_fused_stay_apart_too() -> None:
    operators = merged(
        f"g (float[N,S,4] x) => (float[N,2,S,2] y) <{WEIGHTS}, {HEADS}> {{ q0 = MatMul(x, a) k0 = MatMul(x, b) v0 = MatMul(x, c)"
        " q1 = Reshape(q0, s) k1 = Reshape(k0, s) v1 = Reshape(v0, s) q = Transpose<perm=[0,2,1,3]>(q1) k = Transpose<perm=[0,2,3,1]>(k1)"
        " v = Transpose<perm=[0,2,1,3]>(v1) m = MatMul(q, k) p = Softmax(m) y = MatMul(p, v) }"
    )
    assert "Split" not in operators


def test_one_of_many_readers_may_be_something_else() -> None:
    operators = merged(
        f"g (float[N,S,4] x) => (float[N,S,4] y, float[N,S,4] z, float[N,S,4] u) <{WEIGHTS}> {{ y = MatMul(x, a) z = MatMul(x, b) u = Relu(x) }}"
    )
    assert sorted(operators) == ["MatMul", "Relu", "Split"]


def test_weights_that_are_large_together_are_put_together_when_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "IN_MEMORY_BYTES", 90)
    made = weights.side_by_side([np.full((4, 4), 1, np.float32), np.full((4, 2), 2, np.float32)], 1)
    assert isinstance(made, ir.LazyTensor) and made.shape == ir.Shape([4, 6])
    assert made.numpy().tolist() == [[1, 1, 1, 1, 2, 2]] * 4
