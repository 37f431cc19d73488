"""Smoothing leaves what a model computes, and makes its activations easier to round."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.calibration.engine import Engine
from graphwright.compiler.calibration.opening import open_calibration
from graphwright.compiler.core.errors import InputError, UsageError
from graphwright.compiler.core.graph import bind_opsets, clone_model
from graphwright.compiler.core.ledger import Ledger
from graphwright.compiler.core.passes import Context, format_pass, parse_pipeline
from graphwright.compiler.core.reasons import Reasons
from graphwright.compiler.core.sites import all_sites
from graphwright.passes.quantize.smooth import Smooth

Run = Callable[..., dict[str, np.ndarray]]
WIDE = 8
NORM = "n = LayerNormalization<axis=-1>(x, g, b)"
RMS = "n = RMSNormalization<axis=-1>(x, g)"
TWO = "p = MatMul(n, w) q = MatMul(n, v) y = Add(p, c) z = Add(q, d)"


def read(body: str, *, seed: int = 0, outlier: float = 40.0, outputs: str = "float[N,5,6] y, float[N,5,6] z") -> ir.Model:
    """A model from ONNX text whose norm has a channel ``outlier`` times as large as the others, and weights that take it back."""
    rng = np.random.default_rng(seed)
    text = f'<ir_version: 10, opset_import: ["" : 23]> m (float[N,5,{WIDE}] x) => ({outputs}) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    gain = np.ones(WIDE)
    gain[3] = outlier
    contents = {
        "g": gain, "b": gain * rng.normal(size=WIDE), "w": rng.normal(size=(WIDE, 6)) / gain[:, None], "v": rng.normal(size=(WIDE, 6)) / gain[:, None],
        "c": rng.normal(size=6), "d": rng.normal(size=6), "k": rng.normal(size=(WIDE, WIDE)) * gain, "o": rng.normal(size=WIDE), "two": np.full(1, 2.0),
    }  # fmt: skip
    read_names = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(content.astype(np.float32), name) for name, content in contents.items() if name in read_names)
    found = ir.from_proto(model)
    bind_opsets(found)
    return found


def samples(count: int = 4, seed: int = 1) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_normal((3, 5, WIDE), dtype=np.float32)} for _ in range(count)]


def smoothed(model: ir.Model, step: Smooth, feeds: list[dict[str, np.ndarray]] | None = None, **given: object) -> tuple[ir.Model, int, list[str]]:
    """A smoothed copy, how many values were smoothed, and why others were not."""
    copy = clone_model(model)
    reasons = Reasons()
    context = Context(calibrator=Engine(open_calibration(feeds or samples(), model), OrtBackend()), reasons=reasons, **given)  # type: ignore[arg-type]
    count = step.run(copy, context)
    return copy, count, [miss.reason for miss in reasons.misses]


def greatest_ratio(model: ir.Model, run_onnx: Run, x: np.ndarray) -> float:
    """How much wider the widest channel of the first site's input is than the middle one."""
    copy = clone_model(model)
    data = next(all_sites(copy)).data
    data.type = ir.TensorType(ir.DataType.FLOAT)
    copy.graph.outputs.append(data)
    widths = np.abs(run_onnx(copy, {"x": x})[data.name]).reshape(-1, WIDE).max(axis=0)
    return float(widths.max() / np.median(widths))


@pytest.mark.parametrize("method", ["smoothquant", "awq", "fptq", "outlier-suppression", "outlier-suppression+"])
@pytest.mark.parametrize("body", [f"{NORM} {TWO}", f"{RMS} {TWO}", f"k0 = MatMul(x, k) k1 = Add(k0, o) n = Relu(k1) {TWO}"])
def test_the_operator_before_takes_the_scales_up_and_nothing_else_changes(body: str, method: str, run_onnx: Run) -> None:
    model = read(body)
    after, _, _ = smoothed(model, Smooth(method=method, insert=False))
    x = samples(1, seed=7)[0]
    assert [node.op_type for node in after.graph] == [node.op_type for node in model.graph]
    before = run_onnx(model, x)
    for name, found in run_onnx(after, x).items():
        np.testing.assert_allclose(found, before[name], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("method", ["smoothquant", "outlier-suppression"])
def test_a_planted_outlier_goes(method: str, run_onnx: Run) -> None:
    model = read(f"{NORM} {TWO}")
    after, count, _ = smoothed(model, Smooth(method=method))
    x = samples(1, seed=7)[0]["x"]
    assert count == 1
    assert greatest_ratio(model, run_onnx, x) > 20
    assert greatest_ratio(after, run_onnx, x) < 3


@pytest.mark.parametrize("also", ["y = Relu(n)", "r = ReduceMax<keepdims=0>(n) y = MatMul(n, w)"])
def test_a_norm_that_others_read_is_left_as_it_is(also: str, run_onnx: Run) -> None:
    outputs = f"float[N,5,{WIDE}] y, float[N,5,6] z" if "Relu" in also else "float[N,5,6] y, float[N,5,6] z, float r"
    model = read(f"{NORM} {also} q = MatMul(n, v) z = Add(q, d)", outputs=outputs)
    after, count, reasons = smoothed(model, Smooth(insert=False))
    assert count == 0 and reasons == ["'n' is also needed elsewhere"]
    assert run_onnx(after, samples(1)[0]).keys() == run_onnx(model, samples(1)[0]).keys()


def test_a_norm_that_is_an_output_keeps_its_scale() -> None:
    model = read(f"{NORM} {TWO}", outputs=f"float[N,5,6] y, float[N,5,6] z, float[N,5,{WIDE}] n")
    _, count, reasons = smoothed(model, Smooth(insert=False))
    assert count == 0 and reasons == ["'n' is also needed elsewhere"]


def wide(body: str, outputs: str) -> ir.Model:
    """The norm of an outlier before a product with so many columns that a Mul pays."""
    model = read(body, outputs=outputs)
    rng, gain = np.random.default_rng(3), model.graph.initializers["g"].const_value.numpy()
    content = (rng.normal(size=(WIDE, 80)) / gain[:, None]).astype(np.float32)
    weight = ir.Value(name="wide", const_value=ir.tensor(content), shape=ir.Shape(content.shape), type=ir.TensorType(ir.DataType.FLOAT))
    model.graph.register_initializer(weight)
    node = next(node for node in model.graph if node.op_type == "MatMul")
    node.replace_input_with(1, weight)
    return model


def test_a_product_by_the_scale_is_put_in_where_the_norm_is_needed_as_it_is(run_onnx: Run) -> None:
    model = wide(f"{NORM} y = MatMul(n, w) z = Relu(n)", f"float[N,5,80] y, float[N,5,{WIDE}] z")
    after, count, _ = smoothed(model, Smooth())
    x = samples(1, seed=7)[0]
    assert count == 1 and [node.op_type for node in after.graph].count("Mul") == 1
    assert greatest_ratio(after, run_onnx, x["x"]) < 3
    before = run_onnx(model, x)
    for name, found in run_onnx(after, x).items():
        np.testing.assert_allclose(found, before[name], rtol=2e-5, atol=2e-5)


def test_a_product_is_not_put_in_where_nothing_stands_out() -> None:
    model = wide(f"{NORM} y = MatMul(n, w) z = Relu(n)", f"float[N,5,80] y, float[N,5,{WIDE}] z")
    for name in ("g", "wide"):
        value = model.graph.initializers[name]
        content = np.random.default_rng(0).uniform(0.9, 1.1, value.const_value.shape.numpy()).astype(np.float32)
        value.const_value = ir.tensor(content)
    after, count, _ = smoothed(model, Smooth())
    assert count == 0 and not [node for node in after.graph if node.op_type == "Mul"]


def test_a_shift_goes_into_the_bias_that_follows(run_onnx: Run) -> None:
    model = read(f"{NORM} {TWO}", outlier=1.0)
    model.graph.initializers["b"].const_value = ir.tensor(np.full(WIDE, 30, np.float32) * np.arange(WIDE, dtype=np.float32))
    after, count, _ = smoothed(model, Smooth(method="outlier-suppression+"))
    x = samples(1, seed=7)[0]
    copy = clone_model(after)
    data = next(all_sites(copy)).data
    copy.graph.outputs.append(data)
    assert count == 1
    assert np.abs(run_onnx(copy, x)[data.name].mean(axis=(0, 1))).max() < 2
    before = run_onnx(model, x)
    for name, found in run_onnx(after, x).items():
        np.testing.assert_allclose(found, before[name], rtol=1e-4, atol=5e-4)


def test_a_weight_that_two_norms_share_is_changed_for_one_reader_at_a_time(run_onnx: Run) -> None:
    model = read(f"{NORM} m = RMSNormalization<axis=-1>(x, o) p = MatMul(n, w) q = MatMul(m, w) y = Add(p, c) z = Add(q, d)")
    after, count, _ = smoothed(model, Smooth())
    x = samples(1, seed=7)[0]
    assert count == 2
    before = run_onnx(model, x)
    for name, found in run_onnx(after, x).items():
        np.testing.assert_allclose(found, before[name], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("content", [np.zeros((3, 5, WIDE), np.float32), np.full((3, 5, WIDE), 0.25, np.float32)])
def test_an_input_that_is_always_the_same_does_no_harm(content: np.ndarray, run_onnx: Run) -> None:
    model = read(f"{RMS} {TWO}")
    for method in ("smoothquant", "awq", "fptq", "outlier-suppression+"):
        after, _, _ = smoothed(model, Smooth(method=method), [{"x": content}] * 2)
        x = samples(1, seed=7)[0]
        before = run_onnx(model, x)
        for name, found in run_onnx(after, x).items():
            np.testing.assert_allclose(found, before[name], rtol=2e-5, atol=2e-5)


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_weight_of_nan_is_left_with_a_reason() -> None:
    model = read(f"{NORM} {TWO}")
    weight = model.graph.initializers["w"]
    content = weight.const_value.numpy().copy()
    content[1, 1] = np.nan
    weight.const_value = ir.tensor(content)
    _, count, reasons = smoothed(model, Smooth())
    assert count == 0 and reasons == ["1 of 8 channels of the weight are NaN or infinite: repair the model or the calibration data"]


def test_what_the_ledger_denies_stays() -> None:
    model = read(f"{NORM} {TWO}")
    after, count, _ = smoothed(model, Smooth(), ledger=Ledger(denied=frozenset({("smooth", "n")})))
    assert count == 0 and set(after.graph.initializers) == set(model.graph.initializers)


def test_sites_that_are_kept_or_not_named_stay() -> None:
    model = read(f"{NORM} {TWO}")
    assert smoothed(model, Smooth(keep=("p",)))[1] == 0
    assert smoothed(model, Smooth(only=("other",)))[1] == 0
    assert smoothed(model, Smooth(only=("q",)))[1] == 1


def test_smoothing_needs_calibration_data_and_a_method_that_is_there() -> None:
    with pytest.raises(InputError, match="calibration"):
        Smooth().run(read(f"{NORM} {TWO}"), Context())
    with pytest.raises(UsageError, match="there is no equivalent transform 'gptq'"):
        Smooth(method="gptq").run(read(f"{NORM} {TWO}"), Context())
    assert format_pass(parse_pipeline("smooth{method=awq,bits=4}")[0]) == "smooth{method=awq,bits=4}"
