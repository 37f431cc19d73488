"""Which runtime serves a model: ONNX Runtime alone, TVM alone, or each the parts it is faster at. Measured, and checked before it is measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

import numpy as np
import onnx_ir as ir

from ..core.backend import Backend, Built, Progress, Rival, Runner, Sample
from ..core.drift import Drift
from ..core.errors import ContractError, GraphwrightError, InputError
from ..core.fixed import fix_inputs
from ..core.planning.planner import plan
from ..core.target import Target
from ..kernel_table import KernelTable
from ..manifest import port_entries
from ..samples import generate
from ..timing import Comparison, compare_runners
from ..verify import Verifier
from .cut import Group, Part, cut, take_turns
from .flowing import Flow
from .layout import Layout, PartEntry, SizeEntry
from .package import BuiltParts, guarded
from .part_timer import PartTimer, reason_of
from .search import Splitter, Stretch, best_places, light_regions, regions_of
from .sizes import simplified, switches

__all__ = ["Contest"]

USUAL, RIVAL = "ort-cpu", "tvm-cpu"
GAIN = 0.02
"""A rival must be this much faster; less is not worth a second runtime."""
RACE_SECONDS = 2.0
CHECKED, CHECK_SECONDS = 6, 1.0
"""How many made-up samples a rival is checked with, and how long running them once may take."""
MILLI = 1000.0


@dataclass(frozen=True)
class Limits:
    """Seconds for the search among parts, for timing one of them, and for the race of a finished rival."""

    search_s: float
    each_s: float
    race_s: float


class Plain(Backend, Protocol):
    """A backend that makes a part ready as it did the whole, without choosing anew."""

    def open(self, model: ir.Model, options: Mapping[str, object]) -> Built:
        """The model made ready with the options of another."""
        ...


class Choosy(Protocol):
    """A backend that knows beforehand which operators it cannot take."""

    def refusal(self, node: ir.Node) -> str | None:
        """Why it cannot take this one, in a few words; None when it can."""
        ...


@dataclass
class Contest:
    """Looks for something faster than ``usual``, which runs ``model`` under ONNX Runtime. ``rivals`` and ``notes`` say what was tried and found."""

    model: ir.Model
    usual: Built
    samples: Sequence[Sample]
    target: Target
    ort: Plain
    tvm: Backend
    table: KernelTable
    progress: Progress
    limits: Limits
    state: str = ""
    rivals: list[Rival] = field(default_factory=list, init=False)
    notes: list[str] = field(default_factory=list, init=False)

    def run(self) -> Built:
        """The fastest, which is ``usual`` unless another one is faster beyond doubt, twice."""
        best: Built = self.usual
        for name, groups in self._candidates():
            rival = self._entered(name, groups, best)
            if rival is not None:
                if best is not self.usual:
                    best.runner.close()
                best = rival
        if best is not self.usual:
            self.usual.runner.close()
        return best

    def _candidates(self) -> list[tuple[str, tuple[Group, ...]]]:
        try:
            self._fixed = self._made_fixed()
        except GraphwrightError as reason:
            self.notes.append(f"TVM was not tried: {reason}")
            return []
        graph = self._fixed.graph
        refused = self._refused(graph)
        takes = {node: node not in refused for node in graph}
        if not any(takes.values()):
            self.notes.append(f"TVM takes no operator of this model: {next(iter(refused.values()), 'it has none')}")
            return []
        if refused:
            self.notes.append(f"TVM cannot take {_listed(refused)}; these run under ONNX Runtime")
        stretches, light = self._measured(takes)
        found: list[tuple[str, tuple[Group, ...]]] = []
        if not refused and (timing := stretches[0].timing) is not None:
            if timing.low <= 1.0:
                found.append(("tvm", ((RIVAL, tuple(graph)),)))
            else:
                self.rivals.append(Rival("tvm", timing.after_ms / MILLI, timing.ratio, timing.low, timing.high))
        places = best_places((stretches, light), graph, USUAL, RIVAL)
        if places is not None and set(places.values()) == {USUAL, RIVAL}:
            found.append(("mixed", take_turns(graph, places)))
        elif places is None and (refused or not found):
            self.notes.append("no part of the model is faster under TVM")
        return found

    def _made_fixed(self) -> ir.Model:
        """The model for the sizes of the first sample, simplified and checked; what holds what it must compute is ready after that."""
        if not self.samples:
            raise InputError("there are no inputs to time it on")
        sample = self.samples[0]
        self._settled = switches(self.model, sample)
        fixed = fix_inputs(self.model, sample, self._settled)
        runner = self.ort.reference(self.model)
        try:
            self.progress("making inputs to check other runtimes with")
            made = generate(fixed, (sample,), 0, runner.run, limit=CHECKED, seconds=CHECK_SECONDS)
            self._verifier = Verifier(self.model, [one for one in made if self._fits(one)], self.ort, self.progress, runner)
        finally:
            runner.close()
        simple = simplified(fixed, self.target)
        if (found := self._verifier.check(simple, Drift.ROUNDING)).broken:
            raise ContractError(f"made for these sizes alone it is another model: {found.reason or found.output}")
        self._flow = Flow(simple, self._verifier.samples, self.ort.reference)
        return simple

    def _fits(self, sample: Sample) -> bool:
        """Whether a sample has the sizes of the first one, and goes the same ways."""
        pairs = [(sample.get(name), array) for name, array in self.samples[0].items()]
        sizes = all(isinstance(one, np.ndarray) and isinstance(other, np.ndarray) and one.shape == other.shape for one, other in pairs)
        return sizes and all(np.array_equal(np.asarray(sample[name]), array) for name, array in self._settled.items())

    def _refused(self, graph: ir.Graph) -> dict[ir.Node, str]:
        """The nodes that TVM cannot take, and why."""
        if not hasattr(self.tvm, "refusal"):
            return {}
        choosy = cast(Choosy, self.tvm)
        return {node: reason for node in graph if (reason := choosy.refusal(node)) is not None}

    def _measured(self, takes: Mapping[ir.Node, bool]) -> tuple[list[Stretch], list[Stretch]]:
        """What was measured of each region that TVM takes, and of what lies in it between heavy operators."""
        timer = PartTimer(lambda part: self.ort.open(part, self.usual.options), self.tvm, self._flow, self.table, self.progress, self.limits.each_s, self.state)
        units = [block.nodes for block in plan(self._fixed).blocks]
        splitter = Splitter(self._fixed, timer.time, self.limits.search_s)
        stretches = splitter.run(regions_of(self._fixed.graph, takes, units))
        light = splitter.run_light(light_regions(self._fixed.graph, takes))
        self.notes += dict.fromkeys(timer.remarks)
        self.notes += [f"TVM could not build a part of the model: {reason}" for reason in dict.fromkeys(timer.failures)]
        return stretches, light

    def _entered(self, name: str, groups: Sequence[Group], best: Built) -> BuiltParts | None:
        """Build, check and race a candidate; None, and its runner closed, when it does not win."""
        self.progress(f"building {name}")
        try:
            candidate = self._built(name, cut(self._fixed, groups))
        except Exception as error:  # Whatever a runtime says: the model runs without it, and the report says why.
            self.rivals.append(Rival(name, failure=reason_of(error)))
            return None
        worst = self._verifier.check_runner(candidate.runner, Drift.ROUNDING)
        if worst.broken:
            fault = worst.reason or f"'{worst.output}' is off by {worst.max_abs:.3g}, {worst.allowed:.3g} is allowed"
            self.rivals.append(Rival(name, failure=f"it does not compute what the model does: {fault}"))
            candidate.runner.close()
            return None
        self.progress(f"timing {name} against {'onnxruntime' if best is self.usual else 'the best so far'}")
        found = self._race(candidate.runner, best.runner)
        won = _wins(found) and _wins(self._race(candidate.runner, best.runner))
        against = found if best is self.usual else self._race(candidate.runner, self.usual.runner)
        self.rivals.append(Rival(name, found.median_a, against.ratio, against.low, against.high, won))
        if won:
            return candidate
        candidate.runner.close()
        return None

    def _race(self, candidate: Runner, best: Runner) -> Comparison:
        return compare_runners(candidate, best, self.samples, budget_s=self.limits.race_s, min_rounds=6)

    def _built(self, name: str, parts: Sequence[Part]) -> BuiltParts:
        made: list[tuple[Part, Built]] = []
        try:
            for part in parts:
                made.append((part, self._built_part(part)))
        except BaseException:
            for _, built in made:
                built.runner.close()
            raise
        layout = self._layout(name, made)
        runner = guarded(layout, [built.runner for _, built in made], lambda: self.ort.baseline(self.model))
        return BuiltParts(self.model, runner, layout.model_dump(), samples=tuple(self.samples), parts=tuple(made))

    def _built_part(self, part: Part) -> Built:
        if part.place == USUAL:
            return self.ort.open(part.model, self.usual.options)
        return self.tvm.build(part.model, (self._flow.values(part.needs),), self.progress)

    def _layout(self, name: str, made: Sequence[tuple[Part, Built]]) -> Layout:
        entries = [
            PartEntry(place=part.place, folder=f"parts/{number}", options=built.options, needs=list(part.needs)) for number, (part, built) in enumerate(made)
        ]
        sizes = {
            name: SizeEntry(dtype=array.dtype.name, shape=list(array.shape), value=array.item() if name in self._settled else None)
            for name, array in self.samples[0].items()
            if isinstance(array, np.ndarray)
        }
        return Layout(
            runtime="tvm" if name == "tvm" else "mixed",
            whole=self.usual.options,
            parts=entries,
            sizes=sizes,
            inputs=port_entries(self.usual.runner.inputs),
            outputs=port_entries(self.usual.runner.outputs),
        )


def _wins(found: Comparison) -> bool:
    return found.high < 1.0 and found.ratio < 1.0 - GAIN


def _listed(refused: Mapping[ir.Node, str]) -> str:
    """The operators that are refused, each once with how many there are of it."""
    counts = Counter(node.op_type for node in refused)
    return ", ".join(f"{name} ({count})" if count > 1 else name for name, count in sorted(counts.items()))
