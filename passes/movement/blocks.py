"""Pixels that become channels and channels that become pixels, block by block."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import Dim, divide_exactly, multiply, same_shape
from ...compiler.core.drift import EXACT
from ...compiler.core.graph import attribute, producer
from ...compiler.core.pattern import ANY, Pen
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from ...compiler.core.shapes import dims_of
from .cuts import ENDLESS, Cut, cuts_of
from .views import only_reader

TAKEN = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.UINT8, ir.DataType.INT8)
"""What the kernels of SpaceToDepth and DepthToSpace compute in."""
TO_PIXELS: dict[tuple[int, ...], str] = {(0, 3, 4, 1, 5, 2): "DCR", (0, 1, 4, 2, 5, 3): "CRD"}


def moved(op: Pen, x: object, split: object, perm: object, join: object) -> object:
    return op.Reshape(op.Transpose(op.Reshape(x, split, allowzero=ANY, _name="split"), perm=ANY, _name="moved"), join, allowzero=ANY)


def reordered(op: Pen, x: object, split: object, join: object) -> object:
    return moved(op, x, split, ANY, join)


@rule(
    reordered,
    drift=EXACT,
    opset=13,
    measured=True,
    examples=[
        "g (float[N,12,2,3] x) => (float[N,3,4,6] y) <int64[6] s = {-1,2,2,3,2,3}, int64[4] t = {-1,3,4,6}>"
        " { a = Reshape(x, s) b = Transpose<perm=[0,3,4,1,5,2]>(a) y = Reshape(b, t) }",
        "g (uint8[1,18,H,3] x) => (uint8[1,2,K,9] y) <int64[6] s = {1,2,3,3,-1,3}, int64[4] t = {1,2,-1,9}>"
        " { a = Reshape(x, s) b = Transpose<perm=[0,1,4,2,5,3]>(a) y = Reshape(b, t) }",
    ],
    leaves=[
        "g (float[N,12,2,3] x) => (float[N,3,4,6] y) <int64[6] s = {-1,2,2,3,2,3}, int64[4] t = {-1,3,4,6}>"
        " { a = Reshape(x, s) b = Transpose<perm=[0,3,4,2,5,1]>(a) y = Reshape(b, t) }",
        "g (float[N,12,2,3] x) => (float[N,2,2,18] y) <int64[6] s = {-1,2,3,2,2,3}, int64[4] t = {-1,2,2,18}>"
        " { a = Reshape(x, s) b = Transpose<perm=[0,3,4,1,5,2]>(a) y = Reshape(b, t) }",
        "g (int64[N,12,2,3] x) => (int64[N,3,4,6] y) <int64[6] s = {-1,2,2,3,2,3}, int64[4] t = {-1,3,4,6}>"
        " { a = Reshape(x, s) b = Transpose<perm=[0,3,4,1,5,2]>(a) y = Reshape(b, t) }",
        "g (float[N,6,2,3] x) => (float[N,6,2,3] y) <int64[5] s = {-1,2,3,2,3}, int64[4] t = {-1,6,2,3}>"
        " { a = Reshape(x, s) b = Transpose<perm=[0,2,1,3,4]>(a) y = Reshape(b, t) }",
    ],
)
def make_pixels(op: Build, m: Match) -> Result:
    """Reshape(Transpose(Reshape(x: [n, b b c, h, w]))) of blocks -> DepthToSpace(x), in mode DCR or CRD"""
    mode = TO_PIXELS.get(_perm(m))
    if mode is None or m.x.dtype not in TAKEN:
        return skip("it is %s of %s", _perm(m), m.x.dtype)
    before, middle, after = dims_of(m.x), dims_of(m.node("split").outputs[0]), dims_of(m.root.outputs[0])
    if before is None or middle is None or after is None or len(before) != 4 or len(middle) != 6:
        return skip("the shapes are not known")
    block, (n, c, h, w) = middle[2], (middle[axis] for axis in ((0, 3, 4, 5) if mode == "DCR" else (0, 1, 4, 5)))
    other = middle[1] if mode == "DCR" else middle[3]
    if not isinstance(block, int) or block < 2 or other != block:
        return skip("the blocks are %s by %s", other, block)
    if not same_shape(before, (n, multiply(c, block * block), h, w)) or not same_shape(after, (n, c, multiply(h, block), multiply(w, block))):
        return skip("it goes from %s by %s to %s", ir.Shape(before), ir.Shape(middle), ir.Shape(after))
    return op.DepthToSpace(m.x, blocksize=block, mode=mode)


def _perm(m: Match) -> tuple[int, ...]:
    perm = attribute(m.node("moved"), "perm")
    return tuple(perm) if perm is not None else ()  # type: ignore[arg-type]


@rule(
    reordered,
    drift=EXACT,
    opset=13,
    measured=True,
    examples=[
        "g (float[N,3,4,6] x) => (float[N,12,2,3] y) <int64[6] s = {0,3,2,2,3,2}, int64[4] t = {0,12,2,3}>"
        " { a = Reshape(x, s) b = Transpose<perm=[0,3,5,1,2,4]>(a) y = Reshape(b, t) }",
        "g (float[N,2,4,6] x) => (float[N,8,2,3] y) <int64[6] s = {0,2,2,2,3,2}, int64[4] t = {0,8,2,3}>"
        " { a = Reshape(x, s) b = Transpose<perm=[0,1,3,5,2,4]>(a) y = Reshape(b, t) }",
        "g (int8[N,2,6,9] x) => (int8[N,18,2,3] y) <int64[6] s = {0,2,2,3,3,3}, int64[4] t = {0,18,2,3}>"
        " { a = Reshape(x, s) b = Transpose<perm=[0,5,3,1,2,4]>(a) y = Reshape(b, t) }",
    ],
    leaves=[
        "g (float[N,3,4,6] x) => (float[N,12,2,3] y) <int64[6] s = {0,3,2,2,3,2}, int64[4] t = {0,12,2,3}>"
        " { a = Reshape(x, s) b = Transpose<perm=[0,3,5,1,4,2]>(a) y = Reshape(b, t) }",
        "g (float[N,3,4,6] x) => (float[N,12,3,2] y) <int64[6] s = {0,3,2,2,2,3}, int64[4] t = {0,12,3,2}>"
        " { a = Reshape(x, s) b = Transpose<perm=[0,3,4,1,2,5]>(a) y = Reshape(b, t) }",
        "g (float[N,3,4,6] x) => (float[N,24,2,3] y) <int64[6] s = {0,3,2,2,3,2}, int64[4] t = {-1,24,2,3}>"
        " { a = Reshape(x, s) b = Transpose<perm=[0,3,5,1,2,4]>(a) y = Reshape(b, t) }",
    ],
)
def make_channels(op: Build, m: Match) -> Result:
    """Reshape(Transpose(Reshape(x: [n, c, b h, b w]))) of blocks -> SpaceToDepth(x), with its channels in the order asked for"""
    perm = _perm(m)
    if m.x.dtype not in TAKEN or sorted(perm[1:4]) != [1, 3, 5] or perm[0] != 0 or perm[4:] != (2, 4):
        return skip("it is %s of %s", perm, m.x.dtype)
    before, middle, after = dims_of(m.x), dims_of(m.node("split").outputs[0]), dims_of(m.root.outputs[0])
    if before is None or middle is None or after is None or len(before) != 4 or len(middle) != 6:
        return skip("the shapes are not known")
    n, c, h, block, w, other = middle
    if not isinstance(block, int) or block < 2 or other != block:
        return skip("the blocks are %s by %s", block, other)
    if not same_shape(before, (n, c, multiply(h, block), multiply(w, block))) or not same_shape(after, (n, multiply(c, block * block), h, w)):
        return skip("it goes from %s by %s to %s", ir.Shape(before), ir.Shape(middle), ir.Shape(after))
    order = [(3, 5, 1).index(axis) for axis in perm[1:4]]
    if order != [0, 1, 2] and not isinstance(c, int):
        return skip("the order of %s channels cannot be written down", c)
    places = np.arange(block * block * c).reshape(block, block, c).transpose(order).reshape(-1) if isinstance(c, int) else None
    return _in_order(op, op.SpaceToDepth(m.x, blocksize=block), places)  # type: ignore[arg-type]


def there_and_back(op: Pen, x: object) -> object:
    return op.DepthToSpace(op.SpaceToDepth(x, blocksize=ANY, _name="first"), blocksize=ANY, mode="DCR")


def back_and_there(op: Pen, x: object) -> object:
    return op.SpaceToDepth(op.DepthToSpace(x, blocksize=ANY, mode="DCR", _name="first"), blocksize=ANY)


@rule(
    there_and_back,
    back_and_there,
    drift=EXACT,
    opset=11,
    shared=True,
    examples=[
        "g (float[N,8,2,2] x) => (float[N,8,2,2] y) { a = DepthToSpace<blocksize=2>(x) b = SpaceToDepth<blocksize=2>(a) y = Relu(b) }",
        "g (float[N,8,4,6] x) => (float[N,8,4,6] y) { a = SpaceToDepth<blocksize=2>(x) b = DepthToSpace<blocksize=2>(a) y = Relu(b) }",
    ],
    leaves=[
        'g (float[N,8,2,2] x) => (float[N,8,2,2] y) { a = DepthToSpace<blocksize=2, mode="CRD">(x) b = SpaceToDepth<blocksize=2>(a) y = Relu(b) }',
        "g (float[N,16,4,4] x) => (float[N,64,2,2] y) { a = DepthToSpace<blocksize=2>(x) b = SpaceToDepth<blocksize=4>(a) y = Relu(b) }",
    ],
)
def cancel_blocks(op: Build, m: Match) -> Result:
    """SpaceToDepth(DepthToSpace(x)) -> x, and the other way round, in mode DCR"""
    sizes = [attribute(node, "blocksize") for node in (m.node("first"), m.root)]
    return m.x if sizes[0] == sizes[1] else skip("the blocks have sizes %s", sizes)


def _in_order(op: Build, value: ir.Value, places: np.ndarray | None) -> ir.Value:
    """The value with its channels in another order."""
    if places is None or (places == np.arange(places.size)).all():
        return value
    return op.Gather(value, op.const(places.astype(np.int64), "channels"), axis=1)  # type: ignore[return-value]


@rule(
    "Concat",
    drift=EXACT,
    opset=13,
    measured=True,
    shared=True,
    examples=[
        "g (float[N,2,4,6] x) => (float[N,8,2,3] y) <int64[2] a = {2,3}, int64[2] e = {9223372036854775807,9223372036854775807}, int64[2] k = {2,2},"
        " int64[2] p = {0,0}, int64[2] q = {1,0}, int64[2] r = {0,1}, int64[2] s = {1,1}> { b = Slice(x, p, e, a, k) c = Slice(x, q, e, a, k)"
        " d = Slice(x, r, e, a, k) f = Slice(x, s, e, a, k) y = Concat<axis=1>(b, c, d, f) }",
        "g (int8[N,C,4,4] x) => (int8[N,K,2,2] y) <int64[1] h = {-2}, int64[1] w = {3}, int64[1] e = {4}, int64[1] k = {2}, int64[1] o = {0}, int64[1] i = {1}>"
        " { t = Slice(x, o, e, h, k) u = Slice(x, i, e, h, k) a = Slice(t, o, e, w, k) b = Slice(t, i, e, w, k)"
        " c = Slice(u, o, e, w, k) d = Slice(u, i, e, w, k) y = Concat<axis=1>(a, b, c, d) }",
    ],
    leaves=[
        "g (float[N,2,4,H] x) => (float[N,D,2,K] y) <int64[2] a = {2,3}, int64[2] e = {9223372036854775807,9223372036854775807}, int64[2] k = {2,2},"
        " int64[2] p = {0,0}, int64[2] q = {1,0}, int64[2] r = {0,1}, int64[2] s = {1,1}> { b = Slice(x, p, e, a, k) c = Slice(x, q, e, a, k)"
        " d = Slice(x, r, e, a, k) f = Slice(x, s, e, a, k) y = Concat<axis=1>(b, c, d, f) }",
        "g (float[N,C,4,4] x) => (float[N,D,2,2] y) <int64[2] a = {2,3}, int64[2] e = {4,4}, int64[2] k = {2,2},"
        " int64[2] p = {0,0}, int64[2] q = {1,0}, int64[2] r = {0,1}, int64[2] s = {1,1}> { b = Slice(x, p, e, a, k) c = Slice(x, q, e, a, k)"
        " d = Slice(x, r, e, a, k) f = Slice(x, s, e, a, k) y = Concat<axis=1>(b, c, d, f) }",
        "g (float[N,2,4,4] x) => (float[N,8,2,2] y) <int64[2] a = {2,3}, int64[2] e = {9223372036854775807,9223372036854775807}, int64[2] k = {2,2},"
        " int64[2] p = {0,0}, int64[2] q = {1,0}, int64[2] s = {1,1}> { b = Slice(x, p, e, a, k) c = Slice(x, q, e, a, k)"
        " f = Slice(x, s, e, a, k) y = Concat<axis=1>(b, c, c, f) }",
        "g (float[N,2,4,4] x) => (float[N,2,8,2] y) <int64[2] a = {2,3}, int64[2] e = {9223372036854775807,9223372036854775807}, int64[2] k = {2,2},"
        " int64[2] p = {0,0}, int64[2] q = {1,0}, int64[2] r = {0,1}, int64[2] s = {1,1}> { b = Slice(x, p, e, a, k) c = Slice(x, q, e, a, k)"
        " d = Slice(x, r, e, a, k) f = Slice(x, s, e, a, k) y = Concat<axis=2>(b, d, c, f) }",
        "g (float[N,2,5,5] x) => (float[N,8,2,2] y) <int64[2] a = {2,3}, int64[2] e = {4,4}, int64[2] k = {2,2},"
        " int64[2] p = {0,0}, int64[2] q = {1,0}, int64[2] r = {0,1}, int64[2] s = {1,1}> { b = Slice(x, p, e, a, k) c = Slice(x, q, e, a, k)"
        " d = Slice(x, r, e, a, k) f = Slice(x, s, e, a, k) y = Concat<axis=1>(b, d, c, f) }",
    ],
)
def join_channels(op: Build, m: Match) -> Result:
    """Concat(x[:, :, i::b, j::b] for every i and j) -> SpaceToDepth(x), with its channels in the order asked for"""
    block = math.isqrt(len(m.root.inputs))
    if block < 2 or block * block != len(m.root.inputs) or dims_of(m.root.outputs[0]) is None or len(dims_of(m.root.outputs[0]) or ()) != 4:
        return None
    parts = [_phase(value, m.root, block) for value in m.root.inputs]
    sources = {part[0] for part in parts if part is not None}
    phases = [part[1] for part in parts if part is not None]
    if len(sources) != 1 or attribute(m.root, "axis") not in (1, -3) or sorted(phases) != list(range(block * block)):
        return skip("its inputs are not every %sth pixel of one image, from every start", block)
    source = sources.pop()
    channels = (dims_of(source) or ())[1]
    if source.dtype not in TAKEN or (not isinstance(channels, int) and phases != sorted(phases)):
        return skip("%s channels of %s are not reordered", channels, source.dtype)
    places = np.concatenate([phase * channels + np.arange(channels) for phase in phases]) if isinstance(channels, int) else None
    return _in_order(op, op.SpaceToDepth(source, blocksize=block), places)  # type: ignore[arg-type]


def _phase(value: ir.Value | None, reader: ir.Node, block: int) -> tuple[ir.Value, int] | None:
    """Of which image a part holds one pixel of each block, and the number of that pixel."""
    cuts: dict[int, Cut] = {}
    while value is not None and (node := producer(value, "Slice")) is not None and len(cuts) < 2:
        found = cuts_of(node)
        if not found or set(found) & set(cuts) or not set(found) <= {2, 3} or (not cuts and not only_reader(value, reader)):
            return None
        cuts |= found
        value = node.inputs[0]
    shape = dims_of(value)
    if value is None or shape is None or len(shape) != 4 or set(cuts) != {2, 3}:
        return None
    starts = [_start(cuts[axis], shape[axis], block) for axis in (2, 3)]
    return None if None in starts else (value, starts[0] * block + starts[1])  # type: ignore[operator]


def _start(cut: Cut, size: Dim, block: int) -> int | None:
    """Where a cut starts that keeps one of every ``block`` entries; the last block must be whole, for a join of uneven parts need not fail."""
    if cut.step != block or not 0 <= cut.start < block:
        return None
    if divide_exactly(size, block) is None:
        return None
    whole = cut.of_size(size) == range(size)[cut.start :: block] if isinstance(size, int) else cut.end >= ENDLESS
    return cut.start if whole else None
