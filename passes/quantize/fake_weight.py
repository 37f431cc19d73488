"""A weight rounded as `Steps` rounds it, in torch, so that ranges and offsets can be learned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..differentiable.straight_through import TINY, round_through, rounded_on_steps
from .grid import Grid

if TYPE_CHECKING:
    import torch

__all__ = ["as_blocks", "block_ends", "fake_weight"]


def as_blocks(weight: torch.Tensor, grid: Grid) -> torch.Tensor:
    """[K, M] as [G, block, M], the last block filled up with zeros; a grid with one scale for all makes it one column."""
    import torch

    if grid.block == -1:
        return weight.reshape(1, -1, 1)
    block = min(grid.block, len(weight)) or len(weight)
    return torch.nn.functional.pad(weight, (0, 0, 0, -len(weight) % block)).unflatten(0, (-1, block))


def block_ends(weight: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, torch.Tensor]:
    """The least and greatest number of each block, zero between them: both [G, M]."""
    blocks = as_blocks(weight, grid)
    return blocks.amin(1).clamp(max=0.0), blocks.amax(1).clamp(min=0.0)


def fake_weight(weight: torch.Tensor, low: torch.Tensor, high: torch.Tensor, grid: Grid, offset: torch.Tensor | None = None) -> torch.Tensor:
    """``weight`` [K, M] on the steps that reach from ``low`` to ``high`` [G, M], after ``offset`` [K, M] steps are added to it; rounding straight through."""
    low, high = low[:, None], high[:, None]
    zero: torch.Tensor | float = 0.0
    if grid.symmetric:
        step = (high / max(grid.high, 1)).maximum(low / grid.low).clamp(min=TINY)
    else:
        step = (high - low).clamp(min=TINY) / (grid.high - grid.low)
        zero = round_through(-low / step)
    blocks = as_blocks(weight, grid)
    if offset is not None:
        blocks = blocks + step * as_blocks(offset, grid)
    found = rounded_on_steps(blocks, step, zero, grid.low, grid.high)
    return found.reshape(weight.shape) if grid.block == -1 else found.reshape(-1, weight.shape[1])[: len(weight)]
