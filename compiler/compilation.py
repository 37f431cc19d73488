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

from .artifact import Artifact, from_built
from .census import census
from .core.backend import Backend, Built, Runner, Sample
from .core.drift import Drift, loosest
from .core.errors import GraphwrightWarning
from .core.graph import clone_model
from .core.passes import Pass
from .core.records import Difference, PassRecord
from .core.target import Target
from .importer import Source
from .kernel_choice import KernelChoice
from .kernel_table import open_table
from .manager import Manager
from .manifest import Manifest, own_version, port_entries, target_entry, versions
from .nesting import describe
from .pipeline import describe_level, recipe
from .report import KernelEntry, Report, SkippedEntry, TrialEntry, VerificationEntry, difference_entry, pass_entries
from .request import Request
from .samples import generate
from .search import FUSION, Racer, chose_something, race, variants, without_fusion
from .usual import usual_sample
from .verify import Verifier

TIMED = 4
"""Example inputs that take part in a race; more would only make it longer."""
SEARCH_SECONDS = 120.0
UNMEASURED = (0, 1)
"""Levels that leave no choice of kernels."""
REFERENCE = "the input model without runtime optimisations"


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


@dataclass(frozen=True)
class Rewritten:
    """A model after a pipeline, and what each pass did."""

    model: ir.Model
    steps: tuple[Pass, ...]
    records: tuple[PassRecord, ...]

    @property
    def changes(self) -> int:
        """How many rewrites stayed."""
        return sum(record.changes for record in self.records)

    @property
    def drift(self) -> Drift:
        """The loosest contract among the passes that changed something."""
        return loosest(*(Drift(record.drift) for record in self.records if record.changes))


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
    notes: list[str] = field(default_factory=list)
    judge: KernelChoice | None = field(default=None, init=False)

    def run(self) -> Artifact:
        """Rewrite, verify, race; the artifact is open, and nothing is written yet."""
        self.notes.extend(self.source.warnings)
        runner = self.backend.reference(self.source.model)
        try:
            with self.stages("prepare inputs"):
                timed, samples = self._inputs(runner)
            with self.stages("reference"):
                verifier = Verifier(self.source.model, samples, self.backend, self.request.progress, runner)
                self._check_export(verifier)
        finally:
            runner.close()
        if self.request.level not in UNMEASURED:
            self.judge = KernelChoice(self.backend.baseline, open_table(), self.request.progress)
        with self.stages("rewrite"):
            rewritten = self._rewrite(self.request.steps(self.target), verifier, timed)
        with self.stages("race"):
            rewritten, winner, trials = self._race(rewritten, verifier, timed)
        worst = difference_entry(self._worst(winner, verifier))
        verified = VerificationEntry(samples=len(samples), given=len(self.given), reference=REFERENCE, worst=worst)
        return self._artifact(rewritten, winner, trials, verified)

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

    def _rewrite(self, steps: Sequence[Pass], verifier: Verifier, timed: Sequence[Sample]) -> Rewritten:
        model = clone_model(self.source.model)
        if self.judge is not None:
            self.judge.begin(model, timed)
        manager = Manager(self.target, verifier, self.replays, self.request.progress, fast_math=self.request.fast_math, judge=self.judge)
        records = manager.run(model, steps)
        return Rewritten(model, tuple(steps), records)

    def _race(self, first: Rewritten, verifier: Verifier, timed: Sequence[Sample]) -> tuple[Rewritten, Racer | Built, list[TrialEntry]]:
        """Time what was made against the input; the winner is the fastest that gains beyond doubt, or the input as it is."""
        tell = self.request.progress
        baseline = self.backend.baseline(self.source.model)
        raced: list[Racer] = []
        best, champion = first, None
        if first.changes:
            champion = self._enter("optimized", first.model, baseline, verifier, timed, raced)
        if self.request.level == 3 and first.changes:
            best, champion = self._search(first, champion, baseline, verifier, timed, raced)
        elif champion is None and (simpler := without_fusion(first.steps, [record.rules for record in first.records])) is not None:
            rewritten = self._rewrite(simpler, verifier, timed)
            if rewritten.changes:
                champion = self._enter(f"without {FUSION}", rewritten.model, baseline, verifier, timed, raced)
                best = rewritten if champion is not None else best
        if champion is None:
            tell("looking for better options for the input")
            champion = self._enter("the input with measured options", self.source.model, baseline, None, timed, raced)
        trials = [racer.trial(racer is champion) for racer in raced]
        if champion is None:
            return best, Built(self.source.model, baseline, samples=tuple(timed)), trials
        baseline.close()
        return best, champion, trials

    def _enter(self, name: str, model: ir.Model, baseline: Runner, verifier: Verifier | None, timed: Sequence[Sample], raced: list[Racer]) -> Racer | None:
        """Build a candidate and let it race; None, and its runner closed, when it does not gain, does not compute what it should, or is the input as it is."""
        tell = self.request.progress
        tell(f"building {name}")
        built = self.backend.build(model, timed, tell)
        if verifier is None and not any(trial.get("chosen") for trial in built.trials):
            built.runner.close()  # The input with the options it has anyway: there is nothing to race.
            return None
        if model is self.source.model and not chose_something(built):
            built.runner.close()
            return None
        fault = self._fault(built.runner, baseline, verifier) if verifier is not None else None
        if fault is not None:
            self.notes.append(f"{name}: the runtime's own optimisations made it differ from the input ({fault}), so it is not shipped")
            built.runner.close()
            return None
        tell(f"timing {name} against the input")
        racer = race(name, built, baseline, timed)
        raced.append(racer)
        if racer.gained:
            return racer
        built.runner.close()
        return None

    def _search(
        self, first: Rewritten, champion: Racer | None, baseline: Runner, verifier: Verifier, timed: Sequence[Sample], raced: list[Racer]
    ) -> tuple[Rewritten, Racer | None]:
        """Level 3: leave out one part of the pipeline at a time, and keep what is faster than the best so far."""
        best = first
        end = time.monotonic() + SEARCH_SECONDS
        for name, steps in variants(first.steps, [record.rules for record in first.records]):
            if time.monotonic() > end:
                self.notes.append(f"the search stopped after {SEARCH_SECONDS:.0f} s")
                break
            variant = self._rewrite(steps, verifier, timed)
            rival = self._enter(name, variant.model, baseline, verifier, timed, raced)
            if rival is None:
                continue
            if champion is not None and not race(name, rival.built, champion.built.runner, timed).gained:
                rival.built.runner.close()
                continue
            if champion is not None:
                champion.built.runner.close()
            best, champion = variant, rival
        return best, champion

    def _fault(self, runner: Runner, baseline: Runner, verifier: Verifier) -> str | None:
        """How a finished candidate breaks the contract, unless the input under the runtime's defaults breaks it just so."""
        found = verifier.check_runner(runner, Drift.ROUNDING)
        if not found.broken or verifier.check_runner(baseline, Drift.ROUNDING).broken:
            return None
        return found.reason or f"'{found.output}' is off by {found.max_abs:.3g}, {found.allowed:.3g} is allowed"

    def _worst(self, winner: Racer | Built, verifier: Verifier) -> Difference:
        built = winner.built if isinstance(winner, Racer) else winner
        return verifier.check_runner(built.runner, Drift.ROUNDING)

    def _artifact(self, rewritten: Rewritten, winner: Racer | Built, trials: list[TrialEntry], verification: VerificationEntry) -> Artifact:
        built = winner.built if isinstance(winner, Racer) else winner
        optimized = built.model is not self.source.model
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
            verdict=verdict(winner, optimized, rewritten),
            inputs=port_entries(built.runner.inputs),
            outputs=port_entries(built.runner.outputs),
            before=census(self.source.model),
            after=census(built.model),
            passes=pass_entries(rewritten.records),
            verification=verification,
            latency=winner.latency if isinstance(winner, Racer) else None,
            trials=trials,
            options=built.options,
            tuning=list(built.trials),
            kernels=self._kernels(),
            skipped=self._skipped(rewritten),
            notes=self.notes,
            seconds=self.stages.seconds,
        )
        return from_built(built, self.backend, self._manifest(report, optimized), report, restore=self.source.restore, arrange=self.source.arrange)

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


def verdict(winner: Racer | Built, optimized: bool, rewritten: Rewritten) -> str:
    """What ships and why, in one sentence."""
    if not isinstance(winner, Racer):
        tried = "Nothing that was tried" if rewritten.changes else "There was nothing to rewrite, and no options that"
        return f"{tried} is measurably faster than the input here, so the input ships as it is."
    found = winner.latency
    gain = f"{1 / found.ratio:.2f}x faster than the input (95 % confidence {1 / found.high:.2f}x to {_inverse(found.low):.2f}x)"
    return f"{gain}." if optimized else f"No rewrite is measurably faster here; the input ships with measured options, {gain}."


def _inverse(ratio: float) -> float:
    return 1 / ratio if ratio else float("inf")


def _shapes(sample: Sample) -> str:
    return ", ".join(f"{name} {list(value.shape)}" for name, value in sample.items() if isinstance(value, np.ndarray))
