"""Equal elementwise operators beside each other: once, behind the Concat that joins them or before the Split that feeds them."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import EXACT, ROUNDING
from ...compiler.core.graph import is_op, producer
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from ..fold.readers import only_reader
from .siblings import same_attributes

FUSED_BEHIND = ("Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid", "Clip")
"""Activations that a Conv or Gemm computes on its way out."""
BIT_FOR_BIT = ("Relu", "LeakyRelu", "Abs", "Neg", "Floor", "Ceil", "Round", "Sqrt", "Not", "Sign", "Cast", "IsNaN", "Clip", "ThresholdedRelu")
"""Operators whose result for an element does not depend on where the element lies."""
APPROXIMATE = ("Sigmoid", "Tanh", "Erf", "Exp", "Log", "Gelu", "Softplus", "HardSwish", "HardSigmoid", "Elu", "Celu", "Selu", "Mish", "Swish", "Reciprocal")
"""Operators whose kernels treat the last elements, which do not fill a vector, differently."""


@rule(
    "Concat",
    drift=EXACT,
    examples=[
        "g (float[N,2] x, float[N,3] z) => (float[N,5] y) { a = Relu(x) b = Relu(z) y = Concat<axis=1>(a, b) }",
        "g (float[N,2] x, float[M,2] z) => (int64[K,2] y) { a = Cast<to=7>(x) b = Cast<to=7>(z) y = Concat<axis=0>(a, b) }",
        "g (float[N,2] x, float[N,3] z) => (float[N,7] y) <float lo = {0}, float hi = {6}>"
        " { a = Clip(x, lo, hi) b = Clip(z, lo, hi) c = Clip(x, lo, hi) y = Concat<axis=1>(a, b, c) }",
    ],
    leaves=[
        "g (float[N,2] x, float[N,3] z) => (float[N,5] y) { a = Relu(x) b = Abs(z) y = Concat<axis=1>(a, b) }",
        "g (float[N,2] x, float[N,3] z) => (float[N,5] y) { a = Relu(x) y = Concat<axis=1>(a, z) }",
        "g (float[N,2] x, float[N,3] z) => (float[N,5] y, float[N,2] a) { a = Relu(x) b = Relu(z) y = Concat<axis=1>(a, b) }",
        "g (float[N,2] x, float[N,3] z) => (float[N,5] y) { a = LeakyRelu<alpha=0.1>(x) b = LeakyRelu<alpha=0.2>(z) y = Concat<axis=1>(a, b) }",
        "g (int32[N,2] x, float[N,3] z) => (float[N,5] y) { a = Cast<to=1>(x) b = Cast<to=1>(z) y = Concat<axis=1>(a, b) }",
        "g (float[N,1,2,2] x) => (float[N,2,2,2] y) <float[1,1,1,1] v = {2}, float[1,1,1,1] w = {3}>"
        " { p = Conv(x, v) q = Conv(x, w) a = Relu(p) b = Relu(q) y = Concat<axis=1>(a, b) }",
    ],
)
def join_before(op: Build, m: Match) -> Result:
    """Concat(f(x), f(z), ...) -> f(Concat(x, z, ...)), unless each f is computed along with the operator before it"""
    return _joined_before(op, m, BIT_FOR_BIT)


@rule(
    "Concat",
    drift=ROUNDING,
    examples=["g (float[N,2] x, float[N,3] z) => (float[N,5] y) { a = Sigmoid(x) b = Sigmoid(z) y = Concat<axis=1>(a, b) }"],
    leaves=["g (float[N,2] x, float[N,3] z) => (float[N,5] y) { a = Sigmoid(x) b = Tanh(z) y = Concat<axis=1>(a, b) }"],
)
def join_before_approximate(op: Build, m: Match) -> Result:
    """Concat(f(x), f(z), ...) -> f(Concat(x, z, ...)) for f whose vectors may end elsewhere: Sigmoid, Tanh, Gelu, ..."""
    return _joined_before(op, m, APPROXIMATE)


def _joined_before(op: Build, m: Match, kinds: tuple[str, ...]) -> Result:
    nodes = [producer(value, *kinds) for value in m.root.inputs]
    first = nodes[0]
    if first is None or len(nodes) < 2 or None in nodes or len(set(nodes)) < len(nodes):
        return None
    found = [node for node in nodes if node is not None]
    if not all(_is_alike(node, first) for node in found):
        return skip("they are told different things")
    if any(_is_computed_along(node) for node in found):
        return skip("%s is computed along with the operator before it", first.op_type)
    for node in found:
        m.take(node)
    joined = op.like(m.root, *(node.inputs[0] for node in found))
    return op.like(first, joined, *first.inputs[1:])  # type: ignore[arg-type]


def _is_alike(node: ir.Node, first: ir.Node) -> bool:
    """Whether both do the same to data of the same dtype."""
    if node.op_type != first.op_type or not same_attributes(node, first) or list(node.inputs[1:]) != list(first.inputs[1:]):
        return False
    data, other = node.inputs[0], first.inputs[0]
    return data is not None and other is not None and data.dtype is not None and data.dtype == other.dtype


def _is_computed_along(node: ir.Node) -> bool:
    before = node.inputs[0].producer() if node.inputs[0] is not None else None
    if is_op(before, "Conv", "ConvTranspose", "Gemm"):
        return is_op(node, *FUSED_BEHIND)
    return is_op(before, "Add") and is_op(node, "Gelu")


@rule(
    *BIT_FOR_BIT,
    drift=EXACT,
    opset=13,
    examples=[
        "g (float[N,4] x) => (float[N,2] y, float[N,2] z) { a, b = Split<axis=1, num_outputs=2>(x) y = Relu(a) z = Relu(b) }",
        "g (float[N,5] x) => (float[N,2] y, float[N,3] z) <int64[2] s = {2,3}> { a, b = Split<axis=1>(x, s) z = Neg(b) y = Neg(a) }",
    ],
    leaves=[
        "g (float[N,4] x) => (float[N,2] y, float[N,2] z) { a, b = Split<axis=1, num_outputs=2>(x) y = Relu(a) z = Abs(b) }",
        "g (float[N,4] x) => (float[N,2] y, float[N,2] b) { a, b = Split<axis=1, num_outputs=2>(x) y = Relu(a) }",
        "g (float[N,4] x) => (float[N,2] y, float[N,2] z, float[N,2] b) { a, b = Split<axis=1, num_outputs=2>(x) y = Relu(a) z = Relu(b) }",
    ],
)
def split_after(op: Build, m: Match) -> Result:
    """f(Split(x)[0]), f(Split(x)[1]), ... -> Split(f(x))"""
    return _split_after(op, m)


@rule(
    *APPROXIMATE,
    drift=ROUNDING,
    opset=13,
    examples=["g (float[N,4] x) => (float[N,2] y, float[N,2] z) { a, b = Split<axis=1, num_outputs=2>(x) y = Tanh(a) z = Tanh(b) }"],
    leaves=["g (float[N,4] x) => (float[N,2] y, float[N,2] z) { a, b = Split<axis=1, num_outputs=2>(x) y = Tanh(a) z = Erf(b) }"],
)
def split_after_approximate(op: Build, m: Match) -> Result:
    """f(Split(x)[0]), f(Split(x)[1]), ... -> Split(f(x)) for f whose vectors may end elsewhere: Sigmoid, Tanh, Gelu, ..."""
    return _split_after(op, m)


def _split_after(op: Build, m: Match) -> Result:
    split = producer(m.root.inputs[0], "Split")
    if split is None or split.graph is not m.root.graph or m.root.inputs[0] is not split.outputs[0] or len(split.outputs) < 2:
        return None
    nodes = [only_reader(value) for value in split.outputs]
    found = [node for node in nodes if node is not None and node.graph is split.graph]
    if len(found) < len(nodes) or not all(_is_alike(node, m.root) for node in found):
        return skip("not every part goes through the same %s", m.root.op_type)
    for node in (split, *found):
        m.take(node)
    m.outputs = tuple(node.outputs[0] for node in found)
    whole = op.like(m.root, split.inputs[0], *m.root.inputs[1:])
    return op.like(split, whole, *split.inputs[1:])  # type: ignore[arg-type]
