"""Learning an orthogonal matrix, and scales after it, for a site both sides of which are rounded. Needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...compiler.core.errors import BackendMissing
from .activation import ActivationGrid
from .grid import Grid
from .joint import Precision

if TYPE_CHECKING:
    import torch

__all__ = ["Learning", "learn_turn"]

TINY = 1e-12
FEWEST = 12
"""Fewer rows are all learned from."""


@dataclass(frozen=True)
class Learning:
    """``steps`` of Adam at ``rate`` on at most ``rows`` rows and ``columns`` columns."""

    steps: int = 60
    rate: float = 0.01
    rows: int = 192
    columns: int = 192


def learn_turn(
    weight: np.ndarray, rows: np.ndarray, precision: Precision, start: np.ndarray, how: Learning, *, scaled: bool
) -> tuple[np.ndarray, np.ndarray]:
    """An orthogonal R [K, K] and scales s [K] with a small ``||X W - Q(X R / s) Q(s R' W)||``, both float64.

    R is ``start`` times the Cayley transform ``(I - A)^-1 (I + A)`` of a skew A, so it stays orthogonal; s stays 1 unless ``scaled``. Rounding passes
    gradients straight through. Every third row is not learned from: the step that is best on these is returned, the start included. Raises BackendMissing
    without torch.
    """
    try:
        import torch
    except ImportError:
        raise BackendMissing("learning a rotation needs torch: pip install 'graphwright[torch]'") from None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    given = torch.tensor(rows[: how.rows], dtype=torch.float32, device=device)
    judging = torch.arange(len(given), device=device) % 3 == 2 if len(given) >= FEWEST else torch.ones(len(given), dtype=torch.bool, device=device)
    inputs, unseen = given[~judging] if len(given) >= FEWEST else given, given[judging]
    content = torch.tensor(weight[:, np.arange(min(how.columns, weight.shape[1])) * weight.shape[1] // min(how.columns, weight.shape[1])], device=device)
    basis = torch.tensor(start, dtype=torch.float32, device=device)
    free = torch.zeros_like(basis, requires_grad=True)
    logs = torch.zeros(len(basis), device=device, requires_grad=True)
    truth, unseen_truth = inputs @ content, unseen @ content
    optimiser = torch.optim.Adam([free, logs] if scaled else [free], lr=how.rate)
    best, least = (start, np.ones(len(start))), np.inf
    eye = torch.eye(len(basis), device=device)
    for _ in range(how.steps):
        skew = free - free.T
        turn = basis @ torch.linalg.solve(eye - skew, eye + skew)
        scale = torch.exp(logs - logs.mean())
        rounded, turned = _rounded_weight(scale[:, None] * (turn.T @ content), precision.weight), inputs @ turn / scale
        loss = (_rounded_inputs(turned, precision.inputs, turned) @ rounded - truth).square().sum() / truth.square().sum().clamp_min(TINY)
        with torch.no_grad():
            judged = float((_rounded_inputs(unseen @ turn / scale, precision.inputs, turned) @ rounded - unseen_truth).square().sum())
        if judged < least:
            least, best = judged, (turn.detach().double().cpu().numpy(), scale.detach().double().cpu().numpy())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return _orthogonal(best[0]), best[1]


def _rounded_inputs(values: torch.Tensor, grid: ActivationGrid, seen: torch.Tensor) -> torch.Tensor:
    """Each row by itself, or between the extremes of the rows ``seen``."""
    if grid.token:
        return _rounded(values, values.amin(dim=1, keepdim=True).clamp(max=0), values.amax(dim=1, keepdim=True).clamp(min=0), grid.bits, grid.symmetric)
    low, high = seen.amin().clamp(max=0), seen.amax().clamp(min=0)
    return _rounded(values.minimum(high).maximum(low), low, high, grid.bits, grid.symmetric)


def _rounded_weight(values: torch.Tensor, grid: Grid) -> torch.Tensor:
    rows = grid.block if grid.block > 0 else len(values)
    parts = []
    for part in values.split(rows):
        low, high = (part.amin(dim=0), part.amax(dim=0)) if grid.block >= 0 else (values.amin(), values.amax())
        parts.append(_rounded(part, low.clamp(max=0), high.clamp(min=0), grid.bits, grid.symmetric))
    import torch

    return torch.cat(parts)


def _rounded(values: torch.Tensor, low: torch.Tensor, high: torch.Tensor, bits: int, symmetric: bool) -> torch.Tensor:
    """Nearest steps, with the gradient of the identity."""
    span = (-low).maximum(high) / (2 ** (bits - 1) - 1) if symmetric else (high - low) / (2**bits - 1)
    scale = span.clamp_min(TINY)
    steps = values / scale
    return scale * (steps + (steps.round() - steps).detach())


def _orthogonal(turn: np.ndarray) -> np.ndarray:
    """The orthogonal matrix nearest to one that float32 has left slightly off."""
    left, _, right = np.linalg.svd(turn)
    return np.asarray(left @ right)
