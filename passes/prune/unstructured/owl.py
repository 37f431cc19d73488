"""OWL: layers with more outliers keep more (Yin et al., "Outlier Weighed Layerwise Sparsity", ICML 2024)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

__all__ = ["by_layer", "outlying", "owl"]

FAR, REACH = 5.0, 0.08
"""An outlier is so many times the mean; no share is further than this from the one asked for (the paper's M and lambda)."""


def outlying(metric: np.ndarray, far: float = FAR) -> float:
    """The share of the numbers of a metric (that of wanda) above ``far`` times their mean (equation 1)."""
    return float((metric > far * metric.mean()).mean())


def by_layer(metrics: Mapping[str, np.ndarray], layers: Mapping[str, int], far: float = FAR) -> dict[str, float]:
    """For each site the share of outliers of its layer, all metrics of that taken together: the paper finds a share for each layer better than one for each
    of its products (section 3.3).
    """
    members: dict[int, list[np.ndarray]] = {}
    for name, metric in metrics.items():
        members.setdefault(layers[name], []).append(metric.reshape(-1))
    found = {layer: outlying(np.concatenate(parts), far) for layer, parts in members.items()}
    return {name: found[layers[name]] for name in metrics}


def owl(outliers: Mapping[str, float], sizes: Mapping[str, int], ratio: float, reach: float = REACH) -> dict[str, float]:
    """The share that each site loses: the fewer outliers, the more, spread over 2 ``reach`` and ``ratio`` on average over all weights (section 3.3)."""
    names = list(outliers)
    found = np.array([outliers[name] for name in names])
    weight = np.array([sizes[name] for name in names], np.float64)
    reach = min(reach, ratio, 1 - ratio)
    spread = found.max() - found.min()
    stays = 2 * reach * (found - found.min()) / spread if spread > 0 else np.zeros_like(found)
    shares = ratio - (stays - np.average(stays, weights=weight))
    return dict(zip(names, np.clip(shares, 0.0, 1.0).tolist(), strict=True))
