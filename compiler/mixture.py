"""Mixed precision: for each site the width that a budget is best spent on."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from .allocation import Choice, allocate
from .allowance import Allowance
from .census import weight_bytes
from .compression import Compressor
from .core.backend import Sample
from .core.coverage import SiteRecord
from .core.errors import BudgetError, NoChangeError
from .core.passes import Pass, parse_pipeline
from .core.sites import all_sites
from .pipeline import insert, with_options
from .sensitivity import Sensitivity, measure_sites
from .timing import compare_runners

__all__ = ["Mixer", "Way"]

WIDTHS = ((4, 32), (4, 128), (4, 16), (3, 32), (2, 32), (8, 32), (8, 128))
"""Bits and block of the ways to store weights alone; the middle one first, for the others follow from it when time is short."""
WEIGHTS = "quantize-weights"
WHOLE = ("quantize-dynamic", "quantize-static")
"""Passes that compress activations, too: they are what makes a model faster."""
MEASURED_SECONDS = 240.0
"""After this long, what a width does to a site follows from another width of it."""
TRIES = 7
RACE_SECONDS = 1.0
A_BIT = 4.0
"""How much less noise, as power, one bit more of a uniform grid makes."""


@dataclass(frozen=True)
class Way:
    """A pass that compresses every site it can, and what it makes of each: bytes of the weight, noise in the answers, seconds saved."""

    step: Pass
    records: Mapping[str, SiteRecord]
    noise: Mapping[str, float]
    saved: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Mixer:
    """Chooses the passes of a mixed precision. ``steps`` are those of the level, which compress nothing."""

    compressor: Compressor
    steps: Sequence[Pass]
    method: str | None
    timed: Sequence[Sample]
    clock: Callable[[], float] = time.monotonic
    _ways: list[Way] = field(default_factory=list, init=False)
    _bits: dict[str, float] = field(default_factory=dict, init=False)
    """What one number of each site takes as it is."""

    def choose(self, allowance: Allowance) -> tuple[Pass, ...]:
        """The passes with compression in them. Raises BudgetError when no choice keeps the allowance, NoChangeError when nothing can be compressed."""
        self._ways = self._measured(allowance.kind == "latency")
        if not self._ways:
            raise NoChangeError("none of the sites can be compressed in any width. Nothing was written.")
        self._bits = {site.name: 8.0 * site.weight.dtype.itemsize for site in all_sites(self._plain()) if site.weight.dtype is not None}
        if allowance.kind == "drop":
            return self._within_drop()
        assert allowance.amount is not None
        if allowance.kind == "latency":
            return self._passes(self._allocated(self._time_choices(), self._time_budget(allowance.amount), f"latency={allowance.amount:g}"))
        return self._within_size(allowance.amount)

    def _measured(self, times: bool) -> list[Way]:
        """Every way, those that cannot compress any site left out."""
        found: list[Way] = []
        end = self.clock() + MEASURED_SECONDS
        for step in self._candidates(times):
            steps = insert(self.steps, (step,))
            _, coverage = self.compressor.rewriter.draft(steps)
            records = {record.name: record for record in coverage.records.values() if record.form and record.parameters and not _wasteful(record, step, found)}
            if not records:
                continue
            noise = self._noise(steps, records, found, end)
            found.append(Way(step, records, noise, self._saved(steps, records) if times else {}))
        return found

    def _candidates(self, times: bool) -> list[Pass]:
        """The passes to choose from."""
        steps = [*parse_pipeline(",".join(f"{WEIGHTS}{{bits={bits},block={block}}}" for bits, block in WIDTHS))]
        if times:
            whole = WHOLE if self.compressor.rewriter.calibrator is not None else WHOLE[:1]
            steps = [*parse_pipeline(",".join(whole)), *steps]
        return list(with_options(steps, **({"method": self.method} if self.method is not None else {}), small=True))

    def _noise(self, steps: Sequence[Pass], records: Mapping[str, SiteRecord], known: Sequence[Way], end: float) -> dict[str, float]:
        compressor = self.compressor
        noise: dict[str, float] = {}
        for name, record in records.items():
            nearest = min((way for way in known if name in way.noise), key=lambda way: abs(way.records[name].bits - record.bits), default=None)
            if nearest is not None and self.clock() > end:
                noise[name] = nearest.noise[name] * A_BIT ** (nearest.records[name].bits - record.bits)
                continue
            (found,) = measure_sites([name], steps, compressor.rewriter, compressor.backend, compressor.ruler, compressor.tell)
            noise[name] = found.noise
        return noise

    def _saved(self, steps: Sequence[Pass], records: Mapping[str, SiteRecord]) -> dict[str, float]:
        """Seconds that each site saves: sites of one kind and shape are timed together, in turns with the model as it is."""
        rewriter, backend = self.compressor.rewriter, self.compressor.backend
        groups: dict[tuple[object, ...], list[str]] = {}
        for record in records.values():
            groups.setdefault((record.kind, record.parameters, record.flops), []).append(record.name)
        plain = backend.baseline(rewriter.plain(steps).model)
        saved: dict[str, float] = {}
        try:
            for names in groups.values():
                self.compressor.tell(f"timing {len(names)} sites like {names[0]}")
                runner = backend.baseline(rewriter.draft(with_options(steps, only=tuple(names)))[0])
                try:
                    found = compare_runners(runner, plain, self.timed, budget_s=RACE_SECONDS, min_rounds=6)
                finally:
                    runner.close()
                saved.update(dict.fromkeys(names, found.median_b * (1 - found.ratio) / len(names)))
        finally:
            plain.close()
        return saved

    def _sites(self) -> dict[str, SiteRecord]:
        return {name: record for way in self._ways for name, record in way.records.items()}

    def _options(self) -> dict[str, list[Way | None]]:
        """The ways of each site, None for leaving it as it is."""
        return {name: [None, *(way for way in self._ways if name in way.records)] for name in self._sites()}

    def _choices(self, cost: Callable[[str, Way | None], float]) -> list[list[Choice]]:
        return [[Choice(cost(name, way), way.noise[name] if way is not None else 0.0) for way in ways] for name, ways in self._options().items()]

    def _size_choices(self) -> list[list[Choice]]:
        sites = self._sites()
        return self._choices(lambda name, way: self._stored(name, sites[name], way))

    def _time_choices(self) -> list[list[Choice]]:
        return self._choices(lambda name, way: -way.saved.get(name, 0.0) if way is not None else 0.0)

    def _size_budget(self, part: float) -> float:
        """Bytes for the sites: a part of what the input's weights take, less what is no site once everything has run."""
        first, sites = self._ways[0], self._sites()
        whole = self.compressor.rewriter.run(insert(self.steps, (first.step,))).model
        held = sum(self._stored(name, record, first) for name, record in sites.items())
        return part * weight_bytes(self.compressor.rewriter.source) - (weight_bytes(whole) - held)

    def _stored(self, name: str, record: SiteRecord, way: Way | None) -> float:
        """Bytes of a site's weight: as a way stores it, else as it is."""
        taken = way.records.get(name) if way is not None else None
        return record.parameters * (taken.bits if taken is not None else self._bits.get(name, 32.0)) / 8

    def _time_budget(self, part: float) -> float:
        """Seconds to be saved, as a negative cost: what the plain model takes beyond its part of the input's time."""
        rewriter, backend = self.compressor.rewriter, self.compressor.backend
        source, plain = backend.baseline(rewriter.source), backend.baseline(self._plain())
        try:
            found = compare_runners(plain, source, self.timed, budget_s=2 * RACE_SECONDS, min_rounds=6)
        finally:
            source.close()
            plain.close()
        return (part - found.ratio) * found.median_b

    def _plain(self) -> ir.Model:
        """The model before compression: the same for every way."""
        return self.compressor.rewriter.plain(insert(self.steps, (self._ways[0].step,))).model

    def _allocated(self, choices: list[list[Choice]], budget: float, asked: str) -> list[int]:
        found = allocate(choices, budget)
        if found is None:
            over = _over(_least(choices) - budget, "latency" in asked)
            raise BudgetError(f"{asked} cannot be kept: with the least for every site the model is still {over}. Nothing was written.")
        return found

    def _within_size(self, part: float) -> tuple[Pass, ...]:
        """The least noise in this part of the bytes. What sites have in common once everything has run (zero points, say) is found by trying."""
        rewriter, choices, budget = self.compressor.rewriter, self._size_choices(), self._size_budget(part)
        least, allowed, excess = _least(choices), part * weight_bytes(rewriter.source), 0.0
        for attempt in range(TRIES):
            budget = max(budget, least) if attempt < TRIES - 1 else least
            taken = self._allocated(choices, budget, f"size={part:g}")
            steps = self._passes(taken)
            excess = weight_bytes(rewriter.run(steps).model) - allowed
            if excess <= 0:
                return steps
            if budget <= least:
                break
            budget = sum(ways[place].cost for ways, place in zip(choices, taken, strict=True)) - excess
        raise BudgetError(f"size={part:g} cannot be kept: with the least for every site the model is still {_over(excess, False)}. Nothing was written.")

    def _within_drop(self) -> tuple[Pass, ...]:
        """As few bytes as the drop allows: the bound of noise is found by trying."""
        compressor, choices = self.compressor, self._size_choices()
        turned = [[Choice(choice.harm, choice.cost) for choice in ways] for ways in choices]
        finite = [choice.harm for ways in choices for choice in ways if 0 < choice.harm < math.inf]
        if not finite:
            return self._passes(self._allocated(choices, math.inf, "drop"))
        low, high = math.log(min(finite)) - 1, math.log(sum(finite))
        best: tuple[Pass, ...] | None = None
        for attempt in range(TRIES):
            bound = high if attempt == 0 else (low + high) / 2
            found = allocate(turned, math.exp(bound))
            steps = self._passes(found) if found is not None and any(found) else None
            if steps is not None and compressor.holds(compressor.measure(compressor.rewriter.draft(steps)[0])):
                best, low = steps, bound
                if attempt == 0:
                    return best
            else:
                high = bound
        if best is None:
            raise BudgetError(f"no mixture of widths keeps the largest drop of {compressor.yardstick.name}. Nothing was written.")
        return best

    def _passes(self, taken: Sequence[int]) -> tuple[Pass, ...]:
        """The level's passes with one compression for each way that some site takes."""
        chosen: dict[Pass, list[str]] = {}
        for (name, ways), place in zip(self._options().items(), taken, strict=True):
            way = ways[place]
            if way is not None:
                chosen.setdefault(way.step, []).append(name)
                self.compressor.sensitivities[name] = Sensitivity(name, way.noise[name])
        if not chosen:
            raise NoChangeError("the budget leaves every site as it is: nothing is compressed. Nothing was written.")
        return insert(self.steps, tuple(dataclasses.replace(step, **{"only": tuple(names)}) for step, names in chosen.items()))


def _least(choices: Sequence[Sequence[Choice]]) -> float:
    """What the cheapest way for every site costs in all."""
    return sum(min(choice.cost for choice in ways if math.isfinite(choice.harm)) for ways in choices)


def _wasteful(record: SiteRecord, step: Pass, known: Sequence[Way]) -> bool:
    """Whether the site is stored in no fewer bits than by a finer way: kernels that have no 3-bit codes take them as 4-bit ones."""
    bits = getattr(step, "bits", 0)
    return any(record.bits >= way.records[record.name].bits and bits < getattr(way.step, "bits", 0) for way in known if record.name in way.records)


def _over(excess: float, time: bool) -> str:
    return f"{excess * 1000:.3g} ms too slow" if time else f"{excess / 2**20:.3g} MiB too large"
