"""Weights and biases as integers: overflow of 16-bit pairs, room for biases, scales by channel."""

from __future__ import annotations

import numpy as np
import pytest

from graphwright.compiler.core.errors import UsageError
from graphwright.compiler.core.sites import Site, all_sites
from graphwright.passes.quantize.formats import FORMATS, pair_excess
from graphwright.passes.quantize.gptq import Gptq
from graphwright.passes.quantize.rtn import Rtn
from graphwright.passes.quantize.surgery import place_of
from graphwright.passes.quantize.weight_codes import bias_of, code_weight, store_weight

from .static_models import kernel, model_of

CONV = "g (float[1,{c},8,8] x) => (float[1,M,A,B] y) {{ y = Conv<group={g}>(x, k, b) }}"


def conv(weight: np.ndarray, bias: np.ndarray, group: int = 1) -> Site:
    return next(all_sites(model_of(CONV.format(c=weight.shape[1] * group, g=group), {"k": weight, "b": bias})))


@pytest.mark.parametrize("name", ["u8s8", "u8s7", "u8u8"])
@pytest.mark.parametrize(("shape", "group"), [((6, 4, 3, 3), 1), ((6, 2, 3, 3), 3), ((5, 1, 3, 3), 5), ((1, 1, 1, 1), 1)])
def test_codes_times_scales_are_the_weight_to_half_a_step(name: str, shape: tuple[int, ...], group: int) -> None:
    weight = kernel(*shape)
    site = conv(weight, kernel(shape[0]), group)
    codes = code_weight(site, Rtn(), FORMATS[name], per_channel=True)
    stored = store_weight(place_of(site), codes, FORMATS[name], bias_of(place_of(site)), 0.01)
    scales = np.broadcast_to(stored.scales, shape[:1]).reshape(-1, 1, 1, 1)
    decoded = (stored.codes.astype(np.float64) - stored.zero) * scales
    assert stored.codes.dtype == FORMATS[name].weights
    assert (np.abs(decoded - weight) <= 0.5001 * scales).all()


def test_a_scale_grows_no_more_than_the_largest_pair_asks_for() -> None:
    weight = np.zeros((2, 4, 1, 1), np.float32)
    weight[0, :2, 0, 0] = 1.0, 0.1
    weight[1, :2, 0, 0] = 1.0, 1.0
    site = conv(weight, np.zeros(2, np.float32))
    full, safe = (code_weight(site, Rtn(), FORMATS[name], per_channel=True) for name in ("u8s8", "u8s7"))
    assert pair_excess(full.codes[0]).max() > 1.0
    assert pair_excess(safe.codes[0]).max() <= 1.0
    growth = safe.scales[0] / full.scales[0]
    assert growth[0] < 1.15
    assert growth[1] == pytest.approx(2.0, rel=0.02)


def test_depthwise_kernels_keep_their_eighth_bit() -> None:
    site = conv(np.ones((4, 1, 3, 3), np.float32), np.zeros(4, np.float32), group=4)
    assert code_weight(site, Rtn(), FORMATS["u8s7"], per_channel=True).codes.max() == 127


def test_a_bias_that_would_overflow_makes_its_channel_coarser_and_no_other() -> None:
    weight, bias = kernel(3, 4, 1, 1) * 1e-4, np.array([0.1, 1e6, 0.0], np.float32)
    site = conv(weight, bias)
    codes = code_weight(site, Rtn(), FORMATS["u8s8"], per_channel=True)
    stored = store_weight(place_of(site), codes, FORMATS["u8s8"], bias.astype(np.float64), 1e-3)
    counts = bias / (stored.scales.astype(np.float64) * 1e-3)
    assert np.abs(counts).max() <= 2.0**30 * 1.01
    np.testing.assert_array_equal(stored.scales[[0, 2]], codes.scales[0].astype(np.float32)[[0, 2]])


def test_the_bias_of_a_channel_without_weights_is_kept_to_a_millionth() -> None:
    model = model_of(
        "g (float[N,4] x) => (float[N,3] y) { y = Gemm(x, w, b) }", {"w": np.zeros((4, 3), np.float32), "b": np.array([0.3, -7.0, 0.0], np.float32)}
    )
    site = next(all_sites(model))
    codes = code_weight(site, Rtn(), FORMATS["u8s8"], per_channel=True)
    stored = store_weight(place_of(site), codes, FORMATS["u8s8"], bias_of(place_of(site)), 0.02)
    assert stored.bias is not None
    np.testing.assert_allclose(stored.bias * (stored.scales * np.float32(0.02)), [0.3, -7.0, 0.0], rtol=2e-6)


def test_one_scale_for_the_whole_weight() -> None:
    site = conv(kernel(6, 2, 3, 3), kernel(6), group=3)
    stored = store_weight(place_of(site), code_weight(site, Rtn(), FORMATS["u8s8"], per_channel=False), FORMATS["u8s8"], None, None)
    assert stored.scales.ndim == 0


def test_a_matrix_on_the_left_has_one_scale() -> None:
    site = next(all_sites(model_of("g (float[4,N] x) => (float[3,N] y) { y = MatMul(w, x) }", {"w": kernel(3, 4)})))
    codes = code_weight(site, Rtn(), FORMATS["u8s8"], per_channel=True)
    assert len(np.unique(codes.scales)) == 1
    np.testing.assert_allclose(site.stored(codes.matrices()), kernel(3, 4), atol=0.51 * codes.scales.max())


def test_taps_of_a_transposed_convolution_share_the_scale_of_their_channel() -> None:
    text = "g (float[1,4,5,5] x) => (float[1,6,A,B] y) { y = ConvTranspose<group=2>(x, k) }"
    weight = kernel(4, 3, 2, 2) * np.array([1.0, 10.0, 100.0], np.float32)[None, :, None, None]
    site = next(all_sites(model_of(text, {"k": weight})))
    stored = store_weight(place_of(site), code_weight(site, Rtn(), FORMATS["u8s8"], per_channel=True), FORMATS["u8s8"], None, None)
    assert stored.scales.shape == (3,)
    assert (np.abs(stored.codes * stored.scales[None, :, None, None] - weight) <= 0.5001 * stored.scales[None, :, None, None]).all()


def test_a_method_that_needs_columns_apart_is_refused_where_they_share_a_scale() -> None:
    site = conv(kernel(4, 3, 1, 1), kernel(4))
    with pytest.raises(UsageError, match="share a scale"):
        code_weight(site, Gptq(), FORMATS["u8s8"], per_channel=False)
