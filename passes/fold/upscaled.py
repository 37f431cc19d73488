"""Convs of one pixel behind images that were made larger: they are cheaper in front of that (decoders of SegFormer, HRNet, DeepLab)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import attribute, is_op, producer
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from ...compiler.core.shapes import dims_of
from .linear import Linear, is_shared, linear, pads_zeros
from .readers import only_reader
from .resizing import keeps_constants, resizes_images

RESIZING = 8
"""Operations for each element that is made by resizing."""
ADDING = 4
"""Operations as long as it takes to add a stored element."""
SMALL = "float[N,4,2,2] x, float[N,1,8,8] z"
WEIGHTS = "float[2,5,1,1] w = {1,2,3,4,5,6,7,8,9,1}, float[2] b = {1,2}, float[4] s = {1,1,4,4}"


@dataclass(frozen=True)
class Part:
    """A stretch of the channels that a Conv reads: ``value``, or ``value`` made larger by ``resize``."""

    value: ir.Value
    start: int
    size: int
    resize: ir.Node | None = None


@rule(
    "Conv",
    drift=ROUNDING,
    opset=18,
    examples=[
        f"g ({SMALL}) => (float[N,2,8,8] y) <{WEIGHTS}> {{ a = Resize<mode=\"linear\">(x, , s) c = Concat<axis=1>(z, a) y = Conv(c, w, b) }}",
        "g (float[N,4,2,2] x, float[N,1,4,4] z) => (float[N,2,8,8] y) <float[2,5,1,1] w = {1,2,3,4,5,6,7,8,9,1}, float[2] b = {1,2},"
        " float[4] s = {1,1,4,4}, int64[2] t = {8,8}>"
        " { a = Resize(x, , s) d = Resize<mode=\"linear\", axes=[2,3]>(z, , , t) c = Concat<axis=1>(a, d) y = Conv(c, w, b) }",
        "g (float[2,4,2,2] x) => (float[2,1,8,8] y) <float[1,4,1,1] w = {1,2,3,4}, int64[4] t = {2,4,8,8}>"
        " { a = Resize<mode=\"linear\", coordinate_transformation_mode=\"align_corners\">(x, , , t) y = Conv(a, w) }",
    ],
    leaves=[
        "g (float[2,4,2,2] x) => (float[4,1,8,8] y) <float[1,4,1,1] w = {1,2,3,4}, int64[4] t = {4,4,8,8}> { a = Resize(x, , , t) y = Conv(a, w) }",
        "g (float[N,4,8,8] x) => (float[N,1,2,2] y) <float[1,4,1,1] w = {1,2,3,4}, float[4] s = {1,1,0.25,0.25}> { a = Resize(x, , s) y = Conv(a, w) }",
        "g (float[N,1,2,2] x) => (float[N,4,8,8] y) <float[4,1,1,1] w = {1,2,3,4}, float[4] s = {1,1,4,4}> { a = Resize(x, , s) y = Conv(a, w) }",
        "g (float[N,4,2,2] x, float[1,4,3,3] w) => (float[N,1,8,8] y) <float[4] s = {1,1,4,4}>"
        " { a = Resize(x, , s) y = Conv<pads=[1,1,1,1]>(a, w) }",
        "g (float[N,4,2,2] x) => (float[N,1,8,8] y, float[N,4,8,8] u) <float[1,4,1,1] w = {1,2,3,4}, float[4] s = {1,1,4,4}>"
        " { a = Resize(x, , s) y = Conv(a, w) u = Relu(a) }",
        "g (float[N,4,2,2] x) => (float[N,1,8,8] y) <float[1,4,1,1] w = {1,2,3,4}, float[4] s = {1,1,4,4}, float[8] r = {0,0,0,0,1,1,2,2}>"
        " { a = Resize<mode=\"linear\", coordinate_transformation_mode=\"tf_crop_and_resize\", extrapolation_value=3.0>(x, r, s) y = Conv(a, w) }",
    ],
)
def convolve_before_resize(op: Build, m: Match) -> Result:
    """Conv1x1(Concat(z, Resize(x)), [v w]) -> Conv1x1(z, v) + Resize(Conv1x1(x, w)) where that multiplies less"""
    item, shape = linear(m.root), static_tail(m.root.outputs[0])
    if item is None or shape is None or not _reads_one_pixel(item) or is_shared(item):
        return None
    found = _parts(item)
    if found is None or not any(part.resize for part in found):
        return None
    pixels = math.prod(shape)
    saved = sum(part.size * item.shape[0] * (pixels - _pixels(part)) for part in found if part.resize)
    spent = sum((item.shape[0] - part.size) * pixels * RESIZING for part in found if part.resize) + len(found) * item.shape[0] * pixels * ADDING
    if saved <= spent:
        return skip("it saves %s multiplications, and costs about %s operations", saved, spent)
    for node in _between(item):
        m.take(node)
    return _summed(op, item, found)


def _summed(op: Build, item: Linear, found: list[Part]) -> ir.Value | Skip:
    """The parts convolved one by one, the larger ones all at once, and added up."""
    plain = [part for part in found if part.resize is None]
    resized = [part for part in found if part.resize is not None]
    bias = item.bias
    terms: list[ir.Value] = []
    if plain:
        data = plain[0].value if len(plain) == 1 else op.Concat(*(part.value for part in plain), axis=1)
        terms.append(_convolved(op, item, data, plain, bias))  # type: ignore[arg-type]
    else:
        resized.sort(key=lambda part: not keeps_constants(part.resize))
        if bias is not None and not keeps_constants(resized[0].resize):
            return skip("resizing does not keep the bias")
    for index, part in enumerate(resized):
        small = _convolved(op, item, part.value, [part], bias if not plain and index == 0 else None)
        terms.append(_resized(op, part, small, item.shape[0]))
    total = terms[0]
    for term in terms[1:]:
        total = op.Add(total, term)  # type: ignore[assignment]
    return total


def _convolved(op: Build, item: Linear, data: ir.Value, parts: list[Part], bias: ir.Value | None) -> ir.Value:
    weight = np.concatenate([item.weight[:, part.start : part.start + part.size] for part in parts], axis=1)
    return op.like(item.node, data, op.const(weight, "weight"), bias)  # type: ignore[return-value]


def _resized(op: Build, part: Part, small: ir.Value, channels: int) -> ir.Value:
    """As ``part`` is; sizes that name the channels are cut down to those of the image."""
    node = part.resize
    assert node is not None
    sizes = node.inputs[3] if len(node.inputs) > 3 else None
    if sizes is None or "axes" in node.attributes or part.size == channels:
        return op.like(node, small, *node.inputs[1:])  # type: ignore[return-value]
    rank = len(dims_of(node.inputs[0]) or ())
    image = op.Slice(sizes, op.const([2]), op.const([rank]))
    return op.like(node, small, None, None, image, axes=list(range(2, rank)))  # type: ignore[arg-type, return-value]


def _reads_one_pixel(item: Linear) -> bool:
    steps = attribute(item.node, "strides") or ()
    return is_op(item.node, "Conv") and item.group == 1 and all(size == 1 for size in (*item.shape[2:], *steps)) and not pads_zeros(item.node)  # type: ignore[misc]


def _parts(item: Linear) -> list[Part] | None:
    """What the Conv reads, by channel."""
    joined = producer(item.data, "Concat")
    if joined is not None and (only_reader(item.data) is None or int(attribute(joined, "axis")) % len(dims_of(item.data) or (0,)) != 1):  # type: ignore[call-overload]
        joined = None
    found: list[Part] = []
    start = 0
    for value in joined.inputs if joined is not None else [item.data]:
        shape = dims_of(value)
        if value is None or shape is None or not isinstance(shape[1], int):
            return None
        node = producer(value, "Resize")
        grows = node is not None and only_reader(value) is not None and resizes_images(node) and static_tail(node.inputs[0]) is not None
        source = node.inputs[0] if node is not None and grows else None
        found.append(Part(source, start, shape[1], node) if source is not None else Part(value, start, shape[1]))
        start += shape[1]
    return found


def _between(item: Linear) -> list[ir.Node]:
    """The Concat and the Resizes that the Conv takes along."""
    joined = producer(item.data, "Concat")
    found = _parts(item) or []
    return [part.resize for part in found if part.resize is not None] + ([joined] if joined is not None and len(found) > 1 else [])


def static_tail(value: ir.Value | None) -> tuple[int, ...] | None:
    """The size of the images in a tensor [batch, channels, ...], when it is known."""
    shape = dims_of(value)
    tail = tuple(size for size in (shape or ())[2:] if isinstance(size, int))
    return tail if shape is not None and tail and len(tail) == len(shape) - 2 else None


def _pixels(part: Part) -> int:
    return math.prod(static_tail(part.value) or (0,))
