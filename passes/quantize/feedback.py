"""Error feedback: rows of a weight are rounded one after the other, and what rounding a row costs is made good in the rows still to come."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["descend", "feed_back"]

LAZY = 128

RoundRow = Callable[[int, np.ndarray], np.ndarray]
"""``(row, ahead) -> rounded``: ``ahead[0]`` is that row as it is by now, float64 [M]; the other rows of ``ahead`` are those up to the end of the lazy block."""


def feed_back(weight: np.ndarray, factor: np.ndarray, round_row: RoundRow, lazy: int = LAZY) -> np.ndarray:
    """The rounded weight, float64 [K, M], given ``factor`` U with U'U = H^-1 (see `hessian.feedback_factor`).

    Frantar et al., "GPTQ" (2022), equation 2 with the Cholesky form of its algorithm 1: ``e_i = (w_i - q_i) / U_ii``, then ``w_j -= U_ij e_i`` for the rows
    j > i; those outside the block of ``lazy`` rows are updated when the block is done, by one matrix product.
    """
    work = np.array(weight, np.float64)
    rows = len(work)
    for start in range(0, rows, lazy):
        stop = min(start + lazy, rows)
        errors = np.empty((stop - start, work.shape[1]))
        for row in range(start, stop):
            rounded = round_row(row, work[row:stop])
            errors[row - start] = (work[row] - rounded) / factor[row, row]
            work[row + 1 : stop] -= np.outer(factor[row, row + 1 : stop], errors[row - start])
            work[row] = rounded
        work[stop:] -= factor[start:stop, stop:].T @ errors
    return work


def descend(rounded: np.ndarray, weight: np.ndarray, moment: np.ndarray, round_row: RoundRow, sweeps: int, lazy: int = LAZY) -> np.ndarray:
    """Coordinate descent from a rounded weight [K, M] on ``|| X (W - Q) ||^2``: each row in turn is rounded to where the error of all other rows wants it.

    Chee et al., "QuIP" (2023), greedy updates. With a ``round_row`` that gives the nearest admissible number, no sweep makes the error greater.
    """
    if not sweeps:
        return rounded
    rounded, diagonal = rounded.copy(), np.diagonal(moment)
    shares = np.divide(1.0, diagonal, out=np.zeros(len(diagonal)), where=diagonal > np.finfo(np.float64).tiny)
    gradient = moment @ (weight - rounded)
    for _ in range(sweeps):
        moved = False
        for start in range(0, len(rounded), lazy):
            block = slice(start, min(start + lazy, len(rounded)))
            changes = np.zeros((block.stop - start, rounded.shape[1]))
            for row in range(start, block.stop):
                wanted = rounded[row] + (gradient[row] - moment[row, block] @ changes) * shares[row]
                found = round_row(row, wanted[None])
                changes[row - start] = found - rounded[row]
                rounded[row] = found
            if changes.any():
                moved = True
                gradient -= moment[:, block] @ changes
        if not moved:
            break
    return rounded
