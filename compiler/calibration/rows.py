"""The input of a site as the rows of a matrix: what is multiplied by its weight, seen as ``Y = X W``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..core.graph import attribute
from ..core.sites import Site

__all__ = ["Layout", "count_rows", "drawn_rows", "layout_of", "reach_of", "rows_of"]

CHUNK = 1 << 21
"""Numbers of X that are made at a time."""


@dataclass(frozen=True)
class Layout:
    """How the rows of X lie in a value. Sites that read one value in one layout have the same X.

    "rows": the last axis is K. "columns": the one before the last is. "pixels": the second is, in ``groups``. "patches": K is channels of a group times
    taps of a kernel. "indices": X is one-hot, K is ``width``.
    """

    kind: Literal["rows", "columns", "pixels", "patches", "indices"]
    width: int
    groups: int = 1
    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    auto_pad: str = "NOTSET"


def layout_of(site: Site) -> Layout:
    """The layout of a site's input."""
    if site.kind == "Conv":
        return _conv_layout(site)
    if site.kind == "ConvTranspose":
        return Layout("pixels", site.shape[0] // site.groups, site.groups)
    if site.kind == "Gather":
        return Layout("indices", site.shape[0])
    width = site.shape[1] if site.flipped else site.shape[0]
    return Layout("columns" if site.kind == "MatMul" and site.weight_at == 0 else "rows", width)


def drawn_rows(array: np.ndarray, layout: Layout, share: float, random: np.random.Generator) -> Iterator[tuple[np.ndarray, int]]:
    """An even ``share`` of the rows of X, of the layout "patches": pieces [groups, n, K], each with how many rows it was drawn from; others are never made."""
    for item in array if array.size else ():
        for windows in _windows(item, layout):
            total = math.prod(windows.shape[1 : item.ndim])
            yield _unfolded(windows, layout, np.sort(random.choice(total, math.ceil(total * share), replace=False))), total


def rows_of(array: np.ndarray, layout: Layout) -> Iterator[np.ndarray]:
    """X piece by piece: each [groups, n, K] in the dtype of the array, in memory as it lies there; for "indices", the flat indices."""
    if array.size == 0:
        return
    if layout.kind == "indices":
        yield array.reshape(-1)
    elif layout.kind == "rows":
        yield from _slices(array.reshape(-1, layout.width))
    elif layout.kind == "columns":
        for matrix in array.reshape(-1, *array.shape[-2:]) if array.ndim > 1 else array.reshape(1, -1, 1):
            yield from _slices(matrix.T)
    elif layout.kind == "pixels":
        for item in array:
            channels = item.reshape(layout.groups, layout.width, -1).transpose(0, 2, 1)
            step = max(1, CHUNK // (layout.groups * layout.width))
            yield from (channels[:, start : start + step] for start in range(0, channels.shape[1], step))
    else:
        yield from (_unfolded(windows, layout) for item in array for windows in _windows(item, layout))


def count_rows(shape: Sequence[int], layout: Layout) -> int:
    """How many rows X has, given the shape of the value."""
    if layout.kind == "patches":
        return shape[0] * math.prod(max(0, size) for size in _positions(shape[2:], layout)[0])
    return math.prod(shape) // (1 if layout.kind == "indices" else layout.width * layout.groups)


def _conv_layout(site: Site) -> Layout:
    rank = len(site.shape) - 2
    kernel = site.shape[2:]
    strides = _ints(site, "strides", [1] * rank)
    dilations = _ints(site, "dilations", [1] * rank)
    auto_pad = str(attribute(site.node, "auto_pad", "NOTSET"))
    pads = _ints(site, "pads", [0] * 2 * rank) if auto_pad == "NOTSET" else (0,) * 2 * rank
    if all(size == 1 for size in (*kernel, *strides)) and not any(pads):
        return Layout("pixels", site.shape[1], site.groups)
    width = int(np.prod(site.shape[1:], dtype=np.int64))
    return Layout("patches", width, site.groups, kernel, strides, dilations, pads, auto_pad if auto_pad.startswith("SAME") else "NOTSET")


def _ints(site: Site, name: str, default: list[int]) -> tuple[int, ...]:
    return tuple(attribute(site.node, name) or default)  # type: ignore[arg-type]


def _slices(matrix: np.ndarray) -> Iterator[np.ndarray]:
    step = max(1, CHUNK // matrix.shape[1])
    for start in range(0, len(matrix), step):
        yield matrix[None, start : start + step]


def reach_of(array: np.ndarray, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest number in each column of X, of the layout "patches", float64 [groups, K]: those of its channel, wherever in the image.

    What no tap meets, at the rim of an image, counts too; so does 0 where there is padding.
    """
    axes = (0, *range(2, array.ndim))
    low, high = (find(axis=axes).astype(np.float64).reshape(layout.groups, -1) for find in (array.min, array.max))
    if any(layout.pads) or layout.auto_pad != "NOTSET":
        low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
    taps = layout.width // low.shape[1]
    return np.repeat(low, taps, axis=1), np.repeat(high, taps, axis=1)


def _windows(item: np.ndarray, layout: Layout) -> Iterator[np.ndarray]:
    """The patches of one image [C, spatial], [C, places, taps] with as many axes for each as it has: only what a tile of the output needs is copied."""
    sizes, before, reach = _positions(item.shape[1:], layout)
    if min(sizes) < 1:
        return
    for tile in _tiles(sizes, max(1, CHUNK // (layout.width * layout.groups))):
        slab = _slab(item, tile, before, reach, layout)
        windows = sliding_window_view(slab, reach, axis=tuple(range(1, slab.ndim)))
        steps = tuple(slice(None, None, stride) for stride in layout.strides) + tuple(slice(None, None, step) for step in layout.dilations)
        yield windows[(slice(None), *steps)]


def _unfolded(windows: np.ndarray, layout: Layout, places: np.ndarray | None = None) -> np.ndarray:
    """Patches as rows [groups, n, K]: all, or those at these ``places``."""
    rank = len(layout.kernel)
    if places is not None:
        spots = np.unravel_index(places, windows.shape[1 : 1 + rank])
        chosen: tuple[slice | np.ndarray, ...] = (slice(None), *spots)
        windows, rank = windows[chosen], 1
    taps = range(2 + rank, 1 + windows.ndim)
    ordered = windows.reshape(layout.groups, -1, *windows.shape[1:]).transpose(0, 1, *taps, *range(2, 2 + rank))
    return ordered.reshape(layout.groups, layout.width, -1).transpose(0, 2, 1)


def _positions(spatial: Sequence[int], layout: Layout) -> tuple[list[int], list[int], list[int]]:
    """For each axis: how many positions the kernel takes, the padding before the first, and how far the kernel reaches."""
    reach = [step * (size - 1) + 1 for size, step in zip(layout.kernel, layout.dilations, strict=True)]
    before, after = _padding(spatial, reach, layout)
    known = zip(spatial, before, after, reach, layout.strides, strict=True)
    return [(size + first + last - span) // stride + 1 for size, first, last, span, stride in known], before, reach


def _padding(sizes: Sequence[int], reach: Sequence[int], layout: Layout) -> tuple[list[int], list[int]]:
    rank = len(sizes)
    if layout.auto_pad == "NOTSET":
        return list(layout.pads[:rank]), list(layout.pads[rank:])
    totals = [max((-(-size // stride) - 1) * stride + span - size, 0) for size, stride, span in zip(sizes, layout.strides, reach, strict=True)]
    small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return (small, large) if layout.auto_pad == "SAME_UPPER" else (large, small)


def _tiles(sizes: Sequence[int], most: int) -> Iterator[tuple[range, ...]]:
    """Boxes of at most ``most`` positions that cover a grid: whole lines where they fit, else parts of one."""
    line = int(np.prod(sizes[1:], dtype=np.int64))
    step = max(1, most // line)
    for start in range(0, sizes[0], step):
        lead = range(start, min(start + step, sizes[0]))
        if len(sizes) == 1 or line <= most:
            yield (lead, *map(range, sizes[1:]))
        else:
            yield from ((lead, *rest) for rest in _tiles(sizes[1:], most))


def _slab(item: np.ndarray, tile: Sequence[range], before: Sequence[int], reach: Sequence[int], layout: Layout) -> np.ndarray:
    """What a tile of the output reads, with zeros where it lies outside the image."""
    cut, pads = [slice(None)], [(0, 0)]
    for size, part, first, span, stride in zip(item.shape[1:], tile, before, reach, layout.strides, strict=True):
        start, stop = part.start * stride - first, (part.stop - 1) * stride - first + span
        cut.append(slice(min(max(start, 0), size), max(min(stop, size), 0)))
        inside = cut[-1].stop - cut[-1].start
        if inside <= 0:
            cut[-1], inside, start, stop = slice(0, 0), 0, 0, stop - start
        pads.append((max(-start, 0), 0))
        pads[-1] = (pads[-1][0], (stop - start) - inside - pads[-1][0])
    slab = item[tuple(cut)]
    return np.pad(slab, pads) if any(map(any, pads)) else slab
