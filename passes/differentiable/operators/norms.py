"""Normalisations, as they are at inference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .call import Call, Operators

if TYPE_CHECKING:
    import torch

__all__ = ["operators"]


def operators() -> Operators:
    """By operator type."""
    import torch
    from torch.nn import functional

    def batch(call: Call, x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
        if call.whole("training_mode"):
            raise call.refuse("the training mode")
        factor = scale / torch.sqrt(variance + call.number("epsilon"))
        return x * _per_channel(factor, x) + _per_channel(bias - mean * factor, x)

    def layer(call: Call, x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        dims = list(range(call.whole("axis", -1) % x.ndim, x.ndim))
        if len(call.node.outputs) == 1 and tuple(scale.shape) == tuple(x.shape[dims[0] :]) and (bias is None or bias.shape == scale.shape):
            return functional.layer_norm(x, tuple(scale.shape), scale, bias, call.number("epsilon", 1e-5))
        centred = x - x.mean(dims, keepdim=True)
        found = centred * torch.rsqrt(centred.square().mean(dims, keepdim=True) + call.number("epsilon", 1e-5)) * scale
        return found if bias is None else found + bias

    def root(call: Call, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        dims = list(range(call.whole("axis", -1) % x.ndim, x.ndim))
        return x * torch.rsqrt(x.square().mean(dims, keepdim=True) + call.number("epsilon", 1e-5)) * scale

    def group(call: Call, x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        groups = call.whole("num_groups")
        if len(scale) != x.shape[1]:  # Before operator set 21 there is one number for each group.
            scale, bias = (part.repeat_interleave(x.shape[1] // groups) for part in (scale, bias))
        return functional.group_norm(x, groups, scale, bias, call.number("epsilon", 1e-5))

    def instance(call: Call, x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return functional.instance_norm(x, weight=scale, bias=bias, eps=call.number("epsilon", 1e-5))

    def length(call: Call, x: torch.Tensor) -> torch.Tensor:
        return x / torch.linalg.vector_norm(x, ord=call.whole("p", 2), dim=call.whole("axis", -1), keepdim=True)

    def local(call: Call, x: torch.Tensor) -> torch.Tensor:
        size = call.whole("size")
        if size % 2 == 0:
            raise call.refuse("an even size")
        sides = [0, 0] * (x.ndim - 2) + [(size - 1) // 2, size // 2]
        sums = functional.pad(x.square(), sides).unfold(1, size, 1).sum(-1)
        return x / (call.number("bias", 1.0) + call.number("alpha", 1e-4) / size * sums) ** call.number("beta", 0.75)

    return {
        "LRN": local, "BatchNormalization": batch, "LayerNormalization": layer, "RMSNormalization": root, "SimplifiedLayerNormalization": root,
        "GroupNormalization": group, "InstanceNormalization": instance, "LpNormalization": length,
    }  # fmt: skip


def _per_channel(numbers: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return numbers.reshape(1, -1, *[1] * (x.ndim - 2))
