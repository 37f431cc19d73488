"""Blocks joined band by band: what a band of rows of one block's result needs of the block before is computed with it, and is never stored whole.

A band is some rows of an image. A pointwise convolution, or a pool whose windows lie beside each other, reads the same band of what comes before; a window
that overlaps reads some rows more, which are then computed twice (Alwani et al., Fused-Layer CNN Accelerators, MICRO 2016, section III). Blocks that are too
little work for more than one thread are joined, too: what lies between them stays in that thread's cache. So is what little is left to do behind one
product, such as the classifier behind the last convolution.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from ..graph import attribute, constant
from ..shapes import known_bytes, static_shape
from ..symbolic.reading import input_at
from ..target import STANDARD_DOMAINS
from .growth import Growth
from .mapping import Mapping
from .operators import is_product
from .plan import Constraints, Profile
from .tiles import tiled_axes

HEIGHT = 2
"""The axis of an image that is cut into bands: [batch, channels, height, width]."""
AGAIN = 0.02
"""The share of all arithmetic that may be done twice."""
BANDS = 2
"""Bands that there are at least, so that threads can share them."""
RESIDENT = 1 << 18
"""Bytes of weights that stay in a core's second cache from one band to the next."""
STREAMED = 96
"""Places of a band from which on it does not matter that larger weights are read again for each band."""
SMALL = 1 << 15
"""Additions of a block that one thread does sooner than two, which take microseconds to start: joined at 1 << 17, a digit classifier of 25 us took 35."""
SMALL_BYTES = 1 << 15
"""What may lie between two small blocks."""
WINDOWS = ("Conv", "MaxPool", "AveragePool", "LpPool")


@dataclass(frozen=True)
class Window:
    """The rows that one row of a result is made of: ``size`` of them (dilation included), ``step`` further for the next row."""

    size: int
    step: int


@dataclass(frozen=True)
class Verdict:
    """Whether two blocks are joined, and why (not)."""

    yes: bool
    reason: str


class Joiner:
    """Decides for one graph, by measurement where there is one."""

    def __init__(self, constraints: Constraints, profile: Profile | None) -> None:
        self._constraints = constraints
        self._profile = profile

    def judge(self, first: Growth, second: Growth) -> Verdict:
        """Whether ``second``, which reads what ``first`` makes, becomes one block with it."""
        refusal = self._excess(first, second)
        if refusal is not None:
            return Verdict(False, refusal)
        flowing = [value for value in _made(first) if any(user in second.nodes for user, _ in value.uses())]
        if any(value.is_graph_output() or any(user not in second.nodes for user, _ in value.uses()) for value in flowing):
            return Verdict(False, "what lies between them is read elsewhere, too")
        if _is_small(first) and _is_small(second) and sum(known_bytes(value) or SMALL_BYTES + 1 for value in flowing) <= SMALL_BYTES:
            return self._settled(first, second, Verdict(True, "one thread does both, and keeps what lies between them"))
        if _ends(first, second) and sum(known_bytes(value) or SMALL_BYTES + 1 for value in flowing) <= SMALL_BYTES:
            return self._settled(first, second, Verdict(True, "it is hardly any work, which one thread does when the others have ended"))
        found = self._by_bands(first, second, flowing)
        return self._settled(first, second, found) if found.yes else found

    def _excess(self, first: Growth, second: Growth) -> str | None:
        bounds = self._constraints
        if any(facts.mapping is Mapping.OPAQUE for growth in (first, second) for facts in growth.nodes.values()):
            return "Opaque operators are never fused"
        if len(first.nodes) + len(second.nodes) > bounds.operators:
            return f"a block has at most {bounds.operators} operators"
        read = first.inputs | second.inputs - set(_made(first))
        return f"the block would read {len(read)} values, at most {bounds.inputs} are allowed" if len(read) > bounds.inputs else None

    def _by_bands(self, first: Growth, second: Growth, flowing: Sequence[ir.Value]) -> Verdict:
        """Whether bands of ``second`` need bands of ``first``, and hardly more."""
        if not _windows(second.nodes):
            return Verdict(False, "no operator behind has a band of its own")
        ways = [_ways(value, second) for value in flowing]
        if any(way is None for way in ways) or not all(map(_is_image, flowing)):
            return Verdict(False, "a band of the result needs more than a band of what lies between")
        if not all(map(_has_bands, first.nodes)):
            return Verdict(False, "a band of what stands before needs all of the image")
        windows = [window for way in ways for window in way or ()]
        if _overlaps(second) or (_overlaps(first) and any(window.size > window.step for window in windows)):
            return Verdict(False, "windows that overlap are joined once in a block")
        step, size = max((window.step for window in windows), default=1), max((window.size for window in windows), default=1)
        batch, _, height, width = static_shape(_windows(second.nodes)[-1].outputs[0]) or (0, 0, 0, 0)
        row = sum(_row_bytes(value) for value in flowing)
        band = next((band for band in _heights(height, batch) if (band * step + size - step) * row <= self._constraints.live_bytes), None)
        if band is None:
            return Verdict(False, "bands would be too few, or too large to be kept")
        before, behind = _work(first), _work(second)
        if before is None or behind is None:
            return Verdict(False, "their sizes are not known")
        again = max(0, size - step) / (band * step) * before / max(before + behind, 1)
        if again > AGAIN:
            return Verdict(False, f"{again:.0%} of the arithmetic would be done twice")
        if _weights(first) + _weights(second) > RESIDENT and band * width < STREAMED:
            return Verdict(False, "the weights would be read again for each small band")
        return Verdict(True, f"bands of {band} rows need {'bands of as many' if size <= step else f'{size - step} rows more'}, which are kept")

    def _settled(self, first: Growth, second: Growth, estimate: Verdict) -> Verdict:
        """The measurement, where there is one."""
        if self._profile is None:
            return estimate
        both = sorted((*first.nodes.values(), *second.nodes.values()), key=lambda facts: facts.position)
        costs = [self._profile.cost(nodes) for nodes in ([facts.node for facts in both], first.ordered(), second.ordered())]
        fused, one, other = costs
        if fused is None or one is None or other is None:
            return estimate
        return Verdict(fused < one + other, f"measured: {fused * 1e6:.1f} us together, {(one + other) * 1e6:.1f} us apart")


def _made(growth: Growth) -> list[ir.Value]:
    return [value for node in growth.nodes for value in node.outputs]


def _work(growth: Growth) -> int | None:
    found = [facts.flops for facts in growth.nodes.values()]
    return None if any(one is None for one in found) else sum(one or 0 for one in found)


def _is_small(growth: Growth) -> bool:
    work = _work(growth)
    return work is not None and work <= SMALL


def _ends(first: Growth, second: Growth) -> bool:
    """Whether ``second`` is what little is left to do when all of ``first`` is there. Bands of several products stay the last that is done in a kernel."""
    return _is_small(second) and sum(map(is_product, first.nodes)) < 2 and not _windows(second.nodes)


def _weights(growth: Growth) -> int:
    """Bytes of what the products of a block read besides what was computed."""
    read = {value for node in growth.nodes for value in node.inputs if value is not None and constant(value) is not None}
    return sum(known_bytes(value) or 0 for value in read)


def _windows(nodes: Iterable[ir.Node]) -> list[ir.Node]:
    """Convolutions and pools over images."""
    return [node for node in nodes if node.domain in STANDARD_DOMAINS and node.op_type in WINDOWS and _is_image(node.outputs[0])]


def _ways(value: ir.Value, second: Growth) -> list[Window] | None:
    """The windows that a value is read through in ``second``, up to the first operator that reads elements many times; None where bands are mixed."""
    found: list[Window] = []
    stack = [value]
    seen: set[ir.Value] = set()
    while stack:
        current = stack.pop()
        for user, index in current.uses():
            if user not in second.nodes:
                continue
            window = window_of(user, index)
            if window is None and HEIGHT not in tiled_axes(user, index):
                return None
            if window is not None:
                found.append(window)
            elif not is_product(user):
                fresh = [made for made in user.outputs if made not in seen]
                seen.update(fresh)
                stack += fresh
    return found


def window_of(node: ir.Node, index: int) -> Window | None:
    """The window of rows through which a convolution or a pool reads its input at ``index``; None where it has none."""
    shape = static_shape(input_at(node, 0))
    if index != 0 or node.domain not in STANDARD_DOMAINS or node.op_type not in WINDOWS or shape is None or len(shape) != HEIGHT + 2:
        return None
    weight = static_shape(input_at(node, 1)) if node.op_type == "Conv" else None
    size = (weight[HEIGHT],) if weight is not None else _numbers(node, "kernel_shape")
    if not size or attribute(node, "ceil_mode", 0) or attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID", ""):
        return None
    dilation, step = (_numbers(node, name) or (1,) for name in ("dilations", "strides"))
    return Window((size[0] - 1) * dilation[0] + 1, step[0])


def _numbers(node: ir.Node, name: str) -> tuple[int, ...]:
    attr = node.attributes.get(name)
    return () if attr is None or attr.is_ref() else tuple(attr.as_ints())


def _has_bands(node: ir.Node) -> bool:
    """Whether a band of what a node makes needs only some rows of what it reads."""
    if not any(map(_is_image, node.outputs)):
        return False
    read = ((index, value) for index, value in enumerate(node.inputs) if value is not None and constant(value) is None)
    return all(window_of(node, index) is not None or HEIGHT in tiled_axes(node, index) for index, _ in read)


def _overlaps(growth: Growth) -> bool:
    """Whether rows of something in the block are read by several of its bands."""
    inner = ((node, index) for node in growth.nodes for index, value in enumerate(node.inputs) if value is not None and value.producer() in growth.nodes)
    windows = (window_of(node, index) for node, index in inner)
    return any(window is not None and window.size > window.step for window in windows)


def _is_image(value: ir.Value) -> bool:
    shape = static_shape(value)
    return shape is not None and len(shape) == HEIGHT + 2


def _row_bytes(value: ir.Value) -> int:
    """What one row of an image takes, all channels of it."""
    shape, dtype = static_shape(value), value.dtype
    return math.ceil(shape[1] * shape[HEIGHT + 1] * dtype.itemsize) if shape is not None and dtype is not None else 0


def _heights(height: int, batch: int) -> Iterator[int]:
    """Heights of bands that divide an image, the tallest first, but leave a few bands."""
    yield from (band for band in range(height, 0, -1) if height % band == 0 and batch * height // band >= BANDS)
