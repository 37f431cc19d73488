"""Elementwise operators that compute in another shape than what comes before and after them."""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import Dim, same_shape
from ...compiler.core.drift import EXACT
from ...compiler.core.graph import constant, is_op, producer
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from ...compiler.core.shapes import dims_of, never_zero
from .layouts import ELEMENTWISE
from .views import VIEWS, only_reader, reshaped

DEEPEST = 8
BY_TENSOR = ("QuantizeLinear", "DequantizeLinear", "Clip")
"""Their other inputs are single numbers, or they are left alone."""


@dataclass
class _Detour:
    """What was found on the way up from the last view."""

    op: Build
    m: Match
    shape: tuple[Dim, ...]
    positive: frozenset[str]
    removed: int = 1
    added: int = 0
    nodes: list[ir.Node] = field(default_factory=list)

    def value(self, value: ir.Value, reader: ir.Node, depth: int) -> ir.Value | Skip:
        """The value in the last shape, written without the views on the way to it."""
        maker = value.producer()
        if maker is not None and is_op(maker, *VIEWS) and maker.inputs[0] is not None:
            return self._source(value, maker, reader)
        if maker is None or depth == 0 or not is_op(maker, *ELEMENTWISE, *BY_TENSOR) or not only_reader(value, reader):
            self.added += 1
            return reshaped(self.op, value, self.shape, self.positive)
        self.nodes.append(maker)
        inputs: list[ir.Value | None] = []
        for slot, given in enumerate(maker.inputs):
            made = given if given is None or _is_number(given) else self._operand(given, slot, maker, depth)
            if isinstance(made, Skip):
                return made
            inputs.append(made)
        result: ir.Value = self.op.like(maker, *inputs)  # type: ignore[assignment]
        result.shape, result.type = ir.Shape(self.shape), value.type
        return result

    def _source(self, value: ir.Value, view: ir.Node, reader: ir.Node) -> ir.Value | Skip:
        source = view.inputs[0]
        assert source is not None
        self.removed += only_reader(value, reader)
        made = reshaped(self.op, source, self.shape, self.positive)
        self.added += made is not source
        return made

    def _operand(self, given: ir.Value, slot: int, maker: ir.Node, depth: int) -> ir.Value | Skip:
        if is_op(maker, *BY_TENSOR) and slot > 0:
            return skip("%s has another number for each channel", maker.name)
        if not same_shape(dims_of(given), dims_of(maker.outputs[0])):
            return skip("'%s' is broadcast", given.name)
        content = constant(given)
        if content is not None:
            sizes = [dim for dim in self.shape if isinstance(dim, int)]
            if len(sizes) < len(self.shape) or content.dtype == ir.DataType.STRING:
                return skip("the constant '%s' has no shape to take", given.name)
            return self.op.const(content.numpy().reshape(sizes), "flat")
        return self.value(given, maker, depth - 1)


def _is_number(value: ir.Value) -> bool:
    return dims_of(value) == ()


@rule(
    *VIEWS,
    drift=EXACT,
    opset=13,
    examples=[
        "g (float[N,3,4] x) => (float[N,3,4] y) <int64[2] s = {0,12}, int64[3] t = {0,3,4}, float c = {2}>"
        " { a = Reshape(x, s) b = Relu(a) d = Mul(b, c) y = Reshape(d, t) }",
        "g (float[N,3] x) => (float[N,3] y) <int64[1] s = {1}> { a = Unsqueeze(x, s) b = Sigmoid(a) y = Squeeze(b, s) }",
        "g (float[N,3] x, float[N,3] z) => (float[N,3] y) <int64[1] s = {1}> { a = Unsqueeze(x, s) b = Unsqueeze(z, s) c = Add(a, b) y = Squeeze(c, s) }",
        "g (float[N,3,4] x) => (float[N,4,3] y) <int64[2] s = {0,12}, int64[3] t = {0,4,3}> { a = Reshape(x, s) b = Relu(a) y = Reshape(b, t) }",
        "g (float[2,3] x) => (float[2,3] y) <float[6] c = {1,2,3,4,5,6}, int64[1] s = {6}, int64[2] t = {2,3}>"
        " { a = Reshape(x, s) b = Mul(a, c) y = Reshape(b, t) }",
        "g (uint8[N,3] x) => (uint8[N,3] y) <float s = {0.1}, uint8 z = {3}, int64[1] a = {0}>"
        " { b = Unsqueeze(x, a) c = DequantizeLinear(b, s, z) d = Relu(c) e = QuantizeLinear(d, s, z) y = Squeeze(e, a) }",
    ],
    leaves=[
        "g (float[N,3] x, float[3] z) => (float[N,3] y) <int64[1] s = {1}> { a = Unsqueeze(x, s) c = Add(a, z) y = Squeeze(c, s) }",
        "g (float[N,3] x) => (float[N,3] y, float[N,1,3] b) <int64[1] s = {1}> { a = Unsqueeze(x, s) b = Sigmoid(a) y = Squeeze(b, s) }",
        "g (float[N,1,3] x) => (float[N,3] y) <int64[1] s = {1}> { b = Sigmoid(x) y = Squeeze(b, s) }",
        "g (float[N,1,3] x, float[N,1,3] z) => (float[N,3] y) <int64[1] s = {1}> { b = Add(x, z) y = Squeeze(b, s) }",
        "g (float[N,3] x) => (float[N,3] y) <int64[1] s = {1}> { a = Unsqueeze(x, s) b = Softmax<axis=1>(a) y = Squeeze(b, s) }",
        "g (uint8[N,3] x) => (float[N,3] y) <float[3] s = {0.1,1,2}, uint8[3] z = {3,3,3}, int64[1] a = {0}>"
        " { b = Unsqueeze(x, a) c = DequantizeLinear<axis=2>(b, s, z) y = Squeeze(c, a) }",
    ],
)
def skip_detour(op: Build, m: Match) -> Result:
    """Reshape(f(Reshape(x, s)), shape of x) -> f(x) for elementwise f; one Reshape is left where the shapes differ"""
    inner, shape = m.root.inputs[0], dims_of(m.root.outputs[0])
    if inner is None or shape is None or producer(inner, *ELEMENTWISE, *BY_TENSOR) is None:
        return None
    detour = _Detour(op, m, shape, never_zero(m.root))
    made = detour.value(inner, m.root, DEEPEST)
    if isinstance(made, Skip):
        return made
    if detour.added >= detour.removed or not detour.nodes:
        return skip("%s Reshapes would go and %s come", detour.removed, detour.added)
    for node in detour.nodes:
        m.take(node)
    return made


@rule(
    "Reshape",
    drift=EXACT,
    opset=13,
    examples=[
        "g (float[N,5,3] x) => (float[N,5,2] y) <float[3,2] w = {1,2,3,4,5,6}, int64[2] s = {-1,3}, int64[3] t = {-1,5,2}>"
        " { a = Reshape(x, s) b = MatMul(a, w) y = Reshape(b, t) }",
        "g (float[2,N,3] x, float[3,2] w) => (float[2,N,2] y) <float[2] c = {7,8}, int64[2] s = {-1,3}, int64[3] t = {2,-1,2}>"
        " { a = Reshape(x, s) b = MatMul(a, w) d = Add(c, b) e = Relu(d) y = Reshape(e, t) }",
    ],
    leaves=[
        "g (float[N,6,3] x) => (float[M,9,2] y) <float[3,2] w = {1,2,3,4,5,6}, int64[2] s = {-1,3}, int64[3] t = {-1,9,2}>"
        " { a = Reshape(x, s) b = MatMul(a, w) y = Reshape(b, t) }",
        "g (float[N,6] x) => (float[N,2,2] y) <float[3,2] w = {1,2,3,4,5,6}, int64[2] s = {-1,3}, int64[3] t = {-1,2,2}>"
        " { a = Reshape(x, s) b = MatMul(a, w) y = Reshape(b, t) }",
        "g (float[2,5,3] x) => (float[2,5,2] y) <float[3,2] w = {1,2,3,4,5,6}, float[10,1] c = {1,2,3,4,5,6,7,8,9,0},"
        " int64[2] s = {10,3}, int64[3] t = {2,5,2}>"
        " { a = Reshape(x, s) b = MatMul(a, w) d = Mul(b, c) y = Reshape(d, t) }",
        "g (float[N,5,3] x, float[N,3,2] w) => (float[N,5,2] y) <int64[3] s = {0,5,3}, int64[3] t = {0,5,2}>"
        " { a = Reshape(x, s) b = MatMul(a, w) y = Reshape(b, t) }",
    ],
)
def skip_matrix(op: Build, m: Match) -> Result:
    """Reshape(Reshape(x, [-1, k]) w + b) to the rows of x -> x w + b: MatMul takes any number of rows"""
    chain = _row_by_row(m.root)
    product = chain[-1] if chain else None
    view = producer(product.inputs[0], *VIEWS) if product is not None and is_op(product, "MatMul") else None
    if product is None or view is None or view.inputs[0] is None:
        return None
    source, weight = view.inputs[0], product.inputs[1]
    rows, matrix, made = dims_of(source), dims_of(weight), dims_of(m.root.outputs[0])
    if rows is None or matrix is None or len(rows) < 2 or len(matrix) != 2 or len(dims_of(product.inputs[0]) or ()) != 2:
        return skip("the MatMul is not of two dims")
    if not same_shape([rows[-1]], [matrix[0]]) or not same_shape(made, (*rows[:-1], matrix[1])):
        return skip("it makes %s of the rows of %s", m.root.outputs[0].shape, source.shape)
    value: ir.Value = op.MatMul(source, weight)  # type: ignore[assignment]
    for node, before in zip(reversed(chain[:-1]), reversed(chain[1:]), strict=True):
        value = op.like(node, *(value if given is before.outputs[0] else given for given in node.inputs))  # type: ignore[assignment]
    for node in chain:
        m.take(node)
    return value


def _row_by_row(root: ir.Node) -> list[ir.Node]:
    """From the last to the first, the operators before ``root`` that treat all rows of a matrix alike, up to a MatMul."""
    chain: list[ir.Node] = []
    reader = root
    value = root.inputs[0]
    while value is not None and len(chain) < DEEPEST and only_reader(value, reader) and (node := value.producer()) is not None:
        chain.append(node)
        wide = [given for given in node.inputs if given is not None and len(dims_of(given) or ()) > 1]
        if not is_op(node, *ELEMENTWISE) or len(wide) != 1 or any(dims_of(given) is None for given in node.inputs if given is not None):
            break
        reader, value = node, wide[0]
    return chain
