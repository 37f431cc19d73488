"""Pieces cut out of one tensor that together are all of it."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import EXACT
from ...compiler.core.graph import attribute, constant, scalar
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from ...compiler.core.shapes import dims_of
from ..movement.cuts import cuts_of
from .siblings import siblings

CUTS = "int64[1] o = {0}, int64[1] p = {2}, int64[1] q = {6}, int64[1] e = {9223372036854775807}, int64[1] a = {1}"


@rule(
    "Slice",
    drift=EXACT,
    opset=13,
    examples=[
        f"g (float[N,6] x) => (float[N,2] y, float[N,4] z) <{CUTS}> {{ b = Slice(x, o, p, a) c = Slice(x, p, e, a) y = Relu(b) z = Relu(c) }}",
        f"g (float[N,9,S] x) => (float[N,4,S] y, float[N,2,S] z, float[N,3,S] u) <{CUTS}, int64[1] n = {{-3}}>"
        " { y = Slice(x, p, q, a) z = Slice(x, o, p, a) u = Slice(x, n, e, a) }",
    ],
    leaves=[
        f"g (float[N,7] x) => (float[N,2] y, float[N,4] z) <{CUTS}> {{ y = Slice(x, o, p, a) z = Slice(x, p, q, a) }}",
        f"g (float[N,6] x) => (float[N,2] y, float[N,6] z) <{CUTS}> {{ y = Slice(x, o, p, a) z = Slice(x, o, q, a) }}",
        f"g (float[N,K] x) => (float[N,L] y, float[N,M] z) <{CUTS}> {{ y = Slice(x, o, p, a) z = Slice(x, p, e, a) }}",
        f"g (float[N,4] x) => (float[N,2] y, float[N,2] z) <{CUTS}, int64[1] i = {{1}}, int64[1] k = {{2}}>"
        " { y = Slice(x, o, e, a, k) z = Slice(x, i, e, a, k) }",
    ],
)
def split_for_slices(op: Build, m: Match) -> Result:
    """x[:a], x[a:b], x[b:] -> Split(x, [a, b - a, ...]), where they are all of x"""
    x, own = m.root.inputs[0], _range(m.root)
    if x is None or own is None:
        return None
    axis = own[0]
    found = [(node, kept[1]) for node in siblings(m.root, x) if (kept := _range(node)) is not None and kept[0] == axis]
    if len(found) < 2 or found[0][0] is not m.root:
        return None
    ordered = sorted(found, key=lambda item: item[1].start)
    size = (dims_of(x) or ())[axis]
    places = [0, *(kept.stop for _, kept in ordered)]
    if places[-1] != size or any(kept.start != place for (_, kept), place in zip(ordered, places, strict=False)):
        return skip("the slices keep %s of %s", [[kept.start, kept.stop] for _, kept in ordered], size)
    for node, _ in ordered:
        m.take(node)
    m.outputs = tuple(node.outputs[0] for node, _ in ordered)
    return op.Split(x, op.const([len(kept) for _, kept in ordered], "sizes"), axis=axis, _outputs=len(ordered))


def _range(node: ir.Node) -> tuple[int, range] | None:
    """The axis that a Slice cuts, and what it keeps there, if it cuts one axis of known size without gaps."""
    cuts, shape = cuts_of(node), dims_of(node.inputs[0])
    if cuts is None or shape is None or len(cuts) != 1:
        return None
    axis, cut = next(iter(cuts.items()))
    size = shape[axis]
    if not isinstance(size, int) or cut.step != 1:
        return None
    kept = cut.of_size(size)
    return (axis, kept) if len(kept) else None


@rule(
    "Gather",
    drift=EXACT,
    opset=18,
    measured=True,
    doubtful=("cpu",),
    examples=[
        "g (float[3,N,2] x) => (float[N,2] y, float[N,2] z, float[N,2] u) <int64 a = {0}, int64 b = {1}, int64 c = {-1}>"
        " { y = Gather(x, a) z = Gather(x, b) u = Gather(x, c) }",
        "g (float[N,2] x) => (float[N] y, float[N] z) <int64 a = {0}, int64 b = {1}>"
        " { p = Gather<axis=1>(x, b) q = Gather<axis=1>(x, a) y = Relu(p) z = Relu(q) }",
    ],
    leaves=[
        "g (float[3,N,2] x) => (float[N,2] y, float[N,2] z) <int64 a = {0}, int64 b = {1}> { y = Gather(x, a) z = Gather(x, b) }",
        "g (float[2,N] x) => (float[N] y, float[N] z, float[N] u) <int64 a = {0}, int64 b = {1}, int64 c = {-1}>"
        " { y = Gather(x, a) z = Gather(x, b) u = Gather(x, c) }",
        "g (float[N,2] x) => (float[2] y, float[2] z) <int64 a = {0}, int64 b = {1}> { y = Gather(x, a) z = Gather(x, b) }",
    ],
)
def split_for_gathers(op: Build, m: Match) -> Result:
    """x[0], x[1], ..., x[n-1] -> Squeeze(Split(x)); a Gather of one place copies no more than a Split, so only where that is measured to be faster"""
    x, shape = m.root.inputs[0], dims_of(m.root.inputs[0])
    if x is None or constant(x) is not None or shape is None:
        return None
    axis = picked_axis(m.root, len(shape))
    size = shape[axis]
    if not isinstance(size, int) or size < 2 or picked_place(m.root, size) is None:
        return None
    found = {picked_place(node, size): node for node in siblings(m.root, x) if picked_axis(node, len(shape)) == axis and picked_place(node, size) is not None}
    count = sum(picked_axis(node, len(shape)) == axis and picked_place(node, size) is not None for node in siblings(m.root, x))
    if len(found) != size or count != size:
        return skip("%s of %s places are gathered", len(found), size)
    nodes = [found[place] for place in range(size)]
    for node in nodes:
        m.take(node)
    m.outputs = tuple(node.outputs[0] for node in nodes)
    parts = op.Split(x, None, axis=axis, num_outputs=size, _outputs=size)
    return tuple(op.Squeeze(part, op.const([axis], "axes")) for part in parts)  # type: ignore[union-attr,misc]


def picked_axis(node: ir.Node, rank: int) -> int:
    """The axis that a Gather picks from, counted from the start."""
    return int(attribute(node, "axis", 0)) % rank  # type: ignore[call-overload]


def picked_place(node: ir.Node, size: int) -> int | None:
    """The one place that a Gather reads, when its result lacks the axis."""
    number = scalar(node.inputs[1])
    if number is None or dims_of(node.inputs[1]) != () or not -size <= number < size:
        return None
    return int(number) % size
