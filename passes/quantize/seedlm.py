"""Blocks of a weight as a pseudo-random basis, made again from a seed, times a few coefficients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.errors import UsageError
from ...compiler.core.statistics import SiteStatistics
from .coded import Dense
from .grid import Grid
from .method import Method
from .steps import finite

__all__ = ["SeedLm", "register_cycle"]

LAYOUTS: dict[int, tuple[int, int]] = {2: (16, 3), 3: (12, 4), 4: (8, 3)}
"""Weights of a block and its coefficients, by bits a weight: with a seed of 16 bits, 4 for each coefficient and 4 for their exponent."""
COEFFICIENT_BITS = EXPONENT_BITS = 4
TAPS = {16: 0xD008, 14: 0x3802, 12: 0x0E08, 10: 0x0240, 8: 0x00B8}
"""The feedback of registers of maximal period."""
SEEDS_AT_ONCE, BLOCKS_AT_ONCE = 2048, 1024


@dataclass(frozen=True)
class SeedLm(Method):
    """Shafipour et al., "SeedLM: Compressing LLM Weights into Seeds of Pseudo-Random Generators" (2024), equations 3 to 6.

    ``w ~ U(s) t`` for every block w of a column: U(s) is made of the next numbers of a linear feedback shift register that starts at s, brought to [-1, 1];
    t are coefficients of 4 bits with a common exponent. All 2^``seed_bits`` - 1 seeds are tried; among the best of each few thousand the one wins whose
    error is least with t quantised. Layouts are there for 2, 3 and 4 bits; a grid of more takes that of 4.
    The search is long, about ten minutes for a million weights on one core; with two seed bits less it takes a quarter of that, and the weight is smaller
    and less exact.
    """

    name: ClassVar[str] = "seedlm"
    refines: ClassVar[str | None] = "rtn"

    seed_bits: int = 16

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Dense:
        """As `Method.quantize`; raises UsageError for fewer than two bits, and for registers of another width. Of ``grid`` only the bits count."""
        finite(weight, grid)
        if self.seed_bits not in TAPS:
            raise UsageError(f"seedlm: there is no register of {self.seed_bits} bits; there are: {', '.join(map(str, sorted(TAPS)))}")
        layout = max((bits for bits in LAYOUTS if bits <= grid.bits), default=None)
        if layout is None:
            raise UsageError(f"seedlm: there is no layout for {grid.bits} bits; there are: {', '.join(map(str, LAYOUTS))}")
        size, rank = LAYOUTS[layout]
        rows, columns = weight.shape
        padded = np.zeros((-(-rows // size) * size, columns), np.float32)
        padded[:rows] = weight
        blocks = padded.T.reshape(-1, size)
        found = _nearest(blocks, _bases(self.seed_bits, size, rank))
        matrix = found.reshape(columns, -1).T[:rows]
        bits = len(blocks) * (self.seed_bits + rank * COEFFICIENT_BITS + EXPONENT_BITS) + EXPONENT_BITS * 2
        return Dense(np.ascontiguousarray(matrix, np.float32), float(bits))


def register_cycle(bits: int) -> np.ndarray:
    """All states of the register in their order, from 1: int64 [2^bits - 1], each number from 1 to 2^bits - 1 once."""
    states = np.empty(2**bits - 1, np.int64)
    state = 1
    for index in range(len(states)):
        states[index] = state
        state = (state >> 1) ^ (TAPS[bits] if state & 1 else 0)
    return states


def _bases(bits: int, size: int, rank: int) -> np.ndarray:
    """U(s) for every seed, float32 [2^bits - 1, size, rank]; the register runs ``bits`` steps from one number to the next, so that they share no bits."""
    states = register_cycle(bits)
    middle = 2 ** (bits - 1)
    numbers = ((states - middle) / (middle - 1)).astype(np.float32)
    places = (np.arange(len(states))[:, None] + bits * np.arange(size * rank)) % len(states)
    return numbers[places].reshape(-1, size, rank)


def _nearest(blocks: np.ndarray, bases: np.ndarray) -> np.ndarray:
    """What each block [n, size] becomes."""
    top = _exponent_top(blocks)
    best, least = np.zeros_like(blocks), np.square(blocks).sum(axis=1)
    for start in range(0, len(bases), SEEDS_AT_ONCE):
        part = bases[start : start + SEEDS_AT_ONCE]
        axes, triangles = np.linalg.qr(part.astype(np.float64))
        directions = axes.transpose(1, 0, 2).reshape(blocks.shape[1], -1).astype(np.float32)
        inverses = np.linalg.solve(triangles, axes.transpose(0, 2, 1)).astype(np.float32)
        for begin in range(0, len(blocks), BLOCKS_AT_ONCE):
            chunk = slice(begin, begin + BLOCKS_AT_ONCE)
            kept = np.square(blocks[chunk] @ directions).reshape(-1, len(part), part.shape[2]).sum(axis=2)
            winner = kept.argmax(axis=1)
            found = _coded(blocks[chunk], part[winner], inverses[winner], top)
            error = np.square(blocks[chunk] - found).sum(axis=1)
            better = error < least[chunk]
            best[chunk][better], least[chunk][better] = found[better], error[better]
    return best


def _coded(blocks: np.ndarray, bases: np.ndarray, inverses: np.ndarray, top: int) -> np.ndarray:
    """Blocks [n, size] on their bases [n, size, rank], coefficients quantised with the better of two exponents."""
    wanted = np.einsum("nrs,ns->nr", inverses, blocks)
    greatest = np.maximum(np.abs(wanted).max(axis=1), np.finfo(np.float32).tiny)
    fine = np.ceil(np.log2(greatest / (2 ** (COEFFICIENT_BITS - 1) - 1)))
    best, least = np.zeros_like(blocks), np.full(len(blocks), np.inf)
    for exponent in (fine, fine - 1):
        unit = np.exp2(np.clip(exponent, top - 2**EXPONENT_BITS + 1, top))[:, None]
        codes = np.clip(np.rint(wanted / unit), -(2 ** (COEFFICIENT_BITS - 1)), 2 ** (COEFFICIENT_BITS - 1) - 1)
        found = np.einsum("nsr,nr->ns", bases, (codes * unit).astype(np.float32))
        error = np.square(blocks - found).sum(axis=1)
        better = error < least
        best[better], least[better] = found[better], error[better]
    return best


def _exponent_top(blocks: np.ndarray) -> int:
    """The greatest exponent a block may have: that of the weight's greatest magnitude, since a good basis needs coefficients of about that size."""
    greatest = float(np.abs(blocks).max())
    return int(np.ceil(np.log2(greatest))) if greatest > 0 else 0
