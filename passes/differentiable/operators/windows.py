"""Convolutions and pooling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .call import Call, Operators

if TYPE_CHECKING:
    import torch

__all__ = ["operators"]


@dataclass(frozen=True)
class _Window:
    """A window over the spatial dimensions of an input: all lists have one number for each of them."""

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    before: list[int]
    after: list[int]
    beyond: list[int]
    """How far the last window reaches over the padding, with ceil_mode."""

    @property
    def sides(self) -> list[int]:
        """Padding as torch wants it: last dimension first, before and after."""
        ends = [after + beyond for after, beyond in zip(self.after, self.beyond, strict=True)]
        return [side for pair in zip(reversed(self.before), reversed(ends), strict=True) for side in pair]


def operators() -> Operators:
    """By operator type."""
    import torch
    from torch.nn import functional

    convolve = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
    transposed = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}
    greatest = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
    average = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}

    def conv(call: Call, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        window = _window(call, x, list(weight.shape[2:]))
        padded = functional.pad(x, window.sides) if any(window.sides) else x
        return convolve[x.ndim - 2](padded, weight, bias, window.strides, 0, window.dilations, call.whole("group", 1))

    def conv_transpose(call: Call, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        if call.given("output_shape") or call.text("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            raise call.refuse("output_shape or auto_pad")
        rank = x.ndim - 2
        window = _window(call, x, list(weight.shape[2:]))
        more = call.wholes("output_padding") or [0] * rank
        found = transposed[rank](x, weight, bias, window.strides, 0, more, call.whole("group", 1), window.dilations)
        for axis, (before, after) in enumerate(zip(window.before, window.after, strict=True), 2):
            found = found.narrow(axis, before, found.shape[axis] - before - after)
        return found

    def max_pool(call: Call, x: torch.Tensor) -> torch.Tensor:
        window = _window(call, x, call.wholes("kernel_shape"))
        padded = functional.pad(x, window.sides, value=-torch.inf) if any(window.sides) else x
        return greatest[x.ndim - 2](padded, window.kernel, window.strides, 0, window.dilations)

    def average_pool(call: Call, x: torch.Tensor) -> torch.Tensor:
        window, rank = _window(call, x, call.wholes("kernel_shape")), x.ndim - 2
        if any(dilation > 1 for dilation in window.dilations):
            raise call.refuse("dilations")
        pool = average[rank]
        if not any(window.sides):
            return pool(x, window.kernel, window.strides)
        ones = torch.ones_like(x[:1, :1])
        if call.whole("count_include_pad"):
            inner = [side for pair in zip(reversed(window.before), reversed(window.after), strict=True) for side in pair]
            ones = functional.pad(ones, inner, value=1.0)
            ones = functional.pad(ones, [side for beyond in reversed(window.beyond) for side in (0, beyond)])
        else:
            ones = functional.pad(ones, window.sides)
        return pool(functional.pad(x, window.sides), window.kernel, window.strides) / pool(ones, window.kernel, window.strides)

    return {
        "Conv": conv, "ConvTranspose": conv_transpose, "MaxPool": max_pool, "AveragePool": average_pool,
        "GlobalAveragePool": lambda call, x: x.mean(list(range(2, x.ndim)), keepdim=True),
        "GlobalMaxPool": lambda call, x: x.amax(list(range(2, x.ndim)), keepdim=True),
    }  # fmt: skip


def _window(call: Call, x: torch.Tensor, kernel: list[int]) -> _Window:
    rank, sizes = x.ndim - 2, list(x.shape[2:])
    strides, dilations = call.wholes("strides") or [1] * rank, call.wholes("dilations") or [1] * rank
    pads, how = call.wholes("pads") or [0] * (2 * rank), call.text("auto_pad", "NOTSET")
    before, after = pads[:rank], pads[rank:]
    reach = [dilation * (size - 1) + 1 for dilation, size in zip(dilations, kernel, strict=True)]
    if how in ("SAME_UPPER", "SAME_LOWER"):
        missing = [max((-(-size // stride) - 1) * stride + span - size, 0) for size, stride, span in zip(sizes, strides, reach, strict=True)]
        small, large = [total // 2 for total in missing], [total - total // 2 for total in missing]
        before, after = (small, large) if how == "SAME_UPPER" else (large, small)
    beyond = [0] * rank
    if call.whole("ceil_mode"):
        ends = zip(sizes, before, after, strides, reach, strict=True)
        beyond = [_beyond(size, first, last, stride, span) for size, first, last, stride, span in ends]
    return _Window(kernel, strides, dilations, before, after, beyond)


def _beyond(size: int, before: int, after: int, stride: int, span: int) -> int:
    """How far the last window reaches past the padding; one that would start past the input and its left padding is left out."""
    windows = -(-(size + before + after - span) // stride) + 1
    if (windows - 1) * stride >= size + before:
        windows -= 1
    return max((windows - 1) * stride + span - size - before - after, 0)
