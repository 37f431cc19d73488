"""Matrix products and convolutions with an operand in common, and the order of products of several matrices."""

from __future__ import annotations

import math

import onnx_ir as ir

from ...compiler.core.axes import reduced_axes
from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import attribute, producer
from ...compiler.core.pattern import ANY, Pen
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, Rule, rule
from ...compiler.core.shapes import static_shape
from .law import FLOATS, law
from .reductions import refuses_reduction

_SUMS = {"Add": "+", "Sub": "-"}
_MATRICES = {"a": "float[3,4]", "b": "float[3,4]", "x": "float[N,3]"}
_ROWS = {"a": "float[N,3]", "b": "float[N,3]", "x": "float[3,4]"}


def _quantised(*values: ir.Value) -> Skip | None:
    """That an operand is stored in integers: adding it to another in floats would take the integer kernel away."""
    found = next((value for value in values if producer(value, "DequantizeLinear") is not None), None)
    return None if found is None else skip("'%s' is quantised", found.name)


def _equal_ranks(m: Match) -> Skip | None:
    """A product with a vector has another rank than one with a matrix, so that the sum would pair other elements."""
    refusal = _quantised(m.a, m.b)
    if refusal is not None:
        return refusal
    ranks = [None if value.shape is None else len(value.shape) for value in (m.a, m.b)]
    return None if ranks[0] == ranks[1] and (ranks[0] or 0) > 1 else skip("'%s' and '%s' have the ranks %s and %s", m.a.name, m.b.name, *ranks)


def _same_left(kind: str) -> Rule:
    sign = _SUMS[kind]
    return law(
        f"factor-left-matrix-under-{kind.lower()}",
        f"x @ a {sign} x @ b -> x @ (a {sign} b)",
        lambda op, x, a, b: getattr(op, kind)(op.MatMul(x, a), op.MatMul(x, b)),
        lambda op, x, a, b: op.MatMul(x, getattr(op, kind)(a, b)),
        drift=ROUNDING,
        guard=_equal_ranks,
        given=_MATRICES,
        result="float[N,4]",
        leaves=[
            "g (float[5,3] x, float[3] a, float[3,5] b) => (float[5,5] y) { p = MatMul(x, a) q = MatMul(x, b) y = Add(p, q) }",
            "g (float[5,3] x, int8[3,5] v, int8[3,5] w, float s) => (float[5,5] y)"
            f" {{ a = DequantizeLinear(v, s) b = DequantizeLinear(w, s) p = MatMul(x, a) q = MatMul(x, b) y = {kind}(p, q) }}",
        ],
    )


def _same_right(kind: str) -> Rule:
    sign = _SUMS[kind]
    return law(
        f"factor-right-matrix-under-{kind.lower()}",
        f"a @ x {sign} b @ x -> (a {sign} b) @ x",
        lambda op, x, a, b: getattr(op, kind)(op.MatMul(a, x), op.MatMul(b, x)),
        lambda op, x, a, b: op.MatMul(getattr(op, kind)(a, b), x),
        drift=ROUNDING,
        guard=_equal_ranks,
        given=_ROWS,
        result="float[N,4]",
    )


SAME_LEFT = tuple(map(_same_left, _SUMS))
SAME_RIGHT = tuple(map(_same_right, _SUMS))

multiply_negated_matrices = law(
    "multiply-negated-matrices",
    "(-a) @ (-b) -> a @ b",
    lambda op, a, b: op.MatMul(op.Neg(a), op.Neg(b)),
    lambda op, a, b: op.MatMul(a, b),
    drift=ROUNDING,
    given={"b": "float[3,4]"},
    result="float[N,4]",
)


def _alike(first: ir.Node, second: ir.Node) -> bool:
    """Whether both are the same operator with the same attributes."""
    shown = [{name: str(attr.value) for name, attr in node.attributes.items()} for node in (first, second)]
    return first.op_type == second.op_type and shown[0] == shown[1]


def _biases(op: Build, m: Match, kind: str) -> ir.Value | None | Skip:
    """The biases of both, combined as the results are."""
    refusal = _quantised(*m.node("one").inputs[:2], *m.node("two").inputs[:2])  # type: ignore[arg-type]
    if refusal is not None:
        return refusal
    if m.has("b") != m.has("c"):
        return skip("only one of them has a bias")
    return getattr(op, kind)(m.b, m.c) if m.has("b") else None


def _same_weight(kind: str) -> Rule:
    sign = _SUMS[kind]
    padded = "Conv<pads=[1,1]>"

    def before(op: Pen, x: object, z: object, w: object, b: object = None, c: object = None) -> object:
        first, second = (op.any("Conv", "ConvTranspose", "Gemm")(data, w, bias, _attrs=ANY, _name=name) for data, bias, name in ((x, b, "one"), (z, c, "two")))
        return getattr(op, kind)(first, second)

    def build(op: Build, m: Match) -> Result:
        one, two = m.node("one"), m.node("two")
        shapes = [static_shape(value) for value in (m.x, m.z)]
        if not _alike(one, two) or shapes[0] is None or shapes[0] != shapes[1]:
            return skip("the inputs have the shapes %s, the operators may differ", shapes)
        bias = _biases(op, m, kind)
        return bias if isinstance(bias, Skip) else op.like(one, getattr(op, kind)(m.x, m.z), m.w, bias)

    build.__name__ = f"factor_weight_under_{kind.lower()}"
    build.__doc__ = f"Conv(x, w) {sign} Conv(z, w) -> Conv(x {sign} z, w), also for ConvTranspose and Gemm"
    return rule(
        before,
        drift=ROUNDING,
        opset=11,
        examples=[
            f"g (float[1,2,5] x, float[1,2,5] z, float[3,2,3] w, float[3] b, float[3] c) => (float[1,3,5] y)"
            f" {{ p = {padded}(x, w, b) q = {padded}(z, w, c) y = {kind}(p, q) }}",
            f"g (float[4,2] x, float[4,2] z, float[2,3] w) => (float[4,3] y) {{ p = Gemm(x, w) q = Gemm(z, w) y = {kind}(p, q) }}",
        ],
        leaves=[
            f"g (float[1,2,5] x, float[1,2,3] z, float[3,2,3] w) => (float[1,3,3] y) {{ p = Conv(x, w) q = Conv(z, w) y = {kind}(p, q) }}",
            f"g (float[1,2,5] x, float[1,2,5] z, float[3,2,3] w, float[3] b) => (float[1,3,3] y) {{ p = Conv(x, w, b) q = Conv(z, w) y = {kind}(p, q) }}",
            f"g (float[1,2,5] x, float[1,2,5] z, float[3,2,3] w) => (float[1,3,5] y)"
            f" {{ p = Conv<pads=[1,1]>(x, w) q = Conv<pads=[2,2], dilations=[2]>(z, w) y = {kind}(p, q) }}",
        ],
    )(build)


def _same_input(kind: str) -> Rule:
    sign = _SUMS[kind]

    def before(op: Pen, x: object, v: object, w: object, b: object = None, c: object = None) -> object:
        first, second = (
            op.any("Conv", "ConvTranspose", "Gemm")(x, weight, bias, _attrs=ANY, _name=name) for weight, bias, name in ((v, b, "one"), (w, c, "two"))
        )
        return getattr(op, kind)(first, second)

    def build(op: Build, m: Match) -> Result:
        one, two = m.node("one"), m.node("two")
        shapes = [static_shape(value) for value in (m.v, m.w)]
        if not _alike(one, two) or shapes[0] is None or shapes[0] != shapes[1]:
            return skip("the weights have the shapes %s, the operators may differ", shapes)
        bias = _biases(op, m, kind)
        return bias if isinstance(bias, Skip) else op.like(one, m.x, getattr(op, kind)(m.v, m.w), bias)

    build.__name__ = f"factor_input_under_{kind.lower()}"
    build.__doc__ = f"Conv(x, v) {sign} Conv(x, w) -> Conv(x, v {sign} w), also for ConvTranspose and Gemm"
    return rule(
        before,
        drift=ROUNDING,
        opset=11,
        examples=[
            f"g (float[N,2,5] x, float[3,2,3] v, float[3,2,3] w) => (float[N,3,3] y) {{ p = Conv(x, v) q = Conv(x, w) y = {kind}(p, q) }}",
            f"g (float[N,2] x, float[2,3] v, float[2,3] w, float[3] b, float[3] c) => (float[N,3] y)"
            f" {{ p = Gemm(x, v, b) q = Gemm(x, w, c) y = {kind}(p, q) }}",
        ],
        leaves=[f"g (float[N,2,5] x, float[3,2,3] v, float[1,2,3] w) => (float[N,3,3] y) {{ p = Conv(x, v) q = Conv(x, w) y = {kind}(p, q) }}"],
    )(build)


SAME_WEIGHT = tuple(map(_same_weight, _SUMS))
SAME_INPUT = tuple(map(_same_input, _SUMS))


def _summed_product(reducer: str) -> Rule:
    """Sums over the rows or the columns of a product go into one operand."""

    def before(op: Pen, a: object, b: object, axes: object = None) -> object:
        return getattr(op, reducer)(op.MatMul(a, b), axes, _attrs=ANY)

    def build(op: Build, m: Match) -> Result:
        axes, rank = reduced_axes(m.root), None if m.a.shape is None else len(m.a.shape)
        if axes is None or rank is None or rank < 2 or m.b.shape is None or len(m.b.shape) != 2 or len(axes) != 1 or m.a.dtype not in FLOATS:
            return skip("it reduces the axes %s of a product of the shapes %s and %s", axes, m.a.shape, m.b.shape)
        if not attribute(m.root, "keepdims", 1):
            return skip("it drops the axis")
        refusal = _quantised(m.a, m.b) or (refuses_reduction(m.root) if reducer == "ReduceMean" else None)
        if refusal is not None:
            return refusal
        if axes[0] == rank - 1:
            return op.MatMul(m.a, getattr(op, reducer)(m.b, op.const([-1], "axes")))
        return op.MatMul(getattr(op, reducer)(m.a, op.const([axes[0]], "axes")), m.b)

    build.__name__ = f"{reducer.lower()}_before_matmul"
    build.__doc__ = f"{reducer}(a @ b) -> {reducer}(a) @ b over rows, a @ {reducer}(b) over columns"
    numbers = "<int64[1] r = {0}, int64[1] c = {-1}>"
    return rule(
        before,
        drift=ROUNDING,
        opset=18,
        examples=[
            f"g (float[4,N] a, float[N,5] b) => (float[1,5] y) {numbers} {{ p = MatMul(a, b) y = {reducer}(p, r) }}",
            f"g (float[2,4,3] a, float[3,5] b) => (float[2,4,1] y) {numbers} {{ p = MatMul(a, b) y = {reducer}(p, c) }}",
        ],
        leaves=[
            f"g (float[4,3] a, float[3,5] b) => (float[5] y) {numbers} {{ p = MatMul(a, b) y = {reducer}<keepdims=0>(p, r) }}",
            f"g (float[4,3] a, float[2,3,5] b) => (float[1,4,5] y) {numbers} {{ p = MatMul(a, b) y = {reducer}(p, r) }}",
            f"g (float[4,3] a, float[3,5] b) => (float[1,1] y) {{ p = MatMul(a, b) y = {reducer}(p) }}",
        ],
    )(build)


SUMMED_PRODUCTS = tuple(map(_summed_product, ("ReduceSum", "ReduceMean")))


def left_first(op: Pen, a: object, b: object, c: object) -> object:
    return op.MatMul(op.MatMul(a, b), c)


def right_first(op: Pen, a: object, b: object, c: object) -> object:
    return op.MatMul(a, op.MatMul(b, c))


@rule(
    left_first,
    drift=ROUNDING,
    examples=["g (float[8,5] a, float[5,8] b, float[8,1] c) => (float[8,1] y) { t = MatMul(a, b) y = MatMul(t, c) }"],
    leaves=[
        "g (float[1,8] a, float[8,8] b, float[8,8] c) => (float[1,8] y) { t = MatMul(a, b) y = MatMul(t, c) }",
        "g (float[N,5] a, float[5,8] b, float[8,1] c) => (float[N,1] y) { t = MatMul(a, b) y = MatMul(t, c) }",
    ],
)
def multiply_right_first(op: Build, m: Match) -> Result:
    """(a @ b) @ c -> a @ (b @ c) where that is less arithmetic"""
    costs = _costs(m)
    if isinstance(costs, Skip):
        return costs
    return op.MatMul(m.a, op.MatMul(m.b, m.c)) if costs[1] < costs[0] else skip("it takes %s products, the other order %s", *costs)


@rule(
    right_first,
    drift=ROUNDING,
    examples=["g (float[1,8] a, float[8,5] b, float[5,8] c) => (float[1,8] y) { t = MatMul(b, c) y = MatMul(a, t) }"],
    leaves=["g (float[8,5] a, float[5,8] b, float[8,1] c) => (float[8,1] y) { t = MatMul(b, c) y = MatMul(a, t) }"],
)
def multiply_left_first(op: Build, m: Match) -> Result:
    """a @ (b @ c) -> (a @ b) @ c where that is less arithmetic"""
    costs = _costs(m)
    if isinstance(costs, Skip):
        return costs
    return op.MatMul(op.MatMul(m.a, m.b), m.c) if costs[0] < costs[1] else skip("it takes %s products, the other order %s", *reversed(costs))


def _costs(m: Match) -> tuple[int, int] | Skip:
    """How many products (a b) c and a (b c) take; ``b`` and ``c`` are matrices, ``a`` may be a stack of them."""
    shapes = [static_shape(value) for value in (m.a, m.b, m.c)]
    if any(shape is None or len(shape) < 2 for shape in shapes) or len(shapes[1]) != 2 or len(shapes[2]) != 2:  # type: ignore[arg-type]
        return skip("the operands have the shapes %s", shapes)
    rows, (inner, middle), width = math.prod(shapes[0][:-1]), shapes[1], shapes[2][1]  # type: ignore[index, misc]
    return rows * inner * middle + rows * middle * width, inner * middle * width + rows * inner * width
