"""How far the outputs of a compressed model are from those of the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ...compiler.core.backend import Array

__all__ = ["output_error"]


def output_error(truth: Sequence[Mapping[str, Array]], found: Iterable[Mapping[str, Array]]) -> float:
    """Squared error by squared size, of each floating-point output over all samples, averaged over the outputs; infinite where a number is lost.

    0 when nothing can be compared.
    """
    errors: dict[str, float] = {}
    sizes: dict[str, float] = {}
    for before, after in zip(truth, found, strict=True):
        for name, value in before.items():
            other = after.get(name)
            if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or not isinstance(other, np.ndarray) or other.shape != value.shape:
                continue
            finite = np.isfinite(value)
            exact, close = value[finite].astype(np.float64), other[finite].astype(np.float64)
            errors[name] = errors.get(name, 0.0) + (float(np.square(exact - close).sum()) if np.isfinite(close).all() else np.inf)
            sizes[name] = sizes.get(name, 0.0) + float(np.square(exact).sum())
    shares = [errors[name] / max(sizes[name], np.finfo(np.float64).tiny) for name in errors]
    return float(np.mean(shares)) if shares else 0.0
