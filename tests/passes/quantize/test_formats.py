"""Integer formats and what 16-bit sums of products can hold."""

from __future__ import annotations

import numpy as np
import pytest

from graphwright.compiler.core.errors import UsageError
from graphwright.compiler.core.target import PORTABLE, Target
from graphwright.passes.quantize.formats import format_for, pair_excess

CPU = Target("ort-cpu", "ort")
AVX2 = frozenset({"sse4_1", "avx", "avx2", "fma"})


def saturates(inputs: np.ndarray, codes: np.ndarray) -> bool:
    """Whether VPMADDUBSW, which adds two neighbouring products in 16 bits, would saturate: inputs uint8 [N, K], codes int8 [K, M]."""
    products = inputs[:, :, None].astype(np.int64) * codes[None].astype(np.int64)
    sums = products[:, 0::2] + products[:, 1::2]
    return bool((np.abs(sums) > 32767).any())


@pytest.mark.parametrize(
    ("flags", "name"), [(AVX2, "u8s7"), (AVX2 | {"avx512_vnni"}, "u8s8"), (AVX2 | {"avx_vnni"}, "u8s8"), (frozenset({"asimd"}), "u8s8"), (frozenset(), "u8s7")]
)
def test_the_format_follows_the_processor(flags: frozenset[str], name: str) -> None:
    assert format_for("auto", CPU, flags).name == name


def test_a_portable_model_is_right_on_processors_that_saturate() -> None:
    assert format_for("auto", PORTABLE, AVX2 | {"avx512_vnni"}).paired


def test_a_format_can_be_forced() -> None:
    assert format_for("u8u8", CPU, AVX2).weights == np.uint8
    assert format_for("s8s8", CPU, AVX2).activations == np.int8
    with pytest.raises(UsageError, match="no format 'u4'"):
        format_for("u4", CPU)


def test_codes_within_the_bound_cannot_saturate_and_the_bound_is_tight() -> None:
    generator = np.random.default_rng(0)
    brightest = np.full((1, 16), 255, np.uint8)
    reached = 0
    for _ in range(300):
        codes = generator.integers(-128, 128, (16, 1)).astype(np.int8) // generator.integers(1, 5)
        fits = pair_excess(codes)[0] <= 1.0
        worst = np.where(codes.reshape(-1) > 0, brightest, 0), np.where(codes.reshape(-1) < 0, brightest, 0)
        assert fits == (not any(saturates(inputs.astype(np.uint8), codes) for inputs in worst))
        reached += fits
    assert 0 < reached < 300


def test_seven_bit_codes_always_fit() -> None:
    assert pair_excess(np.full((6, 2), -64, np.int8)).max() <= 1.0
    assert pair_excess(np.full((6, 2), 63, np.int8)).max() <= 1.0


def test_both_orders_of_a_kernel_count() -> None:
    by_channel = np.array([[100], [0], [100], [0]], np.int8)
    assert pair_excess(by_channel, taps=1)[0] <= 1.0
    assert pair_excess(by_channel, taps=2)[0] > 1.0


def test_an_odd_number_of_rows_ends_with_a_single_one() -> None:
    assert pair_excess(np.array([[1], [1], [127]], np.int8))[0] == pytest.approx(127 / 128)
