"""Adam (Kingma & Ba, ICLR 2015), for a few tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["Adam"]

MOMENTUM, SPREAD, TINY = 0.9, 0.999, 1e-12


class Adam:
    """Learns tensors, each at a rate of its own. (torch's own optimisers load its compiler when the first is made, which takes seconds.)"""

    def __init__(self, rates: Sequence[tuple[torch.Tensor, float]]) -> None:
        import torch

        self._rates = [(tensor.requires_grad_(), rate) for tensor, rate in rates]
        self._first = [torch.zeros_like(tensor) for tensor, _ in rates]
        self._second = [torch.zeros_like(tensor) for tensor, _ in rates]
        self._steps = 0

    def step(self, loss: torch.Tensor, pace: float = 1.0) -> None:
        """One step down the gradient of ``loss``, ``pace`` times as long as the rates say."""
        import torch

        slopes = torch.autograd.grad(loss, [tensor for tensor, _ in self._rates], allow_unused=True)
        self._steps += 1
        with torch.no_grad():
            for (tensor, rate), slope, first, second in zip(self._rates, slopes, self._first, self._second, strict=True):
                if slope is None:
                    continue
                first.lerp_(slope, 1 - MOMENTUM)
                second.lerp_(slope.square(), 1 - SPREAD)
                size = (second / (1 - SPREAD**self._steps)).sqrt() + TINY
                tensor -= pace * rate / (1 - MOMENTUM**self._steps) * first / size

    def moments(self) -> list[torch.Tensor]:
        """What it remembers of the gradients: the first moments of all tensors, then the second."""
        return [*self._first, *self._second]

    def resume(self, moments: Sequence[torch.Tensor], steps: int) -> None:
        """Go on as one that has taken so many steps and remembers these moments."""
        for own, kept in zip(self.moments(), moments, strict=True):
            own.copy_(kept)
        self._steps = steps

    @property
    def steps(self) -> int:
        """How many it has taken."""
        return self._steps
