"""Weights coded in other coordinates, turned back when the model is loaded: the orthogonal matrices are stored as the factors they are products of."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....compiler.core.build import Build
from ..coded import Turned

__all__ = ["kronecker_factors", "turn_numbers", "turned"]

CLOSE = 1e-6
LEAST = 4


def turn_numbers(coded: Turned) -> int:
    """How many numbers the factors of both matrices have."""
    return sum(factor.size for content in (coded.before, coded.after) for factor in kronecker_factors(content)[2])


def turned(op: Build, coded: Turned, content: ir.Value) -> ir.Value:
    """``before content after``, each row divided by its stretch; ``content`` is float32 [K, M]."""
    found = op.MatMul(op.MatMul(_matrix(op, coded.before, "before"), content), _matrix(op, coded.after, "after"))
    if coded.stretch is None:
        return found  # type: ignore[return-value]
    return op.Div(found, op.const(coded.stretch.astype(np.float32)[:, None], "stretch"))  # type: ignore[return-value]


def _matrix(op: Build, content: np.ndarray, hint: str) -> ir.Value:
    """An orthogonal matrix from its factors: ``rows (A x B x ...) columns``, with signs of its rows and columns."""
    rows, columns, factors = kronecker_factors(content)
    found = op.const(factors[0].astype(np.float32), hint)
    size = len(factors[0])
    for factor in factors[1:]:
        wide = op.Reshape(found, op.const([size, 1, size, 1], f"{hint}_outer"))
        narrow = op.const(factor.astype(np.float32)[None, :, None, :], hint)
        size *= len(factor)
        found = op.Reshape(op.Mul(wide, narrow), op.const([size, size], f"{hint}_shape"))  # type: ignore[assignment]
    for signs in (rows[:, None], columns[None, :]):
        if (signs < 0).any():
            found = op.Mul(found, op.Cast(op.const(signs.astype(np.int8), f"{hint}_signs"), to=ir.DataType.FLOAT.value))  # type: ignore[assignment]
    return found


def kronecker_factors(content: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Signs of rows and columns, each [n], and matrices whose Kronecker product between them is ``content`` [n, n]; itself alone where there are no others."""
    for rows, columns in _signings(content):
        factors = _factors(content * rows[:, None] * columns[None, :])
        if len(factors) > 1:
            return rows, columns, factors
    return np.ones(len(content)), np.ones(len(content)), [content]


def _signings(content: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Signs that may stand between ``content`` and a product: none, those of its first column, those of its first row."""
    ones = np.ones(len(content))
    return [(ones, ones), (np.where(content[:, 0] < 0, -1.0, 1.0), ones), (ones, np.where(content[0] < 0, -1.0, 1.0))]


def _factors(content: np.ndarray) -> list[np.ndarray]:
    """Kronecker factors: as many of 2 rows as can be split off, then the rest."""
    found, rest = [], content
    while len(rest) >= LEAST and len(rest) % 2 == 0:
        half = len(rest) // 2
        blocks = rest.reshape(2, half, 2, half).transpose(0, 2, 1, 3)
        inner = blocks[0, 0] if np.abs(blocks[0, 0]).max() > CLOSE else blocks[0, 1]
        outer = np.einsum("ijkl,kl->ij", blocks, inner) / np.square(inner).sum()
        if np.abs(blocks - outer[:, :, None, None] * inner).max() > CLOSE:
            break
        found.append(outer)
        rest = inner
    return [*found, rest]
