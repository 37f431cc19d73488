"""Cosines and sines of rotary embeddings, brought to the [batch, tokens, size / 2] that the standard operator wants.

Exporters write each angle twice: side by side for embeddings whose halves are rotated against each other, or interleaved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import Dim, at_least, broadcasts_into, same, same_shape
from ...compiler.core.graph import array, attribute, is_op, producer, scalar
from ...compiler.core.reasons import Skip, skip
from .attention_core import size_of

MAX_STEPS = 10
ELEMENTWISE = ("Cos", "Sin", "Cast", "Identity", "Neg")


@dataclass(frozen=True)
class Frame:
    """How x is laid out: [batch, heads, tokens, size], or tokens before heads."""

    batch: Dim
    tokens: Dim
    heads: Dim
    size: int
    heads_first: bool


def frames(x: ir.Value) -> list[Frame]:
    """The layouts a 4-D tensor could have."""
    if x.shape is None or len(x.shape) != 4 or not isinstance(x.shape[3], int):
        return []
    batch, second, third, size = x.shape
    found = [Frame(batch, third, second, size, True)]  # type: ignore[arg-type]
    return [*found, Frame(batch, second, third, size, False)] if isinstance(third, int) else found  # type: ignore[arg-type]


def table(op: Build, value: ir.Value, x: ir.Value, frame: Frame, interleaved: bool) -> ir.Value | Skip:
    """A factor that broadcasts over the heads of x as [batch, tokens, size / 2]; its last dimension is the size, or half of it already."""
    if value.shape is None or not 2 <= len(value.shape) <= 4:
        return skip("'%s' has the shape %s", value.name, value.shape)
    missing = 4 - len(value.shape)
    dims: list[Dim | None] = [*[None] * missing, *value.shape]
    heads, tokens = (1, 2) if frame.heads_first else (2, 1)
    each, batch = dims[tokens], dims[0]
    fits = each is not None and as_many(each, frame.tokens) and dims[heads] in (1, None)
    if not fits or not (batch is None or batch == 1 or same(batch, frame.batch)):
        return skip("'%s' of shape %s is not one angle for each token", value.name, value.shape)
    axis = None if dims[heads] is None else heads - missing
    rows, axis = _before_unsqueeze(value, axis)
    halved = rows if value.shape[-1] == frame.size // 2 else _once(op, rows, frame.size, interleaved, MAX_STEPS)
    if halved is None:
        return skip("'%s' is not proven to hold each angle twice", value.name)
    if axis is not None:
        halved = op.Squeeze(halved, op.const([axis]))  # type: ignore[assignment]
    if batch is None:
        halved, batch = op.Unsqueeze(halved, op.const([0])), 1  # type: ignore[assignment]
    if same(batch, frame.batch):
        return halved
    first = op.const([frame.batch, 1, 1]) if isinstance(frame.batch, int) else op.Concat(size_of(op, x, 0), op.const([1, 1]), axis=0)
    return op.Expand(halved, first)  # type: ignore[return-value]


def as_many(rows: Dim, tokens: Dim) -> bool:
    """Whether a table that broadcasts against the tokens has a row for each: one cut to at most c rows, min(tokens, c), has."""
    if same(rows, tokens):
        return True
    return not isinstance(tokens, int) and rows != 1 and not at_least(tokens, 2) and broadcasts_into((rows,), (tokens,))


def _before_unsqueeze(value: ir.Value, axis: int | None) -> tuple[ir.Value, int | None]:
    """The factor without the dimension for the heads, and where that still is: None when an Unsqueeze put it there."""
    node = producer(value, "Unsqueeze")
    rank = len(value.shape or ())
    if axis is not None and node is not None and node.inputs[0] is not None and scalar(node.inputs[1]) in (axis, axis - rank):
        return node.inputs[0], None
    return value, axis


def _once(op: Build, value: ir.Value, width: int, interleaved: bool, steps: int) -> ir.Value | None:
    """Each angle of the last dimension once; None unless it is proven to be there twice."""
    content = array(value, 2**26)
    if content is not None:
        return _once_in(op, content, width, interleaved)
    node = value.producer()
    if node is None or not node.inputs or node.inputs[0] is None or steps == 0:
        return None
    if (source := _doubled(node, width, interleaved)) is not None:
        return source
    if is_op(node, *ELEMENTWISE):
        return _rebuilt(op, node, _once(op, node.inputs[0], width, interleaved, steps - 1))
    if is_op(node, "Mul", "Div") and scalar(node.inputs[1]) is not None:
        return _rebuilt(op, node, _once(op, node.inputs[0], width, interleaved, steps - 1))
    if is_op(node, "Mul") and scalar(node.inputs[0]) is not None and node.inputs[1] is not None:
        inner = _once(op, node.inputs[1], width, interleaved, steps - 1)
        return None if inner is None else op.Mul(node.inputs[0], inner)  # type: ignore[return-value]
    if _leaves_last_alone(node, value):
        return _rebuilt(op, node, _once(op, node.inputs[0], width, interleaved, steps - 1))
    return None


def _rebuilt(op: Build, node: ir.Node, source: ir.Value | None) -> ir.Value | None:
    return None if source is None else op.like(node, source, *node.inputs[1:])  # type: ignore[return-value]


def _once_in(op: Build, content: np.ndarray, width: int, interleaved: bool) -> ir.Value | None:
    if content.ndim == 0 or content.shape[-1] != width:
        return None
    first, second = (content[..., ::2], content[..., 1::2]) if interleaved else (content[..., : width // 2], content[..., width // 2 :])
    return op.const(np.ascontiguousarray(first), "angles") if np.array_equal(first, second) else None


def _doubled(node: ir.Node, width: int, interleaved: bool) -> ir.Value | None:
    """What a node repeats: Concat(f, f), or each element twice through a dimension of two."""
    made = node.outputs[0].shape
    if made is None or len(made) == 0 or made[-1] != width:
        return None
    if not interleaved:
        twice = is_op(node, "Concat") and len(node.inputs) == 2 and node.inputs[0] is node.inputs[1]
        return node.inputs[0] if twice and attribute(node, "axis") in (-1, len(made) - 1) else None
    spread = producer(node.inputs[0], "Expand", "Tile", "Concat") if is_op(node, "Reshape") else None
    lifted = producer(spread.inputs[0], "Unsqueeze") if spread is not None else None
    source = lifted.inputs[0] if lifted is not None else None
    if spread is None or source is None or source.shape is None or (is_op(spread, "Concat") and len(set(spread.inputs)) != 1):
        return None
    pairs = (*source.shape, 2)
    fits = same_shape(spread.outputs[0].shape, pairs) and same_shape(spread.inputs[0].shape, (*source.shape, 1))  # type: ignore[union-attr]
    return source if fits and same_shape(made, (*list(source.shape)[:-1], width)) else None


def _leaves_last_alone(node: ir.Node, value: ir.Value) -> bool:
    """Whether the node moves or picks rows, whatever stands in them."""
    source = node.inputs[0]
    if source is None or source.shape is None or value.shape is None or len(source.shape) == 0 or len(value.shape) == 0:
        return False
    rank = len(source.shape)
    if is_op(node, "Gather"):
        return bool(int(attribute(node, "axis", 0)) % rank < rank - 1)  # type: ignore[call-overload]
    if is_op(node, "Slice"):
        axes = array(node.inputs[3]) if len(node.inputs) > 3 else None
        return axes is not None and all(int(axis) % rank < rank - 1 for axis in axes.reshape(-1))
    if is_op(node, "Unsqueeze", "Squeeze"):
        axes = array(node.inputs[1]) if len(node.inputs) > 1 else None
        larger = max(rank, len(value.shape))
        return axes is not None and all(int(axis) % larger < larger - 1 for axis in axes.reshape(-1))
    if is_op(node, "Transpose"):
        perm = attribute(node, "perm")
        return isinstance(perm, (list, tuple)) and bool(perm[-1] == rank - 1)
    return False
