"""The square root of the second moment of a site's inputs: errors count as much as the output feels them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from ..quantize.hessian import damped, moment_of

__all__ = ["DAMP", "Whitening"]

DAMP = 0.01


@dataclass(frozen=True)
class Whitening:
    """S' with S S' = H, so that ``|| S' D ||^2 = || X D ||^2 / N`` for any D, and its inverse; float64 [K, K]."""

    root: np.ndarray
    inverse: np.ndarray

    @classmethod
    def of(cls, statistics: SiteStatistics | None, weight: np.ndarray, method: str, damp: float = DAMP) -> Whitening:
        """Of H with ``damp`` of its mean diagonal added, by its eigenvectors: a singular H is no obstacle. Raises what `moment_of` raises."""
        return cls.of_moment(moment_of(statistics, weight, method), damp)

    @classmethod
    def of_moment(cls, moment: np.ndarray, damp: float = DAMP) -> Whitening:
        """Of a symmetric H [K, K]."""
        values, basis = np.linalg.eigh(damped(moment, damp))
        roots = np.sqrt(np.maximum(values, values.max() * np.finfo(np.float64).eps))
        return cls(roots[:, None] * basis.T, basis / roots)
