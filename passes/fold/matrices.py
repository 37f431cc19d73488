"""Chains and sums of products by constant matrices: x A B, and x W + x A B as low-rank adapters write it (LoRA, Hu et al. 2021)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import same
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import array, attribute, constant, is_op
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from .arithmetic import Arithmetic, arithmetic, narrowed
from .linear import Linear, is_shared, linear
from .readers import only_reader

DEPTH = 64
"""How many operators a chain has at most."""

Step = Linear | Arithmetic


@dataclass(frozen=True)
class Chain:
    """``source`` through ``steps``, first step first: a linear map of the last dim. ``cost`` counts the multiplications for each row."""

    source: ir.Value
    steps: tuple[Step, ...] = ()
    nodes: tuple[ir.Node, ...] = ()
    cost: int = 0

    @property
    def matrices(self) -> list[Linear]:
        """The products among its steps."""
        return [step for step in self.steps if isinstance(step, Linear)]

    @property
    def sizes(self) -> tuple[int, int]:
        """How many numbers it reads and makes for each row."""
        linear_steps = self.matrices
        return _matrix_shape(linear_steps[0])[0], _matrix_shape(linear_steps[-1])[1]

    def composed(self) -> tuple[np.ndarray, np.ndarray]:
        """The matrix and the bias of the whole chain, in double precision."""
        matrix, bias = _affine(self.steps[0])
        for step in self.steps[1:]:
            factor, added = _affine(step)
            matrix, bias = (matrix @ factor, bias @ factor + added) if factor.ndim == 2 else (matrix * factor, bias * factor + added)
        return matrix, bias


def chains(value: ir.Value | None) -> list[Chain]:
    """Every chain that ends in ``value``, shortest first; they differ in where they start. Each begins with a product by a matrix."""
    found: list[Chain] = []
    steps: tuple[Step, ...] = ()
    nodes: tuple[ir.Node, ...] = ()
    cost = 0
    for _ in range(DEPTH):
        node = value.producer() if value is not None else None
        if value is None or node is None or (nodes and (len(value.uses()) != 1 or value.is_graph_output())):
            break
        step = _step(node)
        if step is None:
            break
        steps, nodes = (step, *steps), (node, *nodes)
        value = step.data if isinstance(step, Linear) else step.x
        if isinstance(step, Linear):
            cost += math.prod(step.shape)
            found.append(Chain(value, steps, nodes, cost))
    return found


def _step(node: ir.Node) -> Step | None:
    item = linear(node)
    if item is not None:
        plain = is_op(node, "Gemm") and not attribute(node, "transA", 0) and _row(array(item.bias))
        return item if len(item.shape) == 2 and item.weight_at == 1 and (plain or is_op(node, "MatMul")) else None
    found = arithmetic(node)
    if found is None or any(size != 1 for content in (found.scale, found.shift) for size in content.shape[:-1]):
        return None
    return found


def _row(bias: np.ndarray | None) -> bool:
    """Whether Gemm's third input is one value per column."""
    return bias is None or bias.size == 1 or bias.ndim == 1 or bias.shape[0] == 1


def _matrix_shape(step: Linear) -> tuple[int, int]:
    rows, columns = step.shape
    return (columns, rows) if is_op(step.node, "Gemm") and attribute(step.node, "transB", 0) else (rows, columns)


def _affine(step: Step) -> tuple[np.ndarray, np.ndarray]:
    """The matrix (or the factors) and the bias of one step."""
    if isinstance(step, Arithmetic):
        return step.scale.reshape(-1), step.shift.reshape(-1)
    matrix = step.weight.astype(np.float64)
    if not is_op(step.node, "Gemm"):
        return matrix, np.zeros(matrix.shape[1])
    matrix = (matrix.T if attribute(step.node, "transB", 0) else matrix) * float(attribute(step.node, "alpha", 1.0))  # type: ignore[arg-type]
    bias = array(step.bias)
    beta = float(attribute(step.node, "beta", 1.0))  # type: ignore[arg-type]
    return matrix, np.zeros(matrix.shape[1]) if bias is None else np.broadcast_to(bias.astype(np.float64).reshape(-1) * beta, (matrix.shape[1],))


def product(op: Build, source: ir.Value, matrix: np.ndarray, bias: np.ndarray, like: Linear) -> ir.Value | Skip:
    """``source @ matrix + bias`` in the operator of ``like``."""
    weight, row = narrowed(matrix, like.weight.dtype), narrowed(bias, like.weight.dtype)
    if weight is None or row is None:
        return skip("the product of the weights would overflow, or lose digits")
    if is_op(like.node, "Gemm"):
        return op.Gemm(source, op.const(weight, "weight"), op.const(row, "bias") if row.any() else None)  # type: ignore[return-value]
    made = op.MatMul(source, op.const(weight, "weight"))
    return op.Add(made, op.const(row, "bias")) if row.any() else made  # type: ignore[return-value]


TALL = "float[4,1] a = {1,2,3,4}, float[1,4] b = {1,2,3,1}"
WIDE = "float[2,4] a = {1,2,3,4,5,6,7,8}, float[4,2] b = {1,2,3,4,5,6,7,8}"


@rule(
    "MatMul",
    "Gemm",
    drift=ROUNDING,
    opset=9,
    examples=[
        f"g (float[N,3,2] x) => (float[N,3,2] y) <{WIDE}> {{ c = MatMul(x, a) y = MatMul(c, b) }}",
        f"g (float[N,3,2] x) => (float[N,3,2] y) <{WIDE}, float[4] t = {{1,2,3,4}}> {{ c = MatMul(x, a) d = Add(t, c) y = MatMul(d, b) }}",
        f"g (float[N,2] x) => (float[N,2] y) <{WIDE}, float[4] t = {{1,2,3,4}}, float[2] u = {{5,6}}> {{ c = Gemm(x, a, t) y = Gemm<transB=0>(c, b, u) }}",
        "g (float[N,2] x) => (float[N,2] y) <float[4,2] a = {1,2,3,4,5,6,7,8}, float[2,4] b = {1,2,3,4,5,6,7,8}, float t = {2}>"
        " { c = Gemm<transB=1, alpha=0.5, beta=3.0>(x, a, t) d = Neg(c) y = Gemm<transB=1>(d, b) }",
        f"g (float[N,3,2] x) => (float[N,3,2] y) <{WIDE}> {{ c = MatMul(x, a) d = MatMul(c, b) e = MatMul(d, a) y = MatMul(e, b) }}",
    ],
    leaves=[
        f"g (float[N,4] x) => (float[N,4] y) <{TALL}> {{ c = MatMul(x, a) y = MatMul(c, b) }}",
        f"g (float[N,3,2] x) => (float[N,3,2] y, float[N,3,4] c) <{WIDE}> {{ c = MatMul(x, a) y = MatMul(c, b) }}",
        f"g (float[N,2] x) => (float[N,2] y) <{WIDE}> {{ c = MatMul(x, a) d = Relu(c) y = MatMul(d, b) }}",
        f"g (float[N,3,2] x) => (float[N,3,2] y) <{WIDE}, float[3,1] t = {{1,2,3}}> {{ c = MatMul(x, a) d = Add(t, c) y = MatMul(d, b) }}",
    ],
)
def merge_matrix_chain(op: Build, m: Match) -> Result:
    """(x A + a) B + b -> x (A B) + (a B + b) where A B has fewer elements than A and B together"""
    if _goes_on(m.root):
        return None
    paying = [chain for chain in chains(m.root.outputs[0]) if len(chain.matrices) > 1 and _elements(chain) < chain.cost]
    if not paying:
        return None
    best = max(paying, key=lambda chain: chain.cost - _elements(chain))
    for node in best.nodes:
        m.take(node)
    return product(op, best.source, *best.composed(), best.matrices[-1])


def _goes_on(node: ir.Node) -> bool:
    """Whether a product of the same square size follows: it takes the whole chain along, at once."""
    reader = only_reader(node.outputs[0])
    if reader is None or reader.graph is not node.graph:
        return False
    steps = _step(node), _step(reader)
    shapes = {_matrix_shape(step) if isinstance(step, Linear) else None for step in steps}
    square = shapes.pop()
    return not shapes and square is not None and square[0] == square[1]


def _elements(chain: Chain) -> int:
    return math.prod(chain.sizes)


@rule(
    "Add",
    "Sub",
    drift=ROUNDING,
    opset=9,
    examples=[
        f"g (float[N,3,4] x) => (float[N,3,4] y) <{TALL}, float[4,4] w = {{1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7}}, float[4] t = {{1,2,3,4}}, float s = {{0.5}}>"
        " { c = MatMul(x, w) d = Add(c, t) e = MatMul(x, a) f = MatMul(e, b) g = Mul(f, s) y = Add(d, g) }",
        "g (float[N,2] x) => (float[N,2] y) <float[2,2] w = {1,2,3,4}, float[2,2] v = {5,6,7,8}, float[2] t = {1,2}>"
        " { c = Gemm(x, w, t) d = Gemm<transB=1>(x, v) y = Sub(c, d) }",
        "g (float[N,3,2] x) => (float[N,3,2] y) <float[2,2] w = {1,2,3,4}> { c = MatMul(x, w) y = Add(x, c) }",
        "g (float[N,3,2] x) => (float[N,3,2] y) <float[2,2] w = {1,2,3,4}> { c = MatMul(x, w) y = Sub(x, c) }",
    ],
    leaves=[
        f"g (float[N,4] x) => (float[N,4] y) <{TALL}> {{ c = MatMul(x, a) d = MatMul(c, b) y = Add(x, d) }}",
        "g (float[N,2] x, float[N,2] z) => (float[N,2] y) <float[2,2] w = {1,2,3,4}, float[2,2] v = {5,6,7,8}>"
        " { c = MatMul(x, w) d = MatMul(z, v) y = Add(c, d) }",
        "g (float[N,2] x) => (float[N,2] y) <float[2,2] w = {1,2,3,4}, float[2,1] v = {5,6}> { c = MatMul(x, w) d = MatMul(x, v) y = Add(c, d) }",
        "g (float[N,1] x) => (float[N,2] y) <float[1,2] w = {1,2}> { c = MatMul(x, w) y = Add(x, c) }",
        "g (float[N,2] x) => (float[N,2] y, float[N,2] d) <float[2,2] w = {1,2,3,4}, float[2,2] v = {5,6,7,8}>"
        " { c = MatMul(x, w) d = MatMul(x, v) y = Add(c, d) }",
    ],
)
def merge_matrix_sum(op: Build, m: Match) -> Result:
    """x W + x A B -> x (W + A B), and x W + x -> x (W + I), where that multiplies no more than before"""
    left, right = m.root.inputs
    if left is None or right is None or constant(left) is not None or constant(right) is not None:
        return None
    found = [[*chains(left), Chain(left)], [*chains(right), Chain(right)]]
    pairs = [(a, b) for a in found[0] for b in found[1] if a.source is b.source and (a.steps or b.steps)]
    if not pairs:
        return None
    first, second = max(pairs, key=lambda pair: len(pair[0].nodes) + len(pair[1].nodes))
    whole = first if first.steps else second
    refusal = _refusal(first, second, whole)
    if refusal is not None:
        return refusal
    for node in (*first.nodes, *second.nodes):
        m.take(node)
    sign = -1.0 if is_op(m.root, "Sub") else 1.0
    (matrix, bias), (other, added) = (chain.composed() if chain.steps else (np.eye(whole.sizes[1]), np.zeros(whole.sizes[1])) for chain in (first, second))
    return product(op, whole.source, matrix + sign * other, bias + sign * added, whole.matrices[-1])


def _refusal(first: Chain, second: Chain, whole: Chain) -> Skip | None:
    inner, outer = whole.sizes
    for chain in (first, second):
        if chain.steps and chain.sizes[1] != outer:
            return skip("one of the terms is broadcast")
        if not chain.steps and (inner != outer or whole.source.shape is None or not same(whole.source.shape[-1], outer)):
            return skip("'%s' has not the shape of the product", whole.source.name)
        if any(is_shared(step) for step in chain.matrices):
            return skip("a weight is large and needed elsewhere too")
    if inner * outer > first.cost + second.cost:
        return skip("one matrix of %s elements costs more than the %s that are there", inner * outer, first.cost + second.cost)
    return None
