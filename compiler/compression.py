"""Compression under an accuracy budget: what is compressed, what is put back, and what the report says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from .budget import Budget, Yardstick
from .census import weight_bytes
from .core.backend import Backend, Progress
from .core.cost import count_zeros, model_size
from .core.coverage import ESTIMATE, Coverage, SiteRecord
from .core.errors import BudgetError, NoChangeError
from .core.passes import Pass
from .core.sites import all_sites
from .divergence import Divergence, Ruler
from .pipeline import leaving
from .reduction import REDUCTIONS
from .report import CompressionEntry, DivergenceEntry, ReductionEntry, SiteEntry
from .rewriting import Rewriter, Rewritten, merged_coverage
from .sensitivity import Sensitivity, fewest, measure_sites

__all__ = ["Compressor", "compression_entry", "divergence_entries", "refuse_nothing"]

ASKED = "it was asked to stay"
"""What passes say of a site named in their option ``keep``."""
UNCHOSEN = "the budget is better spent on other sites"
"""Why a mixed precision leaves a site as it is."""
SHOWN = 3


@dataclass
class Compressor:
    """Finds passes whose result keeps the budget: the sites that mind compression most stay as they are until it holds."""

    rewriter: Rewriter
    backend: Backend
    ruler: Ruler
    yardstick: Yardstick
    budget: Budget | None
    tell: Progress
    sensitivities: dict[str, Sensitivity] = field(default_factory=dict)
    put_back: dict[str, str] = field(default_factory=dict)
    """Site -> why it was put back."""

    def fit(self, steps: Sequence[Pass]) -> tuple[Pass, ...]:
        """The passes, with sites kept out where the budget needs it. Raises NoChangeError when nothing is compressed, BudgetError when no choice holds."""
        first = self.rewriter.compressed(steps)
        refuse_nothing(first)
        refuse_idle(first)
        if self.budget is None:
            return tuple(steps)
        self.tell(f"measuring {self.yardstick.name} of the compressed model")
        after = self.measure(first.model)
        if self.holds(after):
            return tuple(steps)
        apart = merged_coverage(record.coverage for record in first.records[len(self.rewriter.reduced(steps).records) :])
        return self._put_back(steps, [record.name for record in apart if record.form and record.parameters], after)

    def measure(self, model: ir.Model) -> float:
        """The yardstick of a model."""
        runner = self.backend.baseline(model)
        try:
            return self.yardstick.measure(runner)
        finally:
            runner.close()

    def holds(self, after: float) -> bool:
        """Whether the budget, if there is any, allows this."""
        return self.budget is None or self.yardstick.before - after <= self.budget.allowed(self.yardstick.before)

    def rank(self, steps: Sequence[Pass], names: Sequence[str]) -> list[str]:
        """The sites, those that mind compression most first; measured once."""
        unknown = [name for name in names if name not in self.sensitivities]
        found = measure_sites(unknown, steps, self.rewriter, self.backend, self.ruler, self.tell)
        self.sensitivities.update({item.site: item for item in found})
        return sorted(names, key=lambda name: -self.sensitivities[name].noise)

    def _put_back(self, steps: Sequence[Pass], names: Sequence[str], after: float) -> tuple[Pass, ...]:
        assert self.budget is not None
        before = self.yardstick.before
        missed = f"{self.yardstick.name} fell from {before:.6g} to {after:.6g}, {self.budget.allowed(before):.3g} is allowed"
        if not names:
            raise BudgetError(f"{missed}. Ask for less, or for more recovery (--recover). Nothing was written.")
        if len(names) < 2:
            raise BudgetError(f"{missed}, and there is only one site ({names[0]}) to put back. Nothing was written.")
        ranked = self.rank(steps, names)

        def enough(count: int) -> bool:
            self.tell(f"{missed}: putting back {count} of {len(ranked)} sites")
            return self.holds(self.measure(self.rewriter.draft(leaving(steps, ranked[:count]))[0]))

        count = fewest(len(ranked) - 1, enough)
        if count is None:
            raise BudgetError(f"{missed}, and not even '{ranked[-1]}', which minds least, can be compressed alone. Nothing was written.")
        for name in ranked[:count]:
            noise = self.sensitivities[name].noise
            self.put_back[name] = f"put back, for the accuracy budget does not hold with it: compressed alone it makes {noise:.2g} of the output noise"
        return leaving(steps, ranked[:count])


def refuse_nothing(rewritten: Rewritten) -> None:
    """Raise NoChangeError, with the reasons, when compression was asked for and nothing was compressed."""
    coverage = rewritten.coverage
    if any(record.form for record in coverage) or (not coverage and rewritten.compressed):
        return
    undone = [item.reason for record in rewritten.records if record.drift == "lossy" for item in record.rolled_back]
    if undone:
        raise NoChangeError(f"the compression was undone: {undone[0]}. Nothing was written.")
    if not coverage:
        raise NoChangeError("there is nothing to compress: the model multiplies by no constant matrix or kernel of floats. Nothing was written.")
    raise NoChangeError(f"none of the {len(coverage)} sites can be compressed ({_reasons(coverage)}). Nothing was written.")


def refuse_idle(rewritten: Rewritten) -> None:
    """Raise NoChangeError, with the reasons, when one of several kinds of compression that were asked for did nothing."""
    asked = {item.step for item in REDUCTIONS.values()}
    for step, record in zip(rewritten.steps, rewritten.records, strict=True):
        if step.name not in asked or record.changes:
            continue
        why = record.rolled_back[0].reason if record.rolled_back else _reasons(record.coverage) or "it found nothing that it could change"
        raise NoChangeError(f"{step.name} did nothing: {why}. Nothing was written.")


def _reasons(coverage: Sequence[SiteRecord]) -> str:
    """Why sites were left alone, the most frequent reasons of the first few."""
    reasons: dict[str, list[str]] = {}
    for record in coverage:
        reasons.setdefault(record.why, []).append(record.name)
    return "; ".join(f"'{names[0]}'{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {why}" for why, names in list(reasons.items())[:SHOWN])


def compression_entry(
    rewritten: Rewritten,
    plain: ir.Model,
    source: ir.Model,
    shipped: ir.Model,
    sensitivities: Mapping[str, Sensitivity],
    why: Mapping[str, str],
    calibration: str,
) -> CompressionEntry:
    """The coverage for the report; ``plain`` is the model before compression, ``why`` says more of sites that were asked to stay."""
    known = {record.name for record in rewritten.coverage}
    rest = Coverage()
    rest.complete((site for site in all_sites(plain) if site.name not in known), UNCHOSEN)
    records = (*rewritten.coverage, *rest.records.values())
    places = [_site_entry(record, sensitivities.get(record.name), why.get(record.name)) for record in records]
    taken = [place for place in places if place.form]
    weights, whole = sum(place.parameters for place in taken), model_size(plain, ESTIMATE)
    return CompressionEntry(
        sites=len(places),
        compressed=len(taken),
        weight_share=min(weights / max(whole.parameters, 1), 1.0),
        flops_share=min(sum(place.flops or 0 for place in taken) / max(whole.flops, 1), 1.0),
        bits=sum(place.bits * place.parameters for place in taken) / weights if weights else 0.0,
        size=weight_bytes(shipped) / max(weight_bytes(source), 1),
        calibration=calibration,
        put_back=list(why),
        places=places,
    )


def reduction_entry(rewritten: Rewritten, plain: ir.Model, shipped: ir.Model) -> ReductionEntry | None:
    """How much smaller the model is than ``plain``, before anything is quantised, and what ships in bytes; None where nothing was to make it smaller."""
    asked = {item.step for item in REDUCTIONS.values()}
    sizes = [record.size for step, record in zip(rewritten.steps, rewritten.records, strict=True) if step.name in asked and record.size is not None]
    if not sizes:
        return None
    before, after = model_size(plain), sizes[-1]
    return ReductionEntry(
        parameters_before=before.parameters,
        parameters_after=after.parameters,
        flops_before=before.flops,
        flops_after=after.flops,
        zeros_before=count_zeros(plain),
        zeros_after=after.zeros,
        bytes_before=weight_bytes(plain),
        bytes_after=weight_bytes(shipped),
    )


def divergence_entries(found: Divergence) -> list[DivergenceEntry]:
    """Divergence for the report."""
    return [DivergenceEntry(samples=found.samples, **vars(entry)) for entry in found.outputs]


def _site_entry(record: SiteRecord, sensitivity: Sensitivity | None, why: str | None) -> SiteEntry:
    told = why if why is not None and record.why == ASKED else record.why
    return SiteEntry(**{**vars(record), "why": told}, sensitivity=sensitivity.noise if sensitivity is not None else None)
