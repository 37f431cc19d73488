"""Weights that stand in like places of a model: found by the operators around them, whatever they are called."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ...compiler.core.graph import constant, users
from .subjects import Subject

__all__ = ["layers_of"]

BEFORE, AFTER = 2, 2
"""How many operators are looked at on either side."""


def layers_of(subjects: Sequence[Subject], group: int) -> list[tuple[Subject, ...]]:
    """Subjects in groups of ``group``, the nearest ones of each role together, what remains with the last of them; those without a like are left out.

    Alike are weights of one kind, shape and type in one graph whose data is made, and whose results are read, by the same operators.
    """
    roles: dict[object, list[Subject]] = {}
    for subject in subjects:
        if subject.first.kind in ("MatMul", "Gemm", "Conv") and subject.first.groups == 1:
            roles.setdefault(_role(subject), []).append(subject)
    found = []
    for members in roles.values():
        starts = range(0, max(len(members) - len(members) % group, 1), group)
        parts = [members[start : start + group] for start in starts]
        parts[-1] += members[starts[-1] + group :]
        found += [tuple(part) for part in parts if len(part) > 1]
    return found


def _role(subject: Subject) -> object:
    site = subject.first
    made = site.node.outputs[0]
    return (site.kind, site.flipped, site.shape, site.weight.dtype, site.node.graph, len(subject.sites), _made_by(site.data, BEFORE), _read_by(made, AFTER))


def _made_by(value: ir.Value | None, steps: int) -> object:
    node = value.producer() if value is not None else None
    if node is None or steps == 0 or constant(value) is not None:
        return ""
    return node.op_type, tuple(_made_by(source, steps - 1) for source in node.inputs)


def _read_by(value: ir.Value, steps: int) -> object:
    if steps == 0:
        return ""
    return tuple(sorted(str((node.op_type, [_read_by(made, steps - 1) for made in node.outputs])) for node in users(value)))
