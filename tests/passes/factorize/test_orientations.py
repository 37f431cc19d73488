"""factorize: at the rank that a weight has, a model answers as before, however it stores and reads that weight."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.passes.factorize.method import LowRank, methods

from ..prune.pruned_models import feeds_of, outputs_of
from .low_rank_models import factorised, low_rank_model

LOW_RANK = sorted(name for name, kind in methods().items() if issubclass(kind, LowRank))
PRODUCTS = {
    "right": "m (float[N, 5, 24] x, float[24, 20] W) => (float[N, 5, 20] y) { y = MatMul(x, W) }",
    "right, one row": "m (float[24] x, float[24, 20] W) => (float[20] y) { y = MatMul(x, W) }",
    "right, bias": "m (float[N, 24] x, float[24, 20] W, float[20] B) => (float[N, 20] y) { a = MatMul(x, W)\n y = Add(a, B) }",
    "left": "m (float[N, 24, 5] x, float[20, 24] W) => (float[N, 20, 5] y) { y = MatMul(W, x) }",
    "left, one column": "m (float[24] x, float[20, 24] W) => (float[20] y) { y = MatMul(W, x) }",
    "gemm": "m (float[N, 24] x, float[24, 20] W) => (float[N, 20] y) { y = Gemm(x, W) }",
    "gemm, turned": "m (float[N, 24] x, float[20, 24] W, float[20] B) => (float[N, 20] y) { y = Gemm<transB=1>(x, W, B) }",
    "gemm, scaled": "m (float[N, 24] x, float[24, 20] W, float[1] B) => (float[N, 20] y) { y = Gemm<alpha=0.5, beta=2.0>(x, W, B) }",
    "gemm, computed": "m (float[N, 24] x, float[24, 20] W, float[N, 20] b) => (float[N, 20] y) { y = Gemm<alpha=0.5, beta=2.0>(x, W, b) }",
}
CONVOLUTIONS = {
    "conv": "m (float[N, 8, 9, 9] x, float[20, 8, 3, 3] W, float[20] B) => (float[N, 20, 7, 7] y) { y = Conv(x, W, B) }",
    "one tap": "m (float[N, 24, 4, 4] x, float[20, 24, 1, 1] W) => (float[N, 20, 4, 4] y) { y = Conv(x, W) }",
    "steps": "m (float[N, 8, 9, 9] x, float[20, 8, 3, 3] W) => (float[N, 20, 5, 5] y) { y = Conv<strides=[2, 2], pads=[1, 1, 1, 1]>(x, W) }",
    "uneven": "m (float[N, 8, 9, 9] x, float[20, 8, 3, 2] W) => (float[N, 20, 4, 10] y) { y = Conv<strides=[2, 1], pads=[0, 2, 1, 0]>(x, W) }",
    "dilated": "m (float[N, 8, 9, 9] x, float[20, 8, 3, 3] W) => (float[N, 20, 5, 7] y) { y = Conv<dilations=[2, 1]>(x, W) }",
    "same": "m (float[N, 8, 9, 9] x, float[20, 8, 3, 3] W) => (float[N, 20, 5, 5] y) { y = Conv<auto_pad=\"SAME_UPPER\", strides=[2, 2]>(x, W) }",
    "groups": "m (float[N, 16, 6, 6] x, float[24, 8, 3, 3] W, float[24] B) => (float[N, 24, 4, 4] y) { y = Conv<group=2>(x, W, B) }",
    "line": "m (float[N, 8, 30] x, float[20, 8, 5] W) => (float[N, 20, 14] y) { y = Conv<strides=[2], pads=[1, 1]>(x, W) }",
    "solid": "m (float[N, 4, 5, 5, 5] x, float[12, 4, 3, 3, 3] W) => (float[N, 12, 3, 3, 3] y) { y = Conv(x, W) }",
    "turned": "m (float[N, 16, 5, 5] x, float[16, 8, 3, 3] W, float[8] B) => (float[N, 8, 11, 11] y) { y = ConvTranspose<strides=[2, 2]>(x, W, B) }",
    "turned, groups": "m (float[N, 16, 5, 5] x, float[16, 6, 3, 3] W) => (float[N, 12, 10, 10] y) "
    "{ y = ConvTranspose<strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1], group=2>(x, W) }",
}


@pytest.mark.parametrize("text", [*PRODUCTS.values(), *CONVOLUTIONS.values()], ids=[*PRODUCTS, *CONVOLUTIONS])
def test_a_weight_of_rank_two_is_the_same_at_rank_two(text: str) -> None:
    model = low_rank_model(text)
    small, context = factorised(model, "factorize{rank=2,small=true}")
    assert context.coverage.taken == 1, context.coverage.records
    feeds = feeds_of(model)
    np.testing.assert_allclose(outputs_of(small, feeds)[0], outputs_of(model, feeds)[0], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("method", LOW_RANK)
@pytest.mark.parametrize("name", ["right, bias", "left", "gemm, scaled", "gemm, computed", "conv", "groups", "turned"])
def test_every_low_rank_method_finds_the_rank_that_is_there(method: str, name: str) -> None:
    model = low_rank_model({**PRODUCTS, **CONVOLUTIONS}[name])
    data = [feeds_of(model, seed) for seed in range(20)]
    small, context = factorised(model, f"factorize{{rank=2,small=true,method={method}}}", data)
    if (method, name) == ("afm", "turned"):
        assert "overlap" in context.coverage.records["y"].why
        return
    assert context.coverage.taken == 1, context.coverage.records
    feeds = feeds_of(model, 99)
    expected = outputs_of(model, feeds)[0]
    np.testing.assert_allclose(outputs_of(small, feeds)[0], expected, rtol=1e-3, atol=1e-4 * float(np.abs(expected).max()))


@pytest.mark.parametrize("dtype", [ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16])
def test_factors_have_the_type_of_the_weight(dtype: ir.DataType) -> None:
    model = low_rank_model(PRODUCTS["right"], dtype)
    small, context = factorised(model, "factorize{rank=2,small=true}")
    assert context.coverage.taken == 1
    assert {value.dtype for value in small.graph.initializers.values()} == {dtype}
    if dtype == ir.DataType.BFLOAT16:
        return  # ONNX Runtime has no such product on a CPU.
    feeds = feeds_of(model)
    tolerance = {ir.DataType.FLOAT16: 1e-2, ir.DataType.DOUBLE: 1e-12}[dtype]
    np.testing.assert_allclose(outputs_of(small, feeds)[0], outputs_of(model, feeds)[0], rtol=tolerance, atol=tolerance)


def test_an_embedding_becomes_rows_of_a_narrow_table_and_a_product() -> None:
    model = low_rank_model("m (int64[N, 5] x, float[30, 20] W) => (float[N, 5, 20] y) { y = Gather(W, x) }")
    feeds = feeds_of(model)
    for data in (None, [feeds]):
        small, context = factorised(model, "factorize{rank=2,small=true,embeddings=true}", data)
        assert [node.op_type for node in small.graph] == ["Gather", "MatMul"] and context.coverage.taken == 1
        np.testing.assert_allclose(outputs_of(small, feeds)[0], outputs_of(model, feeds)[0], rtol=1e-4, atol=1e-5)


def test_embeddings_stay_unless_they_are_asked_for() -> None:
    model = low_rank_model("m (int64[N, 5] x, float[30, 20] W) => (float[N, 5, 20] y) { y = Gather(W, x) }")
    small, context = factorised(model, "factorize{rank=2,small=true}")
    assert [node.op_type for node in small.graph] == ["Gather"] and context.coverage.records["y"].why
