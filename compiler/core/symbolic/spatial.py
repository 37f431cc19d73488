"""Shapes of convolutions and pools, whose spatial sizes may be symbols."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from .. import dims
from ..dims import UNKNOWN, Dim
from ..graph import attribute
from .attributes import int_attribute, ints_attribute
from .reading import Dims, shape_at

Shapes = Sequence[Dims | None]


def convolution(data_at: int, weight_at: int, channels_last: bool = False) -> Callable[[ir.Node], Shapes]:
    """The rule of a convolution whose data and weight are at these inputs."""

    def rule(node: ir.Node) -> Shapes:
        data, weight = shape_at(node, data_at), shape_at(node, weight_at)
        if data is None or len(data) < 3:
            return [None]
        channels = UNKNOWN if weight is None else weight[0]
        kernel = ints_attribute(node, "kernel_shape") or (None if weight is None else weight[2:])
        spatial = data[1:-1] if channels_last else data[2:]
        sizes = windows(node, spatial, kernel, ceil=False)
        return [(data[0], *sizes, channels) if channels_last else (data[0], channels, *sizes)]

    return rule


def pool(data_at: int = 0) -> Callable[[ir.Node], Shapes]:
    """The rule of a pool over windows, with or without a second output of indices."""

    def rule(node: ir.Node) -> Shapes:
        data = shape_at(node, data_at)
        if data is None or len(data) < 3:
            return [None] * len(node.outputs)
        channels_last = bool(int_attribute(node, "channels_last"))
        spatial = data[1:-1] if channels_last else data[2:]
        sizes = windows(node, spatial, ints_attribute(node, "kernel_shape"), ceil=bool(int_attribute(node, "ceil_mode")))
        result = (data[0], *sizes, data[-1]) if channels_last else (*data[:2], *sizes)
        return [result] * len(node.outputs)

    return rule


def global_pool(data_at: int = 0) -> Callable[[ir.Node], Shapes]:
    """The rule of a pool over everything."""

    def rule(node: ir.Node) -> Shapes:
        data = shape_at(node, data_at)
        if data is None or len(data) < 3:
            return [None]
        ones = (1,) * (len(data) - 2)
        return [(data[0], *ones, data[-1]) if int_attribute(node, "channels_last") else (*data[:2], *ones)]

    return rule


def windows(node: ir.Node, spatial: Dims, kernel: Sequence[Dim] | None, ceil: bool) -> Dims:
    """How many windows fit along each spatial axis."""
    rank = len(spatial)
    if kernel is None or len(kernel) != rank:
        return (UNKNOWN,) * rank
    strides = ints_attribute(node, "strides") or (1,) * rank
    dilations = ints_attribute(node, "dilations") or (1,) * rank
    padding = attribute(node, "auto_pad", "NOTSET")
    if padding in ("SAME_UPPER", "SAME_LOWER"):
        return tuple(map(dims.ceil_divide, spatial, strides))
    pads = (0,) * (2 * rank) if padding == "VALID" else ints_attribute(node, "pads") or (0,) * (2 * rank)
    if not len(strides) == len(dilations) == rank or len(pads) != 2 * rank:
        return (UNKNOWN,) * rank
    return tuple(_count(spatial[i], kernel[i], strides[i], dilations[i], pads[i], pads[i + rank], ceil) for i in range(rank))


def _count(size: Dim, kernel: Dim, stride: int, dilation: int, before: int, after: int, ceil: bool) -> Dim:
    reach = dims.add(dims.multiply(dims.subtract(kernel, 1), dilation), 1)
    room = dims.subtract(dims.add(size, before + after), reach)
    if not ceil:
        return dims.add(dims.floor_divide(room, stride), 1)
    if not (isinstance(room, int) and isinstance(size, int)):
        return UNKNOWN
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= size + before else count


def transposed_convolution(node: ir.Node) -> Shapes:
    """ConvTranspose."""
    data, weight = shape_at(node, 0), shape_at(node, 1)
    if data is None or len(data) < 3:
        return [None]
    rank = len(data) - 2
    channels = UNKNOWN if weight is None else dims.multiply(weight[1], int_attribute(node, "group", 1))
    given = ints_attribute(node, "output_shape")
    if given is not None and len(given) >= rank:
        return [(data[0], channels, *given[-rank:])]
    kernel = ints_attribute(node, "kernel_shape") or (None if weight is None else weight[2:])
    if kernel is None or len(kernel) != rank:
        return [(data[0], channels, *(UNKNOWN,) * rank)]
    return [(data[0], channels, *_spread(node, data[2:], kernel))]


def _spread(node: ir.Node, spatial: Dims, kernel: Sequence[Dim]) -> Dims:
    rank = len(spatial)
    strides = ints_attribute(node, "strides") or (1,) * rank
    dilations = ints_attribute(node, "dilations") or (1,) * rank
    extra = ints_attribute(node, "output_padding") or (0,) * rank
    padding = attribute(node, "auto_pad", "NOTSET")
    if padding in ("SAME_UPPER", "SAME_LOWER"):
        return tuple(map(dims.multiply, spatial, strides))
    pads = (0,) * (2 * rank) if padding == "VALID" else ints_attribute(node, "pads") or (0,) * (2 * rank)
    if not len(strides) == len(dilations) == len(extra) == rank or len(pads) != 2 * rank:
        return (UNKNOWN,) * rank
    return tuple(
        dims.add(
            dims.multiply(dims.subtract(spatial[i], 1), strides[i]),
            dims.add(dims.multiply(dims.subtract(kernel[i], 1), dilations[i]), 1 + extra[i] - pads[i] - pads[i + rank]),
        )
        for i in range(rank)
    )
