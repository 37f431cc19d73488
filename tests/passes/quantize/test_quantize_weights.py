"""Weights in few bits: what the graph computes is what the codes stand for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.core.errors import UsageError
from graphwright.compiler.core.graph import all_graphs
from graphwright.compiler.core.reasons import Skip, skip
from graphwright.passes.quantize.coded import Affine
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.method import find_method
from graphwright.passes.quantize.rtn import Rtn

EXACT = "quantize-weights{{bits={},block={},symmetric={},accuracy_level=0}}"
"""Activations are left alone, so that the result is the product with the dequantised weight."""


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def rounded(weight: np.ndarray, bits: int, block: int, symmetric: bool = True) -> np.ndarray:
    return Rtn().quantize(weight, None, Grid(bits, symmetric, block)).matrix()


def operators(model: ir.Model) -> Counter[str]:
    return Counter(f"{node.domain}::{node.op_type}" for graph in all_graphs(model) for node in graph)


def domains(model: ir.Model) -> set[str]:
    return {node.domain for graph in all_graphs(model) for node in graph}


@pytest.mark.parametrize("target", ["ort-cpu", "onnx"])
@pytest.mark.parametrize("symmetric", ["true", "false"])
@pytest.mark.parametrize(("bits", "block"), [(4, 32), (8, 32), (4, 0), (8, 0), (3, 16), (2, 16), (4, -1), (6, 64)])
@pytest.mark.parametrize(("rows", "columns"), [(70, 24), (64, 7), (1, 5), (33, 1)])
def test_a_product_is_that_with_the_dequantised_weight(
    rows: int, columns: int, bits: int, block: int, symmetric: str, target: str, draw: Callable, compress: Callable, run_twice: Callable
) -> None:
    weight, bias = noise(rows, columns), noise(columns, seed=1)
    model = draw(f"g (float[A,B,{rows}] x) => (float[A,B,{columns}] y) {{ p = MatMul(x, w) y = Add(p, b) }}", w=weight, b=bias)
    small, context = compress(model, EXACT.format(bits, block, symmetric), target)
    data = noise(2, 3, rows, seed=2)
    expected = data @ rounded(weight, bits, block, symmetric == "true") + bias
    for found in run_twice(small, {"x": data}):
        np.testing.assert_allclose(found["y"], expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    assert context.coverage.taken == 1
    kernels = ["com.microsoft::MatMulNBits"] if target == "ort-cpu" else ["::DequantizeLinear", "::MatMul", "::Add"]
    assert operators(small) == Counter(kernels)


@pytest.mark.parametrize("target", ["ort-cpu", "onnx"])
@pytest.mark.parametrize("rows", [0, 1, 5])
def test_any_number_of_rows_may_come(rows: int, target: str, draw: Callable, compress: Callable, run_twice: Callable) -> None:
    weight = noise(48, 10)
    small, _ = compress(draw("g (float[N,48] x) => (float[N,10] y) { y = MatMul(x, w) }", w=weight), EXACT.format(4, 32, "true"), target)
    data = noise(rows, 48, seed=2)
    for found in run_twice(small, {"x": data}):
        np.testing.assert_allclose(found["y"], data @ rounded(weight, 4, 32), atol=1e-4)


def test_a_product_with_a_vector_is_one(draw: Callable, compress: Callable, run_twice: Callable) -> None:
    weight = noise(48, 10)
    small, _ = compress(draw("g (float[48] x) => (float[10] y) { y = MatMul(x, w) }", w=weight), EXACT.format(4, 32, "true"))
    data = noise(48, seed=2)
    for found in run_twice(small, {"x": data}):
        np.testing.assert_allclose(found["y"], data @ rounded(weight, 4, 32), atol=1e-4)


@pytest.mark.parametrize("level", [0, 4])
def test_a_kernel_that_rounds_its_inputs_does_not_move_far(level: int, draw: Callable, compress: Callable, run_twice: Callable) -> None:
    weight, data = noise(128, 64), noise(8, 128, seed=2)
    model = draw("g (float[N,128] x) => (float[N,64] y) { y = MatMul(x, w) }", w=weight)
    small, _ = compress(model, f"quantize-weights{{accuracy_level={level}}}")
    expected = data @ rounded(weight, 4, 32)
    for found in run_twice(small, {"x": data}):
        assert np.linalg.norm(found["y"] - expected) <= (0.01 if level else 1e-5) * np.linalg.norm(expected)


@pytest.mark.parametrize("target", ["ort-cpu", "onnx"])
@pytest.mark.parametrize(
    "node",
    [
        "y = Gemm(x, w, b)",
        "y = Gemm<transB=1>(x, t, b)",
        "y = Gemm<alpha=0.5, beta=2.0>(x, w, b)",
        "y = Gemm(x, w)",
        "p = Gemm<transB=1>(x, t) y = Add(p, b)",
        "u = Transpose(x) v = MatMul(t, u) y = Transpose(v)",
    ],
)
def test_every_spelling_of_a_product_keeps_its_meaning(node: str, target: str, draw: Callable, compress: Callable, run_twice: Callable) -> None:
    weight, bias = rounded(noise(40, 12), 4, 16), noise(12, seed=1)
    model = draw(f"g (float[N,40] x) => (float[N,12] y) {{ {node} }}", w=weight, t=np.ascontiguousarray(weight.T), b=bias)
    small, context = compress(model, EXACT.format(4, 16, "true"), target)
    assert context.coverage.taken == 1
    data = {"x": noise(3, 40, seed=2)}
    (before, _), after = run_twice(model, data), run_twice(small, data)
    for found in after:
        np.testing.assert_allclose(found["y"], before["y"], atol=1e-4)


@pytest.mark.parametrize("target", ["ort-cpu", "onnx"])
@pytest.mark.parametrize(("bits", "block", "width"), [(8, 32, 64), (8, 0, 24), (4, 32, 64), (4, 16, 40), (4, 0, 30), (3, 0, 7), (2, 16, 32)])
@pytest.mark.parametrize("symmetric", ["true", "false"])
def test_rows_of_an_embedding_are_those_of_the_dequantised_table(
    symmetric: str, bits: int, block: int, width: int, target: str, draw: Callable, compress: Callable, run_twice: Callable
) -> None:
    table = noise(50, width)
    small, context = compress(draw(f"g (int64[A,B] i) => (float[A,B,{width}] y) {{ y = Gather(w, i) }}", w=table), EXACT.format(bits, block, symmetric), target)
    expected = rounded(np.ascontiguousarray(table.T), bits, block, symmetric == "true").T
    indices = np.array([[0, 49, -1], [7, 7, -50]])
    for found in run_twice(small, {"i": indices}):
        np.testing.assert_allclose(found["y"], expected[indices], atol=1e-6)
    assert context.coverage.taken == 1
    assert target == "ort-cpu" or domains(small) == {""}


@pytest.mark.parametrize("target", ["ort-cpu", "onnx"])
@pytest.mark.parametrize(
    ("group", "weight", "bits", "block"), [(1, (6, 4, 3, 3), 4, 32), (2, (6, 2, 3, 3), 4, 0), (2, (6, 2, 3, 3), 4, 16), (4, (4, 1, 3, 3), 4, 32)]
)
def test_a_convolution_is_that_with_the_dequantised_kernel(
    group: int, weight: tuple[int, ...], bits: int, block: int, target: str, draw: Callable, compress: Callable, run_twice: Callable
) -> None:
    kernel, bias = noise(*weight), noise(weight[0], seed=1)
    model = draw(f"g (float[N,4,8,8] x) => (float[N,{weight[0]},6,6] y) {{ y = Conv<group={group}>(x, w, b) }}", w=kernel, b=bias)
    small, context = compress(model, EXACT.format(bits, block, "true"), target)
    depthwise = weight[1] == 1
    dense = rounded(kernel.reshape(weight[0], -1).T, 8 if depthwise else bits, 0 if depthwise else block).T.reshape(weight)
    same = draw(f"g (float[N,4,8,8] x) => (float[N,{weight[0]},6,6] y) {{ y = Conv<group={group}>(x, w, b) }}", w=dense.copy(), b=bias)
    data = {"x": noise(2, 4, 8, 8, seed=2)}
    expected = run_twice(same, data)[0]["y"]
    for found in run_twice(small, data):
        np.testing.assert_allclose(found["y"], expected, atol=1e-4)
    assert context.coverage.taken == 1


def test_a_transposed_convolution_stays_or_keeps_its_meaning(draw: Callable, compress: Callable, run_twice: Callable) -> None:
    model = draw("g (float[N,4,5,5] x) => (float[N,6,7,7] y) { y = ConvTranspose(x, w) }", w=noise(4, 6, 3, 3))
    small, context = compress(model, EXACT.format(8, 0, "true"))
    assert context.coverage.taken == 1
    data = {"x": noise(2, 4, 5, 5, seed=2)}
    before = run_twice(model, data)[0]["y"]
    for found in run_twice(small, data):
        assert np.linalg.norm(found["y"] - before) < 0.01 * np.linalg.norm(before)


def test_two_sites_of_one_weight_share_its_codes(draw: Callable, compress: Callable, run_twice: Callable) -> None:
    weight = noise(64, 64)
    model = draw("g (float[N,64] x) => (float[N,64] y) { p = MatMul(x, w) r = Relu(p) y = MatMul(r, w) }", w=weight)
    small, _ = compress(model, EXACT.format(4, 32, "true") + ",deduplicate-initialisers,eliminate-dead-code")
    stored = sum(value.const_value.nbytes for value in small.graph.initializers.values() if value.const_value is not None)
    assert stored <= weight.nbytes * 0.16
    data = noise(3, 64, seed=2)
    dense = rounded(weight, 4, 32)
    for found in run_twice(small, {"x": data}):
        np.testing.assert_allclose(found["y"], np.maximum(data @ dense, 0) @ dense, atol=1e-3)


@pytest.mark.parametrize("target", ["ort-cpu", "onnx"])
def test_a_head_that_is_tied_to_the_embedding_is_compressed_too(target: str, draw: Callable, compress: Callable, run_twice: Callable) -> None:
    table = noise(50, 32)
    text = "g (int64[N] i) => (float[N,50] y) { e = Gather(w, i) t = Transpose<perm=[1,0]>(w) y = MatMul(e, t) }"
    small, context = compress(draw(text, w=table), EXACT.format(4, 32, "true") + ",deduplicate-initialisers,eliminate-dead-code", target)
    assert context.coverage.taken == 2
    kept = [value.name for value in small.graph.initializers.values() if value.dtype is ir.DataType.FLOAT and value.shape == table.shape]
    assert not kept
    dense = rounded(np.ascontiguousarray(table.T), 4, 32)
    for found in run_twice(small, {"i": np.array([3, 0, 49])}):
        np.testing.assert_allclose(found["y"], dense.T[[3, 0, 49]] @ dense, atol=1e-3)


def test_the_codes_of_a_tied_head_are_stored_once(draw: Callable, compress: Callable, run_twice: Callable) -> None:
    table = noise(50, 64)
    text = "g (int64[N] i) => (float[N,50] y) { e = Gather(w, i) t = Transpose<perm=[1,0]>(w) y = MatMul(e, t) }"
    small, _ = compress(draw(text, w=table), EXACT.format(4, 32, "true") + ",fold-constants,deduplicate-initialisers,eliminate-dead-code")
    stored = sum(value.const_value.nbytes for value in small.graph.initializers.values() if value.const_value is not None)
    assert stored <= 0.16 * table.nbytes + 16
    dense = rounded(np.ascontiguousarray(table.T), 4, 32)
    for found in run_twice(small, {"i": np.array([3, 0, 49])}):
        np.testing.assert_allclose(found["y"], dense.T[[3, 0, 49]] @ dense, atol=1e-3)


def test_a_tied_head_that_stays_goes_on_reading_the_one_table(draw: Callable, compress: Callable) -> None:
    text = "g (int64[N] i) => (float[N,50] y) { e = Gather(w, i) t = Transpose<perm=[1,0]>(w) y = MatMul(e, t) }"
    small, context = compress(draw(text, w=noise(50, 32)), "quantize-weights{keep=y+e}")
    assert operators(small) == Counter({"::Gather": 1, "::Transpose": 1, "::MatMul": 1})
    assert list(small.graph.initializers) == ["w"]
    assert {record.why for record in context.coverage.records.values()} == {"it was asked to stay"}


def test_only_and_keep_choose_the_sites(draw: Callable, compress: Callable) -> None:
    weights = {name: noise(64, 64, seed=seed) for seed, name in enumerate("wvu")}
    model = draw("g (float[N,64] x) => (float[N,64] y) { p = MatMul(x, w) q = MatMul(p, v) y = MatMul(q, u) }", **weights)
    _, context = compress(model, "quantize-weights{only=p+q,keep=q}")
    records = context.coverage.records
    assert {name: record.form for name, record in records.items()} == {"p": "int4", "q": ""}
    assert records["q"].why == "it was asked to stay"


def test_weights_inside_a_branch_are_compressed_too(draw: Callable, compress: Callable, run_twice: Callable) -> None:
    text = """g (bool c, float[N,32] x) => (float[N,8] y) {
        y = If (c) <then_branch = a () => (float[N,8] p) { p = MatMul(x, w) }, else_branch = b () => (float[N,8] q) { q = MatMul(x, v) }>
    }"""
    weights = {"w": noise(32, 8), "v": noise(32, 8, seed=1)}
    small, context = compress(draw(text, **weights), EXACT.format(4, 32, "true"))
    assert context.coverage.taken == 2
    data = noise(3, 32, seed=2)
    for chosen, name in ((True, "w"), (False, "v")):
        for found in run_twice(small, {"c": np.array(chosen), "x": data}):
            np.testing.assert_allclose(found["y"], data @ rounded(weights[name], 4, 32), atol=1e-4)


@pytest.mark.parametrize("target", ["ort-cpu", "onnx"])
def test_a_model_of_half_precision_stays_one(target: str, draw: Callable, compress: Callable) -> None:
    weight = rounded(noise(64, 16), 4, 32).astype(np.float16)
    model = draw("g (float16[N,64] x) => (float16[N,16] y) { p = MatMul(x, w) y = Add(p, b) }", w=weight, b=noise(16).astype(np.float16))
    small, context = compress(model, EXACT.format(4, 32, "true"), target)
    assert context.coverage.taken == 1
    scales = [value.const_value.numpy() for name, value in small.graph.initializers.items() if name.endswith("scales") and value.const_value is not None]
    assert [scale.dtype for scale in scales] == [np.float16]


def test_a_weight_that_is_not_finite_stays_and_the_coverage_says_why(draw: Callable, compress: Callable) -> None:
    weight = noise(32, 8)
    weight[3, 4] = np.nan
    small, context = compress(draw("g (float[N,32] x) => (float[N,8] y) { y = MatMul(x, w) }", w=weight), "quantize-weights")
    assert operators(small) == Counter({"::MatMul": 1})
    assert "1 of 256 elements of the weight are NaN or infinite" in context.coverage.records["y"].why


def test_weights_of_double_precision_stay_and_the_coverage_says_why(draw: Callable, compress: Callable, run_twice: Callable) -> None:
    model = draw("g (double[N,32] x) => (double[N,8] y) { y = MatMul(x, w) }", w=noise(32, 8).astype(np.float64))
    small, context = compress(model, "quantize-weights")
    (record,) = context.coverage.records.values()
    assert record.form or record.why
    data = {"x": noise(2, 32).astype(np.float64)}
    before = run_twice(model, data)[0]["y"]
    for found in run_twice(small, data):
        assert np.linalg.norm(found["y"] - before) < 0.2 * np.linalg.norm(before)


class Slow:
    """A judge to whom nothing is faster."""

    def refusal(self, rule: str, before: ir.Model, after: ir.Model, doubtful: bool) -> Skip | None:
        return skip("no")

    def slower(self, rule: str, before: ir.Model, after: ir.Model) -> Skip | None:
        return skip("it takes longer")


def test_what_is_not_faster_stays_a_float_where_speed_is_preferred(draw: Callable, compress: Callable) -> None:
    model = draw("g (float[N,64] x) => (float[N,8] y) { y = MatMul(x, w) }", w=noise(64, 8))
    small, context = compress(model, "quantize-weights{small=false}", judge=Slow())
    assert operators(small) == Counter({"::MatMul": 1})
    assert context.coverage.records["y"].why == "it takes longer"
    small, context = compress(model, "quantize-weights{small=true}", judge=Slow())
    assert context.coverage.records["y"].form == "int4"


def test_four_bits_take_less_than_0_16_of_the_weight(draw: Callable, compress: Callable) -> None:
    _, context = compress(draw("g (float[N,384] x) => (float[N,64] y) { y = MatMul(x, w) }", w=noise(384, 64)), "quantize-weights")
    assert context.coverage.records["y"].bits / 32 <= 0.16


@pytest.mark.parametrize("options", ["method=gptq_of_tomorrow", "small=perhaps", "accuracy_level=7", "bits=40", "block=-3"])
def test_an_option_that_does_not_exist_is_refused_in_a_sentence(options: str, draw: Callable, compress: Callable) -> None:
    with pytest.raises(UsageError):
        compress(draw("g (float[N,64] x) => (float[N,8] y) { y = MatMul(x, w) }", w=noise(64, 8)), f"quantize-weights{{{options}}}")


def test_codes_that_the_kernel_has_no_room_for_are_refused() -> None:
    from graphwright.passes.quantize.forms.packing import unsigned

    found = unsigned(Affine(np.array([[9]]), np.ones((1, 1), np.float32), None, 1, 4), 4)
    assert isinstance(found, Skip)
    assert "9" in str(found)


ELSEWHERE = {"llm.int8": "int8-dynamic", "smoothquant": "smooth", "quarot": "rotate", "rptq": "no kernel computes", "qllm": "bench methods", "rrs": "no kernel"}


@pytest.mark.parametrize(("method", "reason"), [*ELSEWHERE.items(), ("nonsense", "there is no quantisation method")])
def test_a_method_for_activations_is_refused_with_where_to_find_it(method: str, reason: str, draw: Callable, compress: Callable) -> None:
    model = draw("g (float[N,32] x) => (float[N,8] y) { y = MatMul(x, w) }", w=noise(32, 8))
    with pytest.raises(UsageError, match=reason):
        compress(model, f"quantize-weights{{method={method}}}")


@pytest.mark.parametrize("target", ["ort-cpu", "onnx"])
@pytest.mark.parametrize(("method", "bits"), [("bcq", 3), ("lut_gemm", 2)])
def test_signs_are_decoded_when_the_model_is_loaded(method: str, bits: int, target: str, draw: Callable, compress: Callable, run_twice: Callable) -> None:
    weight, data = noise(64, 24), noise(5, 64, seed=2)
    model = draw("g (float[N,64] x) => (float[N,24] y) { y = MatMul(x, w) }", w=weight)
    small, context = compress(model, f"quantize-weights{{method={method},bits={bits},block=32}}", target)
    expected = data @ find_method(method)().quantize(weight, None, Grid(bits, True, 32)).matrix()
    for found in run_twice(small, {"x": data}):
        np.testing.assert_allclose(found["y"], expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    assert context.coverage.taken == 1
