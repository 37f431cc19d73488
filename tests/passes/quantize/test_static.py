"""Static quantisation of whole models, run as written (no runtime optimisation) and as integer kernels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest

from graphwright.compiler.core.errors import ModelError, UsageError
from graphwright.compiler.core.graph import array
from graphwright.compiler.core.passes import Context, format_pass, parse_pipeline
from graphwright.compiler.core.target import PORTABLE
from graphwright.compiler.core.wellformed import check
from graphwright.compiler.serialize import to_bytes
from graphwright.passes.quantize.formats import pair_excess
from graphwright.passes.quantize.static import MARGIN, QuantizeStatic

from .static_models import images, kernel, kinds, made_by, model_of, quantised, run

MINMAX = QuantizeStatic(ranges="minmax", equalize=False)
RESIDUAL = (
    "g (float[N,3,8,8] x) => (float[N,5] y) {"
    " a = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, k1, b1) r = Relu(a) c = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(r, k2, b2)"
    " s = Add(r, c) t = Relu(s) p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(t) v = GlobalAveragePool(p) f = Flatten(v)"
    " m = MatMul(f, w) y = Add(m, h) }"
)
WEIGHTS = {
    "k1": kernel(8, 3, 3, 3),
    "b1": kernel(8, seed=1),
    "k2": kernel(8, 8, 3, 3, seed=2),
    "b2": kernel(8, seed=3),
    "w": kernel(8, 5, seed=4),
    "h": kernel(5),
}


def optimised(model: object, tmp_path: object) -> list[str]:
    """The operators that ONNX Runtime makes of a model."""
    import onnx

    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")  # type: ignore[operator]
    options.log_severity_level = 3
    ort.InferenceSession(to_bytes(model), options, providers=["CPUExecutionProvider"])  # type: ignore[arg-type]
    return [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]


def relative(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


@pytest.mark.parametrize("form", ["u8s8", "u8s7", "u8u8", "s8s8"])
def test_a_residual_network_computes_the_same_but_for_rounding_in_every_format(form: str) -> None:
    model, feeds = model_of(RESIDUAL, WEIGHTS), images(8, 2, 3, 8, 8)
    found, _, taken = quantised(model, feeds, replace(MINMAX, format=form))
    check(found)
    assert taken == 3
    assert relative(run(found, feeds[0]), run(model, feeds[0])) < 0.03


def test_onnx_runtime_makes_integer_kernels_of_all_of_it(tmp_path: object) -> None:
    found, _, _ = quantised(model_of(RESIDUAL, WEIGHTS), images(8, 2, 3, 8, 8))
    left = optimised(found, tmp_path)
    assert left.count("QLinearConv") == 2
    assert {"QLinearAdd", "QLinearGlobalAveragePool", "QGemm"} <= set(left)
    assert not {"Conv", "Gemm", "MatMul", "Add", "Relu", "GlobalAveragePool"} & set(left)


def test_integer_kernels_give_what_the_nodes_say() -> None:
    feeds = images(8, 2, 3, 8, 8)
    found, _, _ = quantised(model_of(RESIDUAL, WEIGHTS), feeds)
    session = ort.InferenceSession(to_bytes(found), providers=["CPUExecutionProvider"])
    assert relative(session.run(None, feeds[0])[0], run(found, feeds[0])) < 0.02


def test_without_calibration_data_it_says_so() -> None:
    with pytest.raises(UsageError, match="needs calibration data"):
        MINMAX.run(model_of(RESIDUAL, WEIGHTS), Context())


def test_a_model_of_an_old_opset_is_refused() -> None:
    with pytest.raises(ModelError, match="opset 13"):
        quantised(model_of(RESIDUAL, WEIGHTS, opset=12), images(2, 1, 3, 8, 8))


def test_a_model_without_sites_is_left_as_it_is() -> None:
    model = model_of("g (float[N,4] x) => (float[N,4] y) { a = Relu(x) y = Sigmoid(a) }")
    found, context, taken = quantised(model, images(3, 2, 4))
    assert taken == 0
    assert kinds(found) == ["Relu", "Sigmoid"]
    assert not context.coverage.records


def test_sites_that_are_kept_stay_and_are_noted() -> None:
    found, context, taken = quantised(model_of(RESIDUAL, WEIGHTS), images(4, 1, 3, 8, 8), replace(MINMAX, keep=("c",)))
    assert taken == 2
    assert context.coverage.records["c"].why == "it was asked to stay"
    assert array(made_by(found, "Conv")(1).inputs[1]).dtype == np.float32


def test_only_the_sites_named_are_quantised_and_nothing_is_said_of_others() -> None:
    _, context, taken = quantised(model_of(RESIDUAL, WEIGHTS), images(4, 1, 3, 8, 8), replace(MINMAX, only=("a",)))
    assert taken == 1
    assert set(context.coverage.records) == {"a"}


def test_operators_can_be_left_out_by_kind() -> None:
    found, context, taken = quantised(model_of(RESIDUAL, WEIGHTS), images(4, 1, 3, 8, 8), replace(MINMAX, types=("MatMul",)))
    assert taken == 1
    assert kinds(found).count("QuantizeLinear") == 1
    assert context.coverage.records["a"].why == "Conv is not among the operators to quantise"


@pytest.mark.parametrize("strange", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_stays(strange: float) -> None:
    weights = {**WEIGHTS, "k2": WEIGHTS["k2"].copy()}
    weights["k2"][0, 0, 0, 0] = strange
    _, context, taken = quantised(model_of(RESIDUAL, weights), images(4, 1, 3, 8, 8), replace(MINMAX, only=("c",)))
    assert taken == 0
    assert context.coverage.records["c"].why == "its weight holds NaN or infinities"


def test_a_site_whose_input_is_constant_stays() -> None:
    model = model_of("g (float[N,4] x) => (float[N,3] y) { a = Mul(x, z) b = Add(a, z) y = MatMul(b, w) }", {"w": kernel(4, 3), "z": np.zeros(4, np.float32)})
    _, context, taken = quantised(model, images(3, 2, 4))
    assert taken == 0
    assert "constant (0 on all 3 samples)" in context.coverage.records["y"].why


def test_an_input_that_is_never_finite_is_named() -> None:
    model = model_of("g (float[N,4] x) => (float[N,3] y) { a = Log(x) y = MatMul(a, w) }", {"w": kernel(4, 3)})
    feeds = [{"x": -np.ones((2, 4), np.float32)}]
    _, context, taken = quantised(model, feeds)
    assert taken == 0
    assert "no finite number" in context.coverage.records["y"].why


def test_a_second_run_leaves_alone_what_is_quantised() -> None:
    feeds = images(4, 1, 3, 8, 8)
    once, _, _ = quantised(model_of(RESIDUAL, WEIGHTS), feeds)
    before = kinds(once)
    _, context, taken = quantised(once, feeds)
    assert taken == 0
    assert kinds(once) == before
    assert not context.coverage.records


def test_no_way_of_choosing_ranges_is_clearly_better_than_the_chosen_one() -> None:
    model, feeds = model_of(RESIDUAL, WEIGHTS), images(12, 1, 3, 8, 8)
    feeds[3]["x"][0, 0, 0, 0] = 50.0
    errors = {}
    for how in ("minmax", "percentile", "mse", "auto"):
        found, _, _ = quantised(model, feeds, QuantizeStatic(ranges=how, equalize=False))
        errors[how] = sum(float(np.square(run(found, one) - run(model, one)).sum()) for one in feeds)
    assert errors["auto"] <= (1.0 + MARGIN) * min(errors.values())


def test_a_gemm_with_factors_and_a_transposed_weight(tmp_path: object) -> None:
    model = model_of(
        "g (float[N,6] x) => (float[N,4] y) { a = Gemm<alpha=0.5, beta=2.0, transB=1>(x, w, b) r = Relu(a) y = Gemm(r, v, c) }",
        {"w": kernel(4, 6), "b": kernel(4, seed=1), "v": kernel(4, 4, seed=2), "c": kernel(1, seed=3)},
    )
    feeds = images(8, 5, 6)
    found, _, taken = quantised(model, feeds)
    assert taken == 2
    assert relative(run(found, feeds[0]), run(model, feeds[0])) < 0.02
    assert optimised(found, tmp_path).count("QGemm") == 2


def test_an_output_of_the_model_in_the_middle_keeps_its_name_and_meaning() -> None:
    text = "g (float[1,3,6,6] x) => (float[1,4,6,6] r, float[1,2,6,6] y) { a = Conv(x, k1) r = Relu(a) y = Conv(r, k2) }"
    model, feeds = model_of(text, {"k1": kernel(4, 3, 1, 1), "k2": kernel(2, 4, 1, 1)}), images(4, 1, 3, 6, 6)
    found, _, _ = quantised(model, feeds)
    check(found)
    assert [value.name for value in found.graph.outputs] == ["r", "y"]
    session = ort.InferenceSession(to_bytes(found), providers=["CPUExecutionProvider"])
    before = ort.InferenceSession(to_bytes(model), providers=["CPUExecutionProvider"])
    for new, old in zip(session.run(None, feeds[0]), before.run(None, feeds[0]), strict=True):
        assert relative(new, old) < 0.03


def test_an_embedding_and_a_transposed_convolution_are_stored_in_eight_bits() -> None:
    model = model_of("g (int64[N] i) => (float[N,6] y) { y = Gather(t, i) }", {"t": kernel(30, 6)})
    feeds = [{"i": np.arange(5)}]
    found, context, taken = quantised(model, feeds)
    assert taken == 1
    assert context.coverage.records["y"].form == "int8"
    assert np.abs(run(found, feeds[0]) - run(model, feeds[0])).max() <= 0.51 * np.abs(kernel(30, 6)).max() / 127
    grouped = "g (float[1,4,5,5] x) => (float[1,6,10,10] y) { y = ConvTranspose<group=2, strides=[2,2], kernel_shape=[2,2]>(x, k, b) }"
    model, feeds = model_of(grouped, {"k": kernel(4, 3, 2, 2), "b": kernel(6)}), images(3, 1, 4, 5, 5)
    found, _, taken = quantised(model, feeds)
    assert taken == 1
    assert relative(run(found, feeds[0]), run(model, feeds[0])) < 0.01


def test_half_precision_models_compute_on_integers_and_keep_their_types() -> None:
    half = {name: content.astype(np.float16) for name, content in WEIGHTS.items()}
    model = model_of(RESIDUAL.replace("float[", "float16["), half)
    feeds = [{"x": one["x"].astype(np.float16)} for one in images(6, 1, 3, 8, 8)]
    found, _, taken = quantised(model, feeds)
    check(found)
    assert taken == 3
    output = run(found, feeds[0])
    assert output.dtype == np.float16
    assert relative(output.astype(np.float32), run(model, feeds[0]).astype(np.float32)) < 0.04


def test_no_pair_of_weights_can_overflow_where_the_model_may_run_on_any_processor() -> None:
    weights = {**WEIGHTS, "k2": np.abs(WEIGHTS["k2"]) + 0.2}
    found, _, _ = quantised(model_of(RESIDUAL, weights), images(6, 1, 3, 8, 8), target=PORTABLE)
    codes = array(made_by(found, "Conv")(1).inputs[1].producer().inputs[0])
    assert pair_excess(codes.reshape(8, -1).T, taps=9).max() <= 1.0
    full, _, _ = quantised(model_of(RESIDUAL, weights), images(6, 1, 3, 8, 8), replace(MINMAX, format="u8s8"))
    codes = array(made_by(full, "Conv")(1).inputs[1].producer().inputs[0])
    assert pair_excess(codes.reshape(8, -1).T, taps=9).max() > 1.0


def test_activations_can_have_sixteen_bits() -> None:
    model, feeds = model_of(RESIDUAL, WEIGHTS, opset=21), images(8, 2, 3, 8, 8)
    errors = [
        relative(run(quantised(model, feeds, replace(MINMAX, activations=bits, bias_correction=False))[0], feeds[0]), run(model, feeds[0])) for bits in (8, 16)
    ]
    assert errors[1] < errors[0]
    with pytest.raises(UsageError, match="not 4 and 8"):
        quantised(model, feeds, replace(MINMAX, bits=4))


def test_a_method_without_uniform_steps_is_refused() -> None:
    with pytest.raises(UsageError, match="uniform steps"):
        quantised(model_of(RESIDUAL, WEIGHTS), images(4, 1, 3, 8, 8), replace(MINMAX, method="nf4"))


def test_gptq_leaves_less_error_than_rounding() -> None:
    model, feeds = model_of(RESIDUAL, WEIGHTS, opset=21), images(24, 2, 3, 8, 8)
    errors = {}
    for method in ("rtn", "gptq"):
        found, _, _ = quantised(model, feeds, replace(MINMAX, method=method, activations=16, bias_correction=False))
        errors[method] = sum(float(np.square(run(found, one) - run(model, one)).sum()) for one in feeds)
    assert errors["gptq"] < errors["rtn"]


def test_its_options_read_back_from_text() -> None:
    step = QuantizeStatic(ranges="mse", keep=("a", "b"), join=False)
    assert parse_pipeline(format_pass(step)) == (step,)
