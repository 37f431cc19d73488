"""Static quantisation: weights and activations as integers, with ranges from calibration data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from ...compiler.core.coverage import Coverage
from ...compiler.core.drift import Drift
from ...compiler.core.errors import ModelError, UsageError
from ...compiler.core.graph import clone_model, opset
from ...compiler.core.judge import Judge
from ...compiler.core.passes import Context, Pass
from ...compiler.core.shapes import settle_shapes
from ...compiler.core.sites import Site, all_sites
from ...compiler.core.statistics import Calibrator, Range, SiteStatistics
from .bias_correction import corrected_bias
from .closest_codes import USUAL, can_be_careful, closest_codes
from .cross_layer_equalization import equalise
from .filled import can_be_filled, fill_channels
from .filled_kernels import RULE, faster_filled
from .float_operators import floats_of
from .formats import Format, format_for, with_bits
from .jury import EVERY, SAMPLES, Jury
from .method import find_method
from .noisy import FLOATS, NOISE_SAMPLES, Noise, loud_sites
from .placement import Placement, place, read_roots, why_float
from .pools import pool_first
from .qdq import StoredWeight, Writer, activation_grid
from .ranges import fit_range, hull
from .refusals import refusal_of
from .shifts import means_of, settle
from .shuffles import stack_shuffles
from .spots import forget_factors, named, slope_of, spot_of, stored_bits
from .surgery import Place
from .weight_codes import WeightCodes, bias_of, code_weight, store_weight
from .widening import is_half, widen

__all__ = ["QuantizeStatic"]

LEAST_OPSET = 13
WIDE_OPSET = 21
"""Codes of 16 bits came with it."""
KEPT = "it was asked to stay"
Way = tuple[str, float]
TRIALS: tuple[Way, ...] = (("mse", 100.0), ("minmax", 100.0), ("percentile", 99.99), ("entropy", 100.0))
"""The usual way of choosing ranges, and others that models with an odd distribution do better with."""
UNCLIPPED: Way = ("minmax", 100.0)
"""For what the last integer operators make: few samples tell little of how far outputs reach."""
MARGIN = 0.125
"""Smaller differences between errors of outputs are the luck of a few samples."""
DEFAULT_PERCENTILE = 99.99
STORED_ONLY = ("ConvTranspose", "Gather")
"""No runtime multiplies these as integers: their weights are stored in codes, and decoded when they run."""


@dataclass(frozen=True)
class QuantizeStatic(Pass):
    """Int8 in QDQ form, which ONNX Runtime turns into integer kernels.

    ``method`` quantises the weights (any that gives uniform steps; auto: gptq where all channels are multiplied together and that brings the products
    closer, else rtn), a scale for each output channel unless ``per_channel`` is false. ``ranges`` is
    minmax, percentile, mse, entropy, or auto: mse, unless the model's outputs on calibration data change clearly less with another. ``format`` is u8s8,
    u8s7, u8u8, s8s8, or auto: what this processor, or any for a portable target, multiplies exactly. ``activations`` is how many bits they get, 8 or 16.
    ``symmetric`` puts their zero in the middle. ``types`` names the only operators that may be quantised, ``keep`` sites that stay, ``only`` the only
    ones that do not. ``join`` lets all that a Concat joins share one scale. ``small`` quantises what is slower for it, too. ``bias_correction`` takes the
    mean error of each channel off its bias, once the ranges are chosen. ``equalize`` scales channels between convolutions to reach equally far unless
    that changes the outputs clearly more. ``spare`` leaves sites in float that hold few weights and make much of the noise (see `loud_sites`).

    Raises UsageError without calibration data.
    """

    name: ClassVar[str] = "quantize-static"
    drift: ClassVar[Drift] = Drift.LOSSY

    bits: int = 8
    activations: int = 8
    method: str = "auto"
    ranges: str = "auto"
    percentile: float = 0.0
    format: str = "auto"
    symmetric: bool = False
    per_channel: bool = True
    bias_correction: bool = True
    equalize: bool = True
    spare: bool = True
    join: bool = True
    small: bool = False
    types: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    only: tuple[str, ...] = ()

    def run(self, model: ir.Model, context: Context) -> int:
        """Change ``model`` in place; returns how many sites are quantised."""
        if context.calibrator is None:
            raise UsageError("quantize-static needs calibration data: give some real inputs (--calibration), or take int8-dynamic")
        if self.bits != 8 or self.activations not in (8, 16):
            raise UsageError(f"quantize-static stores weights in 8 bits and activations in 8 or 16, not {self.bits} and {self.activations}")
        form = with_bits(format_for(self.format, context.target), self.activations)
        least = WIDE_OPSET if self.activations > 8 else LEAST_OPSET
        if opset(model) < least:
            raise ModelError(f"quantize-static needs opset {least} or later, and the model has {opset(model)}: put normalise-opset before it")
        if is_half(model):
            widen(model)
        settle_shapes(model)
        fitted, judged = context.calibrator.apart(EVERY)
        context.notes.extend([f"fitted on {fitted.samples} samples, and judged on {judged.samples} others"] if judged is not fitted else [])
        return _Work(self, model, fitted, Jury(model, judged), context.coverage, form).run(context)


@dataclass
class _Work:
    """One run of the pass; what is learnt is kept by name, so that it holds for clones of the model too."""

    options: QuantizeStatic
    model: ir.Model
    calibrator: Calibrator
    jury: Jury
    coverage: Coverage
    form: Format
    seen: dict[str, Range] = field(default_factory=dict)
    weights: dict[str, WeightCodes] = field(default_factory=dict)
    biases: dict[str, np.ndarray | None] = field(default_factory=dict)
    methods: dict[str, str] = field(default_factory=dict)
    filled: set[str] = field(default_factory=set)
    spent: int = 0
    """Weights that stay in float because the model is faster so."""

    def run(self, context: Context) -> int:
        """Choose, note and write; how many sites are quantised."""
        sites = [site for site in self._eligible() if context.ledger.permit(self.options.name, site.name)]
        if sites and stack_shuffles(self.model):
            settle_shapes(self.model)
        found, stored = self._study(sites)
        found = self._pooled(self._without_slow(found, stored, context.judge))
        how, loss = self._best(found, stored)
        if self.options.equalize:
            found = self._equalised(found, stored, how, loss)
        if self.options.spare and not self.options.only:
            found = self._without_noisy(found, stored, how, context.judge)
        if self.options.bias_correction:
            self._settle_biases(found, stored, how)
        for site in (*found.sites.values(), *stored):
            self.coverage.take(site, "int8", stored_bits(site, self.weights[site.name]), self.methods[site.name])
        for node in found.mixes:
            self.coverage.take(node, "int8", 8.0)
        spots = [spot_of(site) for site in (*found.sites.values(), *stored)]
        for node in floats_of(self.model, found, spots) if spots and not self.options.only else ():
            self.coverage.leave(node, why_float(node, found, self.options.types))
        self._finish(self.model, found, stored, how)
        return len(found.sites) + len(stored)

    def _finish(self, model: ir.Model, found: Placement, stored: list[Site], how: Way) -> None:
        """Write what was chosen."""
        filled = [node for node, site in found.sites.items() if site.name in self.filled]  # Writing changes names.
        self._write(model, found, stored, *how)
        fill_channels(model, filled)

    def _pooled(self, found: Placement) -> Placement:
        """The same with what is looked up code by code looked up where there are fewer codes."""
        if not pool_first(self.model, [node for node in self.model.graph if node in found.mixes]):
            return found
        settle_shapes(self.model)
        return self._calibrate(self._place(self.model, list(found.sites.values())))

    def _study(self, sites: list[Site]) -> tuple[Placement, list[Site]]:
        """Ranges, codes and biases of these sites: what computes on integers, and which only store their weight so."""
        stored = [site for site in sites if site.kind in STORED_ONLY]
        found = self._calibrate(self._place(self.model, [site for site in sites if site.kind not in STORED_ONLY]))
        self._code([*found.sites.values(), *stored])
        return found, stored

    def _equalised(self, found: Placement, stored: list[Site], how: Way, loss: float) -> Placement:
        """The same with channels equalised first, unless the outputs change clearly more with it."""
        sites = list(found.sites.values())
        twin = replace(self, model=clone_model(self.model), coverage=Coverage(), seen={}, weights={}, biases={}, methods={})
        settle_shapes(twin.model)
        if not equalise(twin.model, named(twin.model, sites), self.calibrator):
            return found
        other, also_stored = twin._study(named(twin.model, [*sites, *stored]))
        allowed = (loss or self._loss_of(sites, stored, how)) * (1.0 + MARGIN)
        if twin._loss_of(list(other.sites.values()), also_stored, how) > allowed:
            return found
        equalise(self.model, sites, self.calibrator)
        self.seen, self.weights, self.biases, self.methods = twin.seen, twin.weights, twin.biases, twin.methods
        return self._place(self.model, named(self.model, list(other.sites.values())))

    def _settle_biases(self, found: Placement, stored: list[Site], how: Way) -> None:
        """Take what rounding shifts the channels by off the biases, site by site, if the outputs change less with it."""
        spots = {site.name: spot_of(site) for site in found.sites.values() if self.biases[site.name] is not None}
        if not spots:
            return
        trial = clone_model(self.model)
        settle_shapes(trial)
        placed = self._place(trial, named(trial, list(found.sites.values())))
        names = {node: site.name for node, site in placed.sites.items()}
        writer = self._write(trial, placed, named(trial, stored), *how)
        nodes = {name: writer.gemms.get(node, node) for node, name in names.items() if name in spots}
        values = {name: str(spot.output.name) for name, spot in spots.items()}
        means = means_of(self.model, list(dict.fromkeys(values.values())), self.calibrator)
        loss = self.jury.loss(trial)
        shifts = settle(trial, nodes, {name: means[value] for name, value in values.items() if value in means}, self.calibrator)
        if not shifts or self.jury.loss(trial) >= loss:
            return
        for name, shift in shifts.items():
            self.biases[name] = self.biases[name] - shift

    def _loss_of(self, sites: list[Site], stored: list[Site], way: Way, limit: int = SAMPLES) -> float:
        """How much the outputs change with these sites quantised; infinite where that cannot be."""
        trial = self._trial(sites, stored, way)
        return np.inf if trial is None else self.jury.loss(trial, limit)

    def _trial(self, sites: list[Site], stored: list[Site], way: Way) -> ir.Model | None:
        """The model with these sites quantised; None where that cannot be."""
        found = self._place(self.model, sites)
        self._learn(found)
        if self._useless(found):
            return None
        trial = clone_model(self.model)
        settle_shapes(trial)
        self._finish(trial, self._place(trial, named(trial, sites)), named(trial, stored), way)
        return trial

    def _place(self, model: ir.Model, sites: list[Site]) -> Placement:
        types = frozenset(self.options.types) or None
        return place(model.graph, sites, types=types, join=self.options.join, wide=self.options.activations > 8)

    def _eligible(self) -> Iterator[Site]:
        for site in all_sites(self.model):
            if self.options.only and site.name not in self.options.only:
                continue
            reason = KEPT if site.name in self.options.keep else refusal_of(site, self.model, self.options.types)
            if reason is None:
                yield site
            else:
                self.coverage.leave(site, reason)

    def _calibrate(self, found: Placement) -> Placement:
        """Learn the ranges; sites whose input has none that could be relied on are left, and the rest placed anew without them."""
        while found.sites:
            self._learn(found)
            useless = self._useless(found)
            if not useless:
                return found
            for site, reason in useless.items():
                self.coverage.leave(site, reason)
            found = self._place(self.model, [site for site in found.sites.values() if site not in useless])
        return found

    def _learn(self, found: Placement) -> None:
        """The ranges of what gets codes, where they are not known yet."""
        wanted = [value.name or "" for members in found.groups().values() for value in members]
        missing = [name for name in dict.fromkeys(wanted) if name not in self.seen]
        if missing:
            self.seen.update(self.calibrator.ranges(self.model, missing))

    def _useless(self, found: Placement) -> dict[Site, str]:
        """Sites that read or make a value without a range, and why."""
        groups, failed = found.groups(), {}
        for root, members in groups.items():
            reason = next((reason for value in members if (reason := self._strange(value)) is not None), None)
            if reason is not None:
                failed[root] = reason
        if not failed:
            return {}
        useless = {}
        for node, site in found.sites.items():
            near = [site.data, found.result(node), *(value for user, _ in found.result(node).uses() for value in user.outputs)]
            reason = next((failed[found.root(value)] for value in near if found.root(value) in failed), None)
            if reason is not None:
                useless[site] = reason
        return useless or dict.fromkeys(found.sites.values(), next(iter(failed.values())))

    def _strange(self, value: ir.Value) -> str | None:
        known = self.seen.get(value.name or "")
        if known is None or known.low > known.high or not np.isfinite([known.low, known.high]).all():
            return f"'{value.name}' held no finite number on any of {self.calibrator.samples} samples"
        if known.low == known.high:
            return f"'{value.name}' is constant ({known.low:g} on all {self.calibrator.samples} samples)"
        return None

    def _code(self, sites: list[Site]) -> None:
        """Codes and corrected biases of all sites."""
        for site, known, judged in self._statistics([site for site in sites if site.kind not in STORED_ONLY]):
            self._code_one(site, known, judged)
        for site in sites:
            if site.name not in self.weights:
                self._code_one(site, None, None)

    def _statistics(self, sites: list[Site]) -> Iterator[tuple[Site, list[SiteStatistics], list[SiteStatistics] | None]]:
        """What is known of their data, as far as their method or their bias needs it, and what their codes are judged on."""
        if self.options.method != "auto":
            method = find_method(self.options.method)()
            if method.calibrated() or self.options.bias_correction:
                yield from ((*found, None) for found in self.calibrator.sites(self.model, sites, moments=method.moments, rows=method.rows))
            return
        careful = [site for site in sites if can_be_careful(site) and self.options.per_channel]
        rest = [site for site in sites if site not in careful]
        yield from self.jury.beside(self.calibrator, self.model, careful) if careful else ()
        if rest and self.options.bias_correction:
            yield from ((*found, None) for found in self.calibrator.sites(self.model, rest, moments=False))

    def _code_one(self, site: Site, known: list[SiteStatistics] | None, judged: list[SiteStatistics] | None) -> None:
        """The codes of a site, and its bias with their mean error taken off."""
        weight, name = self._coded(site, known, judged)
        spot = spot_of(site)
        bias = bias_of(spot) if site.kind not in STORED_ONLY else None
        if known is not None and self.options.bias_correction and (site.kind != "MatMul" or spot.added is not None):
            bias = corrected_bias(bias, weight.error, known)
        self.weights[site.name], self.biases[site.name], self.methods[site.name] = weight, bias, name

    def _coded(self, site: Site, known: list[SiteStatistics] | None, judged: list[SiteStatistics] | None) -> tuple[WeightCodes, str]:
        """The codes, and the method they come from."""
        per_channel = self.options.per_channel
        if self.options.method == "auto" and site.kind not in STORED_ONLY:
            return closest_codes(site, self.form, known, judged, per_channel=per_channel)
        method = find_method(USUAL if site.kind in STORED_ONLY else self.options.method)()
        if method.calibrated() and known is None:
            raise ModelError(f"'{site.name}' saw no calibration data, which the method '{method.name}' needs")
        return code_weight(site, method, self.form, per_channel=per_channel, statistics=known), method.name

    def _without_slow(self, found: Placement, stored: list[Site], judge: Judge | None) -> Placement:
        """Leave small convolutions at the inputs where the whole model is faster with their float kernels; between codes floats would have to be made first."""
        if judge is None or self.options.small:
            return found
        for site in (one for one in found.sites.values() if can_be_filled(one) and _comes_in(found, one) and self.options.activations == 8):
            weight = store_weight(spot_of(site), self.weights[site.name], self.form, None, None)
            if faster_filled(self.model, found, site, weight, judge):
                self.filled.add(site.name)
        total = sum(site.parameters for site in found.sites.values())
        best, left = None, list[Site]()
        for site in (one for one in found.sites.values() if one.kind == "Conv"):
            if not _comes_in(found, site, left) or sum(one.parameters for one in (*left, site)) > FLOATS * total:
                continue
            best = best or self._trial(list(found.sites.values()), stored, UNCLIPPED)
            trial = self._trial([one for one in found.sites.values() if one not in (*left, site)], stored, UNCLIPPED)
            if best is not None and trial is not None and judge.slower(RULE, best, trial) is None:
                best = trial
                left.append(site)
        for site in left:
            self.coverage.leave(site, f"the model is faster here with its float kernel, and it has {site.parameters:,} of {total:,} weights")
        self.spent = sum(site.parameters for site in left)
        return self._calibrate(self._place(self.model, [site for site in found.sites.values() if site not in left])) if left else found

    def _without_noisy(self, found: Placement, stored: list[Site], how: Way, judge: Judge | None) -> Placement:
        """Leave the small sites that make much of the noise, where that is worth the time (see `loud_sites`)."""
        sites, timed = list(found.sites.values()), judge is not None and not self.options.small

        def time(before: Sequence[Site], after: Sequence[Site]) -> float | None:
            trials = [self._trial(list(chosen), stored, how) for chosen in (before, after)]
            span = judge.ratio(*trials) if judge is not None and None not in trials else None  # type: ignore[arg-type]
            return None if span is None else span.ratio

        noise = Noise(
            lambda chosen: self._loss_of(list(chosen), stored, how), lambda site: self._loss_of([site], [], how, NOISE_SAMPLES), time,
            self.spent + sum(site.parameters for site in sites), self.spent, timed,
        )  # fmt: skip
        left = loud_sites(sites, noise)
        for site, why in left.items():
            self.coverage.leave(site, why)
        return self._calibrate(self._place(self.model, [site for site in sites if site not in left])) if left else found

    def _best(self, found: Placement, stored: list[Site]) -> tuple[Way, float]:
        """The usual way of choosing ranges, or the one with which the outputs change clearly less, and how much they change."""
        options = self.options
        ways = TRIALS if options.ranges == "auto" else ((options.ranges, options.percentile or DEFAULT_PERCENTILE),)
        if len(ways) == 1:
            return ways[0], 0.0
        losses = {way: self._loss_of(list(found.sites.values()), stored, way) for way in ways}
        best = min(losses, key=losses.__getitem__)
        usual = ways[0] if losses[ways[0]] <= losses[best] * (1.0 + MARGIN) else best
        return usual, losses[usual]

    def _write(self, model: ir.Model, found: Placement, stored: list[Site], how: str, percentile: float) -> Writer:
        grid = activation_grid(self.form.activations, self.options.symmetric)
        steps, read = {}, read_roots(found)
        for root, members in found.groups().items():
            way = (how, percentile) if root in read else UNCLIPPED
            steps[root] = fit_range(hull([self.seen[value.name or ""] for value in members]), grid, *way, slope_of(root))
        writer = Writer(model, found, steps, self.form.activations)
        weights: dict[ir.Node, StoredWeight] = {}
        for node, site in found.sites.items():
            bias = self.biases[site.name]
            weights[node] = store_weight(spot_of(site), self.weights[site.name], self.form, bias, writer.data_scale(site))
            forget_factors(node)
        for site in stored:
            weights[site.node] = store_weight(Place(site), self.weights[site.name], self.form, None, None)
        writer.write(weights)
        return writer


def _comes_in(found: Placement, site: Site, left: Sequence[Site] = ()) -> bool:
    """Whether a site reads floats that are there anyway, with those ``left`` in float."""
    made = {found.result(node) for node in found.integer if found.gives_codes(node) and found.sites.get(node) not in left}
    return found.root(site.data) not in made
