"""What quantisation makes of a weight. All describe a matrix [K, M]: K input channels in rows, M output channels in columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

__all__ = ["Affine", "Codebook", "Coded", "Dense", "LowRank", "Sparse", "Sum"]

SCALE_BITS = 32
INDEX_BITS = 32


class Coded(Protocol):
    """A weight in fewer bits."""

    def matrix(self) -> np.ndarray:
        """What it stands for, float32 [K, M]."""
        ...

    @property
    def stored_bits(self) -> float:
        """Bits it takes to store, scales, zero points, codebooks and indices included."""
        ...


@dataclass(frozen=True)
class Affine:
    """``scale (code - zero)``: ``codes`` int [K, M]; ``scales`` float32 [G, M] and ``zeros`` int [G, M], or None, one row for ``block`` rows of codes.

    The last block may be shorter. ``bits`` is the width of a code.
    """

    codes: np.ndarray
    scales: np.ndarray
    zeros: np.ndarray | None
    block: int
    bits: int

    def matrix(self) -> np.ndarray:
        """As `Coded.matrix`."""
        rows = self.codes.shape[0]
        codes = self.codes.astype(np.float32)
        if self.zeros is not None:
            codes -= _spread(self.zeros.astype(np.float32), self.block, rows)
        return codes * _spread(self.scales, self.block, rows)

    @property
    def stored_bits(self) -> float:
        """As `Coded.stored_bits`."""
        zeros = 0 if self.zeros is None else self.zeros.size * self.bits
        return self.codes.size * self.bits + self.scales.size * SCALE_BITS + zeros


@dataclass(frozen=True)
class Codebook:
    """``book[code] scale``: ``codes`` uint [K, M] into ``book``, float32 [2^bits] or, one for each column, [2^bits, M]; ``scales`` as in `Affine`, or None."""

    codes: np.ndarray
    book: np.ndarray
    bits: int
    scales: np.ndarray | None = None
    block: int = 0
    scale_bits: float = SCALE_BITS
    """Bits of one stored scale: fewer than 32 where the scales are quantised too."""

    def matrix(self) -> np.ndarray:
        """As `Coded.matrix`."""
        values = self.book[self.codes] if self.book.ndim == 1 else np.take_along_axis(self.book, self.codes.astype(np.int64), axis=0)
        found = values.astype(np.float32)
        return found if self.scales is None else found * _spread(self.scales, self.block, len(found))

    @property
    def stored_bits(self) -> float:
        """As `Coded.stored_bits`."""
        scales = 0 if self.scales is None else self.scales.size * self.scale_bits
        return self.codes.size * self.bits + self.book.size * SCALE_BITS + scales


@dataclass(frozen=True)
class LowRank:
    """``left right``: float32 [K, r] and [r, M]."""

    left: np.ndarray
    right: np.ndarray
    bits: int = 16

    def matrix(self) -> np.ndarray:
        """As `Coded.matrix`."""
        return (self.left @ self.right).astype(np.float32)

    @property
    def stored_bits(self) -> float:
        """As `Coded.stored_bits`."""
        return (self.left.size + self.right.size) * self.bits


@dataclass(frozen=True)
class Sparse:
    """A few numbers in high precision, zero elsewhere: ``values`` float32 [n] at the flat ``places`` int64 [n] of a matrix of ``shape``."""

    shape: tuple[int, int]
    places: np.ndarray
    values: np.ndarray
    bits: int = 16
    index_bits: int = INDEX_BITS

    def matrix(self) -> np.ndarray:
        """As `Coded.matrix`."""
        found = np.zeros(self.shape, np.float32)
        found.flat[self.places] = self.values
        return found

    @property
    def stored_bits(self) -> float:
        """As `Coded.stored_bits`."""
        return self.values.size * (self.bits + self.index_bits)


@dataclass(frozen=True)
class Dense:
    """A matrix that something else than these classes decodes, or that stays in high precision: float32 [K, M], and what it takes to store."""

    content: np.ndarray
    stored_bits: float

    def matrix(self) -> np.ndarray:
        """As `Coded.matrix`."""
        return self.content


@dataclass(frozen=True)
class Sum:
    """Several parts added up."""

    parts: tuple[Coded, ...]

    def matrix(self) -> np.ndarray:
        """As `Coded.matrix`."""
        found = self.parts[0].matrix().astype(np.float32)
        for part in self.parts[1:]:
            found += part.matrix()
        return found

    @property
    def stored_bits(self) -> float:
        """As `Coded.stored_bits`."""
        return sum(part.stored_bits for part in self.parts)


def _spread(rows: np.ndarray, block: int, count: int) -> np.ndarray:
    """One row for each of ``count`` rows, given one for each block of them."""
    return rows if len(rows) == 1 else np.repeat(rows, block, axis=0)[:count]
