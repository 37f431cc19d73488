"""One model being compiled: its inputs, its rewriting, the race against what came in, and the report."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_ir as ir

from .allowance import Allowance
from .artifact import Artifact, from_built
from .budget import Budget, LikenessYardstick, MetricYardstick, Yardstick, accuracy_entry
from .calibration.data import CalibrationData
from .calibration.engine import Engine
from .census import census
from .compression import Compressor, compression_entry, divergence_entries, reduction_entry
from .core.backend import Backend, Built, Rival, Runner, Sample
from .core.drift import Drift
from .core.errors import BudgetError, GraphwrightWarning
from .core.fixed import settle_initialisers
from .core.graph import clone_model
from .core.records import Difference
from .core.target import Target
from .divergence import Ruler
from .importer import Source
from .kernel_choice import KernelChoice
from .kernel_table import open_table
from .manifest import Manifest, own_version, port_entries, target_entry, versions
from .mixture import Mixer
from .nesting import describe
from .pipeline import describe_level, recipe
from .racing import Race
from .remembered import Remembered
from .report import (
    AccuracyEntry,
    CompressionEntry,
    DivergenceEntry,
    KernelEntry,
    Report,
    SkippedEntry,
    TrialEntry,
    VerificationEntry,
    difference_entry,
    pass_entries,
    runtime_entries,
)
from .request import Request
from .rewriting import Rewriter, Rewritten
from .samples import generate
from .search import Racer
from .tolerance import stress_of
from .usual import usual_sample
from .verify import Verifier

TIMED = 4
"""Example inputs that take part in a race; more would only make it longer."""
UNMEASURED = (0, 1)
"""Levels that leave no choice of kernels."""
REFERENCE = "the input model without runtime optimisations"
COMPRESSED_REFERENCE = "the compressed model without runtime optimisations"


class Stages:
    """How long each stage took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add what happens inside to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


@dataclass
class Compilation:
    """Turns one imported model into an artifact. ``given`` are the user's example inputs, arranged for the model."""

    source: Source
    request: Request
    target: Target
    backend: Backend
    replays: Path | None
    stages: Stages
    label: str
    given: tuple[Sample, ...] = ()
    calibration: CalibrationData | None = None
    notes: list[str] = field(default_factory=list)
    judge: KernelChoice | None = field(default=None, init=False)
    yardstick: Yardstick | None = field(default=None, init=False)
    """What the accuracy budget bounds; None where nothing is bounded or measured yet."""
    compressor: Compressor | None = field(default=None, init=False)
    rivals: tuple[Rival, ...] = field(default=(), init=False)
    checked: Difference | None = field(default=None, init=False)

    def run(self) -> Artifact:
        """Rewrite, compress, verify, race; the artifact is open, and nothing is written yet."""
        self.notes.extend(self.source.warnings)
        self._settle()
        steps = self.request.steps(self.target)
        lossy = self.request.mixture() is not None or any(step.drift is Drift.LOSSY for step in steps)
        runner = self.backend.reference(self.source.model)
        try:
            with self.stages("prepare inputs"):
                timed, samples = self._inputs(runner)
            with self.stages("reference"):
                verifier = Verifier(self.source.model, samples, self.backend, self.request.progress, runner)
                self._check_export(verifier)
                ruler = Ruler(runner, self._telling(samples)) if lossy else None
        finally:
            runner.close()
        if self.request.level not in UNMEASURED and self.target.is_here:
            self.judge = KernelChoice(self.backend.baseline, open_table(), self.request.progress, hardware=self.target.hardware)
        rewriter = self._rewriter(verifier, timed)
        if ruler is not None:
            with self.stages("compress"):
                self.compressor = self._compressor(rewriter, ruler)
                mixture = self.request.mixture()
                if mixture is not None:
                    steps = Mixer(self.compressor, steps, self.request.method, timed).choose(mixture)
                steps = self.compressor.fit(steps)
        with self.stages("rewrite"):
            rewritten = rewriter.run(steps)
        with self.stages("race"):
            race = Race(self.source.model, self.request, self.backend, rewriter, self.compressor, timed, self.notes)
            rewritten, winner, trials = race.run(rewritten)
        self.rivals, self.checked = race.rivals, race.checked
        return self._artifact(rewritten, winner, trials, self._verified(rewritten, winner, verifier, race))

    def _settle(self) -> None:
        """Where nobody can give other weights to what is built, those that could be given are constants from the start."""
        if self.target.overrides or not any(value.is_initializer() for value in self.source.model.graph.inputs):
            return
        model = clone_model(self.source.model)
        names = settle_initialisers(model)
        self.source = dataclasses.replace(self.source, model=model)
        self.notes.append(f"{len(names)} initialisers that a caller may override, such as '{names[0]}', are constants for the target {self.target.name}")

    def _rewriter(self, verifier: Verifier, timed: Sequence[Sample]) -> Rewriter:
        calibrator = None
        if self.calibration is not None:
            calibrator = Remembered(Engine(self.calibration, self.backend, self.request.progress, seed=self.request.seed))
        fast, tell = self.request.fast_math, self.request.progress
        return Rewriter(self.source.model, self.target, verifier, timed, self.replays, tell, fast, self.judge, calibrator)

    def _compressor(self, rewriter: Rewriter, ruler: Ruler) -> Compressor:
        request, budget, mixture = self.request, self.request.largest_drop(), self.request.mixture()
        if mixture is not None and mixture.kind == "drop" and mixture.amount is not None:
            budget = Budget(mixture.amount, relative=False)
        if request.metric is None:
            self.yardstick = LikenessYardstick(ruler)
        elif budget is not None:
            baseline = self.backend.baseline(self.source.model)
            request.progress("measuring accuracy of the input")
            self.yardstick = MetricYardstick(request.metric, baseline)
            baseline.close()
        return Compressor(rewriter, self.backend, ruler, self.yardstick or LikenessYardstick(ruler), budget, request.progress)

    def _telling(self, samples: Sequence[Sample]) -> list[Sample]:
        """The samples that divergence is measured on: real ones, or else the ordinary ones among those made up."""
        if self.given:
            return list(self.given)
        ordinary = [sample for sample in samples if not stress_of(sample).any]
        return ordinary or list(samples)

    def _verified(self, rewritten: Rewritten, winner: Racer | Built, verifier: Verifier, race: Race) -> VerificationEntry:
        built = winner.built if isinstance(winner, Racer) else winner
        ours = built.model is not self.source.model
        holder = rewritten.verifier if ours else verifier
        worst = self.checked if self.checked is not None else holder.check_runner(built.runner, Drift.ROUNDING)
        compressed = ours and rewritten.compressed
        if compressed and worst.broken:
            worst = dataclasses.replace(worst, broken=False, reason=_judged(race.noises.get(id(built.runner))))
        reference = COMPRESSED_REFERENCE if compressed else REFERENCE
        return VerificationEntry(samples=len(verifier.samples), given=len(self.given), reference=reference, worst=difference_entry(worst))

    def _inputs(self, runner: Runner) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
        """The samples to time with, and those to verify with."""
        request, model = self.request, self.source.model
        request.progress("making inputs")
        usual = usual_sample(model, runner.run, request.seed, request.dims) if request.dims or not self.given else None
        fixed = (*self.given, usual) if usual is not None and request.dims else self.given
        samples = generate(model, fixed, request.seed, runner.run)
        if usual is None and self.given:
            return self.given[:TIMED], samples
        timed = usual if usual is not None else samples[0]
        if any(isinstance(dim, ir.SymbolicDim) for value in model.graph.inputs for dim in value.shape or ()):
            self.notes.append(f"timed on a made-up input of shapes {_shapes(timed)}; example inputs (--inputs) or sizes (--dim) of your own tell more")
        return (timed,), samples if usual is None or fixed else (*samples, usual)

    def _check_export(self, verifier: Verifier) -> None:
        """Warn when the exported graph does not answer what PyTorch itself answered."""
        for index, expected in enumerate(self.source.expected):
            outputs = verifier.outputs(index)
            found = verifier.check_outputs(dict(zip(outputs, expected, strict=True)), Drift.ROUNDING, index)
            if found.broken:
                reason = found.reason or f"'{found.output}' is off by {found.max_abs:.3g}"
                note = f"PyTorch's export does not compute what the module computes ({reason}); everything below is checked against the export"
                warnings.warn(note, GraphwrightWarning, stacklevel=5)
                self.notes.append(note)
                return

    def _artifact(self, rewritten: Rewritten, winner: Racer | Built, trials: list[TrialEntry], verification: VerificationEntry) -> Artifact:
        built = winner.built if isinstance(winner, Racer) else winner
        optimized = built.model is not self.source.model
        compression, divergence, accuracy = self._compression(rewritten, winner) if rewritten.compressed else (None, [], None)
        plain = self.compressor.rewriter.plain(rewritten.steps).model if self.compressor is not None else None
        reduction = reduction_entry(rewritten, plain, built.model) if plain is not None else None
        report = Report(
            graphwright=own_version(),
            versions=versions(),
            model=self.label,
            kind=self.source.kind,
            target=self.target.name,
            level=describe_level(self.request.level),
            precision=self.request.precision,
            recipe=recipe(rewritten.steps),
            seed=self.request.seed,
            shipped="optimized" if optimized else "input",
            verdict=verdict(winner, optimized, rewritten, compression),
            inputs=port_entries(built.runner.inputs),
            outputs=port_entries(built.runner.outputs),
            before=census(self.source.model),
            after=census(built.model),
            passes=pass_entries(rewritten.records),
            verification=verification,
            latency=winner.latency if isinstance(winner, Racer) else None,
            trials=trials,
            accuracy=accuracy,
            compression=compression,
            reduction=reduction,
            divergence=divergence,
            options=built.options,
            tuning=list(built.trials),
            kernels=self._kernels(),
            runtimes=runtime_entries(built.rivals or self.rivals),
            skipped=self._skipped(rewritten),
            notes=[*self.notes, *(note for record in rewritten.records for note in record.notes)],
            seconds=self.stages.seconds,
        )
        return from_built(built, self.backend, self._manifest(report, optimized), report, restore=self.source.restore, arrange=self.source.arrange)

    def _compression(self, rewritten: Rewritten, winner: Racer | Built) -> tuple[CompressionEntry, list[DivergenceEntry], AccuracyEntry | None]:
        """What was compressed, how far that moved the answers, and whether that is within the budget."""
        compressor, built = self.compressor, winner.built if isinstance(winner, Racer) else winner
        assert compressor is not None
        plain = compressor.rewriter.plain(rewritten.steps).model
        calibration = self.calibration.describe() if self.calibration is not None else ""
        entry = compression_entry(rewritten, plain, self.source.model, built.model, compressor.sensitivities, compressor.put_back, calibration)
        _refuse_excess(self.request.mixture(), entry, winner)
        found = compressor.ruler.measure(built.runner)
        bounded = self.request.metric is None and compressor.budget is not None
        accuracy = accuracy_entry(compressor.yardstick, compressor.yardstick.measure(built.runner), compressor.budget) if bounded else None
        return entry, divergence_entries(found), accuracy

    def _kernels(self) -> list[KernelEntry]:
        timings = self.judge.timings if self.judge is not None else []
        return [KernelEntry(**dataclasses.asdict(timing)) for timing in timings]

    def _skipped(self, rewritten: Rewritten) -> list[SkippedEntry]:
        busy = {step.name for step, record in zip(rewritten.steps, rewritten.records, strict=True) if record.changes or record.rolled_back}
        idle = [step.name for step in rewritten.steps if step.name not in busy]
        return [SkippedEntry(what=", ".join(dict.fromkeys(idle)), why="nothing in this model to do")] if idle else []

    def _manifest(self, report: Report, optimized: bool) -> Manifest:
        restore = self.source.restore
        return Manifest(
            graphwright=report.graphwright,
            versions=report.versions,
            target=target_entry(self.target),
            level=report.level,
            precision=report.precision,
            recipe=report.recipe if optimized else "",
            seeds={"samples": self.request.seed},
            inputs=report.inputs,
            outputs=report.outputs,
            structure=describe(restore, len(report.outputs)) if restore is not None else None,
            options=report.options,
        )


def _judged(noise: tuple[float, float] | None) -> str:
    """What a compressed model was held to whose runtime computes in integers of its own."""
    told = "" if noise is None else f": {noise[0]:.2g} of {noise[1]:.2g} allowed"
    return f"the runtime's own integer kernels round otherwise, so the noise in the answers was judged instead{told}"


def verdict(winner: Racer | Built, optimized: bool, rewritten: Rewritten, compression: CompressionEntry | None = None) -> str:
    """What ships and why, in one sentence."""
    if not isinstance(winner, Racer) and optimized:
        return "What was made for the device ships; the device is not here, so nothing was timed."
    if not isinstance(winner, Racer):
        tried = "Nothing that was tried" if rewritten.changes else "There was nothing to rewrite, and no options that"
        return f"{tried} is measurably faster than the input here, so the input ships as it is."
    found = winner.latency
    gain = f"{1 / found.ratio:.2f}x faster than the input (95 % confidence {1 / found.high:.2f}x to {_inverse(found.low):.2f}x)"
    if compression is not None:
        size = f"at {compression.size:.2f}x its size"
        return f"{gain}, {size}." if winner.gained else f"{found.ratio:.2f}x the time of the input {size}: it ships because it is smaller."
    return f"{gain}." if optimized else f"No rewrite is measurably faster here; the input ships with measured options, {gain}."


def _refuse_excess(mixture: Allowance | None, entry: CompressionEntry, winner: Racer | Built) -> None:
    """Raise BudgetError when what ships takes more than a mixed precision may."""
    if mixture is None or mixture.amount is None:
        return
    if mixture.kind == "size" and entry.size > mixture.amount:
        raise BudgetError(f"size={mixture.amount:g} was not kept: the weights take {entry.size:.3g} of what they took. Nothing was written.")
    if mixture.kind == "latency" and isinstance(winner, Racer) and winner.latency.low > mixture.amount:
        raise BudgetError(f"latency={mixture.amount:g} was not kept: the model takes {winner.latency.ratio:.3g} of the input's time. Nothing was written.")


def _inverse(ratio: float) -> float:
    return 1 / ratio if ratio else float("inf")


def _shapes(sample: Sample) -> str:
    return ", ".join(f"{name} {list(value.shape)}" for name, value in sample.items() if isinstance(value, np.ndarray))
