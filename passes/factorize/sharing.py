"""Weights that share a part of their factors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx_ir as ir

from ...compiler.core.errors import ModelError
from ...compiler.core.passes import Context
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.statistics import SiteStatistics
from .compose import Product
from .factors import count
from .method import SharingMethod
from .roles import layers_of
from .subjects import Subject, with_statistics

__all__ = ["shared_products"]

ALONE = skip("no other weight of its shape stands in a like place, so that there is none to share with")


def shared_products(
    model: ir.Model, subjects: Sequence[Subject], method: SharingMethod, share: float, context: Context
) -> Iterator[tuple[Subject, Product | Skip]]:
    """Each subject with what it becomes, or why nothing. The statistics of a group are held until its last weight was seen."""
    groups = layers_of(subjects, method.together(share))
    if method.singles:
        shared = {subject.name for group in groups for subject in group}
        groups += [(subject,) for subject in subjects if subject.name not in shared and subject.first.groups == 1 and subject.first.kind != "Gather"]
    group_of = {subject.name: group for group in groups for subject in group}
    yield from ((subject, ALONE) for subject in subjects if subject.name not in group_of)
    held: dict[str, SiteStatistics] = {}
    for subject, statistics in with_statistics(model, [subject for subject in subjects if subject.name in group_of], context, True, True):
        if statistics is None:
            continue
        held[subject.name] = statistics[0]
        group = group_of[subject.name]
        if all(member.name in held for member in group):
            known = [held.pop(member.name) for member in group]
            yield from zip(group, _products(group, known, method, share), strict=True)


def _products(group: Sequence[Subject], known: Sequence[SiteStatistics], method: SharingMethod, share: float) -> list[Product | Skip]:
    try:
        parts = method.factor([subject.matrices()[0] for subject in group], known, share)
    except ModelError as error:
        return [skip("%s (it, or one that would share with it)", error) for _ in group]
    arrays = {id(array): array for part in parts for array in (*part.chain, *([] if part.rest is None else [part.rest]))}
    numbers = sum(count(array) for array in arrays.values())
    whole = sum(subject.first.parameters for subject in group)
    if numbers >= whole:
        return [skip("%d weights together have %d numbers as they are, and would have %d", len(group), whole, numbers) for _ in group]
    return [Product([part], part.form, numbers // len(group)) for part in parts]
