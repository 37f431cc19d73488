"""The numbers behind the constants of a graph while they are learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import onnx_ir as ir

from ...compiler.core.graph import constant
from ..differentiable.operators.call import Call
from ..differentiable.operators.rounding import spread
from ..differentiable.straight_through import round_through
from .learnable import Learnable

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]

__all__ = ["Latent", "Student"]

TINY = 1e-12
LEAST = 0.1
"""A tensor of small numbers, a bias say, moves as if they were this part of what those of the weights are."""
CLIPPED = 1e-3
"""A scale does not fall below this part of what it was."""


class Latent(Protocol):
    """One constant: the tensors that are learned for it, and the constant that they make."""

    item: Learnable

    def tensors(self) -> list[torch.Tensor]:
        """What is learned."""
        ...

    def make(self, made: Tensors) -> torch.Tensor:
        """The constant; ``made`` has those made before it by name."""
        ...


@dataclass
class Weight:
    """A constant of numbers: ``start``, or what takes its place, times the mask."""

    item: Learnable
    start: torch.Tensor
    mask: torch.Tensor | None
    dtype: torch.dtype

    def tensors(self) -> list[torch.Tensor]:
        """As `Latent.tensors`."""
        return [self.start]

    def make(self, made: Tensors) -> torch.Tensor:
        """As `Latent.make`."""
        found = self.start if self.mask is None else self.start * self.mask
        return found.to(self.dtype)


@dataclass
class LowRank:
    """W + U V, U [first, rank] and V [rank, the rest] (Hu et al., "LoRA", ICLR 2022, equation 3, its factor in the rate); V starts at zero."""

    item: Learnable
    start: torch.Tensor
    mask: torch.Tensor | None
    dtype: torch.dtype
    up: torch.Tensor
    down: torch.Tensor

    def tensors(self) -> list[torch.Tensor]:
        """As `Latent.tensors`."""
        return [self.up, self.down]

    def make(self, made: Tensors) -> torch.Tensor:
        """As `Latent.make`."""
        found = self.start + (self.up @ self.down).reshape(self.start.shape)
        return (found if self.mask is None else found * self.mask).to(self.dtype)


@dataclass
class Scale:
    """A step size, which stays above zero (Esser et al., "Learned Step Size Quantization", ICLR 2020)."""

    item: Learnable
    start: torch.Tensor
    least: torch.Tensor

    def tensors(self) -> list[torch.Tensor]:
        """As `Latent.tensors`."""
        return [self.start]

    def make(self, made: Tensors) -> torch.Tensor:
        """As `Latent.make`."""
        return self.start.maximum(self.least)


@dataclass
class Codes:
    """Whole numbers behind which lie numbers: ``start`` counts in ``steps`` (1: in codes). Rounding lets gradients through to both."""

    item: Learnable
    start: torch.Tensor
    low: int
    high: int
    zero: torch.Tensor | float = 0.0

    def tensors(self) -> list[torch.Tensor]:
        """As `Latent.tensors`."""
        return [self.start]

    def make(self, made: Tensors) -> torch.Tensor:
        """As `Latent.make`."""
        node = self.item.node
        if node.op_type == "Cast":
            return round_through(self.start).clamp(self.low, self.high)
        scale = node.inputs[1]
        assert scale is not None
        return (round_through(self.start / spread(Call(node), self.start, made[scale.name or ""])) + self.zero).clamp(self.low, self.high)


@dataclass
class BiasCodes:
    """A bias in int32, in steps that other constants say."""

    item: Learnable
    start: torch.Tensor

    def tensors(self) -> list[torch.Tensor]:
        """As `Latent.tensors`."""
        return [self.start]

    def steps(self, made: Tensors) -> torch.Tensor:
        """The size of a step, of all or of each channel."""
        data, weight = (made[name] for name in self.item.steps)
        return data * weight

    def make(self, made: Tensors) -> torch.Tensor:
        """As `Latent.make`."""
        return round_through(self.start / self.steps(made))


@dataclass
class Student:
    """Every learnable constant of a graph. ``constants`` are those of the graph, on the device; with a ``rank``, weights only get differences of that rank."""

    items: list[Learnable]
    constants: Mapping[str, torch.Tensor]
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)
    rank: int = 0
    seed: int = 0
    latents: list[Latent] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        import torch

        self._random = torch.Generator().manual_seed(self.seed)
        order = {"scale": 0, "weight": 1, "vector": 1, "codes": 1, "bias codes": 2}
        self.latents = [self._latent(item) for item in sorted(self.items, key=lambda item: order[item.kind])]

    def _latent(self, item: Learnable) -> Latent:
        import torch

        held = self.constants[item.name]
        if item.kind == "scale":
            return Scale(item, held.clone(), held.abs() * CLIPPED)
        if item.kind == "bias codes":
            found = BiasCodes(item, held.float())
            found.start = found.start * found.steps(dict(self.constants)).reshape(-1)
            return found
        if item.kind == "codes":
            return self._codes(item, held)
        mask = torch.from_numpy(self.masks[item.name]).to(held.device, torch.float32) if item.name in self.masks else None
        start = held.to(torch.float32).clone()
        if self.rank and item.kind == "weight" and start.ndim > 1 and min(len(start), start[0].numel()) > self.rank:
            up = torch.randn(len(start), self.rank, generator=self._random).to(held.device) / self.rank**0.5
            return LowRank(item, start, mask, held.dtype, up, torch.zeros(self.rank, start[0].numel(), device=held.device))
        return Weight(item, start, mask, held.dtype)

    def _codes(self, item: Learnable, held: torch.Tensor) -> Codes:
        import torch

        codes, node = held.to(torch.float32), item.node
        low, high = int(codes.min()), int(codes.max())  # Formats that keep to fewer bits than the type has do so for the kernels' sake.
        if node.op_type == "Cast":
            return Codes(item, codes, low, high)
        named = [value.name or "" if value is not None else "" for value in (*node.inputs, None)][:3]
        zero = spread(Call(node), codes, self.constants[named[2]].to(torch.float32)) if named[2] else 0.0
        return Codes(item, (codes - zero) * spread(Call(node), codes, self.constants[named[1]]), low, high, zero)

    def rates(self, rate: float) -> list[tuple[torch.Tensor, float]]:
        """What is learned, each with its step: ``rate`` times the usual size of its numbers."""
        sizes = [float(latent.tensors()[0].detach().square().mean().sqrt()) for latent in self.latents if latent.item.kind == "weight"]
        floor = LEAST * float(np.median(sizes)) if sizes else TINY
        found = []
        for latent in self.latents:
            if isinstance(latent, LowRank):
                size = float(latent.start.square().mean().sqrt())
                found.extend([(latent.up, rate), (latent.down, rate * max(size, floor))])
                continue
            (tensor,) = latent.tensors()
            size = float(tensor.detach().square().mean().sqrt())
            found.append((tensor, rate * (size if latent.item.kind in ("scale", "codes") else max(size, floor, TINY))))
        return found

    def make(self) -> Tensors:
        """All constants that are learned, as the graph takes them."""
        made: Tensors = dict(self.constants)
        own: Tensors = {}
        for latent in self.latents:
            own[latent.item.name] = made[latent.item.name] = latent.make(made)
        for latent in self.latents:
            if isinstance(latent, BiasCodes) and (scale := latent.item.node.inputs[1]) is not None:
                own[scale.name or ""] = latent.steps(made).reshape(made[scale.name or ""].shape)
        return own

    def state(self) -> list[torch.Tensor]:
        """A copy of everything that is learned."""
        return [tensor.detach().clone() for latent in self.latents for tensor in latent.tensors()]

    def restore(self, state: list[torch.Tensor]) -> None:
        """Go back to a copy."""
        import torch

        with torch.no_grad():
            for tensor, kept in zip((tensor for latent in self.latents for tensor in latent.tensors()), state, strict=True):
                tensor.copy_(kept)

    def fold(self, model: ir.Model) -> None:
        """Write what was learned into the graph: to the bit what `make` gives."""
        import torch

        with torch.no_grad():
            made = self.make()
        for name, tensor in made.items():
            value = model.graph.initializers[name]
            old = constant(value)
            assert old is not None
            value.const_value = ir.tensor(tensor.detach().float().cpu().numpy().astype(old.dtype.numpy()), dtype=old.dtype, name=name)
