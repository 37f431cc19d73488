"""Convs that read one image through windows of the same shape (Inception, Szegedy et al. 2014).

On CPU one Conv and a Split took between 0.87 and 1.08 times as long as two or three Convs with two threads, 0.98 to 1.07 times with one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.axes import ints
from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import array, attribute, is_op
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from ..fold.linear import Linear, is_shared, linear
from ..fold.readers import only_reader
from .elementwise import FUSED_BEHIND
from .siblings import are_joined, same_attributes, siblings
from .weights import side_by_side

TWO = "float[2,1,1,1] v = {2,3}, float[1,1,1,1] w = {4}"


@dataclass(frozen=True)
class Window:
    """A Conv by constants in one group, and its geometry."""

    item: Linear
    geometry: tuple[object, ...]

    @property
    def node(self) -> ir.Node:
        """The Conv."""
        return self.item.node

    @property
    def channels(self) -> int:
        """How many it makes."""
        return self.item.shape[0]

    def row(self) -> np.ndarray:
        """The bias, zeros where there is none."""
        bias = array(self.item.bias)
        return np.zeros(self.channels, self.item.weight.dtype) if bias is None else bias


def window(node: ir.Node | None) -> Window | None:
    """``node`` as a Conv that can be merged with others of the same geometry."""
    item = linear(node)
    if node is None or item is None or not is_op(node, "Conv") or item.group != 1 or is_shared(item):
        return None
    ones = (1,) * (len(item.shape) - 2)
    strides, dilations = (ints(node, name, ones) for name in ("strides", "dilations"))
    auto = attribute(node, "auto_pad", "NOTSET")
    pads = ints(node, "pads", (0,) * 2 * len(ones)) if auto == "NOTSET" else auto
    return Window(item, (item.shape[1:], item.weight.dtype, pads, strides, dilations))


def merged(op: Build, x: ir.Value, parts: list[Window]) -> ir.Value:
    """One Conv that makes all the channels one after the other."""
    weight = op.const(side_by_side([part.item.weight for part in parts], 0), "weight")
    has_bias = any(part.item.bias is not None for part in parts)
    bias = op.const(np.concatenate([part.row() for part in parts]), "bias") if has_bias else None
    return op.like(parts[0].node, x, weight, bias)  # type: ignore[return-value]


@rule(
    "Conv",
    drift=ROUNDING,
    opset=13,
    measured=True,
    examples=[
        f"g (float[N,1,3,3] x) => (float[N,2,3,3] y, float[N,1,3,3] z) <{TWO}> {{ y = Conv(x, v) z = Conv<kernel_shape=[1,1], pads=[0,0,0,0]>(x, w) }}",
        f"g (float[N,1,3,3] x) => (float[N,2,3,3] y, float[N,1,3,3] z, float[N,1,1,1] u) <{TWO}, float[1] b = {{5}}, float[1,1,3,3] k = {{1,2,3,4,5,6,7,8,9}}>"
        " { p = Conv(x, v) q = Conv(x, w, b) u = Conv(x, k) y = Relu(p) z = Relu(q) }",
    ],
    leaves=[
        f"g (float[N,1,3,3] x, float[N,1,3,3] r) => (float[N,2,3,3] y, float[N,1,3,3] z) <{TWO}> {{ y = Conv(x, v) z = Conv(r, w) }}",
        f"g (float[N,1,3,3] x) => (float[N,2,3,3] y, float[N,1,2,2] z) <{TWO}> {{ y = Conv(x, v) z = Conv<strides=[2,2]>(x, w) }}",
        f"g (float[N,1,3,3] x) => (float[N,2,3,3] y, float[N,1,3,3] z) <{TWO}> {{ p = Conv(x, v) q = Conv(x, w) y = Relu(p) z = Sigmoid(q) }}",
        "g (float[N,2,3,3] x) => (float[N,2,3,3] y, float[N,2,3,3] z) <float[2,1,1,1] v = {2,3}, float[2,1,1,1] w = {2,4}>"
        " { y = Conv<group=2>(x, v) z = Conv<group=2>(x, w) }",
    ],
)
def merge_convs(op: Build, m: Match) -> Result:
    """f(x * v + a), f(x * w + b), ... -> Split(f(x * [v w ...] + [a b ...])) for windows of the same shape, step and padding; f is a Relu or the like"""
    x, own = m.root.inputs[0], window(m.root)
    if x is None or own is None or len(siblings(m.root, x)) < 2:
        return None
    act = activation(own.node)
    found = (part for part in map(window, siblings(m.root, x)) if part is not None and part.geometry == own.geometry)
    fitting = (part for part in found if _acts_alike(activation(part.node), act))
    parts = [next(fitting)]
    if parts[0].node is not m.root:
        return None
    parts += fitting
    if len(parts) < 2:
        return None
    if are_joined([part.node.outputs[0] for part in parts]):
        return skip("their results are concatenated: `join-weights` needs no Split")
    made = merged(op, x, parts)
    outputs = [part.node.outputs[0] for part in parts]
    if act is not None:
        made = op.like(act, made, *act.inputs[1:])  # type: ignore[assignment]
        outputs = [following.outputs[0] for part in parts if (following := activation(part.node)) is not None]
    for node in (node for part in parts for node in (part.node, activation(part.node)) if node is not None):
        m.take(node)
    m.outputs = tuple(outputs)
    return op.Split(made, op.const([part.channels for part in parts], "sizes"), axis=1, _outputs=len(parts))


def activation(node: ir.Node) -> ir.Node | None:
    """The activation behind a Conv that runtimes compute along with it."""
    reader = only_reader(node.outputs[0])
    return reader if reader is not None and is_op(reader, *FUSED_BEHIND) and reader.graph is node.graph else None


def _acts_alike(first: ir.Node | None, second: ir.Node | None) -> bool:
    if first is None or second is None:
        return first is second
    return is_op(first, second.op_type) and same_attributes(first, second) and list(first.inputs[1:]) == list(second.inputs[1:])
