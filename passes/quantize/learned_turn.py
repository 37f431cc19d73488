"""Learning an orthogonal matrix, and scales after it, for a site both sides of which are rounded. Needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..differentiable.torch_there import device, need_torch
from .activation import ActivationGrid
from .grid import Grid
from .joint import Precision, some_columns

if TYPE_CHECKING:
    import torch

__all__ = ["Case", "Learning", "learn_turn"]

Case = tuple[np.ndarray, np.ndarray]
"""The weight [K, M] of a site and rows of its input [n, K]."""

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
    cases: Sequence[Case],
    precision: Precision,
    starts: Sequence[np.ndarray],
    how: Learning,
    *,
    before: Sequence[Case] = (),
    scaled: bool = False,
    keeping_ones: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """One orthogonal R [K, K] and scales s [K] with a small ``||X W - Q(X R / s) Q(s R' W)|| / ||X W||`` for all sites, both float64.

    The sites ``before`` make what is turned: of them ``||X (W R - Q(W R))|| / ||X W||`` is to be small. R is one of ``starts`` times the Cayley transform
    ``(I - A)^-1 (I + A)`` of a skew A, so it stays orthogonal; s stays 1 unless ``scaled``. With ``keeping_ones`` the vector of ones, which the starts have
    to keep, is not moved. Rounding passes gradients straight through. Every third row is not learned from: the step of all that is best on these is
    returned, the starts included. Raises BackendMissing without torch.
    """
    need_torch("learning a rotation")
    where = device()
    sites = [_Site.of(*case, how, where) for case in cases]
    writers = [_Site.of(*case, how, where, whole=True) for case in before]
    found = [_learned(sites, writers, precision, start, how, scaled, keeping_ones) for start in starts]
    _, turn, scale = min(found, key=lambda item: item[0])
    return _orthogonal(turn), scale


def _learned(
    sites: Sequence[_Site], writers: Sequence[_Site], precision: Precision, start: np.ndarray, how: Learning, scaled: bool, keeping_ones: bool
) -> tuple[float, np.ndarray, np.ndarray]:
    """The least loss from one start, with what made it."""
    import torch

    device = sites[0].weight.device
    basis = torch.tensor(start, dtype=torch.float32, device=device)
    free = torch.zeros_like(basis, requires_grad=True)
    logs = torch.zeros(len(basis), device=device, requires_grad=True)
    optimiser = torch.optim.Adam([free, logs] if scaled else [free], lr=how.rate)
    best, least = (start, np.ones(len(start))), np.inf
    eye = torch.eye(len(basis), device=device)
    centring = eye - 1 / len(basis)
    for _ in range(how.steps):
        skew = free - free.T
        if keeping_ones:
            skew = centring @ skew @ centring
        turn = basis @ torch.linalg.solve(eye - skew, eye + skew)
        scale = torch.exp(logs - logs.mean())
        losses = [site.losses(turn, scale, precision) for site in sites] + [site.written(turn, precision) for site in writers]
        loss, judged = sum((pair[0] for pair in losses), start=logs.new_zeros(())), sum(pair[1] for pair in losses)
        if judged < least:
            least, best = judged, (turn.detach().double().cpu().numpy(), scale.detach().double().cpu().numpy())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return float(least), *best


@dataclass(frozen=True)
class _Site:
    """Rows to learn from and rows to judge by, the weight, and what they make."""

    inputs: torch.Tensor
    unseen: torch.Tensor
    weight: torch.Tensor
    size: torch.Tensor

    @classmethod
    def of(cls, weight: np.ndarray, rows: np.ndarray, how: Learning, device: str, whole: bool = False) -> _Site:
        import torch

        given = torch.tensor(rows[: how.rows], dtype=torch.float32, device=device)
        content = torch.tensor(weight if whole else some_columns(weight, how.columns), dtype=torch.float32, device=device)
        last = torch.arange(len(given), device=device) % 3 == 2
        inputs, unseen = (given[~last], given[last]) if len(given) >= FEWEST else (given, given)
        return cls(inputs, unseen, content, (given @ content).square().mean().clamp_min(TINY))

    def losses(self, turn: torch.Tensor, scale: torch.Tensor, precision: Precision) -> tuple[torch.Tensor, float]:
        """The loss to descend, and the one to judge by."""
        import torch

        rounded, turned = _rounded_weight(scale[:, None] * (turn.T @ self.weight), precision.weight), self.inputs @ turn / scale
        loss = (_rounded_inputs(turned, precision.inputs, turned) @ rounded - self.inputs @ self.weight).square().mean() / self.size
        with torch.no_grad():
            found = _rounded_inputs(self.unseen @ turn / scale, precision.inputs, turned) @ rounded
            return loss, float((found - self.unseen @ self.weight).square().mean() / self.size)

    def written(self, turn: torch.Tensor, precision: Precision) -> tuple[torch.Tensor, float]:
        """The same for a site whose result is turned."""
        import torch

        content = self.weight @ turn
        off = _rounded_weight(content, precision.weight) - content
        loss = (self.inputs @ off).square().mean() / self.size
        with torch.no_grad():
            return loss, float((self.unseen @ off).square().mean() / self.size)


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
