"""The weights and biases of sites as integers that kernels multiply with integers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...compiler.core.errors import UsageError
from ...compiler.core.graph import attribute
from ...compiler.core.sites import Site
from ...compiler.core.statistics import SiteStatistics
from .cdquant import descend_columns
from .coded import Affine
from .formats import Format, pair_excess
from .grid import Grid
from .method import Method
from .qdq import StoredWeight
from .surgery import Place

__all__ = ["WeightCodes", "bias_of", "code_together", "code_weight", "store_weight"]

UNSIGNED_ZERO = 128
LARGEST_BIAS = 2.0**30
"""Of 32 bits, half are left to the sum that the bias is added to."""
LEAST_BIAS = 2.0**20
"""Steps that the bias of a channel without any weight is given: its scale could be anything otherwise."""
SMALLEST = float(np.finfo(np.float32).tiny)
ROUNDS = 8


@dataclass(frozen=True)
class WeightCodes:
    """The signed codes of a site, int32 [groups, K, M / groups], with float64 scales [groups, M / groups]; ``exact`` is what they stand in for."""

    codes: np.ndarray
    scales: np.ndarray
    exact: np.ndarray

    def matrices(self) -> np.ndarray:
        """What the codes mean, float64 [groups, K, M / groups]."""
        return self.codes * self.scales[:, None, :]

    @property
    def error(self) -> np.ndarray:
        """What the codes mean less what they stand in for."""
        return np.asarray(self.matrices() - self.exact)


def bias_of(place: Place) -> np.ndarray | None:
    """The constant bias of a site, float64 [M] and as it is added (beta times C); None when there is none."""
    content = place.bias
    if content is None:
        return None
    site = place.site
    factor = float(attribute(site.node, "beta", 1.0)) if site.kind == "Gemm" else 1.0  # type: ignore[arg-type]
    width = site.shape[site.channel_axis]
    return np.asarray(np.broadcast_to(content.astype(np.float64).reshape(-1), (width,)) * factor)


def code_weight(site: Site, method: Method, form: Format, *, per_channel: bool, statistics: list[SiteStatistics] | None = None) -> WeightCodes:
    """Codes of a site by ``method``, a scale for each output channel, or one for all. Raises UsageError for a method that gives no uniform steps.

    Where kernels add pairs in 16 bits, the scale of a channel grows until no pair can overflow: for most it grows less than by the bit that is taken
    off all weights otherwise.
    """
    exact = _exact(site)
    shared = not per_channel or not _takes_channels(site)
    if shared or site.kind in ("ConvTranspose", "Gather"):
        codes, scales = _shared(site, exact, method, per_channel and site.kind in ("ConvTranspose", "Gather"))
    else:
        found = [_affine(method, exact[group], statistics[group] if statistics else None, 0) for group in range(len(exact))]
        codes = np.stack([item.codes for item in found]).astype(np.int32)
        scales = np.stack([item.scales[0] for item in found]).astype(np.float64)
    return _safe(site, form, exact, codes, scales, shared)


def code_together(site: Site, form: Format, moments: np.ndarray) -> WeightCodes:
    """Codes of a site of few rows by `descend_columns`, a scale for each output channel; ``moments`` are H of each group, [groups, K, K]."""
    exact = _exact(site)
    return _safe(site, form, exact, *descend_columns(exact, moments, Grid(8, True, 0)), False)


def _safe(site: Site, form: Format, exact: np.ndarray, codes: np.ndarray, scales: np.ndarray, shared: bool) -> WeightCodes:
    """The codes such that no sum of theirs overflows in the kernels."""
    if form.paired and site.kind not in ("ConvTranspose", "Gather") and not _is_depthwise(site):
        codes, scales = _without_overflow(site, exact, codes, scales, shared)
    return WeightCodes(codes, scales, exact)


def store_weight(place: Place, weight: WeightCodes, form: Format, bias: np.ndarray | None, data_scale: float | None) -> StoredWeight:
    """The codes in the layout of the weight, and ``bias`` float64 [M], which is read together with data of scale ``data_scale`` (None: it stays as it is).

    ONNX Runtime counts the bias of a convolution in integers by itself; that of a Gemm has to be integers in the file.
    """
    site = place.site
    codes, scales = weight.codes, weight.scales
    if data_scale is not None:
        codes, scales = _room_for_bias(weight, bias, data_scale)
    zero = UNSIGNED_ZERO if form.weights == np.uint8 else 0
    stored = site.stored((codes + zero).astype(form.weights))
    flat = scales[0, :: _taps(site)] if site.kind == "ConvTranspose" else scales.reshape(-1)
    kept = np.asarray(flat[0] if np.all(flat == flat[0]) else flat, np.float32)
    counts = None
    if bias is not None and data_scale is not None:
        steps = (np.broadcast_to(kept, bias.shape) * np.float32(data_scale)).astype(np.float64)
        counts = bias.astype(np.float32) if site.kind == "Conv" else np.rint(bias / steps).astype(np.int32)
    return StoredWeight(stored, kept, site.channel_axis, zero, counts, place.added)


def _exact(site: Site) -> np.ndarray:
    """The weight as it multiplies: alpha of a Gemm is in it."""
    factor = float(attribute(site.node, "alpha", 1.0)) if site.kind == "Gemm" else 1.0  # type: ignore[arg-type]
    return site.matrices() * np.float32(factor)


def _takes_channels(site: Site) -> bool:
    """Whether kernels take a scale for each output channel: not for a matrix on the left, whose channels are rows."""
    return not (site.kind == "MatMul" and site.weight_at == 0)


def _taps(site: Site) -> int:
    return int(np.prod(site.shape[2:], dtype=np.int64))


def _is_depthwise(site: Site) -> bool:
    """Whether each channel is convolved alone: those kernels multiply in 16 bits and add in 32."""
    return site.kind == "Conv" and site.shape[1] == 1 and site.groups > 1


def _affine(method: Method, weight: np.ndarray, statistics: SiteStatistics | None, block: int) -> Affine:
    found = method.quantize(np.ascontiguousarray(weight, np.float32), statistics, Grid(8, True, block))
    if not isinstance(found, Affine) or found.zeros is not None or len(found.scales) != 1:
        raise UsageError(f"the method '{method.name}' does not give uniform steps, which integer kernels need: take rtn, gptq, adaround or another that does")
    return found


def _shared(site: Site, exact: np.ndarray, method: Method, per_channel: bool) -> tuple[np.ndarray, np.ndarray]:
    """Codes with scales that all groups share: one, or one for each channel of a ConvTranspose (its taps together) or of an embedding."""
    if method.calibrated():
        raise UsageError(f"the method '{method.name}' has to see the columns of '{site.name}' ({site.kind}) apart, but they share a scale: take rtn for it")
    groups, rows, columns = exact.shape
    if not per_channel:
        found = _affine(method, exact.reshape(groups * rows, columns), None, -1)
        return found.codes.reshape(exact.shape).astype(np.int32), np.full((groups, columns), float(found.scales[0, 0]))
    taps = _taps(site) if site.kind == "ConvTranspose" else 1
    channels = columns // taps
    tall = exact.reshape(groups * rows, channels, taps).transpose(0, 2, 1).reshape(-1, channels)
    found = _affine(method, tall, None, 0)
    codes = found.codes.reshape(groups * rows, taps, channels).transpose(0, 2, 1).reshape(exact.shape)
    return codes.astype(np.int32), np.tile(np.repeat(found.scales[0].astype(np.float64), taps), (groups, 1))


def _without_overflow(site: Site, exact: np.ndarray, codes: np.ndarray, scales: np.ndarray, shared: bool) -> tuple[np.ndarray, np.ndarray]:
    """Coarser steps for the channels of which a pair of weights is too large; for all, where they are ``shared``."""
    codes, scales = codes.copy(), scales.copy()
    taps = _taps(site) if site.kind == "Conv" else 1
    for _ in range(ROUNDS):
        excess = np.stack([pair_excess(group, taps) for group in codes])
        if shared:
            excess = np.full_like(excess, excess.max())
        over = excess > 1.0
        if not over.any():
            return codes, scales
        scales = np.where(over, (scales * excess).astype(np.float32), scales)
        rounded = np.clip(np.rint(exact / scales[:, None, :]), -128, 127).astype(np.int32)
        codes = np.where(over[:, None, :], rounded, codes)
    scales = scales * 2.0
    return np.rint(exact / scales[:, None, :]).astype(np.int32), scales


def _room_for_bias(weight: WeightCodes, bias: np.ndarray | None, data_scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Scales with which the bias fits 32 bits and its steps are no denormal numbers; those of channels without any weight are as fine as the bias needs."""
    scales = weight.scales
    least = np.full(scales.shape, SMALLEST / min(data_scale, 1.0) * 2.0)
    dead = ~weight.codes.any(axis=1)
    if bias is not None:
        size = np.abs(bias).reshape(scales.shape)
        least = np.maximum(least, size / (data_scale * LARGEST_BIAS))
        scales = np.where(dead & (size > 0), size / (data_scale * LEAST_BIAS), scales)
    raised = np.maximum(scales, least)
    if np.array_equal(raised, weight.scales):
        return weight.codes, weight.scales
    raised = raised.astype(np.float32).astype(np.float64)
    moved = (raised != weight.scales)[:, None, :]
    return np.where(moved, np.clip(np.rint(weight.exact / raised[:, None, :]), -128, 127).astype(np.int32), weight.codes), raised
