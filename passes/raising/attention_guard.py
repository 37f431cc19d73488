"""Guards against NaN between a softmax and the product with V, and when they change nothing.

torch writes Where(IsNaN(p), 0, p) behind every masked softmax. It changes nothing when the scores are finite. Nor does it when Q, K and V are
projections of one normalised tensor: a token of that holds finite, bounded numbers or NaN, and NaN in it makes its whole row of V NaN,
which the product then spreads over everything, guard or not.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from ...compiler.core.graph import array, attribute, is_op, producer
from ...compiler.core.interval import Interval
from ...compiler.core.ranges import Ranges
from ...compiler.core.rule import Match
from .attention_core import Core

NORMS = ("LayerNormalization", "RMSNormalization")
MOVES = ("Reshape", "Transpose", "Unsqueeze", "Squeeze", "Split", "Slice", "Gather", "Expand", "Identity", "Cast")
BY_TOKEN = (*MOVES, *NORMS, "Add", "Sub", "Mul", "Div", "Neg", "Concat", "RotaryEmbedding")
MAX_NODES = 60
ROOM = 1.01


class _Given(Ranges):
    """What is bounded when one value is."""

    def __init__(self, value: ir.Value, interval: Interval) -> None:
        super().__init__()
        self._known[value] = interval


def guard_is_idle(m: Match, core: Core) -> bool:
    """Whether the guard changes nothing, given a mask that is bounded or hides by -inf in no whole row."""
    if not core.guarded or m.fast_math:
        return True
    return not _masks_overflow(m, core) and (m.ranges.is_finite(core.product) or _one_source(m, core))


def _masks_overflow(m: Match, core: Core) -> bool:
    """Whether bounded masks may add up to -inf, which hides a row as -inf does: two of the lowest number, one upon the other."""
    masks = [abs(term.factor) * bound for term in core.terms if (bound := m.ranges.bound(term.value)) is not None]
    scores = core.scale * (m.ranges.bound(core.product) or 0.0)
    with np.errstate(over="ignore"):
        return bool(np.isinf(np.float64(sum(masks) + scores).astype(core.q.dtype.numpy())))  # type: ignore[union-attr]


def _one_source(m: Match, core: Core) -> bool:
    if core.hidden:
        return False
    source = _projected_from(core.v)
    if source is None:
        return False
    bound = _normalised_bound(source)
    if bound is None:
        return False
    given = _Given(source, Interval(-bound, bound))
    return given.is_finite(core.product) and all(_made_of(value, source, m.ranges) for value in (core.q, core.kt))


def _projected_from(value: ir.Value) -> ir.Value | None:
    """The normalised tensor that V is a projection of."""
    for _ in range(8):
        node = value.producer()
        if node is None or not node.inputs or node.inputs[0] is None:
            return None
        if is_op(node, "MatMul", "Gemm"):
            return _before_reshape(node.inputs[0]) if array(node.inputs[1]) is not None else None
        if is_op(node, "Add") and any(array(item) is not None for item in node.inputs):
            value = next(item for item in node.inputs if item is not None and array(item) is None)
        elif is_op(node, *MOVES):
            value = node.inputs[0]
        else:
            return None
    return None


def _before_reshape(value: ir.Value) -> ir.Value:
    node = producer(value, "Reshape")
    return value if node is None or node.inputs[0] is None else node.inputs[0]


def _normalised_bound(value: ir.Value) -> float | None:
    """What a token of the normalised tensor never exceeds unless it holds NaN."""
    node = producer(value, *NORMS)
    if node is None or value.shape is None or attribute(node, "axis", -1) not in (-1, len(value.shape) - 1):
        return None
    size, weights = value.shape[-1], [array(item) for item in node.inputs[1:] if item is not None]
    epsilon = float(attribute(node, "epsilon", 1e-5))  # type: ignore[arg-type]
    if not isinstance(size, int) or not weights or any(weight is None or not np.isfinite(weight).all() for weight in weights) or epsilon <= 0:
        return None
    largest = [float(np.abs(weight.astype(np.float64)).max(initial=0.0)) for weight in weights if weight is not None]
    return ROOM * (math.sqrt(size) * largest[0] + sum(largest[1:]))


def _made_of(value: ir.Value, source: ir.Value, ranges: Ranges) -> bool:
    """Whether each token of ``value`` comes from that token of a projection of ``source``, and from finite values."""
    stack, seen = [value], set[ir.Value]()
    while stack:
        top = stack.pop()
        if top in seen:
            continue
        seen.add(top)
        node = top.producer()
        if top.dtype is None or not top.dtype.is_floating_point() or ranges.is_finite(top):
            continue
        if is_op(node, "MatMul", "Gemm") and _before_reshape(node.inputs[0]) is source and array(node.inputs[1]) is not None:  # type: ignore[union-attr, arg-type]
            continue
        if node is None or len(seen) > MAX_NODES:
            return False
        if not is_op(node, *BY_TOKEN):
            return False
        stack.extend(item for item in node.inputs if item is not None)
    return True

