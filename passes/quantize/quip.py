"""Weights and inputs turned until nothing sticks out, then rounded with feedback."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .clipping import Clipping
from .coded import HALF_BITS, Turned
from .grid import Grid
from .hessian import DAMP, damped, moment_of
from .ldlq import ldlq
from .method import Method
from .orthogonal import random_hadamard, random_orthogonal
from .steps import finite

__all__ = ["Quip"]

SEED_BITS = 64
DEAREST = 0.05


@dataclass(frozen=True)
class Quip(Method):
    """Chee et al., "QuIP: 2-Bit Quantization of Large Language Models With Guarantees" (2023), algorithms 1 to 3.

    ``W~ = V (D W) U'`` and ``H~ = V D^-1 H D^-1 V'`` with random orthogonal U, V and the diagonal ``D = (diag H / row norms of W)^1/4``
    that keeps ``tr(H) |W|^2`` least; W~ is rounded by `ldlq`. ``rescale``: D takes 16 / M bits a weight, "auto" is where
    that is at most a twentieth of a bit. ``turn``: Hadamard matrices with random signs (QuIP#), or orthogonal ones; ``act_order``
    takes the turned rows by falling diag H~, which the paper does not. Whoever runs the site turns its input and its output, or decodes the weight when it
    is loaded: what is saved is size.
    """

    name: ClassVar[str] = "quip"
    refines: ClassVar[str | None] = "gptq"
    moments: ClassVar[bool] = True

    turn: Literal["hadamard", "orthogonal"] = "hadamard"
    rescale: Literal["auto", "always", "never"] = "auto"
    act_order: bool = True
    clipping: Clipping = "mse"
    damp: float = DAMP
    sweeps: int = 3
    seed: int = 0

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Turned:
        """As `Method.quantize`; also raises UsageError without statistics."""
        finite(weight, grid)
        moment = damped(moment_of(statistics, weight, self.name), self.damp)
        random = np.random.default_rng(self.seed)
        make = random_hadamard if self.turn == "hadamard" else random_orthogonal
        before, after = make(len(weight), random), make(weight.shape[1], random)
        rescaled = self.rescale == "always" or (self.rescale == "auto" and DEAREST * weight.shape[1] >= HALF_BITS)
        stretch = _stretch(weight, moment) if rescaled else np.ones(len(weight))
        turned = before @ (weight * stretch[:, None]) @ after.T
        seen = before @ (moment / stretch / stretch[:, None]) @ before.T
        order = np.argsort(-np.diagonal(seen), kind="stable") if self.act_order else None
        coded = ldlq(turned.astype(np.float32), (seen + seen.T) / 2, grid, self.clipping, 0.0, self.sweeps, order)
        return Turned(coded, before.T, after, SEED_BITS, stretch.astype(np.float32) if rescaled else None)


def _stretch(weight: np.ndarray, moment: np.ndarray) -> np.ndarray:
    """D in half precision, float64 [K], its geometric mean 1."""
    norms = np.square(weight, dtype=np.float64).sum(axis=1)
    ratio = np.diagonal(moment) / np.where(norms > 0, norms, 1.0)
    logs = np.where(norms > 0, np.log(ratio) / 4, 0.0)
    logs = np.clip(logs - logs.mean(), -6.0, 6.0)
    return np.asarray(np.exp(logs).astype(np.float16).astype(np.float64))
