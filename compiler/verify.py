"""Checks a rewritten model against the model it came from, by running both."""

from __future__ import annotations

import copy
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx_ir as ir

from .comparison import Outputs, compare, compare_output, leaves, worse
from .core.backend import Array, Progress, Runner, Sample
from .core.drift import Drift
from .core.errors import InputError
from .core.graph import all_graphs, clone_model
from .core.records import Difference
from .region import identical
from .rounding import FACTORS, MORE_FACTORS, has_halves, has_steps, rounded
from .seeding import draws, seeded
from .tolerance import Noise, is_float, measure, stress_of
from .undecided import settled, undecided

__all__ = ["References", "Verifier"]

BIG_BYTES = 16 << 20
"""Arrays of at least this size wait on disk between checks."""
SMALL = 4096
"""With fewer elements of output in all, more roundings are drawn (`rounding.MORE_FACTORS`)."""
STEPPED = 4
"""Of how many ordinary samples more roundings are drawn when the model has steps."""


class References(Protocol):
    """The part of a backend that a verifier needs."""

    def reference(self, model: ir.Model) -> Runner:
        """A runner with every runtime optimisation off."""
        ...




class _Store:
    """Keeps arrays between checks, the big ones as files."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._count = 0

    def keep(self, outputs: Outputs) -> Outputs:
        return {name: self._keep(value) for name, value in outputs.items()}

    def _keep(self, value: Array) -> Array:
        if not isinstance(value, np.ndarray) or value.nbytes < BIG_BYTES or value.dtype.kind == "O":
            return value
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="graphwright-verify-")
        self._count += 1
        path = Path(self._folder.name) / f"{self._count}.bin"
        np.ascontiguousarray(value).tofile(path)
        kept: np.ndarray = np.memmap(path, dtype=value.dtype, mode="r", shape=value.shape)
        path.unlink()  # The mapping keeps the content until nobody needs it.
        return kept


class Verifier:
    """Holds the outputs of a model on samples, and compares candidates with them.

    The reference is the model as it was given, run with every runtime optimisation off; candidates run the same way. ``exact`` candidates are
    compared with the candidate last accepted (at first the model itself), all others with the model itself.
    """

    def __init__(self, model: ir.Model, samples: Sequence[Sample], backend: References, progress: Progress | None = None, runner: Runner | None = None) -> None:
        """Run the model on every sample, with ``runner`` if that is its reference already open; it stays open.

        Whoever goes on to change the model hands in a copy. Raises InputError when there is no sample or the model refuses one.
        """
        if not samples:
            raise InputError("there are no inputs to check the model with; pass example inputs")
        self.samples = tuple(samples)
        self.backend = backend
        self.progress = progress or (lambda _: None)
        self.stress = tuple(stress_of(sample) for sample in self.samples)
        self.seconds = 0.0
        """How long the model took for all samples: about what one check costs."""
        self._store = _Store()
        self._rest_on(model, runner)

    def rebase(self, model: ir.Model) -> None:
        """Make ``model``, as it is now, the reference of all that follows, as after a lossy pass."""
        self._rest_on(clone_model(model))

    def _rest_on(self, model: ir.Model, runner: Runner | None = None) -> None:
        self.model = model
        self._random = any(draws(node) for graph in all_graphs(model) for node in graph)
        self.progress("running the reference")
        start = time.perf_counter()
        self._reference, self.repeatable = self._run_twice(None if self._random else runner)
        self.seconds = time.perf_counter() - start
        self._previous = self._reference
        self._latest: list[Outputs] | None = None
        self._noise: list[dict[str, Noise]] | None = None
        self._undecided: dict[int, dict[str, np.ndarray]] = {}
        self._growth: dict[str, float] = {}
        self.bitwise = self.repeatable and not has_halves(model)
        """Whether `exact` can be held to bits: the CPU computes 16-bit operators in 32 bits and rounds in between depending on which are neighbours."""

    def fork(self) -> Verifier:
        """A verifier of the same model on the same samples: one of them can be rebased without the other."""
        return copy.copy(self)

    def start(self, model: ir.Model) -> None:
        """Let ``model``, with which a pipeline starts, be what ``exact`` candidates are compared with at first."""
        self._previous = self._reference if identical(model, self.model) else self._run_all(model)

    def check(self, candidate: ir.Model, drift: Drift, only: Sequence[int] | None = None) -> Difference:
        """The worst difference over the samples (``only`` some of them); the first broken one ends the search.

        A candidate that does not load or refuses a sample is broken, too.
        """
        against = self._previous if drift is Drift.EXACT and self.repeatable else self._reference
        drift = Drift.ROUNDING if drift is Drift.EXACT and not self.bitwise else drift
        chosen = range(len(self.samples)) if only is None or self._random else only
        kept: list[Outputs] = []
        worst = Difference("", 0.0, 0.0, 0.0)
        for index, outputs in self._candidate_outputs(candidate, chosen):
            if isinstance(outputs, Difference):
                return outputs
            found = self._compare(against[index], outputs, drift, index)
            worst = worse(worst, found)
            if found.broken:
                return found
            kept.append(self._store.keep(outputs))
        self._latest = kept if len(kept) == len(self.samples) else None
        return worst

    def accept(self) -> None:
        """Let the candidate checked last be what exact ones are compared with from now on."""
        if self._latest is not None:
            self._previous = self._latest

    def check_against(self, previous: ir.Model, candidate: ir.Model, drift: Drift = Drift.EXACT) -> Difference:
        """The worst difference between any two models on the samples; what was accepted before does not matter."""
        worst = Difference("", 0.0, 0.0, 0.0)
        before = self._run_all(previous)
        for index, outputs in self._candidate_outputs(candidate, range(len(self.samples))):
            found = outputs if isinstance(outputs, Difference) else self._compare(before[index], outputs, drift, index)
            worst = worse(worst, found)
            if found.broken:
                break
        return worst

    def check_each(self, candidate: ir.Model, drift: Drift, sample: int = 0) -> dict[str, Difference]:
        """The worst difference of every output on one sample. Raises what the runtime raises when the candidate does not run."""
        runner = self.backend.reference(self._steady(candidate))
        try:
            after = runner.run(self.samples[sample])
        finally:
            runner.close()
        noise, before = self.noise[sample], self._reference[sample]
        return {
            name: compare_output(name, before[name], value, drift, noise, self._growth.get(name, 0.0), self.stress[sample]) for name, value in after.items()
        }

    def check_runner(self, runner: Runner, drift: Drift, only: Sequence[int] | None = None) -> Difference:
        """The worst difference of something that runs already, as it will run for the user, on all samples or ``only`` some; nothing is compared when the
        model draws random numbers.
        """
        worst = Difference("", 0.0, 0.0, 0.0)
        for index in (range(len(self.samples)) if only is None else only) if not self._random else ():
            outputs = _attempt(runner, self.samples[index], index)
            found = outputs if isinstance(outputs, Difference) else self._compare(self._reference[index], outputs, drift, index)
            worst = worse(worst, found)
            if found.broken:
                break
        return worst

    def check_outputs(self, outputs: Outputs, drift: Drift, sample: int) -> Difference:
        """The worst difference of what something else made of a sample."""
        return self._compare(self._reference[sample], outputs, drift, sample)

    def outputs(self, sample: int) -> Outputs:
        """What the reference makes of a sample."""
        return self._reference[sample]

    def _compare(self, before: Outputs, after: Outputs, drift: Drift, index: int) -> Difference:
        if drift in (Drift.ROUNDING, Drift.DOMAIN):
            same = compare(before, after, Drift.EXACT, stress=self.stress[index], sample=index)
            if not same.broken:  # The noise need not be measured for what did not move.
                return same
        noise = self.noise[index] if drift in (Drift.ROUNDING, Drift.DOMAIN) else None
        found = compare(before, after, drift, noise=noise, growth=self._growth, stress=self.stress[index], sample=index)
        if not found.broken or drift is Drift.EXACT or not (undecided := self._undecided_of(index)):
            return found
        after = {name: settled(before[name], value, undecided.get(name)) if name in before else value for name, value in after.items()}
        return compare(before, after, drift, noise=noise, growth=self._growth, stress=self.stress[index], sample=index)

    def _undecided_of(self, index: int) -> dict[str, np.ndarray]:
        """Where the outputs of a sample with extremes depend on what nobody says of NaN (`undecided`)."""
        if not self.stress[index].any:
            return {}
        if index not in self._undecided:
            self._undecided[index] = undecided(self._steady(self.model), self.samples[index], self.backend.reference)
        return self._undecided[index]

    def _candidate_outputs(self, model: ir.Model, chosen: Sequence[int]) -> Iterator[tuple[int, Outputs | Difference]]:
        try:
            runner = self.backend.reference(self._steady(model))
        except Exception as error:
            yield 0, Difference("", np.inf, np.inf, 0.0, broken=True, reason=f"the runtime refuses the rewritten model: {_first_line(error)}")
            return
        try:
            for index in chosen:
                yield index, _attempt(runner, self.samples[index], index)
        finally:
            runner.close()

    def _run_all(self, model: ir.Model) -> list[Outputs]:
        runner = self.backend.reference(self._steady(model))
        try:
            return [self._store.keep(runner.run(sample)) for sample in self.samples]
        finally:
            runner.close()

    def _steady(self, model: ir.Model) -> ir.Model:
        return seeded(model) if self._random else model

    def _run_twice(self, opened: Runner | None) -> tuple[list[Outputs], bool]:
        """The reference's outputs, and whether it gives the same bits again: without that, nothing can be held to ``exact``."""
        runner = opened if opened is not None else self.backend.reference(self._steady(self.model))
        try:
            outputs = [self._store.keep(runner.run(sample)) for sample in self.samples]
            again = None if self._random else runner.run(self.samples[0])
        finally:
            if runner is not opened:
                runner.close()
        if again is None:  # Seeded numbers only start over in a session of their own.
            runner = self.backend.reference(self._steady(self.model))
            try:
                again = runner.run(self.samples[0])
            finally:
                runner.close()
        return outputs, not compare(outputs[0], again, Drift.EXACT).broken

    @property
    def noise(self) -> list[dict[str, Noise]]:
        """What rounding alone does to each output of each sample; measured when first asked for."""
        if self._noise is None:
            self.progress("measuring what rounding does to the reference")
            noisy = rounded(self._steady(self.model))
            self._growth = noisy.growth
            steps = has_steps(noisy.model)
            doubted = {index for index in range(len(self.samples)) if self._is_small(index)} | set(self._calm()[:STEPPED] if steps else ())
            runs = self._rounded_outputs(noisy.model, noisy.factor, doubted)
            self._noise = [self._measure(index, runs[index]) for index in range(len(self.samples))]
            self._share_noise(steps)
        return self._noise

    def _calm(self) -> list[int]:
        """The ordinary samples, those without extremes."""
        return [index for index, stress in enumerate(self.stress) if not stress.any]

    def _is_small(self, index: int) -> bool:
        """Whether a sample's outputs have so few elements that all of them may be lucky in two draws."""
        return sum(array.size for name, value in self._reference[index].items() for _, array in leaves(name, value)) <= SMALL

    def _rounded_outputs(self, copy: ir.Model, factor: str, doubted: Collection[int]) -> list[list[Outputs]]:
        """For each sample, the outputs under each factor, under more of them where two are ``doubted``; those that do not run are left out, as when a
        size that the model computes comes out differently.
        """
        try:
            runner = self.backend.reference(copy)
        except Exception:
            return [[] for _ in self.samples]
        try:
            found = [
                [_attempt(runner, {**sample, factor: np.array(number, np.float32)}, 0) for number in (*FACTORS, *(MORE_FACTORS if index in doubted else ()))]
                for index, sample in enumerate(self.samples)
            ]
        finally:
            runner.close()
        return [[outputs for outputs in runs if not isinstance(outputs, Difference)] for runs in found]

    def _measure(self, index: int, runs: Sequence[Outputs]) -> dict[str, Noise]:
        held = [dict(leaf for name, value in run.items() for leaf in leaves(name, value)) for run in runs]
        result: dict[str, Noise] = {}
        for name, value in self._reference[index].items():
            for path, array in leaves(name, value):
                found = [run[path] for run in held if path in run]
                result[path] = measure(array, found) if len(found) == len(held) else Noise(comparable=False)
            if isinstance(value, list | dict) and any(set(result) ^ set(run) for run in held if name in result):
                result[name] = Noise(comparable=False)
        return result

    def _share_noise(self, steps: bool) -> None:
        """Let each sample know what is typical of ordinary ones; a model with ``steps`` (quantisation) may jump in any of them."""
        assert self._noise is not None
        calm = self._calm()
        choose = max if steps else statistics.median
        for path in dict.fromkeys(path for index in calm for path in self._noise[index]):
            held = [index for index in calm if path in self._noise[index]]
            shares = [self._share(index, path) for index in held]
            shared: dict[str, float] = {"typical": choose(one for one, _ in shares), "typical_rms": choose(two for _, two in shares)}
            if steps:
                shared |= {kind: max(getattr(self._noise[index][path], kind) for index in held) for kind in ("flips", "step")}
            for noises in self._noise:
                if path in noises and noises[path].comparable:
                    noises[path] = dataclasses.replace(noises[path], **shared)  # type: ignore[arg-type]

    def _share(self, index: int, path: str) -> tuple[float, float]:
        assert self._noise is not None
        found = dict(leaf for name, value in self._reference[index].items() for leaf in leaves(name, value))
        noise, array = self._noise[index][path], found.get(path)
        if array is None or not is_float(array.dtype) or array.size == 0:
            return 0.0, 0.0
        plain = array.astype(np.float64)
        finite = np.abs(plain[np.isfinite(plain)])
        scale, level = float(finite.max(initial=0.0)), float(np.sqrt(np.mean(np.square(finite)))) if finite.size else 0.0
        return (noise.peak / scale if scale else 0.0), (noise.rms / level if level else 0.0)


def _attempt(runner: Runner, sample: Sample, index: int) -> Outputs | Difference:
    try:
        return runner.run(sample)
    except Exception as error:
        return Difference("", np.inf, np.inf, 0.0, sample=index, broken=True, reason=f"the runtime fails on the rewritten model: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:300]}" if text else type(error).__name__
