"""Both branches, and the choice among what they make."""

from __future__ import annotations

import math

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import same_shape
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import is_op
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from ...compiler.core.shapes import static_shape
from .bodies import branches_of, write_out
from .branches import truth
from .total import cannot_fail

MOST_NODES = 4
"""In both branches together."""
MOST_ELEMENTS = 1024
"""Of all that both compute; beyond it computing both takes longer than choosing."""
MOST_UNSIZED_NODES = 2
"""In both branches together, where it is not known how much they compute."""
SELECTED = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.INT32, ir.DataType.INT64, ir.DataType.UINT8)
"""What every runtime's Where takes; ONNX Runtime has none for booleans and bfloat16."""
CAPTURED = "then_branch = t () => (float[2] a) { a = Identity(x) }, else_branch = e () => (float[2] b) { b = Neg(z) }"


@rule(
    "If",
    drift=ROUNDING,
    opset=9,
    measured=True,
    examples=[
        "g (bool c, float[N] x) => (float[N] y) { y = If(c) <then_branch = t () => (float[N] a) { a = Relu(x) },"
        " else_branch = e () => (float[N] b) { b = Neg(x) }> }",
        f"g (bool c, float[2] x, float[2] z) => (float[2] y) {{ y = If(c) <{CAPTURED}> }}",
        f"g (bool[1] c, float[2] x, float[2] z) => (float[2] y) {{ y = If(c) <{CAPTURED}> }}",
        "g (bool c, int64 x) => (int64 y, float z) { y, z = If(c) <then_branch = t () => (int64 a, float f) <int64 one = {1}, float h = {2}>"
        " { a = Add(x, one) f = Relu(h) }, else_branch = e () => (int64 b, float i) <int64 b = {7}> { i = Cast<to=1>(x) }> }",
    ],
    leaves=[
        "g (bool c, float[N] x) => (float[N] y) { y = If(c) <then_branch = t () => (float[N] a) { r = Relu(x) a = Exp(r) },"
        " else_branch = e () => (float[N] b) { b = Neg(x) }> }",
        "g (bool c, float[2] x) => (float[K] y) { y = If(c) <then_branch = t () => (float[2] a) { a = Relu(x) },"
        " else_branch = e () => (float[1] b) <float[1] b = {1}> { }> }",
        "g (bool[1] c, float x) => (float y) { y = If(c) <then_branch = t () => (float a) { a = Relu(x) }, else_branch = e () => (float b) { b = Neg(x) }> }",
        "g (bool c, int64[2] x, int64[2] d) => (int64[2] y) { y = If(c) <then_branch = t () => (int64[2] a) { a = Div(x, d) },"
        " else_branch = e () => (int64[2] b) { b = Neg(x) }> }",
        "g (bool c, float[2] x, int64 i) => (float y) { y = If(c) <then_branch = t () => (float a) { a = Gather(x, i) },"
        " else_branch = e () => (float b) <float b = {1}> { }> }",
        "g (bool c, bool[2] x) => (bool[2] y) { y = If(c) <then_branch = t () => (bool[2] a) { a = Identity(x) },"
        " else_branch = e () => (bool[2] b) { b = Not(x) }> }",
        "g (bool c, float[2048] x) => (float[2048] y) { y = If(c) <then_branch = t () => (float[2048] a) { a = Relu(x) },"
        " else_branch = e () => (float[2048] b) { b = Neg(x) }> }",
        "g (bool c, float[2] x, float[2] z) => (float[2] y) { y = If(c) <then_branch = t () => (float[2] a) { a = RandomNormalLike(x) },"
        " else_branch = e () => (float[2] b) { b = Neg(z) }> }",
    ],
)
def select_among_branches(op: Build, m: Match) -> Result:
    """If(c) { a } else { b } -> Where(c, a, b), for small a and b that cannot fail (0 may come out for -0)"""
    condition, branches = m.root.inputs[0], branches_of(m.root)
    if condition is None or condition.shape is None or truth(condition) is not None:
        return None
    refusal = _too_much(branches) or _unfit(m.root, condition, branches)
    if refusal is not None:
        return refusal
    pairs = zip(*(write_out(op, branch, {}) for branch in branches), strict=True)
    return tuple(op.node("Where", (condition, one, other), {}).outputs[0] for one, other in pairs)


def _too_much(branches: tuple[ir.Graph, ir.Graph]) -> Skip | None:
    nodes = [node for branch in branches for node in branch if not is_op(node, "Constant", "Identity")]
    if len(nodes) > MOST_NODES:
        return skip("its branches have %s nodes, more than %s", len(nodes), MOST_NODES)
    for node in nodes:
        if not cannot_fail(node):
            return skip("%s in a branch may fail, or has an effect", node.op_type)
    sizes = [static_shape(value) for branch in branches for value in (*branch.outputs, *(made for node in branch for made in node.outputs))]
    total = sum(math.prod(size) for size in sizes if size is not None)
    if total > MOST_ELEMENTS or (None in sizes and len(nodes) > MOST_UNSIZED_NODES):
        return skip("its branches compute %s elements in %s nodes", "an unknown number of" if None in sizes else total, len(nodes))
    return None


def _unfit(node: ir.Node, condition: ir.Value, branches: tuple[ir.Graph, ir.Graph]) -> Skip | None:
    assert condition.shape is not None
    for one, other in zip(*(branch.outputs for branch in branches), strict=True):
        if one.dtype != other.dtype or one.dtype not in SELECTED:
            return skip("the branches make %s and %s, which Where does not take", one.dtype, other.dtype)
        if not same_shape(one.shape, other.shape) or one.shape is None:
            return skip("the branches make the shapes %s and %s", one.shape, other.shape)
        if len(condition.shape) > len(one.shape) or any(dim != 1 for dim in condition.shape):
            return skip("the condition has shape %s and the result %s", condition.shape, one.shape)
    return None
