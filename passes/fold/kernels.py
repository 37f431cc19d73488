"""Conv weights as operators on images: composed with one another, and laid on top of one another."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.axes import ints
from ...compiler.core.graph import array, attribute, is_op
from ...compiler.core.reasons import Skip, skip
from .linear import linear


@dataclass(frozen=True)
class Kernel:
    """What a Conv does: ``weight`` [outputs, inputs / group, taps...] and ``bias`` in double precision, begin and end padding by spatial dim."""

    weight: np.ndarray
    bias: np.ndarray
    group: int
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]

    @property
    def taps(self) -> tuple[int, ...]:
        """The size of the window."""
        return self.weight.shape[2:]

    @property
    def channels(self) -> tuple[int, int]:
        """(inputs, outputs)"""
        return self.weight.shape[1] * self.group, self.weight.shape[0]

    @property
    def cost(self) -> int:
        """Multiplications for each place of the result."""
        return self.weight.size

    @property
    def is_pointwise(self) -> bool:
        """Whether each place of the result reads one place."""
        return all(size == 1 for size in self.taps) and not any((*self.begins, *self.ends))

    def attributes(self) -> dict[str, object]:
        """As a Conv states them."""
        return {
            "group": self.group,
            "strides": list(self.strides),
            "dilations": list(self.dilations),
            "pads": [*self.begins, *self.ends],
            "kernel_shape": list(self.taps),
            "auto_pad": None,
        }

    def scaled(self, factors: np.ndarray, added: np.ndarray) -> Kernel:
        """With its result multiplied and then added to, by channel."""
        factors = np.broadcast_to(factors, self.bias.shape)
        weight = self.weight * factors.reshape(-1, *(1,) * len(self.taps), 1)
        return Kernel(weight, self.bias * factors + added, self.group, self.strides, self.dilations, self.begins, self.ends)


def kernel(node: ir.Node) -> Kernel | None:
    """The kernel of a Conv by constants, when its padding does not depend on the size of the image."""
    item = linear(node)
    if item is None or not is_op(node, "Conv"):
        return None
    pads = _pads(node, item.shape[2:])
    if pads is None:
        return None
    weight = item.weight.astype(np.float64)
    bias = array(item.bias)
    wide = np.zeros(weight.shape[0]) if bias is None else bias.astype(np.float64)
    spatial = weight.ndim - 2
    return Kernel(weight, wide, item.group, ints(node, "strides", (1,) * spatial), ints(node, "dilations", (1,) * spatial), pads[:spatial], pads[spatial:])


def _pads(node: ir.Node, taps: tuple[int, ...]) -> tuple[int, ...] | None:
    """The padding, begins then ends; None where a step of more than one makes that to keep the size depend on the size."""
    auto = attribute(node, "auto_pad", "NOTSET")
    if auto == "VALID":
        return (0,) * 2 * len(taps)
    if auto == "NOTSET":
        return ints(node, "pads", (0,) * 2 * len(taps))
    if any(step != 1 for step in ints(node, "strides", (1,) * len(taps))):
        return None
    totals = [(size - 1) * apart for size, apart in zip(taps, ints(node, "dilations", (1,) * len(taps)), strict=True)]
    lesser, greater = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return (*lesser, *greater) if auto == "SAME_UPPER" else (*greater, *lesser)


def identity(channels: int, like: Kernel, factors: np.ndarray, added: np.ndarray) -> Kernel:
    """The kernel that hands every channel on, times ``factors`` plus ``added``, in as many groups as ``like``."""
    group = like.group if channels % like.group == 0 else 1
    each = channels // group
    weight = np.tile(np.eye(each), (group, 1)).reshape(channels, each, *(1,) * len(like.taps))
    spatial = len(like.taps)
    plain = Kernel(weight, np.zeros(channels), group, (1,) * spatial, (1,) * spatial, (0,) * spatial, (0,) * spatial)
    return plain.scaled(factors, added)


def regrouped(item: Kernel, group: int) -> Kernel:
    """The same kernel in fewer groups; ``group`` divides the number that there are."""
    if group == item.group:
        return item
    parts = item.group // group
    outputs, inputs = item.weight.shape[0] // item.group, item.weight.shape[1]
    weight = np.zeros((group, parts, outputs, parts, inputs, *item.taps))
    source = item.weight.reshape(group, parts, outputs, inputs, *item.taps)
    for part in range(parts):
        weight[:, part, :, part] = source[:, part]
    shape = (item.weight.shape[0], parts * inputs, *item.taps)
    return Kernel(weight.reshape(shape), item.bias, group, item.strides, item.dilations, item.begins, item.ends)


def composed(first: Kernel, second: Kernel) -> Kernel | Skip:
    """The kernel of ``second`` after ``first``, one of which reads a single place."""
    group = math.gcd(first.group, second.group)
    inner, outer = regrouped(first, group), regrouped(second, group)
    if second.is_pointwise:
        strides = tuple(a * b for a, b in zip(first.strides, second.strides, strict=True))
        weight, bias = _product(outer, inner, group), _through(second, first.bias) + second.bias
        return Kernel(weight, bias, group, strides, first.dilations, first.begins, first.ends)
    if not first.is_pointwise or any(step != 1 for step in first.strides):
        return skip("neither reads only one place of the image")
    if first.bias.any() and any((*second.begins, *second.ends)):
        return skip("the bias of the first does not reach the padding of the second")
    weight, bias = _product(outer, inner, group), _through(second, first.bias) + second.bias
    return Kernel(weight, bias, group, second.strides, second.dilations, second.begins, second.ends)


def _product(outer: Kernel, inner: Kernel, group: int) -> np.ndarray:
    """W[o, i, k] = sum over m of outer[o, m, k] inner[m, i, k], where one of them has a single tap."""
    left = outer.weight.reshape(group, -1, outer.weight.shape[1], math.prod(outer.taps))
    right = inner.weight.reshape(group, -1, inner.weight.shape[1], math.prod(inner.taps))
    taps = outer.taps if len(left[0, 0, 0]) > 1 else inner.taps
    made = np.einsum("gomk,gmil->goikl", left, right)
    return made.reshape(outer.weight.shape[0], inner.weight.shape[1], *taps)


def _through(second: Kernel, bias: np.ndarray) -> np.ndarray:
    """What a constant in every place and channel that ``second`` reads adds to its result."""
    taps = second.weight.reshape(second.group, -1, second.weight.shape[1], math.prod(second.taps)).sum(axis=-1)
    return (taps @ bias.reshape(second.group, -1, 1)).reshape(-1)


def summed(first: Kernel, second: Kernel) -> Kernel | Skip:
    """The kernel whose result is the sum of both results."""
    if first.strides != second.strides:
        return skip("they step by %s and %s", first.strides, second.strides)
    if first.channels != second.channels:
        return skip("they take and make %s and %s channels", first.channels, second.channels)
    group = math.gcd(first.group, second.group)
    frames = [_frame(first, second, axis) for axis in range(len(first.taps))]
    if any(frame is None for frame in frames):
        return skip("the windows %s and %s do not lie on one grid", first.taps, second.taps)
    known = [frame for frame in frames if frame is not None]
    taps = tuple(frame.size for frame in known)
    weight = np.zeros((first.weight.shape[0], first.channels[0] // group, *taps))
    for index, item in enumerate((first, second)):
        part = regrouped(item, group)
        place = tuple(slice(frame.offsets[index], frame.offsets[index] + size) for frame, size in zip(known, item.taps, strict=True))
        weight[(slice(None), slice(None), *place)] += part.weight
    dilations, begins, ends = (tuple(getattr(frame, name) for frame in known) for name in ("dilation", "begin", "end"))
    return Kernel(weight, first.bias + second.bias, group, first.strides, dilations, begins, ends)


@dataclass(frozen=True)
class _Frame:
    """One spatial dim of the window that holds two windows, and where they start in it."""

    size: int
    dilation: int
    begin: int
    end: int
    offsets: tuple[int, int]


def _frame(first: Kernel, second: Kernel, axis: int) -> _Frame | None:
    sizes = first.taps[axis], second.taps[axis]
    apart = {item.dilations[axis] for item in (first, second) if item.taps[axis] > 1}
    if len(apart) > 1:
        return None
    dilation = apart.pop() if apart else 1
    begins = first.begins[axis], second.begins[axis]
    lost = [(size - 1) * dilation - item.begins[axis] - item.ends[axis] for size, item in zip(sizes, (first, second), strict=True)]
    begin = max(begins)
    if lost[0] != lost[1] or any((begin - own) % dilation for own in begins):
        return None
    offsets = (begin - begins[0]) // dilation, (begin - begins[1]) // dilation
    size = max(offset + own for offset, own in zip(offsets, sizes, strict=True))
    end = (size - 1) * dilation - lost[0] - begin
    return _Frame(size, dilation, begin, end, offsets) if end >= 0 else None
