"""A convolution as a sum of separable ones."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .factors import Stage
from .method import KernelMethod, finite
from .refitting import refitted

__all__ = ["Cp"]

RIDGE = 1e-6


@dataclass(frozen=True)
class Cp(KernelMethod):
    """Lebedev et al., "Speeding-up Convolutional Neural Networks Using Fine-tuned CP-Decomposition" (ICLR 2015), section 3.2.

    A kernel [M, C, h, w] is a sum of ``rank`` products of a vector along each axis: 1 x 1 to rank channels, h x 1 and 1 x w on each channel alone, 1 x 1 to M.
    Found by alternating least squares in ``sweeps`` rounds from singular vectors, with a little weight decay against factors that grow and
    cancel; with calibration data the last one is fitted to the outputs.
    """

    name: ClassVar[str] = "cp"

    sweeps: int = 60

    def numbers(self, shape: tuple[int, ...], rank: int) -> int:
        """As `KernelMethod.numbers`."""
        return rank * sum(size for place, size in enumerate(shape) if place < 2 or size > 1)

    def most(self, shape: tuple[int, ...]) -> int:
        """As `KernelMethod.most`: a tensor may have a greater rank than any of its sides, but none beyond the product of all but the longest."""
        return math.prod(shape) // max(shape)

    def factor(self, kernel: np.ndarray, statistics: SiteStatistics | None, rank: int) -> list[Stage]:
        """As `KernelMethod.factor`."""
        wide = finite(kernel)
        parts = _alternating(wide, rank, self.sweeps)
        axes = wide.ndim - 2
        ones = [1] * axes
        stages = [Stage(parts[1].T.reshape(rank, wide.shape[1], *ones), (False,) * axes)]
        for axis in range(axes):
            if wide.shape[2 + axis] > 1 or axes == 1:
                shape = [rank, 1, *ones]
                shape[2 + axis] = wide.shape[2 + axis]
                stages.append(Stage(parts[2 + axis].T.reshape(shape), tuple(place == axis for place in range(axes)), rank))
            else:
                stages[0] = Stage(stages[0].weight * parts[2 + axis].T.reshape(rank, 1, *ones), stages[0].moves)
        stages.append(Stage(parts[0].reshape(wide.shape[0], rank, *ones), (False,) * axes))
        return refitted(stages, wide, statistics)


def _alternating(tensor: np.ndarray, rank: int, sweeps: int) -> list[np.ndarray]:
    """A matrix [size, rank] for each axis of a tensor, whose products sum up to it as nearly as was found."""
    parts = [_start(tensor, axis, rank) for axis in range(tensor.ndim)]
    scale = float(np.linalg.norm(tensor))
    if scale == 0:
        return [np.zeros_like(part) for part in parts]
    before = np.inf
    for _ in range(sweeps):
        for axis in range(tensor.ndim):
            others = [part for place, part in enumerate(parts) if place != axis]
            gram = functools.reduce(np.multiply, (part.T @ part for part in others))
            gram += np.eye(rank) * (RIDGE * float(np.trace(gram)) / rank)
            parts[axis] = np.linalg.solve(gram, (np.moveaxis(tensor, axis, 0).reshape(tensor.shape[axis], -1) @ _products(others)).T).T
        parts = _evened(parts)
        error = float(np.linalg.norm(tensor.reshape(len(tensor), -1) - parts[0] @ _products(parts[1:]).T)) / scale
        if before - error < RIDGE * max(error, RIDGE):
            break
        before = error
    return parts


def _start(tensor: np.ndarray, axis: int, rank: int) -> np.ndarray:
    """The leading singular vectors of an unfolding, and random columns where there are not enough."""
    vectors = np.linalg.svd(np.moveaxis(tensor, axis, 0).reshape(tensor.shape[axis], -1), full_matrices=False)[0][:, :rank]
    more = np.random.default_rng(axis).normal(size=(len(vectors), max(0, rank - vectors.shape[1]))) / np.sqrt(len(vectors))
    return np.concatenate([vectors, more], axis=1)


def _products(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The Khatri-Rao product: column r is the outer product of the columns r, flattened with the first part slowest."""
    found = parts[0]
    for part in parts[1:]:
        found = (found[:, None, :] * part[None, :, :]).reshape(-1, found.shape[1])
    return found


def _evened(parts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The same sum, the vectors of each term of equal length."""
    lengths = np.stack([np.linalg.norm(part, axis=0) for part in parts])
    safe = np.where(lengths > 0, lengths, 1.0)
    even = np.exp(np.log(safe).mean(axis=0))
    return [part / length * even for part, length in zip(parts, safe, strict=True)]
