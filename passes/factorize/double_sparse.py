"""A weight as the product of two sparse matrices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.errors import UsageError
from ...compiler.core.statistics import SiteStatistics
from ..quantize.hessian import damped, moment_of
from .factors import Factors
from .method import MatrixMethod, finite

__all__ = ["DoubleSparse"]

DAMP = 0.01
TINY = 1e-12


@dataclass(frozen=True)
class DoubleSparse(MatrixMethod):
    """Boza & Macko, "Two Sparse Matrices are Better than One: Sparsifying Neural Networks with Double Sparse Factorization" (ICLR 2025), section 3.

    ``W ~ A B`` with one factor square, of the smaller side of W, and the other of W's own shape. Each in turn is found by the alternating direction method of
    multipliers with the other as it is: a step of least squares, then the greatest numbers. The error is that of the outputs, ``tr(D' H D)``, throughout (the
    paper weighs by diag H first). The numbers of the square factor are ``square`` of its size at most, those of the other what is left.
    """

    name: ClassVar[str] = "double_sparse"
    refines: ClassVar[str | None] = None
    moments: ClassVar[bool] = True
    size_only: ClassVar[bool] = True

    square: float = 0.16
    sweeps: int = 12
    steps: int = 8
    polish: int = 30

    def numbers(self, inputs: int, outputs: int, rank: int) -> int:
        """There is none. Raises UsageError."""
        raise UsageError(f"{self.name} has no rank: give a ratio")

    def factor(self, weight: np.ndarray, statistics: SiteStatistics | None, room: int) -> Factors:
        """As `MatrixMethod.factor`. Raises UsageError without statistics."""
        finite(weight)
        moment = damped(moment_of(statistics, weight, self.name), DAMP)
        problem = _Problem(weight, moment / np.diagonal(moment).mean())
        inner = min(weight.shape)
        squared = max(inner, min(int(self.square * inner * inner), room // 3))
        first_square = len(weight) <= weight.shape[1]
        others = max(room - squared, 0)
        counts = (squared, others) if first_square else (others, squared)
        left, right = (np.eye(inner), weight.copy()) if first_square else (weight.copy(), np.eye(inner))
        for sweep in range(self.sweeps):
            steps = self.steps if sweep else 3 * self.steps
            right = problem.right(left, right, counts[1], steps)
            left = problem.left(left, right, counts[0], steps)
        left = problem.left(left, right, None, self.polish)
        right = problem.right(left, right, None, self.polish)
        dense = (np.count_nonzero(left) + np.count_nonzero(right)) / weight.size
        return Factors((left, right), form=f"two sparse factors, {dense:.0%} dense")


@dataclass(frozen=True)
class _Problem:
    """``min tr((W - A B)' H (W - A B))`` over one factor with a number of entries; ``None`` keeps those that it has."""

    weight: np.ndarray
    moment: np.ndarray

    def right(self, left: np.ndarray, start: np.ndarray, entries: int | None, steps: int) -> np.ndarray:
        """B for this A."""
        scales = np.sqrt(np.maximum(np.einsum("kn,kn->n", left, self.moment @ left), TINY))
        scaled = left / scales
        weighed = self.moment @ scaled
        values, basis = np.linalg.eigh(scaled.T @ weighed)
        wanted = weighed.T @ self.weight

        def solve(target: np.ndarray) -> np.ndarray:
            return np.asarray(basis @ ((basis.T @ (wanted + target)) / (np.maximum(values, 0.0) + 1)[:, None]))

        return _split(solve, start * scales[:, None], entries, steps) / scales[:, None]

    def left(self, start: np.ndarray, right: np.ndarray, entries: int | None, steps: int) -> np.ndarray:
        """A for this B. With H and B B' diagonal in their own bases, ``H A B B' + A = T`` is solved number by number."""
        lengths = np.sqrt(np.maximum(np.einsum("nm,nm->n", right, right), TINY))
        inputs = np.sqrt(np.maximum(np.diagonal(self.moment), TINY))
        scaled = right / lengths[:, None]
        values, basis = np.linalg.eigh(self.moment / inputs / inputs[:, None])
        others, span = np.linalg.eigh(scaled @ scaled.T)
        wanted = (self.moment @ self.weight @ scaled.T) / inputs[:, None]
        spread = np.maximum(values, 0.0)[:, None] * np.maximum(others, 0.0) + 1

        def solve(target: np.ndarray) -> np.ndarray:
            return np.asarray(basis @ ((basis.T @ (wanted + target) @ span) / spread) @ span.T)

        return _split(solve, start * lengths * inputs[:, None], entries, steps) / lengths / inputs[:, None]


def _split(solve: Callable[[np.ndarray], np.ndarray], start: np.ndarray, entries: int | None, steps: int) -> np.ndarray:
    """The alternating direction method of multipliers with a penalty of 1: the sparse matrix that it arrives at."""
    mask = start != 0
    sparse, dual = start if entries is None else _greatest(start, entries), np.zeros_like(start)
    for _ in range(steps):
        dense = solve(sparse - dual)
        sparse = np.where(mask, dense + dual, 0.0) if entries is None else _greatest(dense + dual, entries)
        dual += dense - sparse
    return sparse


def _greatest(matrix: np.ndarray, entries: int) -> np.ndarray:
    """A matrix with all but its greatest numbers zero."""
    if not 0 < entries < matrix.size:
        return matrix if entries else np.zeros_like(matrix)
    sizes = np.abs(matrix)
    limit = np.partition(sizes, matrix.size - entries, axis=None)[matrix.size - entries]
    return np.where(sizes >= limit, matrix, 0.0)
