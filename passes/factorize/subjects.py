"""What is factorised as one: a weight, and the sites that read it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.cost import flops
from ...compiler.core.graph import array, clone_model, users
from ...compiler.core.passes import Context
from ...compiler.core.sites import Site, all_sites, unfold_weight
from ...compiler.core.statistics import SiteStatistics

__all__ = ["Known", "Subject", "subjects_of", "with_statistics"]

TYPICAL = 64
"""What an unknown dimension counts as in the arithmetic of a site."""


@dataclass(frozen=True)
class Subject:
    """Sites of one kind and layout that read one weight."""

    sites: tuple[Site, ...]

    @property
    def first(self) -> Site:
        """The one that stands for all."""
        return self.sites[0]

    @property
    def name(self) -> str:
        """What it is called."""
        return self.first.name

    def matrices(self) -> np.ndarray:
        """The weight, float64 [groups, K, M]."""
        stored = array(self.first.weight)
        assert stored is not None
        return unfold_weight(stored.astype(np.float64), self.first)

    def kernels(self) -> np.ndarray:
        """The weight of a convolution, float64 [groups, M, C, *taps]."""
        stored = array(self.first.weight)
        assert stored is not None
        return stored.astype(np.float64).reshape(self.first.groups, -1, *stored.shape[1:])

    @property
    def repeats(self) -> float:
        """How often each number of the weight is multiplied in a run of the model, in round figures; all sites together."""
        return sum((flops(site.node, TYPICAL) or 2 * site.parameters) / (2 * site.parameters) for site in self.sites)


Known = tuple[Subject, list[SiteStatistics] | None]


def subjects_of(sites: Sequence[Site], context: Context, small: bool) -> list[Subject]:
    """The sites by weight. Coverage is told of those whose weight something else needs too, so that it would only be stored once more."""
    by_weight: dict[ir.Value, list[Site]] = {}
    for site in sites:
        by_weight.setdefault(site.weight, []).append(site)
    found = []
    for weight, readers in by_weight.items():
        others = [node for node in users(weight) if node not in {site.node for site in readers}]
        alike = {(site.kind, site.groups, site.flipped) for site in readers}
        if small and (others or weight.is_graph_output()):
            for site in readers:
                context.coverage.leave(site, f"its weight '{weight.name}' is needed elsewhere too, so that factors would only come on top")
        elif len(alike) == 1:
            found.append(Subject(tuple(readers)))
        else:
            found += [Subject((site,)) for site in readers]
    return found


def with_statistics(model: ir.Model, subjects: Sequence[Subject], context: Context, moments: bool, wanted: bool) -> Iterator[Known]:
    """Each subject with what calibration says of it, in graph order; None for all where that is not ``wanted``. Coverage is told of those it cannot see."""
    calibrator = context.calibrator
    if not wanted or calibrator is None:
        yield from ((subject, None) for subject in subjects)
        return
    left = {site.name: subject for subject in subjects for site in subject.sites}
    twin = clone_model(model)
    twins = [site for site in all_sites(twin) if site.name in left]
    waiting: dict[str, list[list[SiteStatistics]]] = {}
    for site, statistics in calibrator.sites(twin, twins, moments=moments):
        subject = left.pop(site.name)
        known = waiting.setdefault(subject.name, [])
        known.append(statistics)
        if not any(other is subject for other in left.values()):
            yield subject, _merged(waiting.pop(subject.name))
    for name, subject in left.items():
        why = calibrator.unseen.get(name, "calibration has no numbers of what it is fed")
        for site in subject.sites:
            context.coverage.leave(site, why)


def _merged(parts: Sequence[list[SiteStatistics]]) -> list[SiteStatistics]:
    """What several sites are fed, as if it were one; each group for itself."""
    return parts[0] if len(parts) == 1 else [_merged_group([part[place] for part in parts]) for place in range(len(parts[0]))]


def _merged_group(parts: Sequence[SiteStatistics]) -> SiteStatistics:
    counts = [part.count for part in parts]
    shares = [count / max(sum(counts), 1) for count in counts]

    def mean(name: str) -> np.ndarray:
        return np.asarray(sum(share * getattr(part, name) for share, part in zip(shares, parts, strict=True)))

    return dataclasses.replace(
        parts[0],
        moment=mean("moment"), mean=mean("mean"), abs_mean=mean("abs_mean"),
        low=np.minimum.reduce([part.low for part in parts]), high=np.maximum.reduce([part.high for part in parts]),
        abs_max=np.maximum.reduce([part.abs_max for part in parts]), rows=np.concatenate([part.rows for part in parts]),
        count=sum(counts), strange=sum(part.strange for part in parts),
    )  # fmt: skip
