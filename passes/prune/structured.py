"""The pass that takes channels, heads, neurons and places of hidden states out of a graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from ...compiler.core.drift import LOSSY, Drift
from ...compiler.core.errors import BudgetError, UsageError
from ...compiler.core.graph import clone_model
from ...compiler.core.judge import Span
from ...compiler.core.passes import Context, Pass
from ...compiler.core.sites import Site, all_sites
from .candidates import Candidates, members_of
from .choosing import Choice, Counts, Picker, arithmetic, meet
from .correction import correct
from .coupling.groups import Coupling, Group, couple
from .coupling.shrinking import shrink
from .halp import measured_costs
from .readers import Reader, find_readers, left_channels
from .rounding import MULTIPLES, fastest_multiple
from .score import Score, find_score
from .sensitivity import describe_sensitivity
from .weighing import variations

__all__ = ["PruneStructured"]

FLOPS, PARAMETERS, MEMBERS, LATENCY = "flops", "parameters", "members", "latency"
MEASURES = (FLOPS, PARAMETERS, MEMBERS, LATENCY)
PRUNED = "pruned"
SHORT = 0.03
"""By how much less than was asked for may go."""
TIMED = 1e-2
"""How near a measured time is to come to what was asked for."""
ROUNDED = 2e-2
"""How far from what was asked for sizes may be that are rounded for speed alone."""


@dataclass(frozen=True)
class PruneStructured(Pass):
    """Takes ``ratio`` of the model's ``of`` ("flops"; "parameters"; "latency", measured here on the user's inputs; "members": of each group of slices that
    must go together) out of the graph.

    ``score`` says which are missed least (see `score.Score`; none: "obs" with calibration data, "magnitude" without). With calibration data, and unless
    ``refit`` is false, what is left is fitted to what the model gave before. ``uniform`` takes the same share of every group; what stays of one is a
    ``multiple`` (0: of 8 or 16 where that is measured to be faster, else of 1). ``only`` names the sites whose groups may
    shrink (none: all), ``keep`` those whose groups stay.
    """

    name: ClassVar[str] = "prune-structured"
    drift: ClassVar[Drift] = LOSSY
    whole: ClassVar[bool] = True

    ratio: float = 0.3
    of: str = FLOPS
    score: str = ""
    refit: bool = True
    uniform: bool = False
    multiple: int = 0
    only: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()

    def run(self, model: ir.Model, context: Context) -> int:
        """Shrink the graph; returns how many members went. Raises UsageError for an option that does not exist, or a score without its calibration data,
        BudgetError when so much cannot go.
        """
        score = self._score(context)
        coupling, sites = couple(model), list(all_sites(model))
        groups = [group for group in self._open(coupling, sites, context) if context.ledger.permit(self.name, group.name)]
        if not groups:
            return 0
        missed, refits = self._missed(model, groups, sites, score, context)
        choice = self._choice(Candidates(model, groups, context), coupling, missed)
        self._note(coupling, sites, choice, context, score.name)
        context.notes += filter(None, [describe_sensitivity(groups, sites, missed, self.ratio, score.name)])
        gone = members_of(groups, choice)
        earlier, columns = clone_model(model), left_channels(coupling.follower, sites, gone)
        shrink(model, coupling.follower, gone)
        if refits and context.calibrator is not None:
            correct(earlier, model, columns, context.calibrator)
        return len(gone)

    def _score(self, context: Context) -> Score:
        if self.of not in MEASURES or not 0 < self.ratio < 1 or self.multiple < 0:
            raise UsageError(f"prune-structured takes a ratio between 0 and 1 of one of {', '.join(MEASURES)}, and a multiple from 1 on (0: what is fastest)")
        score = find_score(self.score or ("obs" if context.calibrator is not None else "magnitude"))()
        if score.calibrated and context.calibrator is None:
            raise UsageError(f"{score.name} needs calibration data: --calibration FILE, or --calibration random, which says less")
        if self.of == LATENCY and context.judge is None:
            raise UsageError("a part of the latency is measured on the way: it takes level 2 or auto, and a target that is this machine")
        return score

    def _open(self, coupling: Coupling, sites: Sequence[Site], context: Context) -> list[Group]:
        """The groups that may shrink; coverage is told of the sites that no group reaches, and why."""
        names = {weight: [site.name for site in sites if site.weight is weight] for weight in {site.weight for site in sites}}
        found = []
        for group in coupling.groups:
            touched = {name for item in group.slices for name in names.get(item.weight, ())}
            if group.size > 1 and not touched & set(self.keep) and (not self.only or touched & set(self.only)):
                found.append(group)
        reached = {item.weight for group in found for item in group.slices}
        for site in sites:
            if site.weight not in reached:
                context.coverage.leave(site, coupling.refused.get(site.weight.name or "", "it was asked to stay"))
        return found

    def _missed(self, model: ir.Model, groups: list[Group], sites: list[Site], score: Score, context: Context) -> tuple[dict[str, np.ndarray], bool]:
        missed = {group.name: np.zeros(group.size) for group in groups}
        if not score.calibrated:
            for group in groups:
                for item in group.slices:
                    missed[group.name] += _shares(score.of_weight(_rows(item.weight, item.axis, item.indices)))
            return missed, self.refit and context.calibrator is not None
        assert context.calibrator is not None
        if score.whole:
            return score.of_model(model, groups, sites, context.calibrator), self.refit
        readers = find_readers(groups, sites)
        varied = variations(model, [reader.site for reader in readers], context.calibrator)
        for reader, statistics in _observed(model, readers, context):
            whole = varied.get(reader.site.name) or _whole(reader, statistics)
            missed[reader.group.name] += score.of_reader(reader.site.matrices()[0], statistics, reader.places) / whole
        return missed, self.refit

    def _choice(self, candidates: Candidates, coupling: Coupling, missed: dict[str, np.ndarray]) -> Choice:
        picker = Picker(candidates.groups, missed, max(self.multiple, 1), self.uniform, self._costs(candidates))
        counts, left = self._counts(candidates, picker)
        if left > 1 - self.ratio + SHORT:
            stays = _largest(coupling)
            held = f"; the largest weight that stays is '{stays}': {coupling.refused[stays]}" if stays is not None else ""
            raise BudgetError(f"{self.ratio:.1%} of the {self.of} was to go, and only {1 - left:.1%} can{held}. Nothing was written.")
        if left < 1 - self.ratio - SHORT:
            candidates.note(f"{1 - left:.1%} of the {self.of} went where {self.ratio:.1%} was asked for: each member of its groups is much of it")
        return picker.pick(self._rounded(candidates, picker, counts))

    def _costs(self, candidates: Candidates) -> dict[str, float] | None:
        """What a member of each group costs, in the measure of what is to go; None: as many as it holds numbers."""
        if self.of in (PARAMETERS, MEMBERS):
            return None
        found = arithmetic(candidates.model, candidates.groups)
        return found if self.of == FLOPS else measured_costs(candidates.groups, found, candidates.time)

    def _counts(self, candidates: Candidates, picker: Picker) -> tuple[Counts, float]:
        """How many of each group go, and what is then left of the model, in the measure that was asked for."""
        if self.of == MEMBERS:
            return picker.counts(self.ratio), 1 - self.ratio
        if self.of != LATENCY:
            return meet(self.ratio, picker, lambda counts: candidates.part(picker.pick(counts), self.of))
        counts, left = meet(self.ratio, picker, candidates.part_of_time, TIMED)
        span = candidates.time(counts)
        if span is not None:
            candidates.note(f"without what went the model takes {_told(span)} of its time, before anything else is done to it")
        return counts, left

    def _rounded(self, candidates: Candidates, picker: Picker, counts: Counts) -> Counts:
        """The same with sizes that are multiples, where that is measured to be faster and as much goes."""
        if self.multiple or candidates.judge is None:
            return counts
        others = {multiple: self._counts(candidates, replace(picker, multiple=multiple)) for multiple in MULTIPLES} if self.of != LATENCY else {}
        near = {multiple: found for multiple, (found, left) in others.items() if abs(left - (1 - self.ratio)) <= ROUNDED and found != counts}
        plain = candidates.without(picker.pick(counts))
        best, span = fastest_multiple(list(near), lambda multiple: candidates.compare(plain, candidates.without(picker.pick(near[multiple]))))
        if span is None:
            return counts
        candidates.note(f"sizes are multiples of {best}: that takes {_told(span)} of the time of any sizes")
        return near[best]

    def _note(self, coupling: Coupling, sites: Sequence[Site], choice: Choice, context: Context, score: str) -> None:
        """Tell coverage what is left of each site's weight."""
        left: dict[ir.Value, float] = {}
        for group in coupling.groups:
            gone = len(choice.get(group.name, ()))
            for item in group.slices:
                whole = item.weight.shape.numpy()[item.axis]  # type: ignore[union-attr]
                left[item.weight] = left.get(item.weight, 1.0) * (1 - gone * item.indices.shape[1] / max(whole, 1))
        for site in sites:
            share = left.get(site.weight, 1.0)
            if share < 1:
                context.coverage.take(site, PRUNED, 32.0 * share, score)
            elif site.name not in context.coverage.records:
                context.coverage.leave(site, "nothing of it is missed so little")


def _observed(model: ir.Model, readers: Sequence[Reader], context: Context) -> Iterable:
    """Each reader whose site calibration knows, with its statistics."""
    assert context.calibrator is not None
    twin = clone_model(model)
    wanted: dict[str, list[Reader]] = {}
    for reader in readers:
        wanted.setdefault(reader.site.name, []).append(reader)
    for site, statistics in context.calibrator.sites(twin, [site for site in all_sites(twin) if site.name in wanted], moments=True):
        for reader in wanted[site.name]:
            yield reader, statistics[0]


def _whole(reader: Reader, statistics: object) -> float:
    """How much the site's outputs vary: what an error in them is a share of."""
    weight = reader.site.matrices()[0].astype(np.float64)
    moment, mean = statistics.moment, statistics.mean  # type: ignore[attr-defined]
    varied = float(np.einsum("km,km->", weight, (moment - np.outer(mean, mean)) @ weight))
    return varied if varied > 0 else 1.0


def _rows(weight: ir.Value, axis: int, indices: np.ndarray) -> np.ndarray:
    """What each member has of a weight, [members, numbers]."""
    assert weight.const_value is not None
    content = np.moveaxis(weight.const_value.numpy(), axis, 0)
    return np.asarray(content[indices].reshape(len(indices), -1))


def _shares(found: np.ndarray) -> np.ndarray:
    total = float(found.sum())
    return found / total if total > 0 else found


def _told(span: Span) -> str:
    return f"{span.ratio:.3f} ({span.low:.3f} to {span.high:.3f})"


def _largest(coupling: Coupling) -> str | None:
    """The largest constant of which nothing may go."""
    sizes = {value.name or "": value.const_value.size for value in coupling.follower.axes if value.const_value is not None}
    return max(coupling.refused, key=lambda name: sizes.get(name, 0), default=None)
