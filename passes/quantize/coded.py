"""What quantisation makes of a weight. All describe a matrix [K, M]: K input channels in rows, M output channels in columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

__all__ = ["Affine", "Binaries", "Codebook", "Coded", "Dense", "LowRank", "Rows", "Sparse", "Sum", "Turned"]

SCALE_BITS = 32
INDEX_BITS = 32
HALF_BITS = 16


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
    scale_bits: float = SCALE_BITS
    """Bits of one stored scale: fewer than 32 where the scales are quantised too."""

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
        return self.codes.size * self.bits + self.scales.size * self.scale_bits + zeros


@dataclass(frozen=True)
class Codebook:
    """``book[code] scale``: ``codes`` uint [K, M] into ``book``, float32 [2^bits] or, one for each column, [2^bits, M]; ``scales`` as in `Affine`, or None."""

    codes: np.ndarray
    book: np.ndarray
    bits: int
    scales: np.ndarray | None = None
    block: int = 0
    scale_bits: float = SCALE_BITS
    """As in `Affine`."""
    book_bits: float = SCALE_BITS
    """Bits of one entry of a stored book; 0 for a book that a standard lays down."""

    def matrix(self) -> np.ndarray:
        """As `Coded.matrix`."""
        values = self.book[self.codes] if self.book.ndim == 1 else np.take_along_axis(self.book, self.codes.astype(np.int64), axis=0)
        found = values.astype(np.float32)
        return found if self.scales is None else found * _spread(self.scales, self.block, len(found))

    @property
    def stored_bits(self) -> float:
        """As `Coded.stored_bits`."""
        scales = 0 if self.scales is None else self.scales.size * self.scale_bits
        return self.codes.size * self.bits + self.book.size * self.book_bits + scales


@dataclass(frozen=True)
class Binaries:
    """``left (sum of scale sign) + offset``: ``signs`` int8 [q, K, M] of -1 and 1 (0 where a mask drops a weight), ``scales`` float32 [q, G, M], one row for
    ``block`` rows of signs; ``offset`` float32 [G, M] is added and ``left`` float32 [K] multiplies the rows, where there are such.
    """

    signs: np.ndarray
    scales: np.ndarray
    block: int
    offset: np.ndarray | None = None
    left: np.ndarray | None = None
    sign_bits: float = 1.0
    """Bits of one stored sign: another number than 1 where the signs share a mask."""
    scale_bits: float = HALF_BITS

    def matrix(self) -> np.ndarray:
        """As `Coded.matrix`."""
        rows = self.signs.shape[1]
        found = np.zeros(self.signs.shape[1:], np.float32)
        for signs, scales in zip(self.signs, self.scales, strict=True):
            found += signs * _spread(scales, self.block, rows)
        if self.left is not None:
            found *= self.left[:, None]
        return found if self.offset is None else found + _spread(self.offset, self.block, rows)

    @property
    def stored_bits(self) -> float:
        """As `Coded.stored_bits`."""
        numbers = self.scales.size + sum(part.size for part in (self.offset, self.left) if part is not None)
        return self.signs.size * self.sign_bits + numbers * self.scale_bits


@dataclass(frozen=True)
class LowRank:
    """``left right``: float32 [K, r] and [r, M]."""

    left: np.ndarray
    right: np.ndarray
    bits: int = HALF_BITS

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
    bits: int = HALF_BITS
    index_bits: float = INDEX_BITS

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
class Rows:
    """A few rows (input channels) apart, zero elsewhere: ``values`` float32 [n, M] of the ``rows`` int64 [n] of a matrix of ``shape``, in ``bits`` each."""

    shape: tuple[int, int]
    rows: np.ndarray
    values: np.ndarray
    bits: float = HALF_BITS

    def matrix(self) -> np.ndarray:
        """As `Coded.matrix`."""
        found = np.zeros(self.shape, np.float32)
        found[self.rows] = self.values
        return found

    @property
    def stored_bits(self) -> float:
        """As `Coded.stored_bits`."""
        return self.values.size * self.bits + self.rows.size * INDEX_BITS


@dataclass(frozen=True)
class Turned:
    """A weight coded in other coordinates: ``before content after``, then row k divided by ``stretch[k]``.

    ``before`` [K, K] and ``after`` [M, M] are orthogonal and made again from a seed, which takes ``seed_bits``; ``stretch`` is float32 [K], in half precision.
    """

    content: Coded
    before: np.ndarray
    after: np.ndarray
    seed_bits: float
    stretch: np.ndarray | None = None

    def matrix(self) -> np.ndarray:
        """As `Coded.matrix`."""
        found = self.before @ self.content.matrix().astype(np.float64) @ self.after
        return (found if self.stretch is None else found / self.stretch[:, None]).astype(np.float32)

    @property
    def stored_bits(self) -> float:
        """As `Coded.stored_bits`."""
        return self.content.stored_bits + self.seed_bits + (0 if self.stretch is None else self.stretch.size * HALF_BITS)


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
