"""Attention maps (Jiao et al., "TinyBERT", EMNLP Findings 2020, equation 7) and relations (Wang et al., "MiniLMv2", ACL Findings 2021, section 3.1)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ....compiler.core.graph import attribute, constant, is_op
from ..matching import KEYS, MASK, QUERIES, VALUES, Attends

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

__all__ = ["attention_map", "map_loss", "relation_loss"]

HEADS_APART = 4


def attention_map(place: Attends, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Where it looks, [batch, heads, queries, keys], rows of probabilities."""
    import torch

    if not is_op(place.node, "Attention"):
        return values[place.name]
    query, key = (_heads(_input(place.node, index, values), _count(place.node, index)) for index in (QUERIES, KEYS))
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    given = attribute(place.node, "scale", None) if "scale" in place.node.attributes else None
    scores = (float(given) if given is not None else query.shape[-1] ** -0.5) * (query @ key.transpose(-1, -2))  # type: ignore[arg-type]
    if attribute(place.node, "is_causal", 0):
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1), -torch.inf)
    mask = _input(place.node, MASK, values) if len(place.node.inputs) > MASK and place.node.inputs[MASK] is not None else None
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return torch.softmax(scores, dim=-1)


def map_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor | None:
    """The squared error of maps as a part of the teacher's; the means over heads, where heads are gone. None where they look at other places."""
    if student.shape != teacher.shape:
        if student.ndim != HEADS_APART or teacher.ndim != HEADS_APART:
            return None
        student, teacher = student.mean(1), teacher.mean(1)
    if student.shape != teacher.shape:
        return None
    teacher = teacher.nan_to_num()
    return (student.nan_to_num() - teacher).square().sum() / teacher.square().sum().clamp(min=1e-12)


def relation_loss(ours: Attends, theirs: Attends, student: Mapping[str, torch.Tensor], teacher: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    """KL between the query-query, key-key and value-value relations of both, with as many heads as divide both widths. None for a bare Softmax."""
    if not (is_op(ours.node, "Attention") and is_op(theirs.node, "Attention")):
        return None
    losses = []
    for index in (QUERIES, KEYS, VALUES):
        one, other = (_together(_input(place.node, index, values)) for place, values in ((ours, student), (theirs, teacher)))
        heads = math.gcd(one.shape[-1], other.shape[-1])
        heads = max(count for count in range(1, _count(theirs.node, index, other) + 1) if heads % count == 0)
        p, q = (_relation(x, heads) for x in (other, one))
        losses.append((p.exp() * (p - q)).sum(-1).mean())
    return sum(losses[1:], losses[0]) / len(losses)


def _relation(x: torch.Tensor, heads: int) -> torch.Tensor:
    """log softmax of the scaled products between places, [batch, heads, length, length]."""
    import torch

    apart = x.unflatten(-1, (heads, -1)).transpose(1, 2)
    return torch.log_softmax(apart @ apart.transpose(-1, -2) / math.sqrt(apart.shape[-1]), dim=-1)


def _input(node: ir.Node, index: int, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
    value = node.inputs[index]
    assert value is not None
    name = value.name or ""
    if name in values:
        return values[name]
    import torch

    tensor = constant(value)
    assert tensor is not None
    return torch.from_numpy(tensor.numpy().copy()).to(next(iter(values.values())).device)


def _count(node: ir.Node, index: int, x: torch.Tensor | None = None) -> int:
    found = attribute(node, "q_num_heads" if index == QUERIES else "kv_num_heads", 0)
    if found:
        return int(found)  # type: ignore[call-overload]
    shape = node.inputs[index].shape if node.inputs[index] is not None else None  # type: ignore[union-attr]
    known = shape[1] if shape is not None and len(shape) == HEADS_APART else None
    return int(known) if isinstance(known, int) else 1


def _heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    return x if x.ndim == HEADS_APART else x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _together(x: torch.Tensor) -> torch.Tensor:
    return x.transpose(1, 2).flatten(2) if x.ndim == HEADS_APART else x
