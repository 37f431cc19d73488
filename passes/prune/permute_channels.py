"""The pass that puts channels in an order in which n of every m cost less."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from ...compiler.core.drift import ROUNDING, Drift
from ...compiler.core.errors import UsageError
from ...compiler.core.graph import clone_model
from ...compiler.core.passes import Context, Pass
from ...compiler.core.sites import all_sites
from .coupling.groups import Coupling, Group, couple
from .readers import Reader, find_readers
from .unstructured.pattern import Pattern, kept, parse_pattern
from .unstructured.ria import Ria, relative

__all__ = ["PermuteChannels"]


@dataclass(frozen=True)
class PermuteChannels(Pass):
    """Reorders channels so that the weights that matter (by `ria.Ria`) are spread over the groups of an n:m pattern (``amount`` "2:4").

    Zhang et al., "Plug-and-Play" (ICLR 2024), section 4.2, by its allocation: channels in falling order are dealt out to the groups. The paper reorders the
    inputs of each product when it runs; here only channels move whose order nobody can tell, because all that makes and reads them is reordered too, which
    costs nothing. An order is only taken where more of the metric stays. With the same numbers in another order, sums may be rounded otherwise.
    """

    name: ClassVar[str] = "permute-channels"
    drift: ClassVar[Drift] = ROUNDING

    amount: str = "2:4"

    def run(self, model: ir.Model, context: Context) -> int:
        """Reorder; returns how many groups of channels were. Raises UsageError for an amount that is no n:m."""
        pattern = parse_pattern(self.amount)
        if not pattern.of:
            raise UsageError(f"the order of channels does not matter to a share of the weights: permute-channels takes n:m, such as 2:4, not {self.amount}")
        coupling = couple(model)
        groups = _alike(coupling, [group for group in coupling.groups if group.size > pattern.of])
        found = _metrics(model, find_readers(groups, list(all_sites(model))), context)
        changes = 0
        for group in groups:
            parts = [metric for reader, metric in found if reader.group is group]
            order = _order(parts, pattern) if parts else None
            if order is not None and context.ledger.permit(self.name, group.name):
                _reorder(group, order)
                changes += 1
        return changes


def _alike(coupling: Coupling, groups: Sequence[Group]) -> list[Group]:
    """Those whose members each lie once in each axis they lie in, with no value that has some of them only: then nobody can tell their order."""
    owner = {int(member): place for place, group in enumerate(groups) for member in group.members}
    told: set[int] = set()
    for axes in coupling.follower.axes.values():
        for axis in axes:
            if axis is None or not axis.size:
                continue
            roots = coupling.follower.classes.find(axis)
            found, counts = np.unique(roots, return_counts=True)
            here = Counter(owner[root] for root in found.tolist() if root in owner)
            told |= {owner[root] for root in found[counts > 1].tolist() if root in owner}
            told |= {place for place, count in here.items() if count < groups[place].size}
    return [group for place, group in enumerate(groups) if place not in told]


def _metrics(model: ir.Model, readers: Sequence[Reader], context: Context) -> list[tuple[Reader, np.ndarray]]:
    """For each reader whose inputs are all of its group's members, what each weight matters, [members, rest]; without data the inputs count alike."""
    whole = [reader for reader in readers if reader.places.size == np.prod(reader.site.matrices().shape[1])]
    norms: dict[str, np.ndarray] = {}
    if context.calibrator is not None and whole:
        twin = clone_model(model)
        names = {reader.site.name for reader in whole}
        for site, statistics in context.calibrator.sites(twin, [site for site in all_sites(twin) if site.name in names]):
            norms[site.name] = np.sqrt(np.maximum(np.diagonal(statistics[0].moment), 0.0))
    found = []
    for reader in whole:
        matrix = np.abs(reader.site.matrices()[0].astype(np.float64))
        scale = norms.get(reader.site.name, np.ones(len(matrix)))
        metric = relative(matrix) * (scale**Ria().power)[:, None]
        found.append((reader, metric[reader.places].reshape(len(reader.places), -1)))
    return found


def _order(parts: Sequence[np.ndarray], pattern: Pattern) -> np.ndarray | None:
    """Which member comes to which place, int64 [members]; None when no more stays than as it is."""
    metric = np.concatenate(parts, axis=1)
    dealt = deal(metric.sum(axis=1), pattern.of)
    stays = [float(one[kept(one, pattern)].sum()) for one in (metric, metric[dealt])]
    return dealt if stays[1] > stays[0] else None


def deal(scores: np.ndarray, of: int) -> np.ndarray:
    """An order in which each group of ``of`` has one of the greatest scores, one of the next, and so on; what is left over comes last."""
    falling = np.argsort(-scores, kind="stable")
    groups = len(scores) // of
    return np.concatenate([falling[: groups * of].reshape(of, groups).T.reshape(-1), falling[groups * of :]])


def _reorder(group: Group, order: np.ndarray) -> None:
    for item in group.slices:
        tensor = item.weight.const_value
        assert tensor is not None
        content = tensor.numpy()
        places = item.indices[:, 0]
        moved = content.copy()
        moved[(slice(None),) * item.axis + (places,)] = content.take(places[order], axis=item.axis)
        item.weight.const_value = ir.tensor(moved, dtype=tensor.dtype, name=item.weight.name)
