"""The mask of an attention as one tensor that is added to the scores, and what the kernels make of rows in which every key is hidden.

ONNX Runtime's kernel of the standard Attention gives zeros for a row whose mask is nowhere above the lowest number, where the softmax of the
decomposed form gives the mean of V (all hidden by that number) or NaN (all hidden by -inf). So a mask goes there only with a bound, and one of
the usual form Where(visible, bias, lowest) hides by `SOFT` instead, which the scores drown in just the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import Dim, broadcast, same
from ...compiler.core.graph import array, attribute, producer, scalar
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match
from .attention_core import Core, Hidden, Operands, Term, ends_alike, size_of

SOFT = -1e30
"""Hides a key from the softmax, and is not the lowest number."""
DROWNED = 1e20
"""A float of at most this size, added to `SOFT`, gives `SOFT`: rows with nothing visible keep equal scores."""
ROUGH = 100.0
"""Beside more than this, floats of the usual size of scores lose digits."""
UNDERFLOW = 200.0
"""exp of minus this is 0 as a float."""
GENTLE = 0.9
MAX_BYTES = 2**24
MOVES = ("Expand", "Unsqueeze", "Reshape", "Squeeze", "Transpose", "Slice", "Identity")


@dataclass(frozen=True)
class Mask:
    """What is added to the scores (None for nothing), its shape, and whether it may hide by -inf, or is not bounded."""

    value: ir.Value | None
    shape: tuple[Dim, ...] = ()
    infinite: bool = False


@dataclass(frozen=True)
class Part:
    """A summand of the mask, with its shape, what it hides by (its bound, negative), whether a scale was moved into it, and whether digits
    of the scores may get lost beside it without getting lost altogether.
    """

    value: ir.Value
    shape: tuple[Dim, ...] | None
    hides: float = 0.0
    scaled: bool = False
    rough: bool = False


def softened(op: Build, m: Match, core: Core, operands: Operands) -> Mask | Skip:
    """The mask for a kernel that gives zeros where every key is hidden: one that provably leaves no such row, or one behind a guard."""
    parts: list[Part] = []
    for term in core.terms:
        if is_zero(term.value):
            continue
        part = _gentle(op, m, core, term)
        if part is None:
            return skip("the mask '%s' may hide every key of a row", term.value.name)
        parts.append(part)
    cut = _cut(op, m, core)
    if isinstance(cut, Skip):
        return cut
    if cut is not None and cut.hides == -math.inf and not (core.guarded or m.fast_math):
        return skip("a row in which every key is hidden would give 0, not NaN")
    return _sum(op, operands, [*parts, *([cut] if cut is not None else [])])


def as_given(op: Build, m: Match, core: Core, operands: Operands) -> Mask | Skip:
    """The mask for a kernel that does what the softmax does."""
    parts = [_part(op, m, term) for term in core.terms if not is_zero(term.value)]
    cut = _cut(op, m, core)
    if isinstance(cut, Skip):
        return cut
    if cut is None:
        return _total(op, operands, parts)
    return _sum(op, operands, [*parts, cut])


def _sum(op: Build, operands: Operands, parts: list[Part]) -> Mask | Skip:
    hiding = [part for part in parts if part.hides < -DROWNED]
    if len(hiding) > 1:
        return skip("several masks hide keys, and sums of what they hide by differ")
    return _total(op, operands, parts)


def _part(op: Build, m: Match, term: Term) -> Part:
    """A term as it is; it counts as hiding by its bound."""
    bound = m.ranges.bound(term.value)
    value = term.value if term.factor == 1 else op.Mul(term.value, term.factor)
    hides = -math.inf if bound is None else -bound * abs(term.factor)
    return Part(value, _dims(term.value), hides, term.factor != 1, not _holds_only(m, term.value, ROUGH, DROWNED))  # type: ignore[arg-type]


def _gentle(op: Build, m: Match, core: Core, term: Term) -> Part | None:
    """A term that leaves no row without a visible key, or the same with `SOFT` for the lowest number; None when that is not proven."""
    part = _part(op, m, term)
    if -part.hides < GENTLE * _largest(term.value.dtype) or _hides_no_row(term.value):
        return part
    if core.guarded and part.hides == -math.inf and _holds_only(m, term.value, GENTLE * _largest(term.value.dtype), math.inf):
        return part
    return _lighter(op, m, core, term)


def _lighter(op: Build, m: Match, core: Core, term: Term) -> Part | None:
    """Where(visible, bias, lowest) with `SOFT` for the lowest number, when scores and bias drown in both."""
    product = m.ranges.bound(core.product)
    drowns = m.fast_math or (product is not None and product * core.scale < DROWNED)
    if term.factor != 1 or term.value.dtype != ir.DataType.FLOAT or not drowns:
        return None
    value = _with_soft(op, m, term.value)
    return None if value is None else Part(value, _dims(term.value), SOFT)


def _with_soft(op: Build, m: Match, value: ir.Value) -> ir.Value | None:
    """The mask once more, with `SOFT` where it hides by a finite number below that."""
    node = producer(value, "Where", *MOVES)
    if node is None or node.inputs[0] is None:
        return None
    if node.op_type != "Where":
        source = _with_soft(op, m, node.inputs[0])
        return None if source is None else op.like(node, source, *node.inputs[1:])  # type: ignore[return-value]
    place = next((index for index in (1, 2) if -math.inf < (scalar(node.inputs[index]) or 0) <= SOFT), None)
    bias = m.ranges.bound(node.inputs[3 - place]) if place is not None else None
    if place is None or bias is None or bias > DROWNED:
        return None
    inputs = list(node.inputs)
    inputs[place] = op.const(np.array(SOFT, np.float32), "hidden")
    return op.Where(*inputs)  # type: ignore[return-value]


def _cut(op: Build, m: Match, core: Core) -> Part | Skip | None:
    """Scores replaced by a number, as something added to them: they have to be bounded, since NaN and infinity would come through."""
    if not core.hidden:
        return None
    numbers = {item.number for item in core.hidden}
    if len(numbers) > 1:
        return skip("scores are hidden by different numbers: %s", sorted(numbers))
    number = numbers.pop()
    bounds = [m.ranges.bound(item.source) for item in core.hidden]
    if None in bounds and not m.fast_math:
        return skip("the scores are not proven finite, and NaN would come through a mask that is added")
    largest = max((bound * abs(item.factor) for bound, item in zip(bounds, core.hidden, strict=True) if bound is not None), default=0.0)
    infinite = number == -math.inf
    if not infinite and (core.q.dtype != ir.DataType.FLOAT or largest > DROWNED or number > -largest - UNDERFLOW):
        return skip("the scores reach %s and are hidden by %s", largest, number)
    kind = core.q.dtype.numpy()  # type: ignore[union-attr]
    hides = number if infinite else SOFT
    value = op.Where(_visible(op, core.hidden), op.const(np.array(0, kind), "visible"), op.const(np.array(hides, kind), "hidden"))
    return Part(value, broadcast(*(_dims(item.condition) for item in core.hidden)), hides)  # type: ignore[arg-type]


def _visible(op: Build, hidden: list[Hidden]) -> ir.Value:
    seen = [item.condition if item.kept else op.Not(item.condition) for item in hidden]
    result = seen[0]
    for other in seen[1:]:
        result = op.And(result, other)
    return result  # type: ignore[return-value]


def _total(op: Build, operands: Operands, parts: list[Part]) -> Mask | Skip:
    """The sum of the parts, spread to [..., queries, keys]: the kernels do not broadcast those two."""
    if not parts:
        return Mask(None)
    if (len(parts) > 1 or any(part.scaled for part in parts)) and any(part.rough for part in parts):
        return skip("where every key is hidden, sums with a mask depend on their order unless it is small or scores drown in it")
    total = parts[0].value
    for part in parts[1:]:
        total = op.Add(total, part.value)  # type: ignore[assignment]
    shape = broadcast(*(part.shape for part in parts)) or ()
    size = operands.sizes
    if len(shape) < 2 or not (same(shape[-2], size.queries) and same(shape[-1], size.keys)):
        total = op.Expand(total, _score_shape(op, operands))  # type: ignore[assignment]
        shape = (*shape[:-2], size.queries, size.keys)
    return Mask(total, shape, sum(part.hides for part in parts) < -_largest(operands.q.dtype) * (1 + 2**-26))


def _score_shape(op: Build, operands: Operands) -> ir.Value:
    """[queries, keys] as a tensor."""
    if isinstance(operands.sizes.queries, int) and isinstance(operands.sizes.keys, int):
        return op.const([operands.sizes.queries, operands.sizes.keys], "scores_shape")
    rank = len(operands.q.shape or ())
    return op.Concat(size_of(op, operands.q, rank - 2), size_of(op, operands.v, rank - 2), axis=0)  # type: ignore[return-value]


def _holds_only(m: Match, value: ir.Value, small: float, hiding: float) -> bool:
    """Whether every element of a mask is at most ``small``, or hides by at least ``hiding``."""
    if (m.ranges.bound(value) or math.inf) <= small:
        return True
    node = producer(value, "Where", *MOVES)
    if node is None:
        content = array(value, MAX_BYTES)
        return content is not None and bool(((np.abs(content.astype(np.float64)) <= small) | (content <= -hiding)).all())
    if node.op_type != "Where":
        return node.inputs[0] is not None and _holds_only(m, node.inputs[0], small, hiding)
    return all(item is not None and ((scalar(item) or 0) <= -hiding or is_zero(item) or _holds_only(m, item, small, hiding)) for item in node.inputs[1:])


def _hides_no_row(value: ir.Value) -> bool:
    """Whether a mask lets every row see some key: a triangle of zeros that starts at the first, or a constant."""
    node = producer(value, "Trilu", "Unsqueeze", "Expand", "Identity")
    if node is not None and node.op_type == "Trilu":
        above = scalar(node.inputs[1]) if len(node.inputs) > 1 else 0
        return attribute(node, "upper", 1) == 1 and above is not None and above >= 1
    if node is not None and node.inputs[0] is not None:
        return ends_alike(node.inputs[0], value) and _hides_no_row(node.inputs[0])
    content = array(value, MAX_BYTES)
    if content is None or content.ndim < 2 or content.shape[-1] < 2 or np.isnan(content).any():
        return False
    best = content.max(axis=-1).astype(np.float64)
    return bool((np.abs(best) < 1e6).all())


def is_zero(value: ir.Value | None) -> bool:
    """Whether a mask adds nothing anywhere."""
    content = array(value, MAX_BYTES)
    if content is not None:
        return content.dtype != np.bool_ and not content.any()
    node = producer(value, "Where", *MOVES)
    if node is None:
        return False
    if node.op_type != "Where":
        return is_zero(node.inputs[0])
    condition, yes, no = node.inputs
    return (is_zero(yes) and (_is_everywhere(condition) or is_zero(no))) or (is_zero(no) and _is_everywhere(condition, False))


def _is_everywhere(value: ir.Value | None, wanted: bool = True) -> bool:
    """Whether a condition is ``wanted`` in every place."""
    content = array(value, MAX_BYTES)
    if content is not None:
        return content.dtype == np.bool_ and bool((content == wanted).all())
    node = producer(value, *MOVES)
    return node is not None and _is_everywhere(node.inputs[0], wanted)


def _dims(value: ir.Value) -> tuple[Dim, ...] | None:
    return None if value.shape is None else tuple(value.shape)


def _largest(kind: ir.DataType | None) -> float:
    return float(np.finfo(kind.numpy()).max)  # type: ignore[union-attr]
