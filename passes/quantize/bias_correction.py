"""Bias correction: the mean of what rounding the weights adds to each output channel is taken off its bias."""

from __future__ import annotations

import numpy as np

from ...compiler.core.statistics import SiteStatistics

__all__ = ["corrected_bias", "mean_error"]


def mean_error(error: np.ndarray, statistics: list[SiteStatistics]) -> np.ndarray:
    """E[X (W^ - W)] for ``error`` = W^ - W, [groups, K, M / groups]; float64 [M].

    Nagel et al., "Data-free quantization through weight equalization and bias correction", 2019, equation 13, with E[X] from calibration data.
    """
    means = np.stack([item.mean for item in statistics])
    return np.asarray(np.einsum("gk,gkm->gm", means, error.astype(np.float64)).reshape(-1))


def corrected_bias(bias: np.ndarray | None, error: np.ndarray, statistics: list[SiteStatistics]) -> np.ndarray:
    """``bias`` [M] (None: zero) less `mean_error`."""
    shift = mean_error(error, statistics)
    return -shift if bias is None else bias - shift
