"""The report: what was done to a model, how it was checked and what it gained.

Every class here is data with a published JSON schema (``docs/report.schema.json``; ``python -m graphwright.compiler.report`` prints it).
Times are in seconds unless the name says otherwise; numbers that are not finite are written as "NaN", "Infinity" and "-Infinity".
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from .core.backend import Rival
from .core.records import Difference, PassRecord, RolledBack

Number = Annotated[float, WithJsonSchema({"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]})]


class Entry(BaseModel):
    """A part of the report."""

    model_config = ConfigDict(extra="ignore", frozen=True, ser_json_inf_nan="strings", protected_namespaces=())


class PortEntry(Entry):
    """An input or output of the model; unknown dimensions are names or null."""

    name: str
    dtype: str
    shape: list[int | str | None] | None = None


class ModelEntry(Entry):
    """The size of a model: nodes (subgraphs included), operators with their counts, bytes of weights."""

    nodes: int
    weight_bytes: int
    opset: int
    operators: dict[str, int] = {}


class DifferenceEntry(Entry):
    """The worst element of a comparison and what the contract allowed there."""

    output: str
    max_abs: Number
    max_rel: Number
    allowed: Number
    index: list[int] = []
    before: Number = 0.0
    after: Number = 0.0
    sample: int = 0
    broken: bool = False
    reason: str = ""


class RollbackEntry(Entry):
    """A rewrite that was undone because it broke its contract."""

    rule: str
    where: str
    reason: str
    difference: DifferenceEntry | None = None
    replay: str | None = None


class PassEntry(Entry):
    """One pass: what fired and how often, its error against the input model, its time."""

    text: str
    drift: str
    changes: int
    rules: dict[str, int] = {}
    seconds: Number = 0.0
    verify_seconds: Number = 0.0
    difference: DifferenceEntry | None = None
    rolled_back: list[RollbackEntry] = []
    nodes_before: int = 0
    nodes_after: int = 0


class LatencyEntry(Entry):
    """What is shipped against the input under the runtime's defaults, timed in turns in one process.

    ``ratio`` is shipped / input (below 1 is faster); ``low`` and ``high`` bound it with 95 % confidence.
    """

    before_ms: Number
    after_ms: Number
    ratio: Number
    low: Number
    high: Number
    rounds: int


class TrialEntry(Entry):
    """One candidate that was timed against the input, and whether it is what ships."""

    candidate: str
    latency: LatencyEntry
    shipped: bool = False


class RuntimeEntry(Entry):
    """A runtime that the model was tried on: milliseconds for one pass over the samples, and their ratio to the usual runtime's, timed in turns.

    ``failure`` says why it was not timed.
    """

    name: str
    ms: Number = 0.0
    ratio: Number = 1.0
    low: Number = 1.0
    high: Number = 1.0
    chosen: bool = False
    failure: str = ""


class KernelEntry(Entry):
    """A rule that puts one kernel in the place of others, timed on this machine at one set of input shapes.

    ``ratio`` is with the rule / without it (below 1 is faster); ``low`` and ``high`` bound it with 95 % confidence.
    """

    rule: str
    shapes: list[str] = []
    before_ms: Number
    after_ms: Number
    ratio: Number
    low: Number
    high: Number
    chosen: bool = False


class AccuracyEntry(Entry):
    """The user's metric before and after; ``allowed`` is the largest drop asked for (null: none was)."""

    metric: str
    before: Number
    after: Number
    drop: Number
    allowed: Number | None = None


class VerificationEntry(Entry):
    """How the result was checked: on how many samples, against what, and the worst element found."""

    samples: int
    given: int
    reference: str
    worst: DifferenceEntry | None = None


class SiteEntry(Entry):
    """One place that could be compressed. ``form`` is what it is now, "" where it stayed as it was and ``why`` says why; ``bits`` is what one number of its
    weight takes. ``sensitivity`` is the noise in the worst output (as a share of its power) when this site alone is compressed, where that was measured.
    """

    name: str
    kind: str
    form: str = ""
    method: str = ""
    bits: Number = 32.0
    why: str = ""
    parameters: int = 0
    flops: int | None = None
    sensitivity: Number | None = None


class CompressionEntry(Entry):
    """What was compressed. The shares are parts of all weights and of all arithmetic of the model before; ``size`` is bytes of weights after / before."""

    sites: int
    compressed: int
    weight_share: Number
    flops_share: Number
    bits: Number = Field(description="Bits for one number of a compressed weight, scales and zero points included; a mean over all of them.")
    size: Number
    calibration: str = ""
    put_back: list[str] = Field(default=[], description="Sites that stayed as they were because the accuracy budget did not hold with them.")
    places: list[SiteEntry] = []


class ReductionEntry(Entry):
    """What was taken out of a model before anything was quantised: numbers held as floats, and arithmetic as `core.cost` counts it (a multiply-accumulate
    is two, unknown dimensions are 64 long).
    """

    parameters_before: int
    parameters_after: int
    flops_before: int
    flops_after: int
    zeros_before: int = Field(default=0, description="How many of the parameters are zero.")
    zeros_after: int = 0
    bytes_before: int = Field(default=0, description="What all weights take in the file, before, and in what ships.")
    bytes_after: int = 0


class DivergenceEntry(Entry):
    """How far an output of what ships lies from the input model's, over some samples and without labels; see `divergence.OutputDivergence`."""

    output: str
    samples: int
    cosine: Number
    worst_cosine: Number
    relative_error: Number
    snr_db: Number
    kl: Number | None = None
    agreement: Number | None = None


class SkippedEntry(Entry):
    """Something that was not done, and why."""

    what: str
    why: str


class CacheEntry(Entry):
    """Whether the artifact came out of the cache, and under which key."""

    hit: bool
    key: str


class Report(Entry):
    """All that is known about one compilation."""

    graphwright: str
    versions: dict[str, str] = {}
    model: str
    kind: str
    target: str
    level: str
    precision: str
    recipe: str
    seed: int = 0
    shipped: Literal["optimized", "input"]
    verdict: str
    inputs: list[PortEntry] = []
    outputs: list[PortEntry] = []
    before: ModelEntry
    after: ModelEntry
    passes: list[PassEntry] = []
    verification: VerificationEntry | None = None
    latency: LatencyEntry | None = None
    trials: list[TrialEntry] = []
    accuracy: AccuracyEntry | None = None
    compression: CompressionEntry | None = None
    reduction: ReductionEntry | None = Field(default=None, description="How much smaller a pruned or factorised model is.")
    divergence: list[DivergenceEntry] = Field(default=[], description="How far a compressed model's answers lie from the input model's.")
    options: dict[str, object] = {}
    tuning: list[dict[str, object]] = Field(default=[], description="The races by which the backend chose the options.")
    kernels: list[KernelEntry] = Field(default=[], description="Kernel choices that were made by timing them.")
    runtimes: list[RuntimeEntry] = Field(default=[], description="The runtimes that the target left to choose from, the usual one first.")
    skipped: list[SkippedEntry] = []
    notes: list[str] = []
    cache: CacheEntry | None = None
    seconds: dict[str, Number] = Field(default={}, description="Time spent in each stage.")

    @property
    def rolled_back(self) -> list[RollbackEntry]:
        """Every rewrite that was undone, over all passes."""
        return [entry for step in self.passes for entry in step.rolled_back]

    @property
    def changes(self) -> int:
        """How many rewrites stayed in the model that the passes made."""
        return sum(step.changes for step in self.passes)

    def to_json(self) -> str:
        """The report as indented JSON."""
        return self.model_dump_json(indent=2) + "\n"


def pass_entries(records: Iterable[PassRecord]) -> list[PassEntry]:
    """The manager's records as report entries."""
    return [_pass_entry(record) for record in records]


def runtime_entries(rivals: Iterable[Rival]) -> list[RuntimeEntry]:
    """The runtimes that a backend tried as report entries."""
    return [RuntimeEntry(ms=rival.seconds * 1e3, **{key: value for key, value in dataclasses.asdict(rival).items() if key != "seconds"}) for rival in rivals]


def difference_entry(difference: Difference | None) -> DifferenceEntry | None:
    """A comparison's worst element as a report entry."""
    return None if difference is None else DifferenceEntry.model_validate(dataclasses.asdict(difference))


def schema() -> str:
    """The JSON schema of `Report`, as text."""
    return json.dumps(Report.model_json_schema(mode="serialization"), indent=2, sort_keys=True) + "\n"


def _pass_entry(record: PassRecord) -> PassEntry:
    return PassEntry(
        text=record.text,
        drift=record.drift,
        changes=record.changes,
        rules=dict(record.rules),
        seconds=record.seconds,
        verify_seconds=record.verify_seconds,
        difference=difference_entry(record.difference),
        rolled_back=[rollback_entry(entry) for entry in record.rolled_back],
        nodes_before=record.nodes_before,
        nodes_after=record.nodes_after,
    )


def rollback_entry(entry: RolledBack) -> RollbackEntry:
    """An undone rewrite as a report entry."""
    return RollbackEntry(rule=entry.rule, where=entry.where, reason=entry.reason, difference=difference_entry(entry.difference), replay=entry.replay)


if __name__ == "__main__":
    print(schema(), end="")
