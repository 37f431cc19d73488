"""The integer types that the kernels of a processor multiply without losing anything, fastest first."""

from __future__ import annotations

import functools
import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from ...compiler.core.errors import UsageError
from ...compiler.core.target import PORTABLE, Target

__all__ = ["Format", "FormatName", "format_for", "pair_excess", "processor_flags", "with_bits"]

FormatName = Literal["auto", "u8s8", "u8s7", "u8u8", "s8s8"]
WIDE_SUMS = frozenset({"avx_vnni", "avx512_vnni", "avx_vnni_int8", "amx_int8", "asimd", "asimddp", "neon"})
"""Flags of processors that add products of bytes in 32 bits."""
LARGEST_PAIR = 32767 // 255
"""Two weights that are both multiplied by 255 may add up to this before the sum leaves 16 bits."""


@dataclass(frozen=True)
class Format:
    """What activations and weights are stored as.

    ``paired`` says that kernels add two neighbouring products in 16 bits, so weights have to stay small enough for that (`pair_excess`).
    """

    name: str
    activations: np.dtype
    weights: np.dtype
    paired: bool = False


FORMATS = {
    "u8s8": Format("u8s8", np.dtype(np.uint8), np.dtype(np.int8)),
    "u8s7": Format("u8s7", np.dtype(np.uint8), np.dtype(np.int8), paired=True),
    "u8u8": Format("u8u8", np.dtype(np.uint8), np.dtype(np.uint8)),
    "s8s8": Format("s8s8", np.dtype(np.int8), np.dtype(np.int8)),
}


def format_for(name: str, target: Target, flags: frozenset[str] | None = None) -> Format:
    """The format called ``name``; for "auto", the one for a processor with these flags (None: this one). Raises UsageError for another name.

    Unsigned activations with signed weights have the fastest kernels everywhere. On x86 without VNNI those kernels use VPMADDUBSW, which adds two
    products in 16 bits and saturates; a portable model must be right there too.
    """
    if name not in get_args(FormatName):
        raise UsageError(f"there is no format '{name}' of quantised values; there are: {', '.join(get_args(FormatName))}")
    if name != "auto":
        return FORMATS[name]
    known = processor_flags() if flags is None else flags
    wide = target.name != PORTABLE.name and not WIDE_SUMS.isdisjoint(known)
    return FORMATS["u8s8" if wide else "u8s7"]


@functools.cache
def processor_flags() -> frozenset[str]:
    """What this processor can do, in the words of Linux; empty where that is not told."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset({"neon"} if platform.machine().lower() in ("arm64", "aarch64") else ())
    told = (line.partition(":") for line in lines)
    return next((frozenset(text.split()) for key, _, text in told if key.strip() in ("flags", "Features")), frozenset())


def pair_excess(codes: np.ndarray, taps: int = 1) -> np.ndarray:
    """By how much each column of int8 codes [K, M] is too large for sums of two products in 16 bits: at most 1 where it is not; float64 [M].

    Kernels take the rows of a convolution in one of two orders: channel by channel, as K is counted here, or tap by tap, each of which may be filled up
    to an even number of channels. Neighbours are pairs in all of them.
    """
    by_channel = codes.astype(np.int64)
    orders = [by_channel]
    if taps > 1:
        by_tap = by_channel.reshape(-1, taps, codes.shape[1]).transpose(1, 0, 2)
        orders.append(by_tap.reshape(by_channel.shape))
        if by_tap.shape[1] % 2:
            filled = np.concatenate([by_tap, np.zeros_like(by_tap[:, :1])], axis=1)
            orders.append(filled.reshape(-1, codes.shape[1]))
    return np.maximum.reduce([_largest_pair(order) for order in orders]) / LARGEST_PAIR


def _largest_pair(codes: np.ndarray) -> np.ndarray:
    if len(codes) % 2:
        codes = np.concatenate([codes, np.zeros((1, codes.shape[1]), codes.dtype)])
    first, second = codes[0::2], codes[1::2]
    above = np.maximum(first, 0) + np.maximum(second, 0)
    below = np.maximum(-first, 0) + np.maximum(-second, 0)
    return np.asarray(np.maximum(above, below).max(axis=0))


def with_bits(form: Format, bits: int) -> Format:
    """The format with activations of 8 or 16 bits, signed as they were."""
    if bits == 8:
        return form
    return replace(form, activations=np.dtype(np.uint16 if form.activations.kind == "u" else np.int16))
