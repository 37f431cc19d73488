"""Not-a-number, infinity, mixed scales, integers and quantisation before the verifier."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.comparison import compare
from graphwright.compiler.core.drift import DOMAIN, EXACT, LOSSY, ROUNDING
from graphwright.compiler.core.graph import clone_model
from graphwright.compiler.tolerance import Stress, measure, stress_of
from graphwright.compiler.verify import Verifier

from .verifying import INF, NAN, Plain, channel, convolutional, model_of, samples_for, verifier_of, with_weight

# --- not a number, infinity ------------------------------------------------------------------------------------------------------------------------

ORDINARY, WITH_NAN, WITH_INF, LARGE = Stress(), Stress(nan=True), Stress(infinite=True), Stress(large=True)


@pytest.mark.parametrize(
    ("before", "after", "stress", "broken"),
    [
        (1.0, NAN, ORDINARY, True),
        (1.0, INF, ORDINARY, True),
        (NAN, 1.0, ORDINARY, True),
        (INF, 1.0, ORDINARY, True),
        (INF, NAN, ORDINARY, True),
        (INF, INF, ORDINARY, False),
        (NAN, 1.0, WITH_NAN, True),
        (1.0, NAN, WITH_NAN, True),
        (INF, NAN, WITH_INF, False),
        (NAN, -INF, WITH_INF, False),
        (INF, -INF, WITH_INF, True),
        (INF, 1.0, WITH_INF, True),
        (NAN, 1.0, WITH_INF, True),
        (1.0, NAN, WITH_INF, True),
        (INF, 1.0, LARGE, False),
        (NAN, 1.0, LARGE, False),
        (1.0, INF, LARGE, True),
        (1.0, NAN, LARGE, True),
        (NAN, INF, ORDINARY, False),
        (INF, NAN, ORDINARY, True),
        (INF, 3.3e38, ORDINARY, False),
        (-INF, 3.3e38, ORDINARY, True),
        (0.0, -0.0, ORDINARY, False),
    ],
)
def test_where_rounding_may_move_nan_and_infinity(before: float, after: float, stress: Stress, broken: bool) -> None:
    pair = [{"y": np.float32([0.5, value, -2.0])} for value in (before, after)]
    assert compare(*pair, ROUNDING, stress=stress).broken is broken


def test_where_the_noise_run_moves_nan_nothing_is_asked() -> None:
    before, run = np.float32([1, INF, 2]), np.float32([1, NAN, 2])
    noise = {"y": measure(before, [run, run])}
    assert not compare({"y": before}, {"y": np.float32([1, 7, 2])}, ROUNDING, noise=noise).broken
    assert compare({"y": before}, {"y": np.float32([1, 7, 2.1])}, ROUNDING, noise=noise).broken


def test_domain_rewrites_are_only_held_to_what_was_defined() -> None:
    before = {"y": np.float32([NAN, INF, 2])}
    assert not compare(before, {"y": np.float32([1, 2, 2])}, DOMAIN).broken
    assert compare(before, {"y": np.float32([1, 2, NAN])}, DOMAIN).broken
    assert compare(before, {"y": np.float32([1, 2, 2.1])}, DOMAIN).broken


def test_lossy_rewrites_are_only_held_to_shape_dtype_and_finiteness() -> None:
    before = {"y": np.float32([1, 2])}
    assert not compare(before, {"y": np.float32([7, -2])}, LOSSY).broken
    assert compare(before, {"y": np.float32([7, NAN])}, LOSSY).broken
    assert compare(before, {"y": np.float32([7])}, LOSSY).broken


def test_overflowing_samples_hold_only_exact_rewrites_to_numbers() -> None:
    before, after = {"y": np.float32([0, 1])}, {"y": np.float32([0.5, 1])}
    assert not compare(before, after, ROUNDING, stress=Stress(large=True, overflowing=True)).broken
    assert compare(before, after, EXACT, stress=Stress(large=True, overflowing=True)).broken


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([1.0, -2.0], Stress()),
        ([NAN], Stress(nan=True)),
        ([INF], Stress(infinite=True)),
        ([-2e3], Stress(large=True)),
        ([1e20], Stress(large=True, overflowing=True)),
        ([], Stress()),
    ],
)
def test_the_stress_of_a_sample_is_seen(numbers: list[float], expected: Stress) -> None:
    assert stress_of({"x": np.float32(numbers), "i": np.int64([10**12])}) == expected
    assert stress_of({"x": [np.float32([0]), np.float32(numbers)], "none": None}) == expected


def test_16_bit_inputs_overflow_early() -> None:
    assert stress_of({"x": np.float16([300])}) == Stress(large=True, overflowing=True)


def test_folding_with_infinite_and_nan_inputs_moves_nothing() -> None:
    model, folded = convolutional(), convolutional(fold=True)
    wild = [sample for sample in samples_for(model) if stress_of(sample).nan or stress_of(sample).infinite]
    assert len(wild) >= 2
    assert not Verifier(model, wild, Plain()).check(folded, ROUNDING).broken


def test_a_rewrite_that_loses_nan_is_caught() -> None:
    model = model_of("g (float[N,4] x) => (float[N,4] y) { y = Mul(x, x) }")
    losing = model_of("g (float[N,4] x, float o) => (float[N,4] y) { b = IsNaN(x) n = Where(b, o, x) y = Mul(n, n) }", o=np.float32(1))
    assert verifier_of(model).check(losing, ROUNDING).broken


# --- mixed scales, integers, quantisation --------------------------------------------------------------------------------------------------------


def boxes_and_scores(score: np.ndarray) -> ir.Model:
    """Columns 0..3 are boxes of hundreds of pixels, column 4 is a small score."""
    rng = np.random.default_rng(3)
    scale = np.array([640, 640, 640, 640, 1], np.float32)
    w = rng.standard_normal((16, 5)).astype(np.float32)
    w[:, 4] *= score
    return model_of("g (float[64,16] x, float[16,5] w, float[5] s) => (float[64,5] y) { m = MatMul(x, w) t = Sigmoid(m) y = Mul(t, s) }", w=w, s=scale)


def test_a_small_output_beside_a_large_one_is_held_to_its_own_scale() -> None:
    model = boxes_and_scores(np.float32(1))
    assert verifier_of(model).check(boxes_and_scores(np.float32(1.0001)), ROUNDING).broken


def test_a_small_probability_is_held_to_its_own_size() -> None:
    weights = {"w": np.random.default_rng(5).standard_normal((8, 40)).astype(np.float32) * 3, "b": np.zeros(40, np.float32)}
    text = "g (float[N,8] x, float[8,40] w, float[40] b) => (float[N,40] y) { m = MatMul(x, w) a = Add(m, b) y = Softmax<axis=-1>(a) }"
    model = model_of(text, **weights)
    samples = [sample for sample in samples_for(model) if not stress_of(sample).any][:1]
    verifier = Verifier(model, samples, Plain())
    rare = int(np.argmin(np.asarray(verifier.outputs(0)["y"]).max(axis=0)))
    assert np.asarray(verifier.outputs(0)["y"])[:, rare].max() < 1e-4
    assert verifier.check(with_weight(model, "b", channel(1, 1e-3, place=rare)), ROUNDING).broken


def test_integers_must_be_equal_where_rounding_does_not_flip_them() -> None:
    before = np.arange(100)
    noise = {"y": measure(before, [np.where(before == 7, 8, before)])}
    for changed, broken in (([], False), ([7], False), ([7, 9], False), ([9, 11, 13], True)):
        after = before.copy()
        after[changed] += 1
        assert compare({"y": before}, {"y": after}, ROUNDING, noise=noise).broken is broken
    assert compare({"y": before}, {"y": before + (before == 3)}, ROUNDING).broken


def test_a_quantised_number_may_flip_by_a_step_but_not_jump() -> None:
    before = np.arange(200).astype(np.uint8)
    noise = {"y": measure(before, [before + (before == 50), before + (before == 90)])}
    one, far = before.copy(), before.copy()
    one[60] += 1
    far[60] += 9
    assert not compare({"y": before}, {"y": one}, ROUNDING, noise=noise).broken
    assert compare({"y": before}, {"y": far}, ROUNDING, noise=noise).broken


def quantised(shift: float = 0.0) -> ir.Model:
    rng = np.random.default_rng(1)
    return model_of(
        "g (float[8,32] x, float[32,64] w, float[64] b, float s, uint8 z) => (float[8,64] y)"
        " { m = MatMul(x, w) a = Add(m, b) q = QuantizeLinear(a, s, z) d = DequantizeLinear(q, s, z) y = Sigmoid(d) }",
        w=rng.standard_normal((32, 64)).astype(np.float32),
        b=(rng.standard_normal(64) + shift).astype(np.float32),
        s=np.float32(0.05),
        z=np.uint8(128),
    )


def test_a_bug_before_a_quantisation_is_caught() -> None:
    model = quantised()
    verifier = verifier_of(model)
    assert not verifier.check(clone_model(model), ROUNDING).broken
    assert verifier.check(quantised(shift=0.02), ROUNDING).broken


def test_chaos_is_not_taken_for_a_bug_nor_a_bug_for_chaos() -> None:
    """The logistic map doubles an error with every step: after 12 of them rounding shows, after 40 nothing else is left."""

    def logistic(steps: int, order: str, rate: float = 3.99) -> ir.Model:
        lines, before = [], "x"
        for place in range(steps):
            first, second = ("r", f"i{place}") if order == "left" else (f"i{place}", "r")
            lines.append(f"i{place} = Sub(o, {before}) a{place} = Mul({first}, {before}) n{place} = Mul(a{place}, {second})")
            before = f"n{place}"
        text = f"g (float[50,20] x, float r, float o) => (float[50,20] y) {{ {' '.join(lines)} y = Identity({before}) }}"
        return model_of(text, r=np.float32(rate), o=np.float32(1))

    sample = {"x": np.random.default_rng(0).random((50, 20), dtype=np.float32)}
    for steps in (12, 40):
        verifier = Verifier(logistic(steps, "left"), [sample], Plain())
        assert not verifier.check(logistic(steps, "right"), ROUNDING).broken
    verifier = Verifier(logistic(12, "left"), [sample], Plain())
    assert verifier.check(logistic(12, "right", rate=3.9901), ROUNDING).broken
