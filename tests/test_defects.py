"""Defects that optimizers have shipped: each is a model that came out wrong somewhere, and must come out right here, for every target."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime
import pytest

import graphwright

Feeds = Mapping[str, np.ndarray]
HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'
RANDOM = np.random.default_rng(11)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def run(model: onnx.ModelProto, feeds: Feeds) -> list[object]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, dict(feeds))


def assert_same(before: object, after: object) -> None:
    if isinstance(before, list):
        assert isinstance(after, list) and len(before) == len(after)
        for one, other in zip(before, after, strict=True):
            assert_same(one, other)
        return
    assert before.dtype == after.dtype and before.shape == after.shape
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5) if before.dtype.kind == "f" else np.testing.assert_array_equal(after, before)


CASES: dict[str, tuple[str, list[Feeds]]] = {
    "a_constant_along_the_width_is_no_channel_scale": (
        "g (float[N,2,3,3] x) => (float[N,3,3,3] y) <float[3,2,1,1] w = {1,2,3,4,5,6}, float[3] s = {2,3,5}> { c = Conv(x, w) y = Mul(c, s) }",
        [{"x": normal(2, 2, 3, 3)}, {"x": normal(1, 2, 3, 3)}],
    ),
    "a_dropout_whose_mask_is_used_keeps_it": (
        "g (float[N,4] x) => (float[N,4] y, bool[N,4] m) { a, m = Dropout(x) y = Relu(a) }",
        [{"x": normal(3, 4)}],
    ),
    "a_dynamic_dim_is_not_frozen_by_a_broadcast": (
        "g (float[N,4] x) => (float[5,4] y, int64[2] s) <float[5,4] c = {0,1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9}> { y = Add(x, c) s = Shape(x) }",
        [{"x": normal(1, 4)}, {"x": normal(5, 4)}],
    ),
    "two_symbols_are_not_merged_by_a_broadcast": (
        "g (float[N,2] x, float[M,2] z) => (float[K,2] y, float[N2,2] e, int64[2] s)"
        " { y = Add(x, z) n = Shape(x) e0 = Expand(z, n) e = Relu(e0) s = Shape(z) }",
        [{"x": normal(3, 2), "z": normal(1, 2)}, {"x": normal(1, 2), "z": normal(4, 2)}, {"x": normal(2, 2), "z": normal(2, 2)}],
    ),
    "an_integer_matmul_and_add_stay_integer": (
        "g (int32[N,2] x) => (int32[N,2] y) <int32[2,2] w = {1,2,3,4}, int32[2] b = {5,6}> { m = MatMul(x, w) y = Add(m, b) }",
        [{"x": np.array([[2**30, 1], [3, -4]], np.int32)}],
    ),
    "a_zero_in_the_second_reshape_copies_from_the_first": (
        "g (float[2,6] x) => (float[4,3] y) <int64[2] a = {4,3}, int64[2] b = {0,3}> { r = Reshape(x, a) y = Reshape(r, b) }",
        [{"x": normal(2, 6)}],
    ),
    "a_pad_of_zeros_is_not_a_max_pool_pad": (
        "g (float[N,1,2,2] x) => (float[N,1,A,B] y) <int64[8] p = {0,0,1,1,0,0,1,1}> { a = Pad(x, p) y = MaxPool<kernel_shape=[2,2], strides=[1,1]>(a) }",
        [{"x": -1 - np.abs(normal(1, 1, 2, 2))}],
    ),
    "a_shape_whose_start_is_after_its_end_is_empty": (
        "g (float[2,3,4] x) => (int64[K] y, float[A,B,C] z) { y = Shape<start=2, end=1>(x) t = ConstantOfShape(y) u = Reshape(t, o) z = Add(x, u) }".replace(
            "{ y", "<int64[1] o = {1}> { y"
        ),
        [{"x": normal(2, 3, 4)}],
    ),
    "a_batch_norm_in_training_is_not_folded": (
        "g (float[3,1,2,2] x) => (float[3,2,2,2] y, float[2] m, float[2] v) <float[2,1,1,1] w = {2,3},"
        " float[2] s = {1,2}, float[2] t = {0,1}, float[2] u = {1,-1},"
        " float[2] q = {4,2}> { c = Conv(x, w) y, m, v = BatchNormalization<training_mode=1>(c, s, t, u, q) }",
        [{"x": normal(3, 1, 2, 2)}],
    ),
    "clips_of_disjoint_ranges_end_in_the_second": (
        "g (float[N] x) => (float[N] y) <float a = {0}, float b = {1}, float c = {2}, float d = {3}> { t = Clip(x, a, b) y = Clip(t, c, d) }",
        [{"x": normal(9) * 4}],
    ),
    "a_relu_after_a_negative_clip_is_zero": (
        "g (float[N] x) => (float[N] y) <float a = {-2}, float b = {-1}> { t = Clip(x, a, b) y = Relu(t) }",
        [{"x": normal(9) * 4}],
    ),
    "a_two_dimensional_view_of_an_attention_output_feeds_a_gemm": (
        "g (float[2,3,4] x) => (float[6,2] y) <int64[4] s = {0,0,2,2},"
        " int64[2] r = {6,4}, float[4,2] w = {1,2,3,4,5,6,7,8}, float[2] b = {1,2}, float c = {0.7}>"
        " { h = Reshape(x, s) q = Transpose<perm=[0,2,1,3]>(h) k = Transpose<perm=[0,2,3,1]>(h) m = MatMul(q, k) n = Mul(m, c) p = Softmax(n) o = MatMul(p, q)"
        " t = Transpose<perm=[0,2,1,3]>(o) f = Reshape(t, r) y = Gemm(f, w, b) }",
        [{"x": normal(2, 3, 4)}],
    ),
    "an_rms_norm_spelt_with_a_reciprocal": (
        "g (float[N,3,4] x) => (float[N,3,4] y) <int64[1] a = {-1}, float e = {0.000001}, float[4] w = {1,2,3,4}>"
        " { q = Mul(x, x) v = ReduceMean(q, a) p = Add(v, e) r = Sqrt(p) i = Reciprocal(r) n = Mul(x, i) y = Mul(w, n) }",
        [{"x": normal(2, 3, 4)}, {"x": normal(0, 3, 4)}],
    ),
    "sequences_stay_sequences": (
        "g (float[4,2] x) => (float[A,B] y, seq(float[C,D]) z) <int64 one = {1}, int64 two = {2}>"
        " { s = SplitToSequence<axis=0>(x, two) a = SequenceAt(s, one) z = SequenceInsert(s, a) y = ConcatFromSequence<axis=0>(z) }",
        [{"x": normal(4, 2)}],
    ),
    "a_constant_affine_grid": (
        "g (float[1,1,3,3] x) => (float[1,1,2,2] y) <float[1,2,3] t = {1,0,0.2,0,1,-0.1},"
        " int64[4] s = {1,1,2,2}> { g = AffineGrid(t, s) y = GridSample(x, g) }",
        [{"x": normal(1, 1, 3, 3)}],
    ),
    "folding_inside_subgraphs_keeps_the_order": (
        "g (float[2] x, bool c) => (float[2] y) <float[2] k = {1,2}> { y0 = If(c) <then_branch = t () => (float[2] p) { a = Add(k,"
        " k) b = Mul(a, k) p = Add(b, x) },"
        " else_branch = e () => (float[2] q) { d = Sub(k, k) f = Exp(d) q = Mul(f, x) }> y = Identity(y0) }",
        [{"x": normal(2), "c": np.array(True)}, {"x": normal(2), "c": np.array(False)}],
    ),
}


@pytest.mark.parametrize("target", ["onnx", "ort-cpu"])
@pytest.mark.parametrize("name", CASES)
def test_defect(name: str, target: str) -> None:
    text, samples = CASES[name]
    model = onnx.parser.parse_model(HEADER + text)
    optimised = graphwright.optimize(model, target=target)
    onnx.checker.check_model(optimised)
    for feeds in samples:
        for before, after in zip(run(model, feeds), run(optimised, feeds), strict=True):
            assert_same(before, after)


@pytest.mark.parametrize("target", ["onnx", "ort-cpu"])
def test_a_dynamic_dim_stays_dynamic_in_the_interface(target: str) -> None:
    text, _ = CASES["a_dynamic_dim_is_not_frozen_by_a_broadcast"]
    optimised = graphwright.optimize(onnx.parser.parse_model(HEADER + text), target=target)
    assert optimised.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"


def test_a_model_without_a_default_domain_import_is_taken() -> None:
    text = (
        '<ir_version: 8, opset_import: ["com.microsoft" : 1]>\n'
        "g (float[N,2] x) => (float[N,2] y) <float[2] b = {1,2}> { a = com.microsoft.BiasGelu(x, b) y = com.microsoft.Gelu(a) }"
    )
    model = onnx.parser.parse_model(text)
    optimised = graphwright.optimize(model, target="ort-cpu")
    feeds = {"x": normal(3, 2)}
    assert_same(run(model, feeds), run(optimised, feeds))


def retrained(path: object, scale: float) -> None:
    """The same graph at the same path; only the bytes of its external data differ."""
    weight = onnx.numpy_helper.from_array(np.full((64, 64), scale, np.float32), "w")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["m"]), onnx.helper.make_node("Relu", ["m"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, ["N", 64])],
        [onnx.helper.make_tensor_value_info("y", 1, ["N", 64])],
        [weight],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)


def test_a_retrained_model_at_the_same_path_is_not_served_stale(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHWRIGHT_CACHE", str(tmp_path / "cache"))
    path, feeds = tmp_path / "model.onnx", np.ones((1, 64), np.float32)
    answers = []
    for scale in (1.0, 2.0):
        (tmp_path / "weights.bin").unlink(missing_ok=True)
        retrained(path, scale)
        answers.append(np.asarray(graphwright.compile(path, (feeds,))(feeds)))
    np.testing.assert_allclose(answers[1], 2 * answers[0])


