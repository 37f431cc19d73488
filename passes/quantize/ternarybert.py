"""TernaryBERT (Zhang et al., EMNLP 2020): weights of -1, 0 and 1 times a scale, as training of such a model starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .coded import Affine
from .grid import Grid
from .halves import halved
from .hessian import importance
from .method import Method
from .steps import block_rows, block_starts, finite

__all__ = ["TernaryBert", "ternary"]

BITS = 2


@dataclass(frozen=True)
class TernaryBert(Method):
    """``W ~ a T`` with T in {-1, 0, 1} and the least ``sum of d (W - a T)^2`` (equations 2 and 4, loss-aware), d being diag H, or 1 without statistics.

    The paper alternates between a and T. Whatever a is, T is not zero just where |W| is above a / 2; so the best T is found among thresholds, exactly.
    One scale for each block and column; the bits of the grid are not used. The paper then trains on with the original as teacher.
    """

    name: ClassVar[str] = "ternarybert"
    refines: ClassVar[str | None] = "rtn"

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Affine:
        """As `Method.quantize`; ``statistics`` may be None."""
        finite(weight, grid)
        weights = np.ones(len(weight)) if statistics is None else importance(np.asarray(statistics.moment))
        if grid.block == -1:
            codes, scales = ternary(weight.reshape(-1, 1), np.repeat(weights, weight.shape[1]))
            codes, scales, step = codes.reshape(weight.shape), scales[None], len(weight)
        else:
            step = block_rows(grid.block, len(weight))
            parts = [ternary(weight[start : start + step], weights[start : start + step]) for start in block_starts(grid.block, len(weight))]
            codes, scales = np.concatenate([part[0] for part in parts]), np.stack([part[1] for part in parts])
        stored, bits = halved(scales)
        return Affine(codes, stored, None, step, BITS, bits)


def ternary(weight: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """T int32 [K, M] and a float64 [M] with the least ``sum over k of weights[k] (W - a T)^2`` for each column; a column of zeros has a = 1.

    With the n greatest |W| kept, the best a is their weighted mean, and the error falls by ``(sum of d |W|)^2 / sum of d`` over them.
    """
    weights = weights if weights.any() else np.ones(len(weights))
    size = np.abs(weight).astype(np.float64)
    order = np.argsort(-size, axis=0, kind="stable")
    mass = np.cumsum(weights[order], axis=0)
    total = np.cumsum(weights[order] * np.take_along_axis(size, order, axis=0), axis=0)
    gain = np.divide(np.square(total), mass, out=np.zeros_like(total), where=mass > 0)
    kept = np.argmax(gain, axis=0)[None]
    scales = np.take_along_axis(total, kept, axis=0)[0] / np.maximum(np.take_along_axis(mass, kept, axis=0)[0], np.finfo(np.float64).tiny)
    scales = np.where(scales > 0, scales, 1.0)
    return (np.sign(weight) * (2 * size > scales)).astype(np.int32), scales
