"""MatMuls and Gemms that multiply one input by several weights.

On CPU one product and a Split took between 0.7 and 1.02 times as long as two to four products with two threads, 0.98 to 1.05 times with one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import array, attribute, is_op
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from ..fold.linear import is_shared, linear
from ..fold.readers import only_reader
from .siblings import are_joined, feeds_attention, siblings
from .weights import side_by_side

TWO = "float[2,3] a = {1,2,3,4,5,6}, float[2,1] b = {7,8}"


@dataclass(frozen=True)
class Projection:
    """``x @ weight + bias``, made by ``nodes``; ``weight`` is [inputs, outputs] whatever way it is stored."""

    nodes: tuple[ir.Node, ...]
    weight: np.ndarray
    bias: np.ndarray | None

    @property
    def output(self) -> ir.Value:
        """What comes out, with the bias where there is one."""
        return self.nodes[-1].outputs[0]

    @property
    def width(self) -> int:
        """How many columns it makes."""
        return self.weight.shape[1]

    def row(self) -> np.ndarray:
        """The bias, zeros where there is none."""
        return np.zeros(self.width, self.weight.dtype) if self.bias is None else np.broadcast_to(self.bias.reshape(-1), (self.width,))


def projection(node: ir.Node | None) -> Projection | None:
    """A MatMul by a constant matrix, with the constant added after it; or a Gemm without factors."""
    item = linear(node)
    if node is None or item is None or item.weight_at != 1 or len(item.shape) != 2 or is_shared(item):
        return None
    if is_op(node, "MatMul"):
        return _biased(node, item.weight)
    if not is_op(node, "Gemm") or attribute(node, "transA", 0) or any(attribute(node, name, 1.0) != 1 for name in ("alpha", "beta")):
        return None
    bias = array(item.bias)
    weight = item.weight.T if attribute(node, "transB", 0) else item.weight
    return Projection((node,), weight, bias) if bias is None or _is_row(bias, weight.shape[1]) else None


def _biased(node: ir.Node, weight: np.ndarray) -> Projection:
    reader = only_reader(node.outputs[0])
    if reader is not None and is_op(reader, "Add") and reader.graph is node.graph:
        other = next((value for value in reader.inputs if value is not node.outputs[0]), None)
        bias = array(other)
        if bias is not None and _is_row(bias, weight.shape[1]) and bias.ndim <= len(node.outputs[0].shape or ()):
            return Projection((node, reader), weight, bias)
    return Projection((node,), weight, None)


def _is_row(bias: np.ndarray, width: int) -> bool:
    """Whether the constant is one value per column, or one for all."""
    return bias.size in (1, width) and all(size == 1 for size in bias.shape[:-1])


def merged(op: Build, x: ir.Value, parts: list[Projection]) -> ir.Value:
    """One operator that makes all the columns side by side."""
    weight = op.const(side_by_side([part.weight for part in parts], 1), "weight")
    has_bias = any(part.bias is not None for part in parts)
    bias = op.const(np.concatenate([part.row() for part in parts]), "bias") if has_bias else None
    if is_op(parts[0].nodes[0], "Gemm"):
        return op.Gemm(x, weight, bias)  # type: ignore[return-value]
    product = op.MatMul(x, weight)
    return product if bias is None else op.Add(product, bias)  # type: ignore[return-value]


@rule(
    "MatMul",
    "Gemm",
    drift=ROUNDING,
    opset=13,
    measured=True,
    examples=[
        f"g (float[N,2,2] x) => (float[N,2,3] y, float[N,2,1] z) <{TWO}> {{ y = MatMul(x, a) z = MatMul(x, b) }}",
        f"g (float[N,2,2] x) => (float[N,2,3] y, float[N,2,1] z, float[N,2,2] u) <{TWO}, float[1] c = {{5}}, float[2,2] d = {{1,2,3,4}}, float e = {{6}}>"
        " { p = MatMul(x, a) q = MatMul(x, b) z = Add(c, q) r = MatMul(x, d) u = Add(r, e) y = Relu(p) }",
        f"g (float[N,2] x) => (float[N,3] y, float[N,1] z) <{TWO}, float[3] c = {{5,6,7}}, float[1,2] t = {{1,2}}>"
        " { y = Gemm(x, a, c) z = Gemm<transB=1>(x, t) }",
        "g (float[N,2,4] x) => (float[N,2,4] y) <float[4,4] a = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7}, float[4,4] b = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,8}>"
        " { p = MatMul(x, a) q = MatMul(x, b) s = Sigmoid(p) y = Mul(s, q) }",
    ],
    leaves=[
        f"g (float[N,2,2] x) => (float[N,2,4] y) <{TWO}> {{ p = MatMul(x, a) q = MatMul(x, b) y = Concat<axis=-1>(q, p) }}",
        f"g (float[N,2,2] x) => (float[N,2,3] y) <{TWO}> {{ y = MatMul(x, a) }}",
        f"g (float[N,2,2] x, float[N,2,2] w) => (float[N,2,3] y, float[N,2,1] z) <{TWO}> {{ y = MatMul(x, a) z = MatMul(w, b) }}",
        "g (float[N,2] x) => (float[N,2] y) <float[2,2] a = {1,2,3,4}, float[2,2] b = {5,6,7,8}>"
        " { p = MatMul(x, a) q = MatMul(x, b) k = Transpose<perm=[1,0]>(q) s = MatMul(p, k) t = Softmax(s) y = MatMul(t, x) }",
        "g (float[2,2] x) => (float[2,2] y, float[2,2] z) <float[2,2] a = {1,2,3,4}, float[2,2] b = {5,6,7,8}> { y = MatMul(x, a) z = MatMul(b, x) }",
    ],
)
def merge_projections(op: Build, m: Match) -> Result:
    """x A + a, x B + b, ... -> Split(x [A B ...] + [a b ...]), but for queries, keys and values, which `fuse` packs"""
    x = m.root.inputs[0]
    if x is None:
        return None
    found = (projection(node) for node in siblings(m.root, x))
    fitting = (part for part in found if part is not None and not feeds_attention(part.output))
    first = next(fitting, None)
    if first is None or first.nodes[0] is not m.root:
        return None
    parts = [first, *fitting]
    if len(parts) < 2:
        return None
    if are_joined([part.output for part in parts]):
        return skip("their results are concatenated: `join-weights` needs no Split")
    if len({part.weight.dtype for part in parts}) > 1:
        return skip("the weights are of different types")
    for node in (node for part in parts for node in part.nodes):
        m.take(node)
    m.outputs = tuple(part.output for part in parts)
    sizes = [part.width for part in parts]
    return op.Split(merged(op, x, parts), op.const(sizes, "sizes"), axis=-1, _outputs=len(sizes))
