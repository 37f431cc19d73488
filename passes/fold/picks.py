"""Rows of which only some are needed, as the first token's in a classifier: what leads to them is computed for those alone."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import Dim, same
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import array, attribute, constant, is_op, scalar, users
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from ...compiler.core.shapes import dims_of
from ..movement.cuts import cuts_of

FIRST = "int64[1] o = {0}, int64[1] l = {1}, int64[1] a = {1}, int64 z = {0}, int64[2] p = {2,0}"
WEIGHTS = "float[2,3] w = {1,2,3,4,5,6}, float[3] b = {1,2,3}"
BY_ELEMENT = (
    "Abs", "Ceil", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Round", "Sigmoid",
    "Softplus", "Sqrt", "Swish", "Tanh", "Elu", "Selu", "Clip", "Cos", "Sin",
)  # fmt: skip
BY_PAIR = ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min")
MAX_PICKED = 16
"""So many readers may pick the same."""


@dataclass(frozen=True)
class Pick:
    """The rows along ``axis`` that a Slice or Gather keeps; ``drops`` says that the axis goes as well."""

    node: ir.Node
    axis: int
    drops: bool

    def of(self, op: Build, value: ir.Value, axis: int) -> ir.Value:
        """The same rows of another value, along its ``axis``, which stays."""
        inputs = self.node.inputs
        if self.drops:
            place = int(scalar(inputs[1]) or 0)
            return op.Slice(value, op.const([place]), op.const([place + 1 if place != -1 else 2**63 - 1]), op.const([axis]))  # type: ignore[return-value]
        if is_op(self.node, "Gather"):
            return op.Gather(value, inputs[1], axis=axis)  # type: ignore[return-value]
        steps = inputs[4] if len(inputs) > 4 else None
        return op.Slice(value, inputs[1], inputs[2], op.const([axis]), steps)  # type: ignore[return-value]


def pick(node: ir.Node) -> Pick | None:
    """What a Slice of one axis, or a Gather of constant places, keeps, if that is half of what there is, or less."""
    before, after = dims_of(node.inputs[0]), dims_of(node.outputs[0])
    if before is None or after is None:
        return None
    if is_op(node, "Slice"):
        cuts = cuts_of(node)
        axis = next(iter(cuts)) if cuts is not None and len(cuts) == 1 else None
        return Pick(node, axis, False) if axis is not None and _is_less(after[axis], before[axis]) else None
    axis = int(attribute(node, "axis", 0)) % len(before)  # type: ignore[call-overload]
    places = constant(node.inputs[1])
    if places is None or len(places.shape) > 1:
        return None
    if len(places.shape) == 0:
        return Pick(node, axis, True) if before[axis] != 1 else None
    return Pick(node, axis, False) if _is_less(after[axis], before[axis]) else None


def _is_less(kept: Dim, size: Dim) -> bool:
    if not isinstance(kept, int):
        return False
    return 2 * kept <= size if isinstance(size, int) else kept == 1


@rule(
    "Slice",
    "Gather",
    drift=ROUNDING,
    opset=13,
    examples=[
        f"g (float[N,3,2] x) => (float[N,3] y) <{FIRST}, {WEIGHTS}> {{ c = MatMul(x, w) d = Add(c, b) e = Gelu(d) y = Gather<axis=1>(e, z) }}",
        f"g (float[N,3,2] x) => (float[N,1,3] y) <{FIRST}, {WEIGHTS}> {{ c = MatMul(x, w) y = Slice(c, o, l, a) }}",
        f"g (float[N,4,2] x) => (float[N,2,3] y) <{FIRST}, {WEIGHTS}> {{ c = MatMul(x, w) d = Softmax(c) y = Gather<axis=1>(d, p) }}",
        f"g (float[N,3,2] x, float[N,3,2] r) => (float[N,2] y) <{FIRST}, float[2] s = {{1,2}}, int64 last = {{-1}}>"
        " { c = Add(x, r) d = LayerNormalization<axis=2>(c, s) y = Gather<axis=1>(d, last) }",
        f"g (float[N,2,3,2] x) => (float[N,1,4] y) <{FIRST}, int64[3] r = {{0,0,4}}>"
        " { c = Transpose<perm=[0,2,1,3]>(x) d = Reshape(c, r) y = Slice(d, o, l, a) }",
        f"g (float[3,2] x) => (float[1,3] y) <int64[1] o = {{1}}, int64[1] l = {{2}}, int64[1] a = {{0}}, {WEIGHTS}>"
        " { c = Gemm(x, w, b) y = Slice(c, o, l, a) }",
        f"g (float[N,3,2] x) => (float[N,2] y, float[N,2] u) <{FIRST}>"
        " { c = Neg(x) d = Gather<axis=1>(c, z) e = Gather<axis=1>(c, z) y = Relu(d) u = Abs(e) }",
    ],
    leaves=[
        f"g (float[N,3,2] x) => (float[N,2,3] y) <{FIRST}, {WEIGHTS}> {{ c = MatMul(x, w) y = Gather<axis=1>(c, p) }}",
        f"g (float[N,3,2] x) => (float[N,3] y, float[N,3,3] c) <{FIRST}, {WEIGHTS}> {{ c = MatMul(x, w) y = Gather<axis=1>(c, z) }}",
        f"g (float[N,3,2] x) => (float[N,2] y) <{FIRST}> {{ d = Softmax<axis=1>(x) y = Gather<axis=1>(d, z) }}",
        f"g (float[N,3,2] x) => (float[N,2] y) <{FIRST}, float[3,2] s = {{1,2,3,4,5,6}}> {{ d = LayerNormalization<axis=1>(x, s) y = Gather<axis=1>(d, z) }}",
        f"g (float[N,3,2] x) => (float[N,3] y, float[N,3] u) <{FIRST}, {WEIGHTS}, int64 k = {{1}}>"
        " { c = MatMul(x, w) y = Gather<axis=1>(c, z) u = Gather<axis=1>(c, k) }",
        f"g (float[N,K,2] x, float[N,M,2] r) => (float[N,2] y) <{FIRST}> {{ c = Add(x, r) y = Gather<axis=1>(c, z) }}",
        "g (float[N,1,4,4] x, float[1,1,1,1] w) => (float[N,1,1,4] y) <int64[1] o = {0}, int64[1] l = {1}, int64[1] a = {2}>"
        " { c = Conv(x, w) d = Relu(c) y = Slice(d, o, l, a) }",
    ],
)
def pick_first(op: Build, m: Match) -> Result:
    """f(x)[rows] -> f(x[rows]) where f computes every row apart: elementwise, MatMul, normalisation, Softmax, Transpose, Reshape, Attention's queries"""
    value, own = m.root.inputs[0], pick(m.root)
    node = value.producer() if value is not None else None
    if value is None or own is None or node is None or len(node.outputs) != 1 or value.is_graph_output():
        return None
    twins = users(value)
    if twins[0] is not m.root or len(twins) > MAX_PICKED or not all(_is_same(twin, m.root) for twin in twins):
        return skip("'%s' is also needed elsewhere", value.name)
    made = _computed(op, node, own)
    if made is None or isinstance(made, Skip):
        return made
    m.take(node)
    m.also(*(twin.outputs[0] for twin in twins[1:]))
    result = op.Squeeze(made, op.const([own.axis])) if own.drops else made
    return (result,) * len(twins) if len(twins) > 1 else result  # type: ignore[return-value]


def _is_same(node: ir.Node, root: ir.Node) -> bool:
    same_kind = is_op(node, root.op_type) and node.graph is root.graph and list(node.inputs) == list(root.inputs)
    return same_kind and attribute(node, "axis", 0) == attribute(root, "axis", 0)


def _computed(op: Build, node: ir.Node, own: Pick) -> ir.Value | Skip | None:
    """The node's result, for the rows that are picked."""
    source, shape = node.inputs[0], dims_of(node.outputs[0])
    if source is None or shape is None or dims_of(source) is None:
        return None
    if is_op(node, *BY_ELEMENT):
        return _unary(op, node, own, source)
    if is_op(node, *BY_PAIR) and len(node.inputs) == 2:
        return _paired(op, node, own, shape)
    if is_op(node, "MatMul", "Gemm", "Attention"):
        return _multiplied(op, node, own, source)
    if is_op(node, "LayerNormalization", "RMSNormalization", "Softmax", "LogSoftmax"):
        return _normalised(op, node, own, source)
    if is_op(node, "Transpose"):
        perm = list(attribute(node, "perm") or range(len(shape))[::-1])  # type: ignore[call-overload]
        return op.like(node, own.of(op, source, perm[own.axis]))  # type: ignore[return-value]
    return _reshaped(op, node, own, shape) if is_op(node, "Reshape") else None


def _unary(op: Build, node: ir.Node, own: Pick, source: ir.Value) -> ir.Value | Skip:
    if own.axis > 1 and is_op(source.producer(), "Conv", "ConvTranspose"):
        return skip("%s is computed along with the Conv before it", node.op_type)
    return op.like(node, own.of(op, source, own.axis), *node.inputs[1:])  # type: ignore[return-value]


def _paired(op: Build, node: ir.Node, own: Pick, shape: tuple[Dim, ...]) -> ir.Value | Skip:
    parts: list[ir.Value] = []
    for part in node.inputs:
        dims = dims_of(part)
        if part is None or dims is None:
            return skip("the shape of an operand is not known")
        axis = own.axis - (len(shape) - len(dims))
        if axis < 0 or dims[axis] == 1:
            parts.append(part)
        elif same(dims[axis], shape[own.axis]):
            parts.append(own.of(op, part, axis))
        else:
            return skip("'%s' may or may not be broadcast", part.name)
    return op.like(node, *parts) if parts != list(node.inputs) else skip("both operands are broadcast")  # type: ignore[return-value]


def _multiplied(op: Build, node: ir.Node, own: Pick, source: ir.Value) -> ir.Value | Skip | None:
    rank = len(dims_of(source) or ())
    if is_op(node, "MatMul"):
        whole = len(dims_of(node.outputs[0]) or ())
        flat = len(dims_of(node.inputs[1]) or ()) == 2 and own.axis < whole - 1
        fits = rank == whole and rank > 1 and (own.axis == rank - 2 or flat)
    elif is_op(node, "Gemm"):
        bias = array(node.inputs[2]) if len(node.inputs) > 2 else None
        plain = len(node.inputs) < 3 or node.inputs[2] is None or (bias is not None and (bias.ndim < 2 or bias.shape[0] == 1))
        fits = own.axis == 0 and not attribute(node, "transA", 0) and plain
    else:
        fits = len(node.inputs) == 3 and not attribute(node, "is_causal", 0) and own.axis == rank - 2
    return op.like(node, own.of(op, source, own.axis), *node.inputs[1:]) if fits else skip("its rows are not apart along axis %s", own.axis)  # type: ignore[return-value]


def _normalised(op: Build, node: ir.Node, own: Pick, source: ir.Value) -> ir.Value | Skip:
    rank = len(dims_of(source) or ())
    axis = int(attribute(node, "axis", -1)) % rank  # type: ignore[call-overload]
    apart = own.axis != axis if is_op(node, "Softmax", "LogSoftmax") else own.axis < axis
    if not apart or any(len(dims_of(value) or ()) > rank - axis for value in node.inputs[1:] if value is not None):
        return skip("its rows are not apart along axis %s", own.axis)
    return op.like(node, own.of(op, source, own.axis), *node.inputs[1:])  # type: ignore[return-value]


def _reshaped(op: Build, node: ir.Node, own: Pick, shape: tuple[Dim, ...]) -> ir.Value | Skip:
    before = dims_of(node.inputs[0]) or ()
    head = own.axis + 1
    tail = shape[head:]
    if len(before) < head or not all(map(same, before[:head], shape[:head])) or not all(isinstance(size, int) and size > 0 for size in tail):
        return skip("it is reshaped along with what is not picked")
    return op.Reshape(own.of(op, node.inputs[0], own.axis), op.const([0] * head + list(tail)))  # type: ignore[arg-type,return-value]
