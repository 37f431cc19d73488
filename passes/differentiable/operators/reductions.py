"""Sums, means, extremes and normalisations over axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .call import Call, Operator, Operators, numbers

if TYPE_CHECKING:
    import torch

    Reduce = Callable[[torch.Tensor, list[int], bool], torch.Tensor]

__all__ = ["operators"]


def operators() -> Operators:
    """By operator type."""
    import torch

    def product(x: torch.Tensor, dims: list[int], keep: bool) -> torch.Tensor:
        for dim in sorted((dim % x.ndim for dim in dims), reverse=True):
            x = x.prod(dim, keepdim=keep)
        return x

    def soft(function: Callable[..., torch.Tensor]) -> Operator:
        def run(call: Call, x: torch.Tensor) -> torch.Tensor:
            if call.version >= 13:
                return function(x, dim=call.whole("axis", -1))
            axis = call.whole("axis", 1) % x.ndim
            return function(x.flatten(axis), dim=-1).reshape(x.shape) if axis < x.ndim else x

        return run

    def extreme(function: Callable[..., torch.Tensor]) -> Operator:
        def run(call: Call, x: torch.Tensor) -> torch.Tensor:
            if call.whole("select_last_index"):
                raise call.refuse("the last of equal indices")
            return function(x, dim=call.whole("axis"), keepdim=bool(call.whole("keepdims")))

        return run

    def running(call: Call, x: torch.Tensor, axis: torch.Tensor) -> torch.Tensor:
        dim = numbers(axis)[0]
        turned = x.flip(dim) if call.whole("reverse") else x
        found = turned.cumsum(dim) - (turned if call.whole("exclusive") else 0)
        return found.flip(dim) if call.whole("reverse") else found

    def topk(call: Call, x: torch.Tensor, k: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(torch.topk(x, numbers(k)[0], call.whole("axis", -1), largest=bool(call.whole("largest", 1)), sorted=True))

    return {
        "ReduceSum": _over(lambda x, dims, keep: x.sum(dims, keepdim=keep)),
        "ReduceMean": _over(lambda x, dims, keep: x.mean(dims, keepdim=keep)),
        "ReduceMax": _over(lambda x, dims, keep: x.amax(dims, keepdim=keep)),
        "ReduceMin": _over(lambda x, dims, keep: x.amin(dims, keepdim=keep)),
        "ReduceProd": _over(product),
        "ReduceL1": _over(lambda x, dims, keep: x.abs().sum(dims, keepdim=keep)),
        "ReduceL2": _over(lambda x, dims, keep: torch.linalg.vector_norm(x, dim=dims, keepdim=keep)),
        "ReduceSumSquare": _over(lambda x, dims, keep: x.square().sum(dims, keepdim=keep)),
        "ReduceLogSum": _over(lambda x, dims, keep: x.sum(dims, keepdim=keep).log()),
        "ReduceLogSumExp": _over(lambda x, dims, keep: x.logsumexp(dims, keepdim=keep)),
        "Softmax": soft(torch.softmax), "LogSoftmax": soft(torch.log_softmax),
        "ArgMax": extreme(torch.argmax), "ArgMin": extreme(torch.argmin), "CumSum": running, "TopK": topk,
    }  # fmt: skip


def _over(function: Reduce) -> Operator:
    """A reduction over the axes that an input or an attribute names; over all when none are named."""

    def run(call: Call, x: torch.Tensor, axes: torch.Tensor | None = None) -> torch.Tensor:
        dims = call.wholes("axes") if call.given("axes") else numbers(axes)
        if not dims and call.whole("noop_with_empty_axes"):
            return x
        dims = dims or list(range(x.ndim))
        return function(x, dims, bool(call.whole("keepdims", 1))) if dims else x

    return run
