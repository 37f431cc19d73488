"""Rounding that lets gradients through (Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons", 2013)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["round_through", "rounded_between", "rounded_on_steps", "sign_through"]

TINY = 1e-30


def round_through(x: torch.Tensor) -> torch.Tensor:
    """The nearest whole numbers, halves to even; the gradient is that of ``x``."""
    return x + (x.round() - x).detach()


def sign_through(x: torch.Tensor) -> torch.Tensor:
    """1 where ``x`` is not negative, else -1; the gradient is that of ``x`` where ``|x| <= 1``, else zero."""
    passed = x.clamp(-1.0, 1.0)
    return passed + ((x >= 0).to(x.dtype) * 2 - 1 - passed).detach()


def rounded_on_steps(x: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor | float, low: int, high: int) -> torch.Tensor:
    """``scale (clip(round(x / scale) + zero, low, high) - zero)``; all broadcast.

    The gradient goes to ``x`` where it is not clipped, and to ``scale`` and ``zero`` as in "Learned Step Size Quantization" (Esser et al., ICLR 2020).
    """
    return scale * ((round_through(x / scale) + zero).clamp(low, high) - zero)


def rounded_between(x: torch.Tensor, low: torch.Tensor, high: torch.Tensor, bits: int, symmetric: bool) -> torch.Tensor:
    """``x`` on 2^bits steps from ``low`` to ``high`` (broadcast against it), as `activation.rounded_between`; both ends may be learned."""
    low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    if symmetric:
        most = 2 ** (bits - 1) - 1
        scale = (-low).maximum(high).clamp(min=TINY) / most
        return rounded_on_steps(x, scale, 0.0, -most, most)
    scale = (high - low).clamp(min=TINY) / (2**bits - 1)
    return rounded_on_steps(x, scale, round_through(-low / scale), 0, 2**bits - 1)
