"""Constant arithmetic before linear operators, moved down to where it disappears into their weights and biases."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import constant, is_op, users
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from .arithmetic import Arithmetic, arithmetic, narrowed, rounds, trimmed
from .carrying import carried_down, carrier
from .linear import Linear, linear, pads_zeros, refuses_input, with_input

DEPTH = 8
"""How many operators arithmetic is moved across at most."""
PLANE = "g (float[N,2,3,3] x) => (float[N,1,3,3] y) <float[1,2,1,1] w = {2,3}, float[2,1,1] s = {5,7}"
WINDOW = "g (float[N,1,3,3] x) => (float[N,1,3,3] y) <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}, float s = {5}"
ROWS = "g (float[N,3,2] x) => (float[N,3,2] y) <float[2,2] w = {1,2,3,4}, float[2] s = {5,7}"
NORM = "float[2] s = {1,2}, float[2] t = {0,1}, float[2] u = {1,-1}, float[2] v = {4,0.25}"


@rule(
    "Conv",
    "ConvTranspose",
    "Gemm",
    "MatMul",
    drift=ROUNDING,
    opset=9,
    shared=True,
    examples=[
        f"{PLANE}> {{ a = Mul(x, s) y = Conv(a, w) }}",
        f"{PLANE}> {{ a = Add(x, s) y = Conv(a, w) }}",
        "g (float[N,2,3,3] x) => (float[N,1,2,2] y) <float[1,2,1,1] w = {2,3}, float[2,1,1] s = {5,7}>"
        " { a = Add(x, s) y = Conv<auto_pad=\"SAME_LOWER\", strides=[2,2]>(a, w) }",
        f"{WINDOW}> {{ a = Div(x, s) y = Conv<pads=[1,1,1,1]>(a, w) }}",
        f"{WINDOW}> {{ a = Neg(x) y = Conv<auto_pad=\"SAME_UPPER\">(a, w) }}",
        f"g (float[N,2,3,3] x) => (float[N,2,1,1] y) <float[2,1,3,3] w = {{1,2,3,4,5,6,7,8,9,9,8,7,6,5,4,3,2,1}}, {NORM}>"
        " { a = BatchNormalization(x, s, t, u, v) y = Conv<group=2>(a, w) }",
        "g (float[N,2,3,3] x) => (float[N,2,3,3] y) <float[2,1,1,1] w = {2,3}, float[2,1,1] s = {5,7}> { a = Mul(x, s) y = ConvTranspose<group=2>(a, w) }",
        f"{ROWS}> {{ a = Mul(x, s) y = MatMul(a, w) }}",
        f"{ROWS}> {{ a = Add(x, s) y = MatMul(a, w) }}",
        "g (float[N,2] x) => (float[N,3] y) <float[2,3] w = {1,2,3,4,5,6}, float[3] b = {1,2,3}, float[2] s = {5,7}>"
        " { a = Sub(x, s) c = MatMul(a, w) y = Add(c, b) }",
        "g (float[N,2,3] x) => (float[N,2,3] y) <float[2,2] w = {1,2,3,4}, float[2,1] s = {5,7}> { a = Mul(x, s) y = MatMul(w, a) }",
        "g (float[N,2] x) => (float[N,3] y) <float[3,2] w = {1,2,3,4,5,6}, float[3] b = {1,2,3}, float[2] s = {5,7}>"
        " { a = Sub(s, x) y = Gemm<transB=1, alpha=2.0, beta=3.0>(a, w, b) }",
        "g (float[2,N] x) => (float[N,3] y) <float[2,3] w = {1,2,3,4,5,6}, float[2,1] s = {5,7}> { a = Add(s, x) y = Gemm<transA=1>(a, w) }",
        "g (float[N,2,2,1] x) => (float[N,3] y) <float[4,3] w = {1,2,3,4,5,6,7,8,9,1,2,3}, float[2,1,1] s = {5,7}>"
        " { a = Mul(x, s) b = Relu(a) c = Flatten(b) y = Gemm(c, w) }",
        f"g (float[N,2,S] x) => (float[N,S,3] y) <float[2,3] w = {{1,2,3,4,5,6}}, float[3] d = {{1,2,3}}, {NORM}>"
        " { a = BatchNormalization(x, s, t, u, v) b = Transpose<perm=[0,2,1]>(a) c = MatMul(b, w) y = Add(c, d) }",
        "g (float[N,3,2] x) => (float[N,3,2] y, float[N,3,1] z) <float[2,2] w = {1,2,3,4}, float[2,1] v = {1,2}, float[2] s = {5,7}>"
        " { a = Mul(x, s) y = MatMul(a, w) z = MatMul(a, v) }",
        f"{WINDOW}, float t = {{3}}> {{ a = Div(x, s) b = Sub(a, t) y = Conv<pads=[1,1,1,1]>(b, w) }}",
    ],
    leaves=[
        f"{WINDOW}> {{ a = Add(x, s) y = Conv<pads=[1,1,1,1]>(a, w) }}",
        f"{WINDOW}> {{ a = Add(x, s) y = Conv<auto_pad=\"SAME_UPPER\">(a, w) }}",
        "g (float[N,2,2,2] x) => (float[N,1,2,2] y) <float[1,2,1,1] w = {2,3}, float[2] s = {5,7}> { a = Mul(x, s) y = Conv(a, w) }",
        "g (float[N,1,3,3] x) => (float[N,1,3,3] y) <float[1,2,1,1] w = {2,3}, float[2,1,1] s = {5,7}> { a = Mul(x, s) y = Conv(a, w) }",
        "g (float[N,1,3,3] x) => (float[N,1,3,3] y) <float[1,1,1,1] w = {2}, float[1,1,1] s = {5}> { a = Add(x, s) y = ConvTranspose(a, w) }",
        "g (float[N,2,2] x) => (float[N,2,2] y) <float[2,2] w = {1,2,3,4}, float[2,1] s = {5,7}> { a = Mul(x, s) y = MatMul(a, w) }",
        "g (float[N,2] x) => (float[N,3] y) <float[2,3] w = {1,2,3,4,5,6}, float[2] s = {5,7}> { a = Add(x, s) y = MatMul(a, w) }",
        "g (float[N,3,2] x) => (float[N,3,2] y, float[N,3,2] z) <float[2,2] w = {1,2,3,4}, float[2] s = {5,7}> { a = Mul(x, s) y = MatMul(a, w) z = Relu(a) }",
        "g (float[N,2,1,1] x) => (float[N,3] y) <float[2,3] w = {1,2,3,4,5,6}, float[2,1,1] s = {5,-7}>"
        " { a = Mul(x, s) b = Relu(a) c = Flatten(b) y = Gemm(c, w) }",
        "g (float16[N,2] x) => (float16[N,2] y) <float16[2,2] w = {2000,2,3,4}, float16[2] s = {50,7}> { a = Mul(x, s) y = MatMul(a, w) }",
    ],
)
def fold_before(op: Build, m: Match) -> Result:
    """(x s + t) * w + b -> x * (w s) + (b + t * w), also across reshapes, transposes, Relu and pools; t only where no zeros are padded in between"""
    item = linear(m.root)
    if item is None:
        return None
    path = _path(item.data)
    if path is None:
        return None
    crossed, found = path
    moved = _carried(crossed, found)
    if isinstance(moved, Skip):
        return moved
    scale, shift = moved
    if is_op(m.root, "Conv") and pads_zeros(m.root) and shift.any() and not crossed:
        return _scale_alone(op, m, item, found)
    refusal = refuses_input(item, scale, shift) or _unwelcome(item, shift) or _other_readers(item, crossed, scale, shift)
    if refusal is not None:
        return refusal
    value = found.x
    for node in reversed(crossed):
        value = op.like(m.take(node), value, *node.inputs[1:])  # type: ignore[assignment]
    return with_input(op, item, value, scale, shift)


def _scale_alone(op: Build, m: Match, item: Linear, found: Arithmetic) -> Result:
    """Conv(x s + t) -> Conv(x + t/s), scaled by s, where padding keeps t from going into the bias"""
    inner, node = arithmetic(found.x.producer()), item.data.producer()
    if inner is None or node is None or inner.shift.any() or len(found.x.uses()) != 1 or len(item.data.uses()) != 1:
        return skip("what is added reaches the borders only in part")
    scale = inner.scale * found.scale
    refusal = refuses_input(item, scale, np.zeros_like(scale))
    if refusal is not None or not scale.all() or found.x.is_graph_output() or item.data.is_graph_output():
        return refusal or skip("it is scaled by 0, or needed elsewhere")
    added = narrowed(trimmed(found.shift / scale), item.weight.dtype)
    if added is None or rounds(inner.x, added.astype(np.float64)):
        return skip("what is added before scaling would be too large")
    return with_input(op, item, op.Add(inner.x, op.const(added, "shift")), scale, np.zeros_like(scale))  # type: ignore[arg-type]


def _path(value: ir.Value) -> tuple[list[ir.Node], Arithmetic] | None:
    """The operators between a linear one and the arithmetic before it, last first, and that arithmetic."""
    crossed: list[ir.Node] = []
    for _ in range(DEPTH):
        node = value.producer()
        found = arithmetic(node)
        if found is not None:
            return crossed, found
        if node is None or carrier(node) is None or node.inputs[0] is None or len(value.uses()) != 1 or value.is_graph_output():
            return None
        crossed.append(node)
        value = node.inputs[0]
    return None


def _carried(crossed: list[ir.Node], found: Arithmetic) -> tuple[np.ndarray, np.ndarray] | Skip:
    scale, shift = found.scale, found.shift
    for node in reversed(crossed):
        crossing = carrier(node)
        if crossing is None or not crossing.takes(scale, shift):
            return skip("%s does not let it pass", node.op_type)
        moved = [carried_down(node, content) for content in (scale, shift)]
        if moved[0] is None or moved[1] is None:
            return skip("the constant does not lie along axes that are there after the %s", node.op_type)
        scale, shift = moved[0], moved[1]
    return scale, shift


def _unwelcome(item: Linear, shift: np.ndarray) -> Skip | None:
    """A MatMul has no bias: adding after it instead of before only pays where that is less to add, or where something is added anyway."""
    if not shift.any() or not is_op(item.node, "MatMul"):
        return None
    inner, outer = item.shape
    if outer <= inner or any(is_op(reader, "Add") and any(constant(value) is not None for value in reader.inputs) for reader in users(item.node.outputs[0])):
        return None
    return skip("adding %s numbers after the MatMul costs more than adding %s before it", outer, inner)


def _other_readers(item: Linear, crossed: list[ir.Node], scale: np.ndarray, shift: np.ndarray) -> Skip | None:
    """Whether the arithmetic stays because somebody else needs its result: everybody has to be able to do without it."""
    made = crossed[-1].inputs[0] if crossed else item.data
    assert made is not None
    readers = [reader for reader in users(made) if reader is not (crossed[-1] if crossed else item.node)]
    for reader in readers:
        other = linear(reader)
        if crossed or other is None or other.data is not made or refuses_input(other, scale, shift) or _unwelcome(other, shift):
            return skip("'%s' is also needed elsewhere", made.name)
    return skip("'%s' is also needed elsewhere", made.name) if made.is_graph_output() else None
