"""What exact means, which samples are compared, and what a verifier remembers."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from graphwright.compiler.comparison import compare
from graphwright.compiler.core.drift import EXACT, ROUNDING
from graphwright.compiler.core.errors import InputError
from graphwright.compiler.core.graph import clone_model
from graphwright.compiler.tolerance import Noise
from graphwright.compiler.verify import Verifier

from .verifying import INF, NAN, Plain, channel, convolutional, model_of, verifier_of, with_weight

# --- exact ---------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "broken"),
    [
        (np.float32([1, 2]), np.float32([1, 2]), False),
        (np.float32([1, 2]), np.float32([1, np.nextafter(np.float32(2), np.float32(3))]), True),
        (np.float32([NAN, INF]), np.float32([-NAN, INF]), False),
        (np.float32([INF]), np.float32([-INF]), True),
        (np.float32([NAN]), np.float32([0]), True),
        (np.float32([0.0]), np.float32([-0.0]), True),
        (np.float32([1]), np.float64([1]), True),
        (np.float32([1]), np.float32([[1]]), True),
        (np.float32([]), np.float32([]), False),
        (np.zeros((0, 3), np.float32), np.zeros((0, 4), np.float32), True),
        (np.int64([5, -5]), np.int64([5, -5]), False),
        (np.uint8([0]), np.uint8([255]), True),
        (np.array([True]), np.array([False]), True),
        (np.array(["a", "b"], object), np.array(["a", "b"], object), False),
        (np.array(["a", "b"], object), np.array(["a", "c"], object), True),
        (np.array([1.5, NAN], ml_dtypes.bfloat16), np.array([1.5, NAN], ml_dtypes.bfloat16), False),
        (np.array([1.5], ml_dtypes.bfloat16), np.array([1.25], ml_dtypes.bfloat16), True),
        (np.complex64([1 + 2j]), np.complex64([1 + 3j]), True),
        ([np.float32([1])], [np.float32([1])], False),
        ([np.float32([1])], [np.float32([1]), np.float32([2])], True),
        ([np.float32([1])], [np.float32([2])], True),
        (None, None, False),
        (None, np.float32([1]), True),
        ([{1: 0.5}], [{1: 0.5}], False),
        ([{1: 0.5}], [{1: 0.25}], True),
        ([{1: 0.5}], [{2: 0.5}], True),
    ],
)
def test_exact_means_the_same_bits(before: object, after: object, broken: bool) -> None:
    assert compare({"y": before}, {"y": after}, EXACT).broken is broken  # type: ignore[dict-item]


def test_outputs_must_keep_their_names_and_order() -> None:
    one = np.float32([1])
    assert compare({"y": one, "z": one}, {"z": one, "y": one}, EXACT).broken
    assert compare({"y": one, "z": one}, {"y": one}, ROUNDING).broken


def test_the_worst_element_is_named() -> None:
    found = compare({"y": np.float32([[1, 2], [3, 4]])}, {"y": np.float32([[1, 2.5], [3.1, 4]])}, EXACT)
    assert (found.output, found.index, found.before, found.after, found.max_abs) == ("y", (0, 1), 2.0, 2.5, 0.5)


# --- the verifier ------------------------------------------------------------------------------------------------------------------------------------


def test_a_candidate_that_does_not_load_or_run_is_broken() -> None:
    model = model_of("g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }")
    unknown = model_of("g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }")
    next(iter(unknown.graph)).op_type = "NoSuchOperator"
    frozen = model_of("g (float[3,4] x) => (float[3,4] y) { y = Relu(x) }")
    verifier = Verifier(model, [{"x": np.ones((2, 4), np.float32)}], Plain())
    assert "refuses" in verifier.check(unknown, ROUNDING).reason
    assert "fails" in verifier.check(frozen, EXACT).reason


def test_there_must_be_a_sample_that_the_model_takes() -> None:
    model = model_of("g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }")
    with pytest.raises(InputError, match="example inputs"):
        Verifier(model, [], Plain())
    with pytest.raises(InputError):
        Verifier(model, [{"z": np.ones(3, np.float32)}], Plain())


def test_exact_is_judged_against_what_was_accepted_last() -> None:
    model, folded = convolutional(), convolutional(fold=True)
    verifier = verifier_of(model)
    assert verifier.check(folded, EXACT).broken
    assert not verifier.check(folded, ROUNDING).broken
    verifier.accept()
    assert not verifier.check(clone_model(folded), EXACT).broken
    assert verifier.check(model, EXACT).broken
    assert not verifier.check_against(model, clone_model(model)).broken


def test_a_model_that_draws_random_numbers_can_be_verified() -> None:
    text = "g (float[4,8] x) => (float[4,8] y) { r = RandomNormalLike(x) s = RandomUniformLike(x) a = Add(x, r) y = Mul(a, s) }"
    model = model_of(text)
    verifier = verifier_of(model)
    assert verifier.repeatable
    assert not verifier.check(clone_model(model), EXACT).broken
    assert verifier.check(model_of(text.replace("s = RandomUniformLike(x) a = Add(x, r) y = Mul(a, s)", "a = Add(x, r) y = Mul(a, r)")), ROUNDING).broken


def test_16_bit_models_are_held_to_rounding_because_the_runtime_decides_where_it_rounds() -> None:
    rng = np.random.default_rng(0)
    weights = {f"w{place}": (rng.standard_normal((16, 16)) / 4).astype(np.float16) for place in range(3)}
    declared = "float16[N,16] x, float16[16,16] w0, float16[16,16] w1, float16[16,16] w2"
    plain = model_of(f"g ({declared}) => (float16[N,16] y) {{ a = MatMul(x, w0) b = MatMul(a, w1) y = MatMul(b, w2) }}", **weights)
    longer = model_of(
        f"g ({declared}) => (float16[N,16] y) {{ a = MatMul(x, w0) i = Identity(a) b = MatMul(i, w1) j = Identity(b) y = MatMul(j, w2) }}", **weights
    )
    verifier = verifier_of(longer)
    assert not verifier.check(plain, EXACT).broken
    assert verifier.check(with_weight(plain, "w1", channel(1.1, axis=1)), EXACT).broken


def test_large_outputs_wait_on_disk() -> None:
    model = model_of("g (float[N,1024] x) => (float[N,1024] y) { y = Neg(x) }")
    sample = {"x": np.random.default_rng(0).standard_normal((5000, 1024)).astype(np.float32)}
    verifier = Verifier(model, [sample], Plain())
    assert isinstance(verifier.outputs(0)["y"], np.memmap)
    assert not verifier.check(clone_model(model), EXACT).broken
    scaled = model_of("g (float[N,1024] x, float k) => (float[N,1024] y) { z = Neg(x) y = Mul(z, k) }", k=np.float32(1.001))
    assert verifier.check(scaled, ROUNDING).broken


def test_sizes_that_a_model_computes_in_floats_are_not_disturbed_by_the_noise() -> None:
    text = (
        "g (float[1,2,H,W] x, float[2] f, float[2] t) => (float[1,2,A,B] y) { s = Shape<start=2>(x) c = Cast<to=1>(s) m = Mul(c, f) d = Div(m, c)"
        ' k = Concat<axis=0>(t, d) y = Resize<mode="linear">(x, , k) }'
    )
    model = model_of(text, f=np.float32([7 / 3, 7 / 3]), t=np.float32([1, 1]))
    verifier = Verifier(model, [{"x": np.random.default_rng(0).standard_normal((1, 2, 9, 9)).astype(np.float32)}], Plain())
    assert verifier.noise[0]["y"].comparable and verifier.noise[0]["y"].peak < 1e-4


def test_noise_of_whole_numbers_is_nothing() -> None:
    """Counting in floats is exact, so a rewrite that miscounts has no excuse."""
    model = model_of("g (int64[N] x, int64[1] a) => (float y) { f = Cast<to=1>(x) e = Mul(f, f) y = ReduceSum<keepdims=0>(e, a) }", a=np.array([0]))
    verifier = Verifier(model, [{"x": np.arange(30)}], Plain())
    assert verifier.noise[0]["y"] == Noise(typical=0.0, typical_rms=0.0, peaks=(), peak=0.0, relative=verifier.noise[0]["y"].relative)


def test_an_element_that_was_lucky_in_two_draws_is_not_held_to_its_luck() -> None:
    """Sums that nearly cancel: which few digits are left depends on the order, whatever two roundings happened to do."""
    text = "g (float[1,6] x, float[6,2] w, float[2] b) => (float[1,2] y) {{ {} }}"
    rng = np.random.default_rng(5)
    for _ in range(40):
        w, x = rng.standard_normal((6, 2)).astype(np.float32), rng.standard_normal((1, 6)).astype(np.float32)
        b = -(x.astype(np.float64) @ w.astype(np.float64))[0].astype(np.float32) * np.float32(1 + 2e-5)
        one = model_of(text.format("m = MatMul(x, w) y = Add(m, b)"), w=w, b=b)
        other = model_of(text.format("y = Gemm(x, w, b)"), w=w, b=b)
        assert not Verifier(one, [{"x": x}], Plain()).check(other, ROUNDING).broken
