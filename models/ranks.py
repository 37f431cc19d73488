"""Figures that metrics are made of."""

from __future__ import annotations

import numpy as np


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Rank correlation of two lists of numbers; ties get their mean rank."""
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    return (last - (sizes - 1) / 2)[group]


def psnr(image: np.ndarray, truth: np.ndarray, peak: float) -> float:
    """Peak signal-to-noise ratio in dB of an image against the true one; infinite when they are equal."""
    error = float(np.mean((image.astype(np.float64) - truth.astype(np.float64)) ** 2))
    return float("inf") if error == 0 else 10 * np.log10(peak**2 / error)


def log_likelihood(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Natural log-probability of each target under softmax(logits); logits [..., classes], targets [...]."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    total = np.log(np.exp(shifted).sum(axis=-1))
    return np.take_along_axis(shifted, targets[..., None], axis=-1)[..., 0] - total
