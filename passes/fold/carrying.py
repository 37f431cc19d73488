"""Operators that constant arithmetic can be moved across: what they do to a constant that is broadcast against their data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.dims import Dim, same
from ...compiler.core.graph import array, attribute, is_op, scalar
from ...compiler.core.shapes import dims_of
from .resizing import keeps_constants, resizes_images

MAX_ELEMENTS = 2**22
"""A constant is not spread over more elements than this on its way across a reshape."""
_VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
_SHUFFLES = ("DepthToSpace", "SpaceToDepth")


@dataclass(frozen=True)
class Carrier:
    """How a node lets ``x * scale + shift`` pass: f(x * scale + shift) = f(x) * scale' + shift'.

    Along the axes ``touched`` the constants must not vary; None means that they may not vary at all.
    """

    touched: frozenset[int] | None = frozenset()
    shifts: bool = True
    negates: bool = True

    def takes(self, scale: np.ndarray, shift: np.ndarray) -> bool:
        """Whether these constants may pass."""
        if not self.negates and not (scale > 0).all():
            return False
        if not self.shifts and shift.any():
            return False
        return all(self._is_even(content) for content in (scale, shift))

    def _is_even(self, content: np.ndarray) -> bool:
        touched = range(content.ndim) if self.touched is None else self.touched
        return all(axis < content.ndim and content.shape[axis] == 1 for axis in touched)


def carrier(node: ir.Node) -> Carrier | None:
    """How constants pass through ``node``, from or to its first input; None when they do not."""
    if len(node.outputs) != 1:
        return None
    if is_op(node, *_VIEWS, "Transpose"):
        return Carrier()
    if is_op(node, "Relu", "LeakyRelu"):
        slope = float(attribute(node, "alpha", 0.01)) if node.op_type == "LeakyRelu" else 0.0  # type: ignore[arg-type]
        return Carrier(shifts=False, negates=slope == 1)
    if is_op(node, *_SHUFFLES):
        return Carrier(touched=None)
    if is_op(node, "RotaryEmbedding"):
        return Carrier(touched=None, shifts=False)
    if resizes_images(node):
        return Carrier(touched=frozenset(range(2, _rank(node.inputs[0]))), shifts=keeps_constants(node))
    if is_op(node, "Slice"):
        return _slice(node)
    if is_op(node, "Pad"):
        return _pad(node)
    return _pool(node)


def _slice(node: ir.Node) -> Carrier:
    axes = array(node.inputs[3]) if len(node.inputs) > 3 else None
    rank = _rank(node.inputs[0])
    return Carrier(touched=None if axes is None else frozenset(int(axis) % rank for axis in axes))


def _pad(node: ir.Node) -> Carrier | None:
    mode = attribute(node, "mode", "constant")
    pads, axes = array(node.inputs[1]), array(node.inputs[3]) if len(node.inputs) > 3 else None
    rank = _rank(node.inputs[0])
    if pads is None or (len(node.inputs) > 3 and node.inputs[3] is not None and axes is None):
        return None
    if mode == "constant" and len(node.inputs) > 2 and node.inputs[2] is not None and scalar(node.inputs[2]) != 0:
        return None
    given = [int(axis) % rank for axis in axes] if axes is not None else list(range(rank))
    sizes = pads.reshape(2, -1)
    touched = frozenset(axis for axis, before, after in zip(given, *sizes.tolist(), strict=True) if before or after)
    return Carrier(touched=touched, shifts=mode != "constant")


def _pool(node: ir.Node) -> Carrier | None:
    spatial = frozenset(range(2, _rank(node.inputs[0])))
    if is_op(node, "GlobalAveragePool"):
        return Carrier(touched=spatial)
    if is_op(node, "MaxPool", "GlobalMaxPool"):
        return Carrier(touched=spatial, negates=False)
    if is_op(node, "AveragePool"):
        return Carrier(touched=spatial, shifts=not _pads(node) and not attribute(node, "ceil_mode", 0))
    if is_op(node, "ReduceMean") and attribute(node, "keepdims", 1):
        axes = array(node.inputs[1]) if len(node.inputs) > 1 else None
        rank = _rank(node.inputs[0])
        return None if axes is None or not axes.size else Carrier(touched=frozenset(int(axis) % rank for axis in axes))
    return None


def _pads(node: ir.Node) -> bool:
    return attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID") or any(attribute(node, "pads") or ())  # type: ignore[arg-type]


def _rank(value: ir.Value | None) -> int:
    return len(dims_of(value) or ())


def carried_up(node: ir.Node, content: np.ndarray) -> np.ndarray | None:
    """``content``, broadcast against the node's result, as it would be against the node's first input."""
    before, after = dims_of(node.inputs[0]), dims_of(node.outputs[0])
    if before is None or after is None:
        return None
    if is_op(node, "Transpose"):
        return content.transpose(np.argsort(_permutation(node, len(before))))
    return _reshaped(content, after, before) if is_op(node, *_VIEWS) else content


def carried_down(node: ir.Node, content: np.ndarray) -> np.ndarray | None:
    """``content``, broadcast against the node's first input, as it would be against the node's result."""
    before, after = dims_of(node.inputs[0]), dims_of(node.outputs[0])
    if before is None or after is None:
        return None
    if is_op(node, "Transpose"):
        return content.transpose(_permutation(node, len(before)))
    return _reshaped(content, before, after) if is_op(node, *_VIEWS) else content


def _permutation(node: ir.Node, rank: int) -> list[int]:
    return list(attribute(node, "perm") or range(rank)[::-1])  # type: ignore[call-overload]


def _reshaped(content: np.ndarray, before: tuple[Dim, ...], after: tuple[Dim, ...]) -> np.ndarray | None:
    """``content``, of the rank of ``before`` and broadcast against it, after a reshape to ``after``; None when that cannot be told."""
    if content.size == 1:
        return content.reshape((1,) * len(after))
    spread: list[int] = []
    target: list[int] = []
    for old, new in _groups(before, after):
        part = [content.shape[axis] for axis in old]
        if len(old) == len(new) == 1:
            spread += part
            target += part
        elif all(size == 1 for size in part):
            spread += part
            target += [1] * len(new)
        else:
            sizes = [[before[axis] for axis in old], [after[axis] for axis in new]]
            if not all(isinstance(size, int) for side in sizes for size in side):
                return None
            spread += sizes[0]  # type: ignore[arg-type]
            target += sizes[1]  # type: ignore[arg-type]
    if np.prod(spread, dtype=np.float64) > MAX_ELEMENTS or np.prod(spread) != np.prod(target):
        return None
    return _thinned(np.broadcast_to(content, spread).reshape(target))


def _groups(before: tuple[Dim, ...], after: tuple[Dim, ...]) -> list[tuple[range, range]]:
    """The axes of both shapes in neighbouring groups of equally many elements, in order."""
    found: list[tuple[range, range]] = []
    i, j = len(before), len(after)
    while i and j:
        left, right, old, new = i - 1, j - 1, before[i - 1], after[j - 1]
        while isinstance(old, int) and isinstance(new, int) and old != new and (left if old < new else right):
            if old < new:
                left -= 1
                old = old * step if isinstance(step := before[left], int) else step
            else:
                right -= 1
                new = new * step if isinstance(step := after[right], int) else step
        if not same(old, new) or (not isinstance(old, int) and (i - left, j - right) != (1, 1)):
            break
        found.append((range(left, i), range(right, j)))
        i, j = left, right
    head = 0
    while head < min(i, j) and same(before[head], after[head]):
        head += 1
    middle = [(range(head, i), range(head, j))] if head < max(i, j) else []
    return [(range(axis, axis + 1), range(axis, axis + 1)) for axis in range(head)] + middle + found[::-1]


def _thinned(content: np.ndarray) -> np.ndarray:
    """``content`` with size 1 along the axes where it does not vary."""
    for axis in range(content.ndim):
        first = content.take([0], axis=axis)
        if content.shape[axis] > 1 and (content == first).all():
            content = first
    return content
