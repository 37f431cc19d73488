"""What the steps of an unrolled loop leave behind: pieces that are computed alike and then stacked."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import Dim, add, elements, same, same_shape
from ...compiler.core.drift import EXACT, ROUNDING
from ...compiler.core.graph import is_op
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from ...compiler.core.shapes import dims_of
from ..fold.readers import only_reader
from ..fold.reshape import constant_target
from ..movement.joins import axis_of
from ..movement.views import VIEWS
from .pieces import picked_axis, picked_place

ROWS = 2
"""The last axis but one counts the rows of a matrix."""
FEWEST = 3
"""Two products are as well computed one by one: joining them costs three operators of its own."""


@rule(
    "Concat",
    drift=EXACT,
    opset=13,
    examples=[
        "g (float[N,4] x, float[N,4] z) => (float[N,2,4] y) <int64[1] a = {1}> { p = Unsqueeze(x, a) q = Unsqueeze(z, a) y = Concat<axis=1>(p, q) }",
        "g (float[N,4,1] x, float[N,4,1] z) => (float[N,2,4] y) <int64[3] s = {0,1,4}> { p = Reshape(x, s) q = Reshape(z, s) y = Concat<axis=1>(p, q) }",
        "g (float[4,1,N] x, float[4,2,N] z) => (float[4,M] y) { p = Flatten(x) q = Flatten(z) y = Concat<axis=-1>(p, q) }",
        "g (int64[3] x, int64[3] z) => (int64[2,3] y) <int64[1] a = {0}> { p = Unsqueeze(x, a) q = Unsqueeze(z, a) y = Concat<axis=0>(p, q) }",
    ],
    leaves=[
        "g (float[N,4] x, float[N,4] z) => (float[N,4,2] y) <int64[1] a = {2}> { p = Unsqueeze(x, a) q = Unsqueeze(z, a) y = Concat<axis=2>(p, q) }",
        "g (float[N,4] x, float[N,4] z) => (float[N,2,4] y, float[N,1,4] p) <int64[1] a = {1}>"
        " { p = Unsqueeze(x, a) q = Unsqueeze(z, a) y = Concat<axis=1>(p, q) }",
        "g (float[N,4] x, float[N,1,4] z) => (float[N,2,4] y) <int64[1] a = {1}> { p = Unsqueeze(x, a) y = Concat<axis=1>(p, z) }",
        "g (float[2,6] x, float[3,4] z) => (float[4,6] y) <int64[2] s = {2,6}> { p = Reshape(x, s) q = Reshape(z, s) p0 = Relu(p) y = Concat<axis=0>(p0, q) }",
    ],
)
def view_the_joined(op: Build, m: Match) -> Result:
    """Concat(Reshape(x), Reshape(z), ...) -> Reshape(Concat(x, z, ...)), where what comes before the axis stays together"""
    axis, made = axis_of(m.root), dims_of(m.root.outputs[0])
    nodes = [value.producer() if value is not None else None for value in m.root.inputs]
    if axis is None or made is None or len(nodes) < 2 or len(set(nodes)) < len(nodes):
        return None
    views = [node for node in nodes if is_op(node, *VIEWS) and node is not None and only_reader(node.outputs[0]) is m.root]
    if len(views) < len(nodes):
        return None
    sources = [view.inputs[0] for view in views]
    place = _place_of(made[:axis], sources)
    if place is None:
        return skip("no axis of '%s' stands where the Concat has its own", sources[0].name if sources[0] is not None else "")
    joined = _joined_dims(sources, place)
    target = constant_target(joined, made, frozenset()) if joined is not None else None
    if target is None:
        return skip("no constant target makes the shape %s", ir.Shape(made))
    for view in views:
        m.take(view)
    return op.Reshape(op.Concat(*sources, axis=place), op.const(target, "shape"))


def _place_of(before: Sequence[Dim], sources: Sequence[ir.Value | None]) -> int | None:
    """The axis of the sources that has as much before it as ``before``."""
    first = dims_of(sources[0])
    if first is None:
        return None
    whole = elements(before)
    return next((axis for axis in range(len(first)) if same(elements(first[:axis]), whole)), None)


def _joined_dims(sources: Sequence[ir.Value | None], axis: int) -> tuple[Dim, ...] | None:
    """The shape of the sources joined along an axis; None when they are not proven to fit."""
    shapes = [dims_of(source) for source in sources]
    first = shapes[0]
    if first is None:
        return None
    total: Dim = 0
    for shape in shapes:
        if shape is None or len(shape) != len(first) or not same_shape((*shape[:axis], *shape[axis + 1 :]), (*first[:axis], *first[axis + 1 :])):
            return None
        total = add(total, shape[axis])
    return (*first[:axis], total, *first[axis + 1 :])


@rule(
    "Concat",
    drift=EXACT,
    opset=13,
    examples=[
        "g (float[N,2,3] x) => (float[N,6] y) <int64 a = {0}, int64 b = {1}> { p = Gather<axis=1>(x, a) q = Gather<axis=1>(x, b) y = Concat<axis=1>(p, q) }",
        "g (float[3,N] x) => (float[M] y) <int64 a = {0}, int64 b = {1}, int64 c = {-1}>"
        " { p = Gather(x, a) q = Gather(x, b) r = Gather(x, c) y = Concat<axis=0>(p, q, r) }",
    ],
    leaves=[
        "g (float[N,2,3] x) => (float[N,6] y) <int64 a = {0}, int64 b = {1}> { p = Gather<axis=1>(x, b) q = Gather<axis=1>(x, a) y = Concat<axis=1>(p, q) }",
        "g (float[N,3,3] x) => (float[N,6] y) <int64 a = {0}, int64 b = {1}> { p = Gather<axis=1>(x, a) q = Gather<axis=1>(x, b) y = Concat<axis=1>(p, q) }",
        "g (float[2,4,3] x) => (float[4,6] y) <int64 a = {0}, int64 b = {1}> { p = Gather(x, a) q = Gather(x, b) y = Concat<axis=1>(p, q) }",
        "g (float[2,2,3] x, float[2,2,3] z) => (float[2,6] y) <int64 a = {0}, int64 b = {1}>"
        " { p = Gather<axis=1>(x, a) q = Gather<axis=1>(z, b) y = Concat<axis=1>(p, q) }",
    ],
)
def join_gathered(op: Build, m: Match) -> Result:
    """Concat(x[0], x[1], ..., x[n-1]) -> Reshape(x), where all places of an axis are picked in order"""
    nodes = [value.producer() if value is not None else None for value in m.root.inputs]
    first, axis = nodes[0], axis_of(m.root)
    if first is None or axis is None or len(nodes) < 2 or not all(is_op(node, "Gather") for node in nodes):
        return None
    x, made = first.inputs[0], dims_of(m.root.outputs[0])
    shape = dims_of(x)
    if x is None or shape is None or made is None:
        return skip("the shape of what is gathered from is not known")
    picked = [node for node in nodes if node is not None and node.inputs[0] is x and picked_axis(node, len(shape)) == axis]
    size = shape[axis] if axis < len(shape) else None
    if len(picked) < len(nodes) or not isinstance(size, int) or [picked_place(node, size) for node in picked] != list(range(size)):
        return skip("they are not all places of an axis of one tensor, in order")
    target = constant_target(shape, made, frozenset())
    if target is None:
        return skip("no constant target makes the shape %s", ir.Shape(made))
    for node in picked:
        if only_reader(node.outputs[0]) is m.root:
            m.take(node)
    return op.Reshape(x, op.const(target, "shape"))


@rule(
    "Concat",
    drift=ROUNDING,
    opset=13,
    measured=True,
    examples=[
        "g (float[N,2,4] a, float[N,2,4] b, float[N,2,4] c, float[N,4,1] u, float[N,4,1] v, float[N,4,1] w) => (float[N,6,1] y)"
        " { p = MatMul(a, u) q = MatMul(b, v) r = MatMul(c, w) y = Concat<axis=1>(p, q, r) }",
        "g (float[2,4] a, float[2,4] b, float[2,4] c, float[4,3] u, float[4,3] v) => (float[6,3] y)"
        " { p = MatMul(a, u) q = MatMul(b, v) r = MatMul(c, u) y = Concat<axis=-2>(p, q, r) }",
    ],
    leaves=[
        "g (float[2,4] a, float[2,4] b, float[2,4] c, float[4,3] u, float[4,3] v) => (float[2,9] y)"
        " { p = MatMul(a, u) q = MatMul(b, v) r = MatMul(c, u) y = Concat<axis=1>(p, q, r) }",
        "g (float[2,4] a, float[2,4] b, float[3,4] c, float[4,3] u, float[4,3] v) => (float[7,3] y)"
        " { p = MatMul(a, u) q = MatMul(b, v) r = MatMul(c, u) y = Concat<axis=0>(p, q, r) }",
        "g (float[N,2,4] a, float[N,2,4] b, float[2,4] c, float[N,4,1] u, float[4,1] v) => (float[N,4,1] y)"
        " { p = MatMul(a, u) q = MatMul(b, v) y = Concat<axis=1>(p, q) }",
        "g (float[2,4] a, float[2,4] b, float[2,4] c, float[4,3] u, float[4,3] v) => (float[6,3] y, float[2,3] p)"
        " { p = MatMul(a, u) q = MatMul(b, v) r = MatMul(c, u) y = Concat<axis=0>(p, q, r) }",
    ],
)
def join_products(op: Build, m: Match) -> Result:
    """Concat(A U, B V, C W) along the rows -> the products of one batch, for matrices of one shape"""
    axis, made = axis_of(m.root), dims_of(m.root.outputs[0])
    nodes = [value.producer() if value is not None else None for value in m.root.inputs]
    products = [node for node in nodes if is_op(node, "MatMul") and node is not None and only_reader(node.outputs[0]) is m.root]
    if axis is None or made is None or len(products) < len(nodes) or len(set(nodes)) < len(nodes) or len(nodes) < FEWEST:
        return None
    if axis != len(made) - ROWS:
        return skip("they are not joined by their rows")
    sides = [[node.inputs[side] for node in products] for side in (0, 1)]
    parts = [_stacked(op, side, len(made)) for side in sides]
    left, right = parts
    if isinstance(left, Skip) or isinstance(right, Skip):
        return left if isinstance(left, Skip) else right
    if not same_shape((dims_of(sides[0][0]) or ())[:-2], (dims_of(sides[1][0]) or ())[:-2]):
        return skip("the batches of both sides differ")
    inner = (*made[:-ROWS], len(nodes), (dims_of(sides[0][0]) or ())[-2], made[-1])
    target = constant_target(inner, made, frozenset())
    if target is None:
        return skip("no constant target makes the shape %s", ir.Shape(made))
    for node in products:
        m.take(node)
    return op.Reshape(op.MatMul(left, right), op.const(target, "shape"))


def _stacked(op: Build, matrices: Sequence[ir.Value | None], rank: int) -> ir.Value | Skip:
    """Matrices of one shape [..., m, k] as one tensor [..., n, m, k]."""
    shape = dims_of(matrices[0])
    if shape is None or len(shape) != rank or not all(same_shape(dims_of(matrix), shape) for matrix in matrices):
        return skip("the matrices are not of one shape")
    joined = _joined_dims(matrices, rank - ROWS)
    target = None if joined is None else constant_target(joined, (*shape[:-ROWS], len(matrices), *shape[-ROWS:]), frozenset())
    if target is None:
        return skip("no constant target stacks matrices of shape %s", ir.Shape(shape))
    return op.Reshape(op.Concat(*matrices, axis=rank - ROWS), op.const(target, "shape"))  # type: ignore[return-value]
