"""What a site reads beside what it is to give, collected row by row."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..core.statistics import PairStatistics
from .rows import Layout, rows_of

__all__ = ["Pairs", "matched"]


class Pairs:
    """Adds up what `PairStatistics` of K inputs and M outputs hold, in float64; rows with NaN or an infinity are left out."""

    def __init__(self, width: int, outputs: int) -> None:
        self.count = 0
        self._moment = np.zeros((width, width))
        self._cross = np.zeros((width, outputs))
        self._sum, self._target_sum, self._square = np.zeros(width), np.zeros(outputs), np.zeros(outputs)

    def add(self, rows: np.ndarray, targets: np.ndarray) -> None:
        """Count rows [n, K] and what belongs to each, [n, M]."""
        inputs, outputs = rows.astype(np.float64), targets.astype(np.float64)
        fine = np.isfinite(inputs).all(axis=1) & np.isfinite(outputs).all(axis=1)
        if not fine.all():
            inputs, outputs = inputs[fine], outputs[fine]
        self.count += len(inputs)
        self._moment += inputs.T @ inputs
        self._cross += inputs.T @ outputs
        self._sum += inputs.sum(axis=0)
        self._target_sum += outputs.sum(axis=0)
        self._square += np.square(outputs).sum(axis=0)

    def statistics(self) -> PairStatistics:
        """As means over the rows so far."""
        count = max(self.count, 1)
        return PairStatistics(
            self._moment / count, self._cross / count, self._sum / count, self._target_sum / count, self._square / count, self.count
        )


def matched(inputs: np.ndarray, targets: np.ndarray, layout: Layout, share: float, sieve: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of X, [n, K], with the rows of Y that belong to them, piece by piece; of more rows than are needed a ``share`` is drawn."""
    wide = target_rows(targets, layout)
    start = 0
    for piece in rows_of(inputs, layout):
        rows = piece[0]
        beside = wide[start : start + len(rows)]
        start += len(rows)
        drawn = sieve.random(len(rows)) < share if share < 1 else slice(None)
        yield rows[drawn], beside[drawn]


def target_rows(array: np.ndarray, layout: Layout) -> np.ndarray:
    """Y [N, M] of a site whose X is read by ``layout``: its channels are the last axis, the second (of a convolution) or the one before the last."""
    if layout.kind == "rows":
        return array.reshape(-1, array.shape[-1])
    if layout.kind == "columns":
        return np.ascontiguousarray(np.swapaxes(array, -1, -2)).reshape(-1, array.shape[-2]) if array.ndim > 1 else array.reshape(1, -1)
    return np.ascontiguousarray(np.moveaxis(array, 1, -1)).reshape(-1, array.shape[1])
