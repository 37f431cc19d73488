"""Weights and inputs turned until nothing sticks out, then rounded with feedback."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .books import fit_scales
from .coded import HALF_BITS, Codebook, Coded, Turned
from .grid import Grid
from .hessian import DAMP, damped, importance, moment_of, output_error
from .ldlq import ldlq, with_feedback
from .method import Method
from .orthogonal import random_hadamard, random_orthogonal
from .steps import block_rows, finite, spread_rows

__all__ = ["Quip"]

SEED_BITS = 64
BYTE = 8
DEAREST = 0.05


@dataclass(frozen=True)
class Quip(Method):
    """Chee et al., "QuIP: 2-Bit Quantization of Large Language Models With Guarantees" (2023), algorithms 1 to 3.

    ``W~ = V (D W) U'`` and ``H~ = V D^-1 H D^-1 V'`` with random orthogonal U, V and the diagonal ``D = (diag H / row norms of W)^1/4``
    that keeps ``tr(H) |W|^2`` least; W~ is rounded with the feedback of `ldlq` to 2^bits even steps that lie evenly about zero, which is none of them
    (algorithm 3): numbers turned so are as often above as below. The scale of each block is the one of the least squared error. Where the grid has zero
    points, steps with these are tried too; of ``draws`` pairs of matrices the one with the least error on the calibration data stays. ``rescale``: D takes
    16 / M bits a weight, "auto" is where that is at most a twentieth of a bit. ``turn``: Hadamard matrices with random signs (QuIP#), or orthogonal ones;
    ``act_order`` takes the turned rows by falling diag H~, which the paper does not. Whoever runs the site turns its input and its output, or decodes the
    weight when it is loaded: what is saved is size.
    """

    name: ClassVar[str] = "quip"
    refines: ClassVar[str | None] = "gptq"
    moments: ClassVar[bool] = True

    turn: Literal["hadamard", "orthogonal"] = "hadamard"
    rescale: Literal["auto", "always", "never"] = "auto"
    act_order: bool = True
    damp: float = DAMP
    sweeps: int = 3
    draws: int = 4
    seed: int = 0

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Turned:
        """As `Method.quantize`; also raises UsageError without statistics."""
        finite(weight, grid)
        moment = moment_of(statistics, weight, self.name)
        goal = damped(moment, self.damp)
        rescaled = self.rescale == "always" or (self.rescale == "auto" and DEAREST * weight.shape[1] >= HALF_BITS)
        stretch = _stretch(weight, goal) if rescaled else np.ones(len(weight))
        best, least = None, np.inf
        for draw in range(max(1, self.draws)):
            for found in self._turned(weight, goal, stretch, grid, np.random.default_rng(self.seed + draw)):
                error = float(output_error(found.matrix() - weight, moment).sum())
                if best is None or error < least:
                    best, least = found, error
        assert best is not None
        return best if rescaled else replace(best, stretch=None)

    def _turned(self, weight: np.ndarray, moment: np.ndarray, stretch: np.ndarray, grid: Grid, random: np.random.Generator) -> Iterator[Turned]:
        """The weight rounded in one basis: to even steps about zero, and with zero points too where the grid has them."""
        make = random_hadamard if self.turn == "hadamard" else random_orthogonal
        before, after = make(len(weight), random), make(weight.shape[1], random)
        turned = (before @ (weight * stretch[:, None]) @ after.T).astype(np.float32)
        seen = before @ (moment / stretch / stretch[:, None]) @ before.T
        seen = (seen + seen.T) / 2
        order = np.argsort(-np.diagonal(seen), kind="stable") if self.act_order else None
        rounded: list[Coded] = [_about_zero(turned, seen, grid, self.sweeps, order)]
        if not grid.symmetric:
            rounded.append(ldlq(turned, seen, grid, "mse", 0.0, self.sweeps, order))
        yield from (Turned(coded, before.T, after, SEED_BITS, stretch.astype(np.float32)) for coded in rounded)


def _about_zero(weight: np.ndarray, moment: np.ndarray, grid: Grid, sweeps: int, order: np.ndarray | None) -> Codebook:
    """Codes of the steps (code - middle) scale, of which there are as many above zero as below."""
    rows, most = len(weight), 2**grid.bits - 1
    book = (np.arange(most + 1) - most / 2).astype(np.float32)
    scales = fit_scales(weight, book, grid.block, clip=True, importance=importance(moment))
    kept = np.where(weight.any(), scales, np.float32(0))  # No step is zero, so that a weight of zeros needs a scale that is.
    wide, steps = (np.broadcast_to(spread_rows(part.astype(np.float64), grid.block, rows), weight.shape) for part in (scales, kept))

    def nearest(row: int, values: np.ndarray) -> np.ndarray:
        return np.asarray((np.clip(np.rint(values / wide[row] + most / 2), 0, most) - most / 2) * steps[row])

    rounded = with_feedback(weight, moment, nearest, 0.0, sweeps, order)
    codes = np.rint(rounded / wide + most / 2).astype(np.uint8 if grid.bits <= BYTE else np.uint16)
    return Codebook(codes, book, grid.bits, kept, block_rows(grid.block, rows), book_bits=0)


def _stretch(weight: np.ndarray, moment: np.ndarray) -> np.ndarray:
    """D in half precision, float64 [K], its geometric mean 1."""
    norms = np.square(weight, dtype=np.float64).sum(axis=1)
    ratio = np.diagonal(moment) / np.where(norms > 0, norms, 1.0)
    logs = np.where(norms > 0, np.log(ratio) / 4, 0.0)
    logs = np.clip(logs - logs.mean(), -6.0, 6.0)
    return np.asarray(np.exp(logs).astype(np.float16).astype(np.float64))
