"""Gathers and scatters that pick what lies together."""

from __future__ import annotations

import numpy as np

from ...compiler.core.axes import axes_of
from ...compiler.core.build import Build
from ...compiler.core.drift import EXACT
from ...compiler.core.graph import array, attribute
from ...compiler.core.pattern import ANY, Const, Pen
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from ...compiler.core.shapes import dims_of
from .cuts import Cut, keeps_all, sliced

MAX_INDEX_BYTES = 2**20


def gathered(op: Pen, x: object, indices: Const) -> object:
    return op.Gather(x, indices, axis=ANY)


@rule(
    gathered,
    drift=EXACT,
    opset=13,
    examples=[
        "g (float[N,6] x) => (float[N,3] y) <int64[3] i = {2,3,4}> { y = Gather<axis=1>(x, i) }",
        "g (int64[5] x) => (int64[2] y) <int32[2] i = {-2,-1}> { a = Gather(x, i) y = Abs(a) }",
        "g (string[3] x) => (string[3] y) <int64[3] i = {0,1,2}> { a = Gather(x, i) y = Identity(a) }",
        "g (bool[N,4] x) => (bool[N,1] y) <int64[1] i = {3}> { a = Gather<axis=-1>(x, i) y = Not(a) }",
    ],
    leaves=[
        "g (float[N,6] x) => (float[N,3] y) <int64[3] i = {2,4,5}> { y = Gather<axis=1>(x, i) }",
        "g (float[N,6] x) => (float[3,6] y) <int64[3] i = {0,1,2}> { y = Gather<axis=0>(x, i) }",
        "g (float[N,6] x) => (float[N,1,2] y) <int64[1,2] i = {0,1}> { y = Gather<axis=1>(x, i) }",
        "g (float[N,6] x) => (float[N,2] y) <int64[2] i = {-1,0}> { y = Gather<axis=1>(x, i) }",
        "g (float[N,6] x) => (float[N] y) <int64 i = {2}> { y = Gather<axis=1>(x, i) }",
    ],
)
def slice_for_gather(op: Build, m: Match) -> Result:
    """Gather(x, [i, i+1, ..., j]) -> Slice(x, i, j+1)"""
    indices, shape = array(m.indices, MAX_INDEX_BYTES), dims_of(m.x)
    if indices is None or indices.ndim != 1 or shape is None or not indices.size:
        return skip("the indices are not a row of numbers")
    axis = int(attribute(m.root, "axis", 0)) % len(shape)  # type: ignore[call-overload]
    size = shape[axis]
    if not isinstance(size, int):
        return skip("the indices may lie outside the %s entries, where Gather fails and Slice does not", size)
    places = np.where(indices < 0, indices + size, indices).astype(np.int64)
    if (np.diff(places) != 1).any() or places[0] < 0 or places[-1] >= size:
        return skip("the indices do not follow each other within the %s entries", size)
    cut = Cut(int(places[0]), int(places[-1]) + 1)
    return sliced(op, m.x, {} if keeps_all(cut, size) else {axis: cut})


def picked_and_unsqueezed(op: Pen, x: object, index: Const, axes: Const) -> object:
    return op.Unsqueeze(op.Gather(x, index, axis=ANY, _name="pick"), axes)


@rule(
    picked_and_unsqueezed,
    drift=EXACT,
    opset=13,
    examples=[
        "g (float[N,6] x) => (float[N,1] y) <int64 i = {2}, int64[1] a = {1}> { p = Gather<axis=1>(x, i) y = Unsqueeze(p, a) }",
        "g (float[6,N] x) => (float[1,N] y) <int64 i = {-1}, int64[1] a = {0}> { p = Gather<axis=-2>(x, i) y = Unsqueeze(p, a) }",
    ],
    leaves=[
        "g (float[N,6] x) => (float[1,N] y) <int64 i = {2}, int64[1] a = {0}> { p = Gather<axis=1>(x, i) y = Unsqueeze(p, a) }",
        "g (float[N,6] x) => (float[N,1,2] y) <int64[2] i = {2,4}, int64[1] a = {1}> { p = Gather<axis=1>(x, i) y = Unsqueeze(p, a) }",
        "g (float[N,6] x) => (float[1,6] y) <int64 i = {2}, int64[1] a = {0}> { p = Gather<axis=0>(x, i) y = Unsqueeze(p, a) }",
    ],
)
def slice_for_pick(op: Build, m: Match) -> Result:
    """Unsqueeze(Gather(x, i)) where x had the axis -> Slice(x, i, i+1)"""
    shape, index = dims_of(m.x), m.scalar("index")
    if shape is None or index is None or dims_of(m.index) != ():
        return skip("the index is not one number")
    axis = int(attribute(m.node("pick"), "axis", 0)) % len(shape)  # type: ignore[call-overload]
    size = shape[axis]
    if axes_of(m.root, len(shape)) != [axis]:
        return skip("the axis comes back at another place")
    if not isinstance(size, int) or not -size <= index < size:
        return skip("the index %s may lie outside the %s entries, where Gather fails and Slice does not", index, size)
    place = int(index) % size
    return sliced(op, m.x, {axis: Cut(place, place + 1)})


def gathered_twice(op: Pen, x: object, first: Const, second: Const) -> object:
    return op.Gather(op.Gather(x, first, axis=ANY, _name="first"), second, axis=ANY)


@rule(
    gathered_twice,
    drift=EXACT,
    opset=13,
    examples=[
        "g (float[N,6] x) => (float[N,2] y) <int64[3] i = {4,-5,2}, int64[2] j = {-1,1}> { p = Gather<axis=1>(x, i) y = Gather<axis=-1>(p, j) }",
        "g (string[6] x) => (string y) <int32[3] i = {4,1,2}, int64 j = {1}> { p = Gather(x, i) y = Gather(p, j) }",
    ],
    leaves=[
        "g (float[4,6] x) => (float[3,2] y) <int64[3] i = {3,1,2}, int64[2] j = {2,1}> { p = Gather<axis=0>(x, i) y = Gather<axis=1>(p, j) }",
        "g (float[N,6] x) => (float[N,1,2] y) <int64[1,3] i = {3,1,2}, int64[2] j = {2,1}> { p = Gather<axis=1>(x, i) y = Gather<axis=2>(p, j) }",
    ],
)
def merge_gathers(op: Build, m: Match) -> Result:
    """Gather(Gather(x, i), j) -> Gather(x, i[j]) on the same axis"""
    first, second, shape = array(m.first, MAX_INDEX_BYTES), array(m.second, MAX_INDEX_BYTES), dims_of(m.x)
    if first is None or second is None or shape is None or first.ndim != 1:
        return skip("the indices are not known, or the first are no row")
    axes = [int(attribute(node, "axis", 0)) % len(shape) for node in (m.node("first"), m.root)]  # type: ignore[call-overload]
    if axes[0] != axes[1] or (second < -first.size).any() or (second >= first.size).any():
        return skip("they pick along the axes %s", axes)
    return op.Gather(m.x, op.const(first.astype(np.int64)[second], "indices"), axis=axes[0])


def gathered_nd(op: Pen, x: object, indices: Const) -> object:
    return op.GatherND(x, indices)


@rule(
    gathered_nd,
    drift=EXACT,
    opset=13,
    examples=[
        "g (float[5,N] x) => (float[3,N] y) <int64[3,1] i = {2,0,2}> { y = GatherND(x, i) }",
        "g (string[5] x) => (string[1,2] y) <int64[1,2,1] i = {4,-1}> { y = GatherND(x, i) }",
    ],
    leaves=["g (float[5,2] x) => (float[2] y) <int64[2,2] i = {0,1,1,1}> { y = GatherND(x, i) }"],
)
def gather_rows(op: Build, m: Match) -> Result:
    """GatherND(x, [[i], [j], ...]) -> Gather(x, [i, j, ...], axis=0)"""
    indices = array(m.indices, MAX_INDEX_BYTES)
    if indices is None or indices.ndim < 1 or indices.shape[-1] != 1:
        return skip("an index names more than the first axis")
    return op.Gather(m.x, op.const(np.ascontiguousarray(indices[..., 0]), "indices"), axis=0)


def scattered_nd(op: Pen, x: object, indices: Const, updates: object) -> object:
    return op.ScatterND(x, indices, updates)


@rule(
    scattered_nd,
    drift=EXACT,
    opset=13,
    examples=[
        "g (float[3,N] x, float[3,N] u) => (float[3,N] y) <int64[3,1] i = {0,1,2}> { a = ScatterND(x, i, u) y = Relu(a) }",
        "g (int64[2,2] x, int64[2,2] u) => (int64[2,2] y) <int64[2,2,2] i = {0,0,0,1,1,0,1,1}> { a = ScatterND(x, i, u) y = Abs(a) }",
    ],
    leaves=[
        "g (float[3,N] x, float[2,N] u) => (float[3,N] y) <int64[2,1] i = {0,1}> { y = ScatterND(x, i, u) }",
        "g (float[3,N] x, float[3,N] u) => (float[3,N] y) <int64[3,1] i = {0,2,1}> { y = ScatterND(x, i, u) }",
        'g (float[2,2] x, float[2,2] u) => (float[2,2] y) <int64[2,1] i = {0,1}> { y = ScatterND<reduction="add">(x, i, u) }',
    ],
)
def drop_overwritten(op: Build, m: Match) -> Result:
    """ScatterND(x, [[0], [1], ...], u) over all of x -> u"""
    indices, shape = array(m.indices, MAX_INDEX_BYTES), dims_of(m.x)
    if indices is None or indices.ndim < 1 or shape is None or not 0 < indices.shape[-1] <= len(shape):
        return skip("the indices are not known")
    depth = indices.shape[-1]
    leading = shape[:depth]
    if not all(isinstance(size, int) for size in leading) or indices.shape[:-1] != leading:
        return skip("it writes %s of %s places", indices.shape[:-1], leading)
    everything = np.moveaxis(np.indices(indices.shape[:-1]), 0, -1)
    return m.updates if (indices == everything).all() else skip("it writes in another order")
