"""Slices of what was sliced, joined or padded before."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.axes import numbers_in
from ...compiler.core.build import Build
from ...compiler.core.dims import Dim, same
from ...compiler.core.drift import EXACT
from ...compiler.core.graph import attribute, producer
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from ...compiler.core.shapes import dims_of
from .cuts import ENDLESS, Cut, Cuts, cut_for, cuts_of, keeps_all, one_after_other, sliced
from .views import only_reader


@rule(
    "Slice",
    drift=EXACT,
    shared=True,
    opset=13,
    examples=[
        "g (float[N,9] x) => (float[M,3] y) <int64[1] s = {2}, int64[1] e = {8}, int64[1] a = {1}, int64[1] k = {2}, int64[1] f = {1}, int64[1] z = {0}>"
        " { p = Slice(x, s, e, a, k) y = Slice(p, f, e, z) }",
        "g (string[9] x) => (string[3] y) <int64[1] s = {-1}, int64[1] e = {-100}, int64[1] a = {0}, int64[1] k = {-2}, int64[1] f = {1}, int64[1] t = {4}>"
        " { p = Slice(x, s, e, a, k) y = Slice(p, f, t, a) }",
        "g (float[N] x) => (float[M] y) <int64[1] s = {1}, int64[1] e = {9223372036854775807}, int64[1] t = {-1}> { p = Slice(x, s, e) y = Slice(p, s, t) }",
        "g (float[N] x) => (float[M] y) <int64[1] s = {1}, int64[1] e = {-1}, int64[1] t = {9223372036854775807}> { p = Slice(x, s, e) y = Slice(p, s, t) }",
        "g (float[N] x) => (float[M] y) <int64[1] s = {1}, int64[1] e = {3}, int64[1] z = {0}, int64[1] k = {2}>"
        " { p = Slice(x, z, e, z, k) y = Slice(p, s, e, z, k) }",
        "g (float[5] x) => (float[0] y) <int64[1] s = {4}, int64[1] e = {0}, int64[1] z = {0}, int64[1] k = {-2}, int64[1] m = {-1}>"
        " { p = Slice(x, s, e, z, k) y = Slice(p, s, e, z) }",
    ],
    leaves=[
        "g (float[N] x) => (float[M] y) <int64[1] s = {-3}, int64[1] e = {9223372036854775807}, int64[1] t = {1}> { p = Slice(x, s, e) y = Slice(p, t, e) }",
        "g (float[N] x) => (float[M] y) <int64[1] s = {1}, int64[1] e = {-1}, int64[1] t = {2}> { p = Slice(x, s, e) y = Slice(p, s, t) }",
        "g (float[N] x) => (float[M] y) <int64[1] s = {0}, int64[1] e = {5}, int64[1] t = {-1}> { p = Slice(x, s, e) y = Slice(p, s, t) }",
        "g (float[N] x) => (float[M] y) <int64[1] s = {0}, int64[1] e = {9223372036854775807}, int64[1] k = {2}, int64[1] t = {-1}>"
        " { p = Slice(x, s, e, s, k) y = Slice(p, s, t) }",
        "g (float[N] x, int64[1] s) => (float[M] y) <int64[1] z = {0}, int64[1] e = {4}> { p = Slice(x, s, e, z) y = Slice(p, z, e, z) }",
    ],
)
def merge_slices(op: Build, m: Match) -> Result:
    """Slice(Slice(x, p), q) -> Slice(x, pq), on the same axes or on others"""
    before = producer(m.root.inputs[0], "Slice")
    if before is None or before.inputs[0] is None:
        return None
    first, second = cuts_of(before), cuts_of(m.root)
    if first is None or second is None:
        return skip("the bounds of one of the two are not known")
    if not only_reader(before.outputs[0], m.root) and not set(first) & set(second):
        return skip("'%s' is needed elsewhere, and cutting more axes at a time saves nothing", before.outputs[0].name)
    shape = dims_of(before.inputs[0]) or ()
    merged = _merged(first, second, shape)
    return merged if isinstance(merged, Skip) else sliced(op, before.inputs[0], merged)


def _merged(first: Cuts, second: Cuts, shape: tuple[Dim, ...]) -> dict[int, Cut] | Skip:
    merged = {**first, **second}
    for axis in set(first) & set(second):
        joint = one_after_other(first[axis], second[axis], shape[axis])
        if joint is None:
            return skip("what %s and then %s keep of %s depends on the size", first[axis], second[axis], shape[axis])
        merged[axis] = joint
    return merged


@rule(
    "Slice",
    drift=EXACT,
    shared=True,
    opset=13,
    examples=[
        "g (float[N,2] a, float[N,3] b, float[N,C] c) => (float[N,3] y) <int64[1] s = {2}, int64[1] e = {5}, int64[1] x = {1}>"
        " { p = Concat<axis=1>(a, b, c) q = Slice(p, s, e, x) y = Relu(q) }",
        "g (int64[2,4] a, int64[3,4] b) => (int64[3,2] y) <int64[2] s = {-3,1}, int64[2] e = {100,3}, int64[2] x = {0,1}>"
        " { p = Concat<axis=-2>(a, b) q = Slice(p, s, e, x) y = Abs(q) }",
        "g (float[N] a, float[2] b) => (float[2] y) <int64[1] s = {-1}, int64[1] t = {-3}, int64[1] x = {0}, int64[1] k = {-1}>"
        " { p = Concat<axis=0>(b, b) y = Slice(p, s, t, x, k) }",
    ],
    leaves=[
        "g (float[N,2] a, float[N,3] b) => (float[N,3] y) <int64[1] s = {1}, int64[1] e = {4}, int64[1] x = {1}>"
        " { p = Concat<axis=1>(a, b) y = Slice(p, s, e, x) }",
        "g (float[N,C] a, float[N,3] b) => (float[N,M] y) <int64[1] s = {0}, int64[1] e = {3}, int64[1] x = {1}>"
        " { p = Concat<axis=1>(a, b) y = Slice(p, s, e, x) }",
        "g (float[N,2] a, float[N,3] b) => (float[M,5] y) <int64[1] s = {0}, int64[1] e = {2}, int64[1] x = {0}>"
        " { p = Concat<axis=1>(a, b) y = Slice(p, s, e, x) }",
    ],
)
def slice_one_part(op: Build, m: Match) -> Result:
    """Slice(Concat(a, b, ...)) that lies within b -> Slice(b)"""
    joined = producer(m.root.inputs[0], "Concat")
    cuts = cuts_of(m.root) if joined is not None else None
    if joined is None or cuts is None:
        return None if joined is None else skip("the bounds are not known")
    axis = int(attribute(joined, "axis")) % len(dims_of(joined.outputs[0]) or (0,))  # type: ignore[call-overload]
    if axis not in cuts:
        return skip("it cuts another axis than that of the Concat")
    found = _part(joined, axis, cuts[axis])
    if found is None:
        return skip("%s is not proven to lie within one of the inputs of the Concat", cuts[axis])
    part, cut = found
    rest = {**cuts, axis: cut}
    if keeps_all(cut, (dims_of(part) or ())[axis]):
        del rest[axis]
    return sliced(op, part, rest)


def _part(joined: ir.Node, axis: int, cut: Cut) -> tuple[ir.Value, Cut] | None:
    """The input that holds all of the cut, and the cut as seen from there."""
    sizes = [(dims_of(value) or (None,) * (axis + 1))[axis] for value in joined.inputs]
    total = sum(size for size in sizes if isinstance(size, int))
    whole = all(isinstance(size, int) for size in sizes)
    if not whole and (cut.start < 0 or cut.end < 0 or cut.step < 1):
        return None
    kept = cut.of_size(total) if whole else range(cut.start, cut.end, cut.step)
    if not kept or (not whole and cut.end >= ENDLESS):
        return None
    offset = 0
    for value, size in zip(joined.inputs, sizes, strict=True):
        if not isinstance(size, int) or value is None:
            return None
        if offset <= min(kept[0], kept[-1]) and max(kept[0], kept[-1]) < offset + size:
            return value, cut_for(range(kept.start - offset, kept[-1] + kept.step - offset, kept.step))
        offset += size
    return None


@rule(
    "Slice",
    drift=EXACT,
    shared=True,
    opset=13,
    examples=[
        "g (float[N,4] x) => (float[N,4] y) <int64[4] p = {0,1,0,2}, int64[1] s = {1}, int64[1] e = {5}, int64[1] a = {1}>"
        " { q = Pad(x, p) r = Slice(q, s, e, a) y = Relu(r) }",
        "g (float[N,4] x) => (float[N,3] y) <int64[2] p = {1,2}, int64[1] s = {2}, int64[1] e = {-2}, int64[1] a = {1}, float v = {3}>"
        ' { q = Pad<mode="reflect">(x, p, v, a) y = Slice(q, s, e, a) }',
    ],
    leaves=[
        "g (float[N,4] x) => (float[N,4] y) <int64[4] p = {0,1,0,2}, int64[1] s = {0}, int64[1] e = {4}, int64[1] a = {1}>"
        " { q = Pad(x, p) y = Slice(q, s, e, a) }",
        "g (float[N,4] x) => (float[M,4] y) <int64[4] p = {1,1,0,2}, int64[1] s = {1}, int64[1] e = {5}, int64[1] a = {1}>"
        " { q = Pad(x, p) y = Slice(q, s, e, a) }",
        "g (float[N,4] x) => (float[M,4] y) <int64[4] p = {1,0,1,0}, int64[1] s = {1}, int64[1] e = {3}, int64[1] a = {0}>"
        " { q = Pad(x, p) y = Slice(q, s, e, a) }",
    ],
)
def slice_before_pad(op: Build, m: Match) -> Result:
    """Slice(Pad(x)) that holds no padding -> Slice(x)"""
    padded = producer(m.root.inputs[0], "Pad")
    if padded is None or padded.inputs[0] is None:
        return None
    cuts, pads, shape = cuts_of(m.root), _pads(padded), dims_of(padded.inputs[0])
    if cuts is None or pads is None or shape is None:
        return skip("the bounds or the padding are not known")
    inner = dict(cuts)
    for axis, (begin, end) in pads.items():
        size = shape[axis]
        kept = cuts[axis].of_size(size + begin + end) if axis in cuts and isinstance(size, int) else range(0)
        if not kept or not all(begin <= position < begin + size for position in (kept[0], kept[-1])):  # type: ignore[operator]
            return skip("padding along the axis %s may be kept", axis)
        cut = cut_for(range(kept.start - begin, kept[-1] + kept.step - begin, kept.step))
        inner[axis] = cut
        if keeps_all(cut, size):
            del inner[axis]
    return sliced(op, padded.inputs[0], inner)


@rule(
    "Slice",
    drift=EXACT,
    opset=13,
    examples=[
        "g (float[N,1,4] x) => (float[N,2,4] y) <int64[3] t = {1,6,4}, int64[1] s = {1}, int64[1] e = {3}, int64[1] a = {1}>"
        " { q = Expand(x, t) y = Slice(q, s, e, a) }",
        "g (int64[4] x) => (int64[3,2] y) <int64[2] t = {3,4}, int64[1] s = {-1}, int64[1] e = {-9}, int64[1] a = {1}, int64[1] k = {-2}>"
        " { q = Expand(x, t) y = Slice(q, s, e, a, k) }",
    ],
    leaves=[
        "g (float[N,1] x, int64[2] t) => (float[A,B] y) <int64[1] s = {1}, int64[1] e = {3}, int64[1] a = {1}> { q = Expand(x, t) y = Slice(q, s, e, a) }",
        "g (float[N,1] x) => (float[N,2] y, float[N,6] q) <int64[2] t = {1,6}, int64[1] s = {1}, int64[1] e = {3}, int64[1] a = {1}>"
        " { q = Expand(x, t) y = Slice(q, s, e, a) }",
    ],
)
def slice_before_expand(op: Build, m: Match) -> Result:
    """Slice(Expand(x)) -> Expand(Slice(x)), where x is cut along the axes that it has"""
    grown = producer(m.root.inputs[0], "Expand")
    if grown is None or grown.inputs[0] is None or not only_reader(m.root.inputs[0], m.root):
        return None
    cuts, small, made = cuts_of(m.root), dims_of(grown.inputs[0]), dims_of(m.root.outputs[0])
    if cuts is None or small is None or made is None:
        return skip("the bounds or the shapes are not known")
    wide: tuple[Dim, ...] = (1,) * (len(made) - len(small)) + small
    own = {axis: cut for axis, cut in cuts.items() if wide[axis] != 1}
    if not all(isinstance(wide[axis], int) for axis in own):
        return skip("whether %s is expanded is not known", ir.Shape(small))
    sizes = [size if isinstance(size, int) else 1 for size in made]
    if any(not isinstance(size, int) and not same(size, dim) for size, dim in zip(made, wide, strict=True)):
        return skip("the sizes %s are not known", m.root.outputs[0].shape)
    m.take(grown)
    inner = sliced(op, grown.inputs[0], {axis - len(made) + len(small): cut for axis, cut in own.items()})
    return op.Expand(inner, op.const(sizes, "sizes"))


def _pads(node: ir.Node) -> dict[int, tuple[int, int]] | None:
    """How much a Pad adds before and after, for each axis to which it adds."""
    rank = len(dims_of(node.inputs[0]) or ())
    pads = numbers_in(node.inputs[1])
    axes = numbers_in(node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] is not None else list(range(rank))
    if pads is None or axes is None or len(pads) != 2 * len(axes):
        return None
    rows = zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True)
    return {axis % rank: (begin, end) for axis, begin, end in rows if begin or end}
