"""Runs passes: each is timed, checked, and when it broke its contract undone down to the one rewrite to blame."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import onnx_ir as ir

from .core.backend import Progress
from .core.cost import ModelSize, count_zeros, model_size
from .core.coverage import Coverage, SiteRecord
from .core.drift import Drift, loosest
from .core.errors import BackendMissing, BudgetError, ContractError, GraphwrightError, InputError, NoChangeError, PassError, TargetError, UsageError
from .core.graph import all_graphs, clone_model
from .core.judge import Judge, Minutes
from .core.ledger import Ledger
from .core.passes import OUR_PASSES, Context, Pass, format_pass
from .core.reasons import Reasons
from .core.records import Difference, PassRecord, Rewrite, RolledBack
from .core.rulepass import RulePass
from .core.shapes import settle_shapes
from .core.sites import all_sites
from .core.statistics import Calibrator
from .core.target import Target
from .core.wellformed import check
from .denials import Denials
from .replay import Fault, write_replay
from .signature import check_signature
from .verify import Verifier

__all__ = ["Manager"]

MAX_ROLLBACKS = 24
"""A pass with more bad rewrites than this is undone as a whole."""
MAX_PER_RULE = 6
"""A rule with more bad rewrites than this is left out of its pass."""
_REFUSALS = (BackendMissing, BudgetError, InputError, NoChangeError, TargetError, UsageError)
"""What a pass raises to say that the user's request cannot be met, not that the pass went wrong."""


@dataclass
class _Outcome:
    """One run of a pass on a copy. ``fault`` says what is wrong with it, None when nothing is; ``stage`` is where that showed; ``refused`` holds the
    (rule, place) that the judge refused.
    """

    model: ir.Model
    ledger: Ledger
    coverage: Coverage = field(default_factory=Coverage)
    notes: list[str] = field(default_factory=list)
    changes: int = 0
    seconds: float = 0.0
    verify_seconds: float = 0.0
    difference: Difference | None = None
    refused: frozenset[tuple[str, str]] = frozenset()
    fault: str | None = None
    stage: str = ""
    error: Exception | None = None


@dataclass
class Manager:
    """Runs passes on a model in place; afterwards the model is well formed and has passed every check.

    ``verifier`` compares with the input model (None: only the form is checked). ``replay_folder`` gets a folder for every rewrite undone.
    ``each`` checks the numbers after every pass; without it they are checked once, and pass by pass only if that failed. A pass that raises
    is undone and named, whatever it raised, except for errors that answer the user's request (a TargetError, say). ``strict`` raises
    instead of undoing.
    """

    target: Target
    verifier: Verifier | None = None
    replay_folder: Path | None = None
    progress: Progress | None = None
    each: bool = True
    strict: bool = False
    fast_math: bool = False
    reasons: Reasons | None = None
    judge: Judge | None = None
    calibrator: Calibrator | None = None
    _drift: Drift = field(default=Drift.EXACT, init=False)
    _undone: int = field(default=0, init=False)
    _changes: int = field(default=0, init=False)
    _settled: dict[str, int] = field(default_factory=dict, init=False)
    """For each pass by its text, how many changes had been made when it had run: it has nothing to do until there are more."""
    _original: ir.Model | None = field(default=None, init=False)
    """The model before the first lossy pass, where a pass recalls it."""

    def run(self, model: ir.Model, passes: Sequence[Pass]) -> tuple[PassRecord, ...]:
        """Run the passes in order; one record each."""
        self._drift, self._changes, self._settled, self._original = Drift.EXACT, 0, {}, None
        if self.verifier is not None:
            self.verifier.start(model)
        records: list[PassRecord] = []
        for lossy, group in groupby(passes, lambda step: step.drift is Drift.LOSSY):
            steps = list(group)
            if lossy and self._original is None and any(step.recalls for step in passes):
                self._original = clone_model(model)
            quick = not lossy and (self.verifier is None or not self.each)
            found = self._together(model, steps) if quick else None
            records.extend(found if found is not None else [self._step(model, step) for step in steps])
        return tuple(records)

    def _tell(self, text: str) -> None:
        if self.progress is not None:
            self.progress(text)

    def _together(self, model: ir.Model, steps: Sequence[Pass]) -> list[PassRecord] | None:
        """Run all passes on the model itself and check the numbers once; None, with the model as it was, when anything is wrong."""
        before = clone_model(model)
        self._settled = {}
        try:
            records: list[PassRecord] = []
            nodes = _count(before)
            for step in steps:
                records.append(self._plainly(model, step, nodes))
                nodes = records[-1].nodes_after
            check_signature(before, model, Drift.ROUNDING)
            difference, seconds = self._numbers_of(model, steps, records)
        except _REFUSALS:
            _adopt(model, before)
            raise
        except Exception:
            _adopt(model, before)
            return None
        except BaseException:
            _adopt(model, before)
            raise
        if difference is None:
            return records
        if difference.broken:
            _adopt(model, before)
            return None
        assert self.verifier is not None
        self.verifier.accept()
        last = max(place for place, record in enumerate(records) if record.changes)
        records[last] = replace(records[last], difference=difference, verify_seconds=seconds)
        return records

    def _plainly(self, model: ir.Model, step: Pass, nodes: int) -> PassRecord:
        """Run one pass on the model itself; raises when it leaves the graph broken."""
        ledger, start = Ledger(), time.perf_counter()
        if self._is_settled(step):
            return _record(step, ledger, 0, 0.0, nodes, nodes)
        self._tell(format_pass(step))
        changes = step.run(model, self._context(ledger, Coverage(), self.reasons))
        seconds = time.perf_counter() - start
        self._settle(step, changes or len(ledger.entries))
        if not changes and not ledger.entries:
            return _record(step, ledger, 0, seconds, nodes, nodes)
        check(model)
        return _record(step, ledger, changes, seconds, nodes, _count(model))

    def _numbers_of(self, model: ir.Model, steps: Sequence[Pass], records: Sequence[PassRecord]) -> tuple[Difference | None, float]:
        """The difference that all passes together made; None when there is nothing to check."""
        changed = [self._promise(step) for step, record in zip(steps, records, strict=True) if record.changes]
        if self.verifier is None or not changed:
            return None, 0.0
        drift = loosest(self._drift, *changed) if loosest(*changed) is not Drift.EXACT else Drift.EXACT
        self._tell("checking the numbers")
        start = time.perf_counter()
        difference = self.verifier.check(model, drift)
        if not difference.broken:
            self._drift = loosest(self._drift, drift)
        return difference, time.perf_counter() - start

    def _step(self, model: ir.Model, step: Pass) -> PassRecord:
        """Run one pass on a copy and keep it when it holds; else find the rewrites to blame and run it without them."""
        text, nodes = format_pass(step), _count(model)
        if self._is_settled(step):
            return _record(step, Ledger(), 0, 0.0, nodes, nodes)
        self._tell(text)
        denials = Denials()
        undone: list[RolledBack] = []
        seconds = verify_seconds = 0.0
        while True:
            outcome = self._attempt(model, step, denials.ledger(), reasons=None if undone else self.reasons)
            seconds, verify_seconds = seconds + outcome.seconds, verify_seconds + outcome.verify_seconds
            if outcome.fault is None:
                break
            if self.strict:
                raise _as_error(step, outcome)
            found = self._blame(model, step, denials, outcome)
            if found is None or len(undone) >= MAX_ROLLBACKS or (found.rule, found.where) in denials.rewrites:
                undone.append(self._whole(model, step, denials, outcome))
                return PassRecord(text, step.drift.value, 0, {}, seconds, verify_seconds, None, tuple(undone), nodes, nodes)
            undone.append(found)
            denials = _without(denials, undone)
        coverage = _coverage(model, step, outcome)
        if outcome.changes:
            self._keep(model, step, outcome.model)
        self._settle(step, outcome.changes)
        record = _record(step, outcome.ledger, outcome.changes, seconds, nodes, _count(model))
        size = _size(model) if step.drift is Drift.LOSSY and outcome.changes else None
        record = replace(record, verify_seconds=verify_seconds, difference=outcome.difference, rolled_back=tuple(undone), coverage=coverage)
        return replace(record, size=size, notes=tuple(outcome.notes))

    def _is_settled(self, step: Pass) -> bool:
        """Whether the pass has run, and nothing has changed the model since. A user's own passes may want to run twice."""
        return type(step).__module__.startswith(OUR_PASSES) and self._settled.get(format_pass(step)) == self._changes

    def _settle(self, step: Pass, changes: int) -> None:
        self._changes += changes
        self._settled[format_pass(step)] = self._changes

    def _keep(self, model: ir.Model, step: Pass, candidate: ir.Model) -> None:
        _adopt(model, candidate)
        if self.verifier is None:
            return
        if step.drift is Drift.LOSSY:
            self._drift = Drift.EXACT
            self.verifier.rebase(model)
            return
        self._drift = loosest(self._drift, self._promise(step))
        self.verifier.accept()

    def _context(self, ledger: Ledger, coverage: Coverage, reasons: Reasons | None = None, judge: Judge | None = None) -> Context:
        found = Context(self.target, ledger, self.fast_math, reasons=reasons, judge=judge or self.judge, calibrator=self.calibrator, coverage=coverage)
        found.original, found.progress = self._original, self.progress
        return found

    def _promise(self, step: Pass) -> Drift:
        """The contract a pass keeps here: with ``fast_math``, what its rules of the domain kind keep without a proof."""
        loose = self.fast_math and isinstance(step, RulePass) and any(item.drift is Drift.DOMAIN for item in step.chosen())
        return loosest(step.drift, Drift.DOMAIN) if loose else step.drift

    def _attempt(
        self,
        model: ir.Model,
        step: Pass,
        ledger: Ledger,
        only: Sequence[int] | None = None,
        numbers: bool = True,
        reasons: Reasons | None = None,
    ) -> _Outcome:
        """Run the pass on a copy and check the result, the numbers on the samples ``only`` or not at all (``numbers=False``)."""
        candidate = clone_model(model)
        outcome = _Outcome(candidate, ledger)
        minutes = Minutes(self.judge) if self.judge is not None else None
        start = time.perf_counter()
        try:
            context = self._context(ledger, outcome.coverage, reasons, minutes)
            outcome.changes = int(step.run(candidate, context) or 0) or len(ledger.entries)
            outcome.notes = context.notes
        except _REFUSALS:
            raise
        except Exception as error:
            outcome.fault, outcome.stage, outcome.error = f"it raised {type(error).__name__}: {_first_line(error)}", "raised", error
        outcome.seconds = time.perf_counter() - start
        outcome.refused = frozenset(minutes.refused) if minutes is not None else frozenset()
        if outcome.fault is not None or not outcome.changes:
            return outcome
        try:
            check(candidate)
            check_signature(model, candidate, step.drift)
        except Exception as error:
            outcome.fault, outcome.stage, outcome.error = f"it left the graph broken: {_first_line(error)}", "malformed", error
            return outcome
        if numbers and self.verifier is not None:
            self._verify(outcome, step, only)
        return outcome

    def _verify(self, outcome: _Outcome, step: Pass, only: Sequence[int] | None) -> None:
        assert self.verifier is not None
        promise = self._promise(step)
        drift = promise if promise in (Drift.EXACT, Drift.LOSSY) else loosest(promise, self._drift)
        start = time.perf_counter()
        outcome.difference = self.verifier.check(outcome.model, drift, only)
        outcome.verify_seconds = time.perf_counter() - start
        if outcome.difference.broken:
            outcome.fault, outcome.stage = f"it broke its contract ({step.drift.value}): {_describe(outcome.difference)}", "numbers"

    def _blame(self, model: ir.Model, step: Pass, denials: Denials, failed: _Outcome) -> RolledBack | None:
        """Find the first rewrite after which the pass does not hold, by running it with only its first k rewrites; None when it is none of them."""
        count = len(failed.ledger.entries)
        if count == 0:
            return None
        self._tell(f"{format_pass(step)}: looking for the one to blame among {count} rewrites")
        only = (failed.difference.sample,) if failed.difference is not None and failed.stage == "numbers" else None

        def attempt(limit: int) -> _Outcome:
            return self._attempt(model, step, denials.ledger(limit), only, numbers=failed.stage == "numbers")

        good, bad = attempt(0), failed
        if good.fault is not None:
            return None
        low, high = 0, count
        while high - low > 1:
            middle = (low + high) // 2
            outcome = attempt(middle)
            if outcome.fault is None:
                low, good = middle, outcome
            else:
                high, bad = middle, outcome
        return self._undo(model, step, denials, failed.ledger.entries[high - 1], good, bad)

    def _undo(self, model: ir.Model, step: Pass, denials: Denials, entry: Rewrite, good: _Outcome, bad: _Outcome) -> RolledBack:
        reason = bad.fault or "it broke the pass"
        self._tell(f"{format_pass(step)}: undoing {entry.rule} at '{entry.where}'")
        told = self._told(denials, good, bad)
        fault = Fault(format_pass(step), step.drift.value, entry.rule, entry.where, entry.index + 1, told, reason, bad.difference, self.target)
        folder = self._replay(fault, model, good.model, None if bad.stage == "raised" else bad.model)
        return RolledBack(entry.rule, entry.where, reason, bad.difference, folder)

    def _told(self, denials: Denials, *outcomes: _Outcome) -> Denials:
        """The denials with what the judge refused: whoever replays a pass has no judge that would say the same."""
        refused = frozenset[tuple[str, str]]().union(*(outcome.refused for outcome in outcomes))
        return Denials(denials.rewrites | refused, denials.rules, self.judge is not None)

    def _whole(self, model: ir.Model, step: Pass, denials: Denials, outcome: _Outcome) -> RolledBack:
        reason = outcome.fault or "too many of its rewrites broke its contract"
        self._tell(f"{format_pass(step)}: undoing the whole pass")
        fault = Fault(format_pass(step), step.drift.value, "", "", None, self._told(denials, outcome), reason, outcome.difference, self.target)
        folder = self._replay(fault, model, model, None if outcome.stage == "raised" else outcome.model)
        return RolledBack(step.name, "", f"the whole pass was undone: {reason}", outcome.difference, folder)

    def _replay(self, fault: Fault, before: ir.Model, good: ir.Model, bad: ir.Model | None) -> str | None:
        if self.replay_folder is None:
            return None
        self._undone += 1
        label = "".join(letter if letter.isalnum() else "-" for letter in f"{fault.step.partition('{')[0]}-{fault.rule}")
        sample, backend = None, None
        if self.verifier is not None:
            sample, backend = self.verifier.samples[fault.difference.sample if fault.difference is not None else 0], self.verifier.backend
        try:
            return str(write_replay(self.replay_folder / f"{self._undone:02d}-{label}", fault, before, good, bad, sample, backend))
        except (OSError, GraphwrightError) as error:
            self._tell(f"no replay folder for {fault.rule}: {_first_line(error)}")
            return None


def _adopt(model: ir.Model, other: ir.Model) -> None:
    """Let ``model`` become ``other``, whose parts it takes over."""
    model.graph = other.graph
    model.functions.clear()
    model.functions.update(other.functions)
    model.ir_version = other.ir_version
    model.metadata_props.clear()
    model.metadata_props.update(other.metadata_props)


def _size(model: ir.Model) -> ModelSize:
    twin = clone_model(model)
    settle_shapes(twin)
    return replace(model_size(twin), zeros=count_zeros(twin))


def _count(model: ir.Model) -> int:
    return sum(len(graph) for graph in all_graphs(model))


def _record(step: Pass, ledger: Ledger, changes: int, seconds: float, before: int, after: int) -> PassRecord:
    rules = dict(Counter(entry.rule for entry in ledger.entries))
    return PassRecord(format_pass(step), step.drift.value, changes or len(ledger.entries), rules, seconds, nodes_before=before, nodes_after=after)


def _coverage(model: ir.Model, step: Pass, outcome: _Outcome) -> tuple[SiteRecord, ...]:
    """What a compression pass did with each site of the model as it was before."""
    if step.drift is not Drift.LOSSY:
        return ()
    if (outcome.coverage.records or not outcome.changes) and not getattr(step, "only", ()):
        outcome.coverage.complete(all_sites(model), f"{step.name} did not say why")
    return tuple(outcome.coverage.records.values())


def _without(denials: Denials, undone: Sequence[RolledBack]) -> Denials:
    """Deny what was undone; a rule undone too often is denied as a whole."""
    counts = Counter(item.rule for item in undone)
    rules = frozenset(rule for rule, count in counts.items() if count >= MAX_PER_RULE)
    return Denials(denials.rewrites | {(item.rule, item.where) for item in undone}, rules)


def _as_error(step: Pass, outcome: _Outcome) -> Exception:
    if outcome.error is not None:
        return outcome.error
    kind: Callable[[str], Exception] = ContractError if outcome.stage == "numbers" else PassError
    return kind(f"{format_pass(step)}: {outcome.fault}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _describe(difference: Difference) -> str:
    place = f" at {list(difference.index)}" if difference.index else ""
    where = f"output '{difference.output}'{place}, sample {difference.sample}" if difference.output else f"sample {difference.sample}"
    if difference.reason:
        return f"{difference.reason} ({where})"
    return f"{difference.before:.7g} became {difference.after:.7g}, {difference.allowed:.2g} is allowed ({where})"
