"""The race against what came in: candidates are built, checked and timed, and one of them ships."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from .answers import judge_answers
from .census import weight_bytes
from .compression import Compressor
from .core.backend import Backend, Built, Rival, Runner, Sample
from .core.drift import Drift
from .core.errors import NoChangeError
from .core.records import Difference
from .core.timing import CONFIDENCE, median_interval
from .elsewhere import check_device
from .pipeline import split
from .report import TrialEntry
from .request import Request
from .rewriting import Rewriter, Rewritten
from .search import FUSION, Racer, chose_something, race, ships, variants, without_fusion

__all__ = ["Race"]

SEARCH_SECONDS = 120.0
MORE_NOISE, QUIET_NOISE = 2.0, 1e-4
"""How much noise (power, of the output's) a runtime's own integer kernels may make: twice what the compressed model means to, or 40 dB below the signal.

More is a fault where it is more beyond doubt: a few samples near to a decision make most of all noise, and it takes a single one of them to double it."""


@dataclass
class Race:
    """One model's candidates against ``source``, the model as it came in, on the samples ``timed``; ``notes`` are told in the report."""

    source: ir.Model
    request: Request
    backend: Backend
    rewriter: Rewriter
    compressor: Compressor | None
    timed: Sequence[Sample]
    notes: list[str]
    raced: list[Racer] = field(default_factory=list, init=False)
    _first: Rewritten = field(init=False)
    """What holds the samples that the input is checked on when it races with other options."""
    rivals: tuple[Rival, ...] = field(default=(), init=False)
    """The runtimes that the backend tried for the candidate built last."""
    checked: Difference | None = field(default=None, init=False)
    """How far the answers are of what was built for a device that is not here; None where that is still to be checked."""
    noises: dict[int, tuple[float, float]] = field(default_factory=dict, init=False)
    """The noise in the answers of candidates (by their runner's identity) that were judged by it, and how much was allowed."""

    def run(self, first: Rewritten) -> tuple[Rewritten, Racer | Built, list[TrialEntry]]:
        """Time what was made against the input; the winner is the fastest that gains beyond doubt, or the input as it is.

        What was compressed may also win because it is smaller (`search.ships`). Raises NoChangeError when it does not win at all. For a device that is
        not here nothing is timed: what was made ships.
        """
        if not self.rewriter.target.is_here:
            return first, self._build_unraced(first), []
        tell = self.request.progress
        baseline = self.backend.baseline(self.source)
        best, champion = first, None
        if first.changes:
            champion = self._enter("compressed" if first.compressed else "optimized", first, baseline)
        if self.request.level == 3 and first.changes:
            best, champion = self._search(first, champion, baseline)
        elif champion is None and (simpler := without_fusion(first.steps, [record.rules for record in first.records])) is not None:
            rewritten = self.rewriter.run(simpler)
            if rewritten.changes:
                champion = self._enter(f"without {FUSION}", rewritten, baseline)
                best = rewritten if champion is not None else best
        if champion is None and first.compressed:
            baseline.close()
            raise self._no_gain(first)
        if champion is None:
            tell("looking for better options for the input")
            self._first = first
            champion = self._enter("the input with measured options", None, baseline)
        trials = [racer.trial(racer is champion) for racer in self.raced]
        if champion is None:
            return best, Built(self.source, baseline, samples=tuple(self.timed)), trials
        baseline.close()
        return best, champion, trials

    def _build_unraced(self, rewritten: Rewritten) -> Built:
        """What was made, built and checked. Raises ContractError when its answers are wrong: no input could ship in its place."""
        built = self.backend.build(rewritten.model, self.timed, self.request.progress)
        baseline = self.backend.baseline(self.source)
        self.request.progress("checking the answers of the compiled model")
        try:
            self.checked, passed = check_device(rewritten, built.runner, baseline)
        except BaseException:
            built.runner.close()
            raise
        finally:
            baseline.close()
        self.notes.extend(built.remarks)
        if passed:
            self.notes.append(f"on {passed} samples of extremes (such as NaN) the device answers otherwise than the model means, as the runtime's defaults do")
        return built

    def _enter(self, name: str, rewritten: Rewritten | None, baseline: Runner) -> Racer | None:
        """Build a candidate (None: the input) and let it race; None, and its runner closed, when it is not to ship, or is the input as it is."""
        tell = self.request.progress
        model = rewritten.model if rewritten is not None else self.source
        tell(f"building {name}")
        built = self.backend.build(model, self.timed, tell)
        self.rivals = built.rivals or self.rivals
        self.notes.extend(remark for remark in built.remarks if remark not in self.notes)
        if rewritten is None and not chose_something(built):
            built.runner.close()  # The input with the options it has anyway: there is nothing to race.
            return None
        fault = self._fault(built.runner, baseline, rewritten if rewritten is not None else self._first)
        if fault is not None:
            origin = "the compressed model" if rewritten is not None and rewritten.compressed else "the input"
            self.notes.append(f"{name}: the runtime's own optimisations made it differ from {origin} ({fault}), so it is not shipped")
            built.runner.close()
            return None
        tell(f"timing {name} against the input")
        racer = race(name, built, baseline, self.timed)
        self.raced.append(racer)
        if ships(racer, rewritten is not None and rewritten.compressed and self._smaller(model), self.request.small):
            return racer
        built.runner.close()
        return None

    def _smaller(self, model: ir.Model) -> bool:
        return weight_bytes(model) < weight_bytes(self.source)

    def _no_gain(self, rewritten: Rewritten) -> NoChangeError:
        """Why a compressed model is not shipped, in one sentence."""
        if not self.raced:
            return NoChangeError(f"the compressed model is not shipped: {self.notes[-1]}. Nothing was written.")
        ratio = min(racer.latency.ratio for racer in self.raced)
        if not self._smaller(rewritten.model):
            return NoChangeError(f"the compressed model takes {ratio:.2f}x the time of the input here, and it is not smaller. Nothing was written.")
        return NoChangeError(
            f"the compressed model is smaller, but takes {ratio:.2f}x the time of the input here. Say --size (size=True) to have it all the same. "
            "Nothing was written."
        )

    def _search(self, first: Rewritten, champion: Racer | None, baseline: Runner) -> tuple[Rewritten, Racer | None]:
        """Level 3: leave out one part of the pipeline at a time, and keep what is faster than the best so far. What was compressed stays so."""
        best = first
        end = time.monotonic() + SEARCH_SECONDS
        for name, steps in variants(first.steps, [record.rules for record in first.records]):
            if first.compressed and split(steps)[:2] != split(first.steps)[:2]:
                continue
            if time.monotonic() > end:
                self.notes.append(f"the search stopped after {SEARCH_SECONDS:.0f} s")
                break
            variant = self.rewriter.run(steps)
            rival = self._enter(name, variant, baseline)
            if rival is None:
                continue
            if champion is not None and not race(name, rival.built, champion.built.runner, self.timed).gained:
                rival.built.runner.close()
                continue
            if champion is not None:
                champion.built.runner.close()
            best, champion = variant, rival
        return best, champion

    def _fault(self, runner: Runner, baseline: Runner, rewritten: Rewritten) -> str | None:
        """How a finished candidate breaks the contract, unless the input under the runtime's defaults breaks it just so.

        Where integer kernels round otherwise than what they stand for, answers may not lie much further from the input's than the compressed model's.
        """
        if not rewritten.compressed:
            return judge_answers(rewritten.verifier, runner, baseline).fault or None
        found = rewritten.verifier.check_runner(runner, Drift.ROUNDING)
        if not found.broken:
            return None
        fault = found.reason or f"'{found.output}' is off by {found.max_abs:.3g}, {found.allowed:.3g} is allowed"
        if rewritten.verifier.check_runner(runner, Drift.LOSSY).broken:
            return fault
        return None if self._as_close(runner, rewritten) else fault

    def _as_close(self, runner: Runner, rewritten: Rewritten) -> bool:
        """Whether a compressed candidate answers as much like the input as it does without the runtime's optimisations."""
        assert self.compressor is not None
        ruler = self.compressor.ruler
        plain = self.backend.reference(rewritten.model)
        try:
            meant, quiet = ruler.measure(plain).noise, ruler.noises(plain)
        finally:
            plain.close()
        found = ruler.measure(runner).noise
        allowed = max(MORE_NOISE * meant, QUIET_NOISE)
        close = found <= allowed or not noisier(quiet, ruler.noises(runner))
        if close:
            self.noises[id(runner)] = found, max(found, allowed)
            own = "the runtime computes some compressed operators in integers of its own"
            self.notes.append(f"{own}: the noise in its answers is {found:.2g} instead of {meant:.2g}")
        return close


def noisier(before: Sequence[float], after: Sequence[float]) -> bool:
    """Whether answers to the same samples hold more noise: the interval of the middle ratio lies above 1, or there are too few samples to have one."""
    ratios = [new / old if old > 0.0 else math.inf if new > 0.0 else 1.0 for old, new in zip(before, after, strict=True)]
    low, high = median_interval(ratios, CONFIDENCE)
    return low > 1.0 or (low, high) == (0.0, math.inf)
