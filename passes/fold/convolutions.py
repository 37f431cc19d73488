"""Chains of Convs, and Convs beside each other whose results are added (RepVGG, Ding et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import constant, is_op, producer
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from .arithmetic import Arithmetic, arithmetic, narrowed
from .kernels import Kernel, composed, identity, kernel, summed
from .linear import Linear, is_shared, linear

POINT = "float[4,2,1,1] a = {1,2,3,4,5,6,7,8}, float[1,4,1,1] b = {1,2,3,4}"
WINDOW = "float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}, float[1,1,1,1] p = {3}"
IMAGE = "g (float[N,1,4,4] x) => (float[N,1,4,4] y)"
PADS = "<pads=[1,1,1,1]>"


def _convolution(op: Build, source: ir.Value, made: Kernel, like: Linear) -> ir.Value | Skip:
    dtype = like.weight.dtype
    weight, bias = narrowed(made.weight, dtype), narrowed(made.bias, dtype)
    if weight is None or bias is None:
        return skip("the merged weight would overflow, or lose digits")
    return op.Conv(source, op.const(weight, "weight"), op.const(bias, "bias") if bias.any() else None, **made.attributes())  # type: ignore[return-value]


@rule(
    "Conv",
    drift=ROUNDING,
    opset=9,
    examples=[
        f"g (float[N,2,3,3] x) => (float[N,1,3,3] y) <{POINT}> {{ c = Conv(x, a) y = Conv(c, b) }}",
        f"g (float[N,2,3,3] x) => (float[N,1,2,2] y) <{POINT}, float[4] t = {{1,2,3,4}}, float[1] u = {{5}}>"
        " { c = Conv(x, a, t) y = Conv<strides=[2,2]>(c, b, u) }",
        "g (float[N,1,4,4] x) => (float[N,1,2,2] y) <float[2,1,1,1] a = {2,3}, float[2] t = {1,2},"
        " float[1,2,3,3] w = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9}> { c = Conv(x, a, t) y = Conv(c, w) }",
        "g (float[N,1,4,4] x) => (float[N,1,4,4] y) <float[2,1,1,1] a = {2,3}, float[1,2,3,3] w = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9}>"
        f" {{ c = Conv(x, a) y = Conv{PADS}(c, w) }}",
        "g (float[N,1,4,4] x) => (float[N,1,2,2] y) <float[2,1,3,3] w = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9}, float[2] t = {1,2}, float[1,2,1,1] a = {2,3}>"
        " { c = Conv<pads=[1,1,1,1]>(x, w, t) y = Conv<strides=[2,2]>(c, a) }",
        "g (float[N,2,3,3] x) => (float[N,2,3,3] y) <float[2,1,1,1] a = {1,2}, float[2] t = {1,2}, float[2,2,1,1] b = {1,2,3,4}>"
        " { c = Conv<group=2>(x, a, t) y = Conv(c, b) }",
    ],
    leaves=[
        "g (float[N,4,3,3] x) => (float[N,4,3,3] y) <float[1,4,1,1] a = {1,2,3,4}, float[4,1,1,1] b = {1,2,3,4}> { c = Conv(x, a) y = Conv(c, b) }",
        "g (float[N,1,4,4] x) => (float[N,1,4,4] y) <float[2,1,1,1] a = {2,3}, float[2] t = {1,2},"
        f" float[1,2,3,3] w = {{1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9}}> {{ c = Conv(x, a, t) y = Conv{PADS}(c, w) }}",
        f"{IMAGE} <{WINDOW}> {{ c = Conv{PADS}(x, w) y = Conv{PADS}(c, w) }}",
        f"{IMAGE} <{WINDOW}> {{ c = Conv{PADS}(x, w) d = Relu(c) y = Conv(d, p) }}",
        "g (float[N,1,6,6] x) => (float[N,1,4,4] y) <float[1,1,1,1] p = {3}, float[1,1,1,1] q = {2}>"
        " { c = Conv<pads=[1,1,1,1]>(x, p) y = Conv<strides=[2,2], pads=[1,1,1,1]>(c, q) }",
    ],
)
def merge_conv_chain(op: Build, m: Match) -> Result:
    """(x * v + a) * w + b -> x * (v * w) + (a * w + b) where v or w is 1x1 and v * w costs less than both"""
    node = producer(m.root.inputs[0], "Conv")
    items = linear(m.root), linear(node)
    if node is None or items[0] is None or items[1] is None or is_shared(items[0]) or is_shared(items[1]):
        return None
    first, second = kernel(node), kernel(m.root)
    if first is None or second is None:
        return skip("its padding depends on the size")
    made = composed(first, second)
    if isinstance(made, Skip):
        return made
    least = first.cost + second.cost if second.is_pointwise else second.cost + 1
    if made.cost >= least:
        return skip("it would multiply %s times for each place instead of %s", made.cost, least)
    m.take(node)
    return _convolution(op, items[1].data, made, items[0])


@dataclass(frozen=True)
class Branch:
    """One term of a sum of Convs over ``source``: a Conv or two, arithmetic by channel, or the source itself."""

    source: ir.Value
    nodes: tuple[ir.Node, ...] = ()
    items: tuple[Linear, ...] = ()
    arithmetic: Arithmetic | None = None

    def kernel(self, like: Kernel | None = None) -> Kernel | Skip:
        """The term as a kernel; what is no Conv in as many groups as ``like``."""
        if self.items:
            return _kernel(self.items)
        if like is None:
            return skip("there is no Conv among them")
        found = self.arithmetic
        factors, added = (np.ones(1), np.zeros(1)) if found is None else (found.scale.reshape(-1), found.shift.reshape(-1))
        return identity(like.channels[0], like, factors, added)


def _kernel(items: tuple[Linear, ...]) -> Kernel | Skip:
    """What Convs after one another do."""
    found = [kernel(item.node) for item in items]
    first, rest = found[0], found[1:]
    if first is None or None in rest:
        return skip("the padding of one of the Convs depends on the size")
    made: Kernel | Skip = first
    for following in rest:
        if not isinstance(made, Skip) and following is not None:
            made = composed(made, following)
    return made


@rule(
    "Add",
    drift=ROUNDING,
    opset=9,
    examples=[
        f"{IMAGE} <{WINDOW}> {{ c = Conv{PADS}(x, w) d = Conv(x, p) y = Add(c, d) }}",
        f"{IMAGE} <{WINDOW}> {{ c = Conv{PADS}(x, w) y = Add(c, x) }}",
        f"{IMAGE} <{WINDOW}, float[1,1,2,2] v = {{1,2,3,4}}>"
        " { c = Conv<auto_pad=\"SAME_UPPER\">(x, w) d = Conv<auto_pad=\"SAME_LOWER\">(x, v) y = Add(c, d) }",
        f"{IMAGE} <{WINDOW}, float[1,1,2,2] v = {{1,2,3,4}}>"
        " { c = Conv<auto_pad=\"SAME_UPPER\">(x, w) d = Conv<auto_pad=\"SAME_UPPER\">(x, v) y = Add(c, d) }",
        f"{IMAGE} <{WINDOW}, float[1] s = {{2}}, float[1] t = {{3}}, float[1] u = {{4}}, float[1] v = {{5}}>"
        f" {{ b = BatchNormalization(x, s, t, u, v) c = Conv{PADS}(x, w) d = Conv(x, p) e = Add(b, c) y = Add(d, e) }}",
        "g (float[N,2,4,4] x) => (float[N,2,2,2] y) <float[2,1,3,3] w = {1,2,3,4,5,6,7,8,9,9,8,7,6,5,4,3,2,1}, float[2] b = {1,2}, float[2,1,1,1] p = {3,4}>"
        " { c = Conv<group=2, pads=[1,1,1,1], strides=[2,2]>(x, w, b) d = Conv<group=2, strides=[2,2]>(x, p, b) y = Add(c, d) }",
        "g (float[N,2,4,4] x) => (float[N,2,4,4] y) <float[2,1,3,3] w = {1,2,3,4,5,6,7,8,9,9,8,7,6,5,4,3,2,1}, float[2,1,1] s = {3,4}>"
        " { c = Conv<group=2, pads=[1,1,1,1]>(x, w) d = Mul(x, s) y = Add(c, d) }",
        "g (float[N,1,4,4] x) => (float[N,1,4,4] y) <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}, float[1,1,1,3] h = {1,2,3}>"
        f" {{ c = Conv{PADS}(x, w) d = Conv<pads=[0,1,0,1]>(x, h) y = Add(c, d) }}",
        "g (float[N,1,5] x) => (float[N,1,5] y) <float[1,1,3] w = {1,2,3}, float[1,1,5] v = {1,2,3,4,5}>"
        " { c = Conv<pads=[2,2], dilations=[2]>(x, w) d = Conv<pads=[4,4], dilations=[2]>(x, v) y = Add(c, d) }",
        "g (float[N,2,2,2] x) => (float[N,2,2,2] y) <float[2,2,1,1] w = {1,2,3,4}, float[1,2,1,1] a = {1,2}, float[2,1,1,1] b = {3,4}>"
        " { c = Conv(x, w) d = Conv(x, a) e = Conv(d, b) y = Add(c, e) }",
        "g (float[N,1,6,6] x) => (float[N,1,2,2] y) <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}, float[1,1,3,3] v = {9,8,7,6,5,4,3,2,1}>"
        " { c = Conv<dilations=[2,2]>(x, w) d = Conv<dilations=[2,2]>(x, v) y = Add(c, d) }",
    ],
    leaves=[
        f"{IMAGE} <{WINDOW}> {{ y = Add(x, x) }}",
        "g (float[N,3,2,2] x) => (float[N,3,2,2] y) <float[1,3,1,1] a = {1,2,3}, float[3,1,1,1] b = {3,4,5}> { d = Conv(x, a) e = Conv(d, b) y = Add(x, e) }",
        "g (float[N,1,4,4] x) => (float[N,1,4,4] y) <float[1,1,1,3] h = {1,2,3}, float[1,1,3,1] v = {1,2,3}>"
        " { c = Conv<pads=[1,0,1,0]>(x, v) d = Conv<pads=[0,1,0,1]>(x, h) y = Add(c, d) }",
        "g (float[N,1,4,4] x, float[N,1,4,4] z) => (float[N,1,4,4] y) <float[1,1,1,1] p = {3}> { c = Conv(x, p) d = Conv(z, p) y = Add(c, d) }",
        "g (float[N,1,4,4] x) => (float[N,1,4,4] y) <float[1,1,4,4] w = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7}, float[1,1,1,1] p = {3}>"
        " { c = Conv(x, w) d = Conv(x, p) y = Add(c, d) }",
        "g (float[N,2,4,4] x) => (float[N,2,4,4] y) <float[1,2,1,1] w = {1,2}> { c = Conv(x, w) y = Add(c, x) }",
        "g (float[N,1,4,4] x) => (float[N,2,4,4] y) <float[2,1,1,1] w = {1,2}> { c = Conv(x, w) y = Add(c, x) }",
        "g (float[N,2,4,4] x) => (float[N,2,4,4] y) <float[2,1,3,3] w = {1,2,3,4,5,6,7,8,9,9,8,7,6,5,4,3,2,1}, float[2,2,1,1] p = {3,4,5,6}>"
        " { c = Conv<group=2, pads=[1,1,1,1]>(x, w) d = Conv(x, p) y = Add(c, d) }",
    ],
)
def merge_conv_sum(op: Build, m: Match) -> Result:
    """x * v + x * w + s x -> x * (v + w + s I), the smaller windows laid into the larger, where that costs no more"""
    pairs = [(a, b) for a in _branches(m.root.inputs[0]) for b in _branches(m.root.inputs[1]) if a.source is b.source and (a.items or b.items)]
    if not pairs:
        return None
    found = max(pairs, key=lambda pair: sum(len(branch.nodes) for branch in pair))
    items = [item for branch in found for item in branch.items]
    if any(is_shared(item) for item in items):
        return skip("a weight is large and needed elsewhere too")
    kernels = _kernels(found)
    made = kernels if isinstance(kernels, Skip) else summed(*kernels)
    if isinstance(made, Skip):
        return made
    before = sum(item.weight.size for item in items)
    if made.cost > before:
        return skip("it would multiply %s times for each place instead of %s", made.cost, before)
    for node in (node for branch in found for node in branch.nodes):
        m.take(node)
    return _convolution(op, found[0].source, made, items[0])


def _branches(value: ir.Value | None) -> list[Branch]:
    """What a term can be taken for."""
    if value is None or constant(value) is not None:
        return []
    node = value.producer()
    item = linear(node) if is_op(node, "Conv") else None
    if node is not None and item is not None:
        before = producer(item.data, "Conv")
        inner = linear(before)
        low = [Branch(inner.data, (before, node), (inner, item))] if before is not None and inner is not None else []
        return [*low, Branch(item.data, (node,), (item,)), Branch(value)]
    found = arithmetic(node)
    if node is None or found is None or any(size != 1 for content in (found.scale, found.shift) for axis, size in enumerate(content.shape) if axis != 1):
        return [Branch(value)]
    return [Branch(found.x, (node,), (), found), Branch(value)]


def _kernels(found: tuple[Branch, Branch]) -> tuple[Kernel, Kernel] | Skip:
    """Both terms, where the source has the channels that they read."""
    like = next(branch for branch in found if branch.items).kernel()
    if isinstance(like, Skip):
        return like
    source = found[0].source
    if not all(branch.items for branch in found) and (source.shape is None or source.shape[1] != like.channels[0]):
        return skip("'%s' has not %s channels", source.name, like.channels[0])
    first, second = (branch.kernel(like) for branch in found)
    if isinstance(first, Skip) or isinstance(second, Skip):
        return first if isinstance(first, Skip) else second  # type: ignore[return-value]
    return first, second
