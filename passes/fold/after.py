"""Constant arithmetic after linear operators, moved up to where it disappears into their weights and biases."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import same_shape
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import array, attribute, constant, is_op
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from ...compiler.core.shapes import dims_of
from .arithmetic import FLOATS, arithmetic, narrowed
from .carrying import carried_up, carrier
from .constants import MAX_BYTES
from .linear import linear, refuses_output, with_output

DEPTH = 12
"""How many operators arithmetic is moved across at most."""
NORM = "float[2] s = {1,2}, float[2] t = {0,1}, float[2] u = {1,-1}, float[2] v = {4,0.25}"
PLANE = "g (float[N,1,3,2] x) => (float[N,2,3,2] y) <float[2,1,1,1] w = {2,3}"
ROWS = "g (float[N,3,2] x) => (float[N,3,2] y) <float[2,2] w = {1,2,3,4}"


@dataclass
class Climb:
    """One attempt to move arithmetic up: what it builds with, what it takes away and what it leaves."""

    op: Build
    m: Match
    removed: int = 1
    left: int = 0
    crossed: list[ir.Node] = field(default_factory=list)

    def folded(self, value: ir.Value, scale: np.ndarray, shift: np.ndarray) -> ir.Value | Skip:
        """A value equal to ``value * scale + shift``, made where ``value`` was."""
        node = value.producer()
        if node is None or constant(value) is not None:
            return _constant_after(self.op, value, scale, shift)
        item, inner = linear(node), arithmetic(node)
        if item is not None:
            refusal = refuses_output(item, scale, shift)
            self.left += bool(shift.any()) and is_op(node, "MatMul")
            self.m.take(node)
            return refusal if refusal is not None else with_output(self.op, item, scale, shift)
        self.m.take(node)
        if inner is not None:
            self.removed += 1
            return self.folded(inner.x, inner.scale * scale, inner.shift * scale + shift)
        self.crossed.append(node)
        if is_op(node, "Concat"):
            return self.concatenated(node, scale, shift)
        if is_op(node, "Add", "Sub"):
            return self.summed(node, scale, shift)
        if is_op(node, "MatMul"):
            return self.multiplied(node, scale, shift)
        return self.looked_up(node, scale, shift) if is_op(node, "Gather") else self.carried(node, scale, shift)

    def carried(self, node: ir.Node, scale: np.ndarray, shift: np.ndarray) -> ir.Value | Skip:
        """f(x) * scale + shift = f(x * scale' + shift')"""
        crossing = carrier(node)
        if crossing is None or not crossing.takes(scale, shift):
            return skip("%s does not let it pass", node.op_type)
        moved = [carried_up(node, content) for content in (scale, shift)]
        source = node.inputs[0]
        if moved[0] is None or moved[1] is None or source is None:
            return skip("the constant does not lie along axes that are there before the %s", node.op_type)
        made = self.folded(source, moved[0], moved[1])
        return made if isinstance(made, Skip) else self.op.like(node, made, *node.inputs[1:])  # type: ignore[return-value]

    def concatenated(self, node: ir.Node, scale: np.ndarray, shift: np.ndarray) -> ir.Value | Skip:
        """Concat(x, y) * scale + shift, in every part"""
        axis = int(attribute(node, "axis")) % scale.ndim  # type: ignore[call-overload]
        made: list[ir.Value] = []
        start = 0
        for part in node.inputs:
            size = part.shape[axis] if part is not None and part.shape is not None else None
            if part is None or not (isinstance(size, int) or scale.shape[axis] == shift.shape[axis] == 1):
                return skip("the sizes of what is concatenated are not all known")
            end = start + size if isinstance(size, int) else start
            found = self.folded(part, _part(scale, axis, start, end), _part(shift, axis, start, end))
            if isinstance(found, Skip):
                return found
            made.append(found)
            start = end
        return self.op.like(node, *made)  # type: ignore[return-value]

    def summed(self, node: ir.Node, scale: np.ndarray, shift: np.ndarray) -> ir.Value | Skip:
        """(x + y) * scale + shift = (x * scale + shift) + y * scale, where neither is broadcast"""
        left, right = node.inputs
        whole = dims_of(node.outputs[0])
        if left is None or right is None or not (same_shape(dims_of(left), whole) and same_shape(dims_of(right), whole)):
            return skip("one of the terms is broadcast")
        first = self.folded(left, scale, shift)
        if isinstance(first, Skip):
            return first
        second = self.folded(right, scale, np.zeros_like(shift))
        return second if isinstance(second, Skip) else self.op.like(node, first, second)  # type: ignore[return-value]

    def multiplied(self, node: ir.Node, scale: np.ndarray, shift: np.ndarray) -> ir.Value | Skip:
        """(x @ y) a = (x a) @ y = x @ (y a), for a number a"""
        if scale.size > 1 or shift.any():
            return skip("only a single factor passes a product of two variables")
        left, right = node.inputs
        refusal: Skip | None = None
        for index, factor in enumerate((left, right)):
            if factor is None or factor.shape is None or not reachable(factor, DEPTH):
                continue
            ones = (1,) * len(factor.shape)
            attempt = Climb(Build(), Match(self.m.root, (), {}, {}), self.removed, self.left)
            made = attempt.folded(factor, scale.reshape(ones), np.zeros(ones, shift.dtype))
            if isinstance(made, Skip):
                attempt.op.discard()
                refusal = made
                continue
            self.adopt(attempt)
            return self.op.MatMul(*((made, right) if index == 0 else (left, made)))  # type: ignore[return-value]
        return refusal or skip("neither factor of the product comes from a weight")

    def adopt(self, attempt: Climb) -> None:
        """Take over what an attempt on one of several ways made."""
        self.op.nodes += attempt.op.nodes
        self.op.constants += attempt.op.constants
        self.m.nodes.update(attempt.m.nodes)
        self.removed, self.left = attempt.removed, attempt.left
        self.crossed += attempt.crossed

    def looked_up(self, node: ir.Node, scale: np.ndarray, shift: np.ndarray) -> ir.Value | Skip:
        """Gather(table, i) * scale + shift = Gather(table * scale' + shift', i)"""
        table, indices = node.inputs[0], node.inputs[1]
        if table is None or indices is None or indices.shape is None or constant(table) is None or table.shape is None:
            return skip("what is looked up in is not constant")
        axis, looked = int(attribute(node, "axis", 0)) % len(table.shape), len(indices.shape)  # type: ignore[call-overload]
        if any(size != 1 for content in (scale, shift) for size in content.shape[axis : axis + looked]):
            return skip("the constant varies along what is looked up")
        scale, shift = (content.reshape((*content.shape[:axis], 1, *content.shape[axis + looked :])) for content in (scale, shift))
        if len(table.uses()) > 1 and (constant(table).nbytes > MAX_BYTES):  # type: ignore[union-attr]
            return skip("the table '%s' is large and needed elsewhere too", table.name)
        made = _constant_after(self.op, table, scale, shift)
        return made if isinstance(made, Skip) else self.op.like(node, made, indices)  # type: ignore[return-value]


def reachable(value: ir.Value | None, depth: int, arithmetics: int = 3) -> bool:
    """Whether the walk up from ``value`` can end in weights everywhere; looks at operators only.

    Of arithmetic in a row, what stands first is folded first: a few are enough to look across.
    """
    if value is None or depth == 0:
        return False
    if constant(value) is not None:
        return True
    node = value.producer()
    if node is None or len(value.uses()) != 1 or value.is_graph_output():
        return False
    if linear(node) is not None:
        return True
    if is_op(node, "Add", "Sub", "Mul", "Div", "Neg", "BatchNormalization"):
        open_parts = [part for part in node.inputs[:2] if constant(part) is None]
        return arithmetics > 0 and bool(open_parts) and all(reachable(part, depth - 1, arithmetics - 1) for part in open_parts)
    if is_op(node, "Concat"):
        return all(reachable(part, depth - 1, arithmetics) for part in node.inputs)
    if is_op(node, "MatMul"):
        return any(reachable(part, depth - 1, arithmetics) for part in node.inputs)
    return (is_op(node, "Gather") and constant(node.inputs[0]) is not None) or (carrier(node) is not None and reachable(node.inputs[0], depth - 1, arithmetics))


def _part(content: np.ndarray, axis: int, start: int, end: int) -> np.ndarray:
    return content if content.shape[axis] == 1 else content.take(range(start, end), axis=axis)


def _constant_after(op: Build, value: ir.Value, scale: np.ndarray, shift: np.ndarray) -> ir.Value | Skip:
    content = array(value)
    if content is None or value.dtype not in FLOATS:
        return skip("'%s' comes from no weight", value.name)
    wide = content.astype(np.float64)
    if np.broadcast_shapes(wide.shape, scale.shape, shift.shape) != wide.shape:
        return skip("the constant varies where '%s' does not", value.name)
    made = narrowed(wide * scale + shift, content.dtype)
    return skip("the folded constant would overflow, or lose digits") if made is None else op.const(made, "weight")


def fold_up(op: Build, m: Match) -> Result:
    """The arithmetic at the root of the match, moved into the weights above it."""
    data = next((value for value in m.root.inputs[:2] if constant(value) is None), None)
    if not reachable(data, DEPTH):
        return None if data is None else skip("'%s' is not made from weights alone, or is needed elsewhere too", data.name)
    found = arithmetic(m.root)
    if found is None:
        return None
    climb = Climb(op, m)
    made = climb.folded(found.x, found.scale, found.shift)
    if isinstance(made, Skip):
        return made
    moves = bool(climb.crossed) or is_op(m.root, "BatchNormalization")
    return made if climb.left < climb.removed + moves else skip("it would be added after the MatMul just the same")


@rule(
    "BatchNormalization",
    drift=ROUNDING,
    opset=9,
    examples=[
        "g (float[N,1,3,3] x) => (float[N,2,3,3] y) <float[2,1,1,1] w = {2,3},"
        f" {NORM}> {{ c = Conv(x, w) y = BatchNormalization<epsilon=0.001>(c, s, t, u, v) }}",
        "g (float[1,2,3,3] x) => (float[1,4,3,3] y) <float[2,2,1,1] w = {2,3,4,5}, float[4] b = {1,2,3,4}, float[4] s = {1,2,3,4}, float[4] t = {0,1,0,1},"
        " float[4] u = {1,-1,1,-1}, float[4] v = {4,1,2,3}> { c = ConvTranspose<group=2>(x, w, b) y = BatchNormalization(c, s, t, u, v) }",
        f"g (float[N,3] x) => (float[N,2] y) <float[3,2] w = {{1,2,3,4,5,6}}, {NORM}> {{ c = MatMul(x, w) y = BatchNormalization(c, s, t, u, v) }}",
        f"g (float[N,3] x) => (float[N,2] y) <float[3,2] w = {{1,2,3,4,5,6}}, float[2] b = {{7,8}}, {NORM}>"
        " { c = MatMul(x, w) d = Add(b, c) y = BatchNormalization<epsilon=0.01>(d, s, t, u, v) }",
        f"g (float[N,1,3,3] x) => (float[N,2,3,3] y) <float[1,1,1,1] w = {{2}}, float[1,1,1,1] z = {{3}}, {NORM}>"
        " { a = Conv(x, w) b = Conv(x, z) c = Concat<axis=1>(a, b) y = BatchNormalization(c, s, t, u, v) }",
        f"g (float[N,3,S] x) => (float[N,2,S] y) <float[3,2] w = {{1,2,3,4,5,6}}, {NORM}>"
        " { a = Transpose<perm=[0,2,1]>(x) b = MatMul(a, w) c = Transpose<perm=[0,2,1]>(b) y = BatchNormalization(c, s, t, u, v) }",
    ],
    leaves=[
        "g (float[2,1,3,3] x) => (float[2,1,3,3] y, float[1] rm, float[1] rv) <float[1,1,1,1] w = {2},"
        " float[1] s = {1}, float[1] t = {0}, float[1] u = {1}, float[1] v = {4}>"
        " { c = Conv(x, w) y, rm, rv = BatchNormalization<training_mode=1>(c, s, t, u, v) }",
        f"g (float[N,2,3] x) => (float[N,2,2] y) <float[3,2] w = {{1,2,3,4,5,6}}, {NORM}> {{ c = MatMul(x, w) y = BatchNormalization(c, s, t, u, v) }}",
        f"g (float[N,2,3,3] x) => (float[N,2,3,3] y, float[N,2,3,3] z) <float[1,2,1,1] w = {{2,1}}, {NORM}>"
        " { a = Conv(x, w) b = Conv(x, w) c = Concat<axis=1>(a, b) z = Relu(c) y = BatchNormalization(c, s, t, u, v) }",
    ],
)
def fold_batch_norm(op: Build, m: Match) -> Result:
    """BatchNormalization(x * w + b) -> x * (w k) + ((b - mean) k + shift) with k = scale / sqrt(var + epsilon)"""
    return fold_up(op, m)


@rule(
    "Mul",
    "Div",
    "Neg",
    drift=ROUNDING,
    opset=7,
    examples=[
        f"{PLANE}, float[2,1,1] s = {{5,7}}> {{ c = Conv(x, w) y = Mul(s, c) }}",
        f"{PLANE}> {{ c = Conv(x, w) y = Neg(c) }}",
        f"{ROWS}, float[2] s = {{5,7}}> {{ c = MatMul(x, w) y = Mul(c, s) }}",
        f"{ROWS}, float[2] b = {{1,2}}, float s = {{5}}> {{ c = MatMul(x, w) d = Add(b, c) y = Div(d, s) }}",
        f"{ROWS}, float[1,3,2] b = {{1,2,3,4,5,6}}, float s = {{5}}> {{ c = MatMul(x, w) d = Add(b, c) y = Mul(d, s) }}",
        "g (float[N,2] x) => (float[N,2] y) <float[2,2] w = {1,2,3,4}, float[2] b = {1,2}, float[2] s = {5,7}>"
        " { c = Gemm<transB=1, beta=2.0>(x, w, b) y = Div(c, s) }",
        "g (float[N,2,3] x) => (float[N,2,3] y) <float[2,2] w = {1,2,3,4}, float[2,1] s = {5,7}> { c = MatMul(w, x) y = Mul(c, s) }",
        "g (float[2,N,3] x) => (float[2,N,2] y) <float[2,3,2] w = {1,2,3,4,5,6,7,8,9,1,2,3}, float[2,1,2] s = {5,7,2,3}> { c = MatMul(x, w) y = Mul(c, s) }",
        "g (float[N,1,3,2] x) => (float[N,2,6] y) <float[2,1,1,1] w = {2,3}, int64[3] r = {0,2,6}, float[2,1] s = {5,7}>"
        " { c = Conv(x, w) d = Reshape(c, r) y = Mul(d, s) }",
        "g (float[N,S,2] x) => (float[N,2,S,2] y) <float[2,4] w = {1,2,3,4,5,6,7,8}, float[4] b = {1,2,3,4}, int64[4] r = {0,0,2,2}, float s = {0.125}>"
        " { c = MatMul(x, w) d = Add(c, b) e = Reshape(d, r) f = Transpose<perm=[0,2,1,3]>(e) y = Mul(f, s) }",
        "g (float[N,S,2] x) => (float[N,2,S,2] y) <float[2,4] w = {1,2,3,4,5,6,7,8}, int64[4] r = {0,0,2,2}, float[2,1,2] s = {1,2,3,4}>"
        " { c = MatMul(x, w) e = Reshape(c, r) f = Transpose<perm=[0,2,1,3]>(e) y = Mul(f, s) }",
        f"{PLANE}, float[2,1,1] s = {{5,7}}> {{ c = Conv(x, w) d = Relu(c) y = Mul(s, d) }}",
        "g (float[N,1,4,4] x) => (float[N,2,4,4] y) <float[2,1,1,1] w = {2,3}, float[2,1,1] s = {5,7}>"
        " { c = Conv(x, w) d = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(c) y = Mul(s, d) }",
        "g (float[N,1,2,2] x) => (float[N,2,4,4] y) <float[2,1,1,1] w = {2,3}, float[2] b = {1,2}, float[2,1,1] s = {5,7}, float[2,1,1] t = {1,2},"
        " float[4] z = {1,1,2,2}> { c = Conv(x, w, b) d = Resize<mode=\"linear\">(c, , z) e = Mul(s, d) y = Add(e, t) }",
        "g (float[N,3,2] x, float[N,3,2] z) => (float[N,3,3] y) <float[2,2] w = {1,2,3,4}, float s = {0.5}>"
        " { q = MatMul(x, w) k = Transpose<perm=[0,2,1]>(z) c = MatMul(q, k) y = Mul(c, s) }",
        "g (int64[N,S] i) => (float[N,S,2] y) <float[5,2] w = {1,2,3,4,5,6,7,8,9,1}, float s = {1.5}> { c = Gather(w, i) y = Mul(c, s) }",
        f"{PLANE}, float[2,1,1,1] v = {{1,5}}, float[2] b = {{1,2}}, float s = {{3}}> {{ c = Conv(x, w) d = Conv(x, v, b) e = Add(c, d) y = Mul(e, s) }}",
    ],
    leaves=[
        "g (float[1,1,3,2] x) => (float[1,2,3,2] y) <float[2,1,1,1] w = {2,3}, float[2] s = {5,7}> { c = Conv(x, w) y = Mul(c, s) }",
        "g (float[1,1,3,2] x) => (float[1,2,3,2] y, float[1,2,3,2] c) <float[2,1,1,1] w = {2,3}, float[2,1,1] s = {5,7}> { c = Conv(x, w) y = Mul(c, s) }",
        "g (float[1,2,2] x) => (float[1,2,2] y) <float[2,2] w = {1,2,3,4}, float[2,1] s = {5,7}> { c = MatMul(x, w) y = Mul(c, s) }",
        "g (float[1,1,3,2] x) => (float[2,2,3,2] y) <float[2,1,1,1] w = {2,3}, float[2,1,1,1] s = {5,7}> { c = Conv(x, w) y = Mul(c, s) }",
        f"{PLANE}, float[2,1,1] s = {{5,-7}}> {{ c = Conv(x, w) d = Relu(c) y = Mul(s, d) }}",
        "g (float[N,2] x, float[M,2] z) => (float[K,2] y) <float[2,1] w = {2,3}, float[2,2] v = {1,2,3,4}, float[2] s = {5,7}>"
        " { c = MatMul(x, w) d = MatMul(z, v) e = Add(c, d) y = Mul(s, e) }",
        f"{PLANE}, float[2,1,1] s = {{5,0}}> {{ c = Conv(x, w) y = Div(c, s) }}",
        f"{PLANE}, float s = {{5}}> {{ c = Conv(x, w) y = Div(s, c) }}",
        "g (float16[N,1,3,2] x) => (float16[N,2,3,2] y) <float16[2,1,1,1] w = {2000,3}, float16[1] s = {50}> { c = Conv(x, w) y = Mul(s, c) }",
        "g (float[N,2,3,2] x) => (float[N,2,6] y) <float[2,2,1,1] w = {2,3,4,5}, int64[3] r = {0,2,6}, float[6] s = {5,7,1,1,2,3}>"
        " { c = Conv(x, w) d = Reshape(c, r) y = Mul(d, s) }",
        "g (int64[N,S] i) => (float[N,2,2] y) <float[5,2] w = {1,2,3,4,5,6,7,8,9,1}, float[2,1] s = {1.5,2}, int64[3] r = {0,2,2}>"
        " { c = Gather(w, i) d = Reshape(c, r) y = Mul(d, s) }",
    ],
)
def fold_scale(op: Build, m: Match) -> Result:
    """(x * w + b) s -> x * (w s) + b s, and the same for / s and negation, also across reshapes, transposes, Relu, pools, Concat, Gather and sums"""
    return fold_up(op, m)


@rule(
    "Add",
    "Sub",
    drift=ROUNDING,
    opset=7,
    examples=[
        f"{PLANE}, float[1,2,1,1] s = {{5,7}}> {{ c = Conv(x, w) y = Add(s, c) }}",
        f"{PLANE}, float s = {{5}}> {{ c = Conv(x, w) y = Sub(c, s) }}",
        f"{PLANE}, float s = {{5}}> {{ c = Conv(x, w) y = Sub(s, c) }}",
        f"{ROWS}, float[2] b = {{1,2}}, float[2] t = {{5,6}}> {{ c = MatMul(x, w) d = Add(b, c) y = Sub(d, t) }}",
        f"{ROWS}, float[2] b = {{1,2}}, float t = {{5}}> {{ c = MatMul(x, w) d = Add(b, c) y = Add(t, d) }}",
        "g (float[N,1,3,2] x) => (float[N,3,2,2] y) <float[2,1,1,1] w = {2,3}, float[2] s = {5,7}>"
        " { c = Conv(x, w) d = Transpose<perm=[0,2,3,1]>(c) y = Add(d, s) }",
        "g (float[N,3,2] x) => (float[N,6] y) <float[2,2] w = {1,2,3,4}, float[6] t = {5,6,5,6,5,6}, int64[2] r = {0,6}>"
        " { c = MatMul(x, w) d = Reshape(c, r) y = Add(t, d) }",
        "g (float[2,3] x) => (float[2,2] y) <float[3,2] w = {1,2,3,4,5,6}, float[2,2] t = {5,6,7,8}> { c = Gemm(x, w) y = Add(t, c) }",
    ],
    leaves=[
        f"{PLANE}, float s = {{12582912}}> {{ c = Conv(x, w) d = Add(c, s) y = Sub(d, s) }}",
        "g (float[1,1,3,2] x) => (float[1,2,3,2] y) <float[2,1,1,1] w = {2,3}, float[2] s = {5,7}> { c = Conv(x, w) y = Add(c, s) }",
        f"{ROWS}, float[2] b = {{1,2}}> {{ c = MatMul(x, w) y = Add(b, c) }}",
        f"{PLANE}, float[2,1,1] s = {{5,7}}> {{ c = Conv(x, w) d = Relu(c) y = Add(s, d) }}",
        "g (float[N,1,4,4] x) => (float[N,2,4,4] y) <float[2,1,1,1] w = {2,3}, float[2,1,1] s = {5,7}>"
        " { c = Conv(x, w) d = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(c) y = Add(s, d) }",
    ],
)
def fold_shift(op: Build, m: Match) -> Result:
    """(x * w + b) + t -> x * w + (b + t), and the same for - t and t -"""
    return fold_up(op, m)
