"""Constant arithmetic after constant arithmetic."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import is_op
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from .arithmetic import arithmetic, narrowed, trimmed
from .readers import only_reader

KINDS = ("Add", "Sub", "Mul", "Div", "Neg")
DEPTH = 64
CANCELLED = 16.0
"""Terms this much larger than their sum are left as they are: adding and subtracting a large number is a way to round."""
VECTOR = "g (float[N,2] x) => (float[N,2] y) <float[2] a = {2,3}, float b = {5}, float[1] c = {7}"


@rule(
    *KINDS,
    drift=ROUNDING,
    opset=7,
    examples=[
        f"{VECTOR}> {{ d = Mul(x, a) y = Div(d, b) }}",
        f"{VECTOR}> {{ d = Add(a, x) y = Sub(d, b) }}",
        f"{VECTOR}> {{ d = Neg(x) y = Mul(d, b) }}",
        f"{VECTOR}> {{ d = Sub(x, a) e = Div(d, b) y = Add(e, c) }}",
        f"{VECTOR}> {{ d = Mul(x, a) e = Add(d, b) f = Mul(e, c) y = Sub(f, b) }}",
        "g (float[N,1,2] x) => (float[N,1,2] y) <float[1] a = {2}, float[1,1,2] b = {5,6}> { d = Add(x, a) y = Add(b, d) }",
    ],
    leaves=[
        f"{VECTOR}> {{ d = Mul(x, a) y = Add(d, b) }}",
        "g (float[N,2] x) => (float[N,2] y, float[N,2] d) <float[2] a = {2,3}, float b = {5}> { d = Mul(x, a) y = Mul(d, b) }",
        f"{VECTOR}> {{ d = Mul(x, a) y = Div(b, d) }}",
        "g (int64[N,2] x) => (int64[N,2] y) <int64[2] a = {2,3}, int64 b = {5}> { d = Mul(x, a) y = Div(d, b) }",
        "g (float[N,1] x) => (float[N,2] y) <float[2] a = {2,3}, float b = {5}> { d = Mul(x, b) y = Mul(d, a) }",
        "g (float16[N,2] x) => (float16[N,2] y) <float16 a = {1000}, float16 b = {100}> { d = Mul(x, a) y = Mul(d, b) }",
        f"{VECTOR}, float big = {{5000}}> {{ d = Add(x, big) y = Sub(d, big) }}",
        "g (float[N,2] x) => (float[N,2] y) <float a = {1e-30}, float b = {1e-30}> { d = Mul(x, a) y = Mul(d, b) }",
    ],
)
def merge_constant_arithmetic(op: Build, m: Match) -> Result:
    """((x s + t) s' + t') ... -> x (s s' ...) + (...), where that takes fewer operators"""
    found = None if _goes_on(m.root) else arithmetic(m.root)
    if found is None:
        return None
    nodes: list[ir.Node] = []
    x, scale, shift = found.x, found.scale, found.shift
    peak = np.abs(shift)
    while len(nodes) < DEPTH and len(x.uses()) == 1 and not x.is_graph_output():
        node = x.producer()
        inner = arithmetic(node) if not is_op(node, "BatchNormalization") else None
        if node is None or inner is None:
            break
        nodes.append(node)
        peak = np.maximum(peak, np.abs(inner.shift * scale))
        x, scale, shift = inner.x, inner.scale * scale, inner.shift * scale + shift
    needed = int((scale != 1).any()) + int(shift.any())
    if not nodes or needed > len(nodes):
        return None
    if (peak > CANCELLED * np.abs(shift)).any():
        return skip("what is added is subtracted again, which rounds")
    dtype = m.root.outputs[0].dtype
    assert dtype is not None
    factors, added = narrowed(trimmed(scale), dtype.numpy()), narrowed(trimmed(shift), dtype.numpy())
    if factors is None or added is None:
        return skip("the merged constant would overflow, or lose digits")
    for node in nodes:
        m.take(node)
    value = op.Mul(x, op.const(factors, "scale")) if (scale != 1).any() else x
    return op.Add(value, op.const(added, "shift")) if shift.any() else value


def _goes_on(node: ir.Node) -> bool:
    """Whether what follows is of the same kind: it takes the whole chain along, at once."""
    reader = only_reader(node.outputs[0])
    if reader is None or reader.graph is not node.graph or not is_op(reader, *KINDS):
        return False
    following = arithmetic(reader)
    return following is not None and following.x is node.outputs[0]
