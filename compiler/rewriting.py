"""Runs pipelines on one model, and keeps what was made where pipelines part: before compression and after it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir

from .core.backend import Progress, Sample
from .core.coverage import Coverage, SiteRecord
from .core.drift import LOSSY, Drift, loosest
from .core.graph import clone_model
from .core.passes import Context, Pass
from .core.records import PassRecord
from .core.shapes import settle_shapes
from .core.statistics import Calibrator
from .core.target import Target
from .kernel_choice import KernelChoice
from .manager import Manager
from .pipeline import needs_whole, split
from .verify import Verifier

__all__ = ["Rewriter", "Rewritten", "merged_coverage"]


@dataclass(frozen=True)
class Rewritten:
    """A model after a pipeline, and what each pass did. ``verifier`` holds what it must compute: what the input does, or the model as compression left it."""

    model: ir.Model
    steps: tuple[Pass, ...]
    records: tuple[PassRecord, ...]
    verifier: Verifier

    @property
    def changes(self) -> int:
        """How many rewrites stayed."""
        return sum(record.changes for record in self.records)

    @property
    def drift(self) -> Drift:
        """The loosest contract among the passes that changed something."""
        return loosest(*(Drift(record.drift) for record in self.records if record.changes))

    @property
    def compressed(self) -> bool:
        """Whether numbers differ on purpose."""
        return self.drift is LOSSY

    @property
    def coverage(self) -> tuple[SiteRecord, ...]:
        """What became of each site."""
        return merged_coverage(record.coverage for record in self.records)


@dataclass
class Rewriter:
    """Applies pipelines to clones of ``source``; see `Manager` for the rest.

    Pipelines that start alike share the work: what comes before compression is run once, and so is the compression itself.
    """

    source: ir.Model
    target: Target
    verifier: Verifier
    timed: Sequence[Sample]
    replays: Path | None
    tell: Progress
    fast_math: bool = False
    judge: KernelChoice | None = None
    calibrator: Calibrator | None = None
    _plain: Rewritten | None = field(default=None, init=False)
    _whole: Rewritten | None = field(default=None, init=False)
    _compressed: Rewritten | None = field(default=None, init=False)

    def run(self, steps: Sequence[Pass]) -> Rewritten:
        """The source after all passes."""
        before, lossy, after = split(steps)
        if not lossy:
            return self._go_on(Rewritten(self.source, (), (), self.verifier), after)
        return self._go_on(self.compressed(steps), after)

    def plain(self, steps: Sequence[Pass]) -> Rewritten:
        """The source after the passes that come before compression: its sites are what can be compressed."""
        before, _, _ = split(steps)
        if self._plain is None or self._plain.steps != before:
            self._plain = self._go_on(Rewritten(self.source, (), (), self.verifier), before)
            settle_shapes(self._plain.model)
        return self._plain

    def reduced(self, steps: Sequence[Pass]) -> Rewritten:
        """The source after the passes up to the last one that compresses it as a whole: what single sites are compressed in."""
        before, lossy, _ = split(steps)
        wanted = (*before, *lossy[: needs_whole(lossy)])
        if len(wanted) == len(before):
            return self.plain(steps)
        if self._whole is None or self._whole.steps != wanted:
            self._whole = self._go_on(self.plain(wanted), wanted[len(before) :])
        return self._whole

    def compressed(self, steps: Sequence[Pass]) -> Rewritten:
        """The source after the passes up to the last one that compresses."""
        before, lossy, _ = split(steps)
        wanted = (*before, *lossy)
        if self._compressed is None or self._compressed.steps != wanted:
            self._compressed = self._go_on(self.reduced(wanted), lossy[needs_whole(lossy) :])
        return self._compressed

    def draft(self, steps: Sequence[Pass]) -> tuple[ir.Model, Coverage]:
        """The model as compression leaves it, and what became of its sites; nothing is checked, and nothing after it is run."""
        model = clone_model(self.reduced(steps).model)
        coverage, lossy = Coverage(), split(steps)[1]
        for step in lossy[needs_whole(lossy) :]:
            step.run(model, Context(self.target, fast_math=self.fast_math, judge=self.judge, calibrator=self.calibrator, coverage=coverage))
        return model, coverage

    def _go_on(self, start: Rewritten, steps: Sequence[Pass]) -> Rewritten:
        """What is there already, and these passes. A lossy pass gives the result a verifier of its own."""
        model = clone_model(start.model)
        if self.judge is not None:
            self.judge.begin(model, self.timed)
        verifier = start.verifier.fork() if any(step.drift is LOSSY for step in steps) else start.verifier
        manager = Manager(self.target, verifier, self.replays, self.tell, fast_math=self.fast_math, judge=self.judge, calibrator=self.calibrator)
        records = manager.run(model, steps)
        return Rewritten(model, (*start.steps, *steps), (*start.records, *records), verifier)


def merged_coverage(parts: Iterable[Sequence[SiteRecord]]) -> tuple[SiteRecord, ...]:
    """What became of each site when several passes had a look at it: what one of them did counts more than why another did not."""
    found: dict[str, SiteRecord] = {}
    for part in parts:
        for record in part:
            known = found.get(record.name)
            if known is None or record.form or not known.form:
                found[record.name] = record
    return tuple(found.values())
