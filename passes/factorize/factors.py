"""What a weight becomes when it is factorised."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Factors", "Stage", "balanced", "count", "kernel_of"]


@dataclass(frozen=True)
class Factors:
    """A matrix [K, M] as the product of ``chain`` (two or more matrices, the first has K rows, the last M columns), plus ``rest`` [K, M] if there is one.

    ``bias`` [M] is what else is added to each row of the product ``X W``. All float64; what holds zeros on purpose holds exact zeros. ``form`` is what
    coverage calls it.
    """

    chain: tuple[np.ndarray, ...]
    rest: np.ndarray | None = None
    bias: np.ndarray | None = None
    form: str = ""

    def matrix(self) -> np.ndarray:
        """What is multiplied by in the end, float64 [K, M]; the bias left out."""
        product = functools.reduce(np.matmul, self.chain)
        return product if self.rest is None else product + self.rest

    @property
    def numbers(self) -> int:
        """How many numbers are not zero, the bias included."""
        return sum(count(part) for part in (*self.chain, self.rest, self.bias) if part is not None)


@dataclass(frozen=True)
class Stage:
    """One of several convolutions in a row: ``weight`` float64 [M, C / groups, *kernel], which moves along the axes ``moves`` as the one it stands for does.

    Along the others it has a kernel of 1, steps of 1 and no padding.
    """

    weight: np.ndarray
    moves: tuple[bool, ...]
    groups: int = 1


def balanced(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same product, each column of ``left`` [K, r] as long as the row of ``right`` [r, M] that it meets: neither overflows where the product does not."""
    one, other = np.linalg.norm(left, axis=0), np.linalg.norm(right, axis=1)
    known = (one > 0) & (other > 0)
    scale = np.ones(len(one))
    scale[known] = np.sqrt(other[known] / one[known])
    return left * scale, right / scale[:, None]


def count(matrix: np.ndarray) -> int:
    """How many numbers are not zero; all of a matrix that has hardly any zeros."""
    return int(np.count_nonzero(matrix))


def kernel_of(stages: Sequence[Stage]) -> np.ndarray:
    """The one kernel [M, C, *kernel] that stages of one group compute together (a stage may be depthwise); float64."""
    whole = stages[0].weight
    for stage in stages[1:]:
        whole = _behind(whole, stage)
    return whole


def _behind(first: np.ndarray, stage: Stage) -> np.ndarray:
    """A kernel [M, C, *kernel] followed by a stage; along each axis only one of the two has more than one tap."""
    weight = stage.weight
    if stage.groups > 1:  # Depthwise: one tap line for each channel.
        shape = [len(first), 1, *(max(a, b) for a, b in zip(first.shape[2:], weight.shape[2:], strict=True))]
        return np.broadcast_to(weight, shape) * first
    rank = first.ndim - 2
    one, other = first.reshape(len(first), -1), weight.reshape(*weight.shape[:2], -1)
    product = np.einsum("oit,ix->oxt", other, one).reshape(len(weight), first.shape[1], *first.shape[2:], *weight.shape[2:])
    for axis in range(rank):
        product = np.moveaxis(product, 2 + rank, 3 + axis + axis)  # (a_0, b_0, a_1, b_1, ...)
    return product.reshape(len(weight), first.shape[1], *(a * b for a, b in zip(first.shape[2:], weight.shape[2:], strict=True)))
