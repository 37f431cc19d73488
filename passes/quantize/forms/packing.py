"""Codes of 2, 4 or 8 bits in bytes, the first in the lowest bits."""

from __future__ import annotations

import numpy as np

from ....compiler.core.reasons import Skip, skip
from ..coded import Affine

__all__ = ["KERNEL_BITS", "Unsigned", "kernel_bits", "pack", "unsigned"]

KERNEL_BITS = (2, 4, 8)
BYTE = 8


class Unsigned:
    """An `Affine` weight with codes and zero points from 0 to 2^bits - 1: ``codes`` uint8 [K, M], ``zeros`` uint8 [G, M], ``scales`` float32 [G, M].

    ``middle`` says that every zero point is 2^(bits - 1), which kernels take for granted.
    """

    def __init__(self, coded: Affine, bits: int) -> None:
        offset = 2 ** (bits - 1) if coded.zeros is None else 0
        self.bits = bits
        self.codes = (coded.codes + offset).astype(np.uint8)
        zeros = np.zeros(coded.scales.shape, np.int64) if coded.zeros is None else coded.zeros
        self.zeros = (zeros + offset).astype(np.uint8)
        self.scales = coded.scales.astype(np.float32)
        self.middle = coded.zeros is None or bool((coded.zeros == 2 ** (bits - 1)).all())


def kernel_bits(bits: int) -> int:
    """The narrowest width of a code in storage that holds ``bits``."""
    return next((width for width in KERNEL_BITS if width >= bits), bits)


def unsigned(coded: Affine, bits: int) -> Unsigned | Skip:
    """The weight in unsigned codes of ``bits``, or why that cannot be."""
    offset = 2 ** (bits - 1) if coded.zeros is None else 0
    low, high = int(coded.codes.min()) + offset, int(coded.codes.max()) + offset
    if coded.zeros is not None:
        low, high = min(low, int(coded.zeros.min())), max(high, int(coded.zeros.max()))
    if low < 0 or high >= 2**bits:
        return skip("its codes go from %d to %d, which %d bits do not hold", low - offset, high - offset, bits)
    return Unsigned(coded, bits)


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """uint8 codes [..., n] in bytes [..., ceil(n bits / 8)]; what is left of the last byte is 0."""
    per = BYTE // bits
    missing = -codes.shape[-1] % per
    if missing:
        codes = np.concatenate([codes, np.zeros((*codes.shape[:-1], missing), np.uint8)], axis=-1)
    packed = np.zeros((*codes.shape[:-1], codes.shape[-1] // per), np.uint8)
    for place in range(per):
        packed |= codes[..., place::per] << np.uint8(bits * place)
    return packed
