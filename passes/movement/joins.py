"""Splits and concats that undo each other, or say in two steps what one can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import Dim, add, same
from ...compiler.core.drift import EXACT
from ...compiler.core.graph import attribute, is_op, producer
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from ...compiler.core.shapes import dims_of
from .cuts import Cut, cuts_of, keeps_all, sliced
from .views import only_reader


def axis_of(node: ir.Node) -> int | None:
    """The axis of a Concat or Split, counted from the start; None when the rank is not known."""
    shape = dims_of(node.outputs[0])
    return None if not shape else int(attribute(node, "axis")) % len(shape)  # type: ignore[call-overload]


@rule(
    "Concat",
    drift=EXACT,
    opset=13,
    examples=[
        "g (float[N,C] a, float[N,D] b, float[N,3] c) => (float[N,K] y) { p = Concat<axis=1>(a, b) y = Concat<axis=-1>(p, c) }",
        "g (int64[2] a, int64[N] b) => (int64[K] y) { p = Concat<axis=0>(a, b) q = Concat<axis=0>(a, b, b) y = Concat<axis=0>(p, a, q) }",
    ],
    leaves=[
        "g (float[2,3] a, float[2,3] b) => (float[4,6] y) { p = Concat<axis=1>(a, b) y = Concat<axis=0>(p, p) }",
        "g (float[2,3] a, float[2,3] b) => (float[2,9] y, float[2,6] z) { z = Concat<axis=1>(a, b) y = Concat<axis=1>(z, b) }",
    ],
)
def merge_concats(op: Build, m: Match) -> Result:
    """Concat(Concat(a, b), c) -> Concat(a, b, c) on the same axis"""
    axis, parts = axis_of(m.root), list[ir.Value | None]()
    for value in m.root.inputs:
        inner = producer(value, "Concat")
        if inner is not None and only_reader(value, m.root) and axis_of(inner) == axis:
            m.take(inner)
            parts += inner.inputs
        else:
            parts.append(value)
    if len(parts) == len(m.root.inputs):
        return skip("no input is a Concat of the same axis that nothing else needs")
    return op.like(m.root, *parts)


@dataclass(frozen=True)
class Piece:
    """The positions from ``start`` to ``end`` of a tensor along an axis."""

    source: ir.Value
    start: int
    end: int


@rule(
    "Concat",
    drift=EXACT,
    shared=True,
    opset=13,
    examples=[
        "g (float[N,4] x) => (float[N,4] y) { a, b = Split<axis=1, num_outputs=2>(x) p = Concat<axis=-1>(a, b) y = Relu(p) }",
        "g (float[N,6] x, float[N,1] z) => (float[N,6] y) <int64[3] s = {1,2,3}> { a, b, c = Split<axis=1>(x, s) p = Concat<axis=-1>(z, b, c) y = Relu(p) }",
        "g (string[7,2] x) => (string[5,2] y) <int64[1] o = {1}, int64[1] t = {3}, int64[1] e = {6}, int64[1] z = {0}>"
        " { a = Slice(x, o, t, z) b = Slice(x, t, e, z) y = Concat<axis=0>(a, b) }",
    ],
    leaves=[
        "g (float[N,4] x) => (float[N,4] y) { a, b = Split<axis=1, num_outputs=2>(x) y = Concat<axis=1>(b, a) }",
        "g (float[4,4] x) => (float[8,2] y) { a, b = Split<axis=1, num_outputs=2>(x) y = Concat<axis=0>(a, b) }",
        "g (float[N,4] x) => (float[N,6] y) { a, b = Split<axis=1, num_outputs=2>(x) p = Relu(a) y = Concat<axis=1>(a, p, b) }",
        "g (float[N] x) => (float[M] y) <int64[1] o = {0}, int64[1] t = {3}, int64[1] e = {6}, int64[1] z = {0}>"
        " { a = Slice(x, o, t, z) b = Slice(x, t, e, z) y = Concat<axis=0>(a, b) }",
    ],
)
def join_pieces(op: Build, m: Match) -> Result:
    """Concat(x[:3], x[3:5], z) -> Concat(x[:5], z); x itself where the pieces are all of it"""
    axis = axis_of(m.root)
    if axis is None or len(m.root.inputs) < 2:
        return None
    runs: list[tuple[ir.Value, Piece | None, int]] = []
    for value in m.root.inputs:
        assert value is not None
        piece = _piece(value, axis)
        given, last, count = runs[-1] if runs else (value, None, 0)
        if piece is not None and last is not None and last.source is piece.source and last.end == piece.start:
            runs[-1] = (given, Piece(piece.source, last.start, piece.end), count + 1)
        else:
            runs.append((value, piece, 1))
    if len(runs) == len(m.root.inputs):
        return skip("no two inputs next to each other are pieces of one tensor that follow each other")
    parts = [given if piece is None or count == 1 else _cut_out(op, piece, axis) for given, piece, count in runs]
    return parts[0] if len(parts) == 1 else op.like(m.root, *parts)


def _piece(value: ir.Value | None, axis: int) -> Piece | None:
    """The value as a piece of a tensor along an axis, when the place of the piece is known."""
    node = producer(value, "Split", "Slice")
    if node is None or value is None or node.inputs[0] is None:
        return None
    size = (dims_of(node.inputs[0]) or (None,) * (axis + 1))[axis]
    if is_op(node, "Slice"):
        cuts = cuts_of(node)
        if cuts is None or set(cuts) != {axis} or not isinstance(size, int) or cuts[axis].step != 1:
            return None
        kept = cuts[axis].of_size(size)
        return Piece(node.inputs[0], kept.start, kept.stop) if kept else None
    if axis_of(node) != axis:
        return None
    sizes = _sizes(node.outputs[: (value.index() or 0) + 1], axis)
    if isinstance(sizes, Skip) or 0 in sizes:
        return None
    return Piece(node.inputs[0], sum(sizes[:-1]), sum(sizes))


def _cut_out(op: Build, piece: Piece, axis: int) -> ir.Value:
    cut = Cut(piece.start, piece.end)
    return sliced(op, piece.source, {} if keeps_all(cut, (dims_of(piece.source) or ())[axis]) else {axis: cut})


@rule(
    "Split",
    drift=EXACT,
    shared=True,
    opset=13,
    examples=[
        "g (float[N,2] a, float[N,3] b) => (float[N,2] y, float[N,3] z) <int64[2] s = {2,3}>"
        " { p = Concat<axis=1>(a, b) c, d = Split<axis=1>(p, s) y = Relu(c) z = Relu(d) }",
        "g (float[N,2] a, float[N,3] b, float[N,1] c, float[N,4] d) => (float[N,5] y, float[N,1] z, float[N,4] w) <int64[3] s = {5,1,4}>"
        " { p = Concat<axis=1>(a, b, c, d) y, e, f = Split<axis=1>(p, s) z = Relu(e) w = Relu(f) }",
        "g (float[N,C] a, float[N,C] b) => (float[N,C] y, float[N,C] z)"
        " { p = Concat<axis=1>(a, b) c, d = Split<axis=1, num_outputs=2>(p) y = Relu(c) z = Relu(d) }",
    ],
    leaves=[
        "g (float[N,2] a, float[N,3] b) => (float[N,3] y, float[N,2] z) <int64[2] s = {3,2}> { p = Concat<axis=1>(a, b) y, z = Split<axis=1>(p, s) }",
        "g (float[4,2] a, float[4,2] b) => (float[2,4] y, float[2,4] z) { p = Concat<axis=1>(a, b) y, z = Split<axis=0, num_outputs=2>(p) }",
        "g (float[N,C] a, float[N,D] b) => (float[N,K] y, float[N,L] z) { p = Concat<axis=1>(a, b) y, z = Split<axis=1, num_outputs=2>(p) }",
    ],
)
def split_at_joints(op: Build, m: Match) -> Result:
    """Split(Concat(a, b, c)) where the joints are among the cuts' places -> a, Concat(b, c)"""
    joined, axis = producer(m.root.inputs[0], "Concat"), axis_of(m.root)
    if joined is None or axis is None:
        return None
    if axis_of(joined) != axis:
        return skip("it splits another axis than that of the Concat")
    groups = _groups([value for value in joined.inputs if value is not None], m.root.outputs, axis)
    if groups is None:
        return skip("its cuts are not proven to fall on the joints of the Concat")
    return tuple(group[0] if len(group) == 1 else op.Concat(*group, axis=axis) for group in groups)  # type: ignore[misc]


def _groups(parts: list[ir.Value], wanted: Sequence[ir.Value], axis: int) -> list[list[ir.Value]] | None:
    """Which of the parts make up each of the wanted values."""
    queue, groups = list(parts), []
    for value in wanted:
        size: Dim = (dims_of(value) or (0,) * (axis + 1))[axis]
        group: list[ir.Value] = []
        have: Dim = 0
        while queue and not (group and same(have, size)):
            part = queue.pop(0)
            have = add(have, (dims_of(part) or (0,) * (axis + 1))[axis])
            group.append(part)
        if not group or not same(have, size):
            return None
        groups.append(group)
    return None if queue else groups


@rule(
    "Split",
    drift=EXACT,
    opset=13,
    examples=[
        "g (float[N,6] x) => (float[N,2] y) { a, b, c = Split<axis=1, num_outputs=3>(x) y = Relu(b) }",
        "g (int64[5] x) => (int64[2] y) <int64[2] s = {3,2}> { a, b = Split<axis=0>(x, s) y = Abs(b) }",
        "g (float[N,4] x) => (float[N,4] y) { a = Split<axis=1, num_outputs=1>(x) y = Relu(a) }",
    ],
    leaves=[
        "g (float[N,4] x) => (float[N,2] y, float[N,2] z) { y, z = Split<axis=1, num_outputs=2>(x) }",
        "g (float[N,C] x) => (float[N,D] y) { a, b = Split<axis=1, num_outputs=2>(x) y = Relu(b) }",
    ],
)
def slice_the_one_used(op: Build, m: Match) -> Result:
    """Split(x) of which one part is used -> Slice(x)"""
    used = [value for value in m.root.outputs if value.uses() or value.is_graph_output()]
    axis = axis_of(m.root)
    if len(used) != 1 or axis is None:
        return skip("%s of its outputs are used", len(used))
    piece = _piece(used[0], axis)
    if piece is None:
        return skip("where '%s' starts depends on the size", used[0].name)
    made = _cut_out(op, piece, axis)
    return tuple(made if value is used[0] else value for value in m.root.outputs)


@rule(
    "Split",
    drift=EXACT,
    opset=13,
    examples=[
        "g (float[N,6] x) => (float[N,2] y, float[N,1] z, float[N,3] w) <int64[2] s = {2,1}>"
        " { a, b = Split<axis=1, num_outputs=2>(x) c, z = Split<axis=-1>(a, s) y = Relu(c) w = Relu(b) }",
    ],
    leaves=[
        "g (float[N,6] x) => (float[N,2] y, float[N,1] z, float[N,3] w, float[N,3] a) <int64[2] s = {2,1}>"
        " { a, b = Split<axis=1, num_outputs=2>(x) y, z = Split<axis=-1>(a, s) w = Relu(b) }",
        "g (float[4,6] x) => (float[2,3] y, float[2,3] z, float[4,3] w)"
        " { a, b = Split<axis=1, num_outputs=2>(x) y, z = Split<axis=0, num_outputs=2>(a) w = Relu(b) }",
    ],
)
def merge_splits(op: Build, m: Match) -> Result:
    """Split(Split(x)[i]) -> Split(x), on the same axis"""
    outer, axis = producer(m.root.inputs[0], "Split"), axis_of(m.root)
    if outer is None or axis is None or axis_of(outer) != axis:
        return None
    middle = m.root.inputs[0]
    if middle is None or not only_reader(middle, m.root):
        return skip("the part that is split again is needed elsewhere")
    parts = [part for value in outer.outputs for part in (m.root.outputs if value is middle else [value])]
    sizes = _sizes(parts, axis)
    if isinstance(sizes, Skip):
        return sizes
    m.take(outer)
    m.outputs = tuple(parts)
    return op.Split(outer.inputs[0], op.const(sizes, "sizes"), axis=axis, _outputs=len(parts))


def _sizes(parts: Sequence[ir.Value], axis: int) -> list[int] | Skip:
    sizes = [(dims_of(part) or (None,) * (axis + 1))[axis] for part in parts]
    known = [size for size in sizes if isinstance(size, int)]
    return known if len(known) == len(sizes) else skip("the parts have sizes %s", sizes)
