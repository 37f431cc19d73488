"""Models and weights of 16 bits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.backends.ort.kernels import cuda_target
from graphwright.compiler.core.errors import UsageError
from graphwright.compiler.core.graph import all_graphs, bind_opsets, clone_model
from graphwright.compiler.core.passes import Context
from graphwright.compiler.core.statistics import Histogram, Range
from graphwright.passes.quantize.cast_half import CastHalf
from graphwright.passes.quantize.half.reach import loss

HALF = "cast-half{compute=half}"
STORE = "cast-half{compute=float}"


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def operators(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for graph in all_graphs(model) for node in graph)


def dtype_of(model: ir.Model, op_type: str) -> set[ir.DataType | None]:
    return {node.outputs[0].dtype for graph in all_graphs(model) for node in graph if node.op_type == op_type}


def assert_near(model: ir.Model, small: ir.Model, feeds: dict[str, np.ndarray], run_twice: Callable, share: float = 2e-3) -> None:
    before = run_twice(model, feeds)[0]
    for after in run_twice(small, feeds):
        assert {name: (found.dtype, found.shape) for name, found in after.items()} == {name: (old.dtype, old.shape) for name, old in before.items()}
        for name, old in before.items():
            assert np.linalg.norm(after[name].astype(np.float64) - old) <= share * np.linalg.norm(old.astype(np.float64)), name


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("target", ["ort-cpu", "onnx"])
def test_on_a_cpu_weights_are_stored_in_half_the_room_and_nothing_else_changes(
    target: str, dtype: str, draw: Callable, compress: Callable, run_twice: Callable
) -> None:
    weight = noise(32, 16).astype(np.float16).astype(np.float32)
    model = draw("g (float[N,32] x) => (float[N,16] y) { p = MatMul(x, w) y = Add(p, b) }", w=weight, b=noise(16))
    small, context = compress(model, f"cast-half{{dtype={dtype}}},fold-constants", target)
    assert operators(small) == Counter({"Cast": 1, "MatMul": 1, "Add": 1})
    assert sum(value.const_value.nbytes for value in small.graph.initializers.values() if value.const_value is not None) == weight.nbytes // 2 + 64
    (record,) = context.coverage.records.values()
    assert (record.form, record.bits) == ({"float16": "fp16", "bfloat16": "bf16"}[dtype], 16)
    assert_near(model, small, {"x": noise(3, 32, seed=1)}, run_twice, 1e-6 if dtype == "float16" else 1e-2)


def test_a_weight_beyond_the_range_stays_and_the_coverage_says_why(draw: Callable, compress: Callable) -> None:
    weight = noise(32, 16)
    weight[0, 0] = 1e5
    model = draw("g (float[N,32] x) => (float[N,16] y) { y = MatMul(x, w) }", w=weight)
    for text in (STORE, HALF):
        small, context = compress(model, text)
        assert operators(small) == Counter({"MatMul": 1})
        assert "1e+05" in context.coverage.records["y"].why
        assert "6.55e+04" in context.coverage.records["y"].why
    assert compress(model, "cast-half{dtype=bfloat16}")[1].coverage.records["y"].form == "bf16"


def test_a_weight_of_two_readers_is_stored_once(draw: Callable, compress: Callable, run_twice: Callable) -> None:
    model = draw("g (float[N,16] x) => (float[N,16] y) { p = MatMul(x, w) r = Tanh(p) y = MatMul(r, w) }", w=noise(16, 16))
    small, context = compress(model, STORE)
    assert operators(small)["Cast"] == 1
    assert context.coverage.taken == 2
    assert_near(model, small, {"x": noise(3, 16, seed=1)}, run_twice)


def test_inputs_and_outputs_stay_as_they_were_when_the_model_computes_in_halves(draw: Callable, compress: Callable, run_twice: Callable) -> None:
    model = draw("g (float[N,32] x) => (float[N,16] y, float[N,16] p) { p = MatMul(x, w) q = Add(p, b) y = Relu(q) }", w=noise(32, 16), b=noise(16))
    small, context = compress(model, HALF)
    assert dtype_of(small, "MatMul") == dtype_of(small, "Add") == dtype_of(small, "Relu") == {ir.DataType.FLOAT16}
    assert operators(small)["Cast"] == 3
    assert context.coverage.records["p"].form == "fp16"
    assert_near(model, small, {"x": noise(3, 32, seed=1)}, run_twice)


def test_operators_that_leave_the_range_stay_wide(draw: Callable, compress: Callable, run_twice: Callable) -> None:
    text = """g (float[N,32] x) => (float[N,16] y) {
        p = MatMul(x, w) n = LayerNormalization(p, s, b) e = Softmax(n) q = Mul(e, b) y = Pow(q, two)
    }"""
    model = draw(text, w=noise(32, 16), s=noise(16, seed=1), b=noise(16, seed=2), two=np.array(2, np.float32))
    small, _ = compress(model, HALF)
    assert dtype_of(small, "LayerNormalization") == dtype_of(small, "Softmax") == dtype_of(small, "Pow") == {ir.DataType.FLOAT}
    assert dtype_of(small, "MatMul") == {ir.DataType.FLOAT16}
    assert_near(model, small, {"x": noise(3, 32, seed=3)}, run_twice, 1e-2)
    free, _ = compress(model, "cast-half{compute=half,islands=false}")
    assert dtype_of(free, "Softmax") == {ir.DataType.FLOAT16}


@pytest.mark.parametrize(("number", "text"), [(1e-12, "rounds to 0"), (-3.4e38, "ends at")])
def test_a_constant_that_a_half_does_not_hold_keeps_its_operator_wide(
    number: float, text: str, draw: Callable, compress: Callable, run_twice: Callable
) -> None:
    model = draw("g (float[N,8] x) => (float[N,4] y) { p = MatMul(x, w) q = Max(p, c) y = Add(q, q) }", w=noise(8, 4), c=np.array(number, np.float32))
    small, _ = compress(model, HALF)
    assert text in str(loss(np.array(number, np.float32), ir.DataType.FLOAT16))
    assert dtype_of(small, "Max") == {ir.DataType.FLOAT}
    assert operators(small)["Clip"] == (1 if number < -1 else 0)
    assert dtype_of(small, "Add") == {ir.DataType.FLOAT16}
    assert_near(model, small, {"x": noise(3, 8, seed=1)}, run_twice)


def test_branches_and_loops_compute_in_halves_inside(draw: Callable, compress: Callable, run_twice: Callable) -> None:
    text = """g (bool c, float[4,8] x) => (float[4,8] y, float[4,8] z) {
        p = MatMul(x, w)
        y = If (c) <then_branch = a () => (float[4,8] s) { s = Add(p, x) }, else_branch = b () => (float[4,8] t) { k = MatMul(p, w) t = Sigmoid(k) }>
        z = Loop (n, c, x) <body = body (int64 i, bool go, float[4,8] state) => (bool on, float[4,8] next) { on = Identity(go) next = MatMul(state, w) }>
    }"""
    model = draw(text, w=noise(8, 8) * 0.3, n=np.array(3))
    small, _ = compress(model, HALF)
    assert dtype_of(small, "MatMul") == {ir.DataType.FLOAT16}
    for chosen in (True, False):
        assert_near(model, small, {"c": np.array(chosen), "x": noise(4, 8, seed=1)}, run_twice, 5e-3)


def test_scales_of_a_resize_stay_floats(draw: Callable, compress: Callable, run_twice: Callable) -> None:
    model = draw(
        "g (float[1,2,4,4] x) => (float[1,3,8,8] y) { r = Resize<mode=\"nearest\">(x, , s) y = Conv(r, w) }",
        s=np.array([1, 1, 2, 2], np.float32), w=noise(3, 2, 1, 1),
    )  # fmt: skip
    small, _ = compress(model, HALF)
    assert small.graph.initializers["s"].dtype is ir.DataType.FLOAT
    assert dtype_of(small, "Resize") == dtype_of(small, "Conv") == {ir.DataType.FLOAT16}
    assert_near(model, small, {"x": noise(1, 2, 4, 4, seed=1)}, run_twice)


class Seen:
    """A calibrator that saw one value become very large."""

    samples = 1

    def ranges(self, model: ir.Model, values: Sequence[str]) -> dict[str, Range]:
        none = Histogram(np.zeros(1, np.int64), np.zeros(2))
        return {name: Range(-1.0, 3e4 if name == "p" else 1.0, none) for name in values}


def test_values_that_come_near_the_end_of_the_range_stay_wide(draw: Callable, compress: Callable) -> None:
    model = draw("g (float[N,8] x) => (float[N,8] y) { p = MatMul(x, w) q = Add(p, p) y = MatMul(q, w) }", w=noise(8, 8))
    small, context = compress(model, HALF, calibrator=Seen())
    assert dtype_of(small, "Add") == {ir.DataType.FLOAT}
    assert context.coverage.records["p"].why == "'p' leaves the range of 16 bits on the calibration data"
    assert context.coverage.records["y"].form == "fp16"


@pytest.mark.parametrize("text", ["cast-half{{compute={},keep=p}}", "cast-half{{compute={},only=y}}"])
@pytest.mark.parametrize("compute", ["half", "float"])
def test_only_and_keep_choose_what_changes(compute: str, text: str, draw: Callable, compress: Callable) -> None:
    model = draw("g (float[N,32] x) => (float[N,32] y) { p = MatMul(x, w) y = MatMul(p, v) }", w=noise(32, 32), v=noise(32, 32, seed=1))
    _, context = compress(model, text.format(compute))
    records = context.coverage.records
    assert records["y"].form == "fp16"
    assert ("keep" not in text and "p" not in records) or records["p"].why == "it was asked to stay"


def test_integers_and_doubles_are_left_alone(draw: Callable, compress: Callable, run_twice: Callable) -> None:
    model = draw("g (int64[N] i, double[N,4] d) => (float[N,4] y, double[N,4] z, int64[N] k) { y = Gather(w, i) z = Add(d, d) k = Add(i, i) }", w=noise(6, 4))
    small, _ = compress(model, HALF)
    assert_near(model, small, {"i": np.array([0, 5]), "d": noise(2, 4).astype(np.float64)}, run_twice)


@pytest.mark.parametrize("options", ["dtype=float8", "compute=fast"])
def test_an_option_that_does_not_exist_is_refused_in_a_sentence(options: str, draw: Callable, compress: Callable) -> None:
    with pytest.raises(UsageError):
        compress(draw("g (float[N,8] x) => (float[N,4] y) { y = MatMul(x, w) }", w=noise(8, 4)), f"cast-half{{{options}}}")


def test_a_gpus_kernels_add_up_in_32_bits_so_norms_and_softmax_are_no_islands_there(draw: Callable, compress: Callable, run_twice: Callable) -> None:
    text = """g (float[N,32] x) => (float[N,16] y) {
        p = MatMul(x, w) n = LayerNormalization(p, s, b) e = Softmax(n) q = Mul(e, b) y = Pow(q, two)
    }"""
    model = draw(text, w=noise(32, 16), s=noise(16, seed=1), b=noise(16, seed=2), two=np.array(2, np.float32))
    small, _ = halved_for_a_gpu(model)
    assert dtype_of(small, "LayerNormalization") == dtype_of(small, "Softmax") == dtype_of(small, "MatMul") == {ir.DataType.FLOAT16}
    assert dtype_of(small, "Pow") == {ir.DataType.FLOAT}
    assert operators(small)["Cast"] == 2 < operators(compress(model, HALF)[0])["Cast"]
    assert_near(model, small, {"x": noise(3, 32, seed=3)}, run_twice, 1e-2)


def test_what_a_gpu_has_no_half_kernel_for_stays_wide_and_the_coverage_says_so(draw: Callable) -> None:
    model = draw("g (float[1,2,4,4] x, float[1,2,2,2] g) => (float[1,3,2,2] y) { r = GridSample(x, g) y = Conv(r, w) }", w=noise(3, 2, 1, 1))
    small, context = halved_for_a_gpu(model)
    assert dtype_of(small, "GridSample") == {ir.DataType.FLOAT} and dtype_of(small, "Conv") == {ir.DataType.FLOAT16}
    assert context.coverage.records["y"].form == "fp16"


def test_an_operator_that_is_made_of_others_is_halved_on_a_gpu_and_one_that_is_not_there_stays(draw: Callable) -> None:
    small, _ = halved_for_a_gpu(draw("g (float[N,8] x) => (float[N,8] y) { p = MatMul(x, w) m = Mish(p) a = Acosh(m) y = Add(a, a) }", w=noise(8, 8)))
    assert dtype_of(small, "Mish") == dtype_of(small, "Add") == {ir.DataType.FLOAT16}
    assert dtype_of(small, "Acosh") == {ir.DataType.FLOAT}


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_a_row_that_a_mask_hides_whole_stays_numbers(target: str, draw: Callable, compress: Callable, run_twice: Callable) -> None:
    """-3.4e38 as a half is minus infinity, and infinity less itself is no number."""
    text = """g (float[2,8] x, float[2,4] seen) => (float[2,4] y) {
        h = MatMul(x, w) hidden = Sub(one, seen) mask = Mul(hidden, low) s = Add(h, mask) y = Softmax(s)
    }"""
    model = draw(text, w=noise(8, 4), one=np.array(1, np.float32), low=np.array(np.finfo(np.float32).min))
    small, _ = halved_for_a_gpu(model) if target == "cuda" else compress(model, HALF)
    feeds = {"x": noise(2, 8, seed=1), "seen": np.float32([[0, 0, 0, 0], [1, 0, 1, 1]])}
    assert operators(small)["Clip"] == 1 and dtype_of(small, "Add") == {ir.DataType.FLOAT16}
    for found in run_twice(small, feeds):
        assert np.isfinite(found["y"]).all()
        np.testing.assert_allclose(found["y"].sum(axis=1), 1, rtol=1e-2)
        assert found["y"][1, 1] == 0


def halved_for_a_gpu(model: ir.Model) -> tuple[ir.Model, Context]:
    """The model as it is halved for a GPU, and what was noted."""
    small, context = clone_model(model), Context(cuda_target())
    CastHalf().run(small, context)
    bind_opsets(small)
    return small, context
