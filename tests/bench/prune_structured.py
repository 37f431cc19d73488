"""Structured pruning: graphs that really shrink.

Claimed of MobileNetV2, ShuffleNet, MiniLM, silero-vad and 15 exported architectures at 10, 30 and 50 % of the FLOPs, and of the parameters where so many
can go (else it is refused with the weight that stays): the file is valid, runs in ONNX Runtime and gives finite numbers; what was asked for falls by as
much as was asked for, within 3 %. How much faster that is tells the part ``latency``.

Rows are kept in ``out/bench/pruned`` as they are found, so that a run that was stopped goes on; they are found anew when the code of pruning changes.
``--only structured/NAME`` takes one model; ``scores`` the table of scores, ``sentences`` what pruning costs MiniLM on STS-B.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from bench_families import SCALE, TOKENS
from journal import Finding, Journal
from prune_scores import PLAIN, measure_scores, measure_sentences, size_of
from quant_sentences import tokens
from tables import Row, print_table

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.core.cost import ModelSize
from graphwright.compiler.core.errors import GraphwrightError
from graphwright.compiler.core.graph import clone_model
from graphwright.compiler.core.passes import Context, parse_pipeline
from graphwright.compiler.driver import optimize_model
from graphwright.compiler.kernel_choice import KernelChoice
from graphwright.compiler.kernel_table import KernelTable
from graphwright.compiler.request import Request
from graphwright.models.catalogue import Sample, find
from graphwright.models.session import Plain
from graphwright.models.tiny import families

REAL = ("mobilenetv2", "shufflenetv2", "minilm_l6", "silero_vad")
EXPORTED = 15
MEASURES = ("flops", "parameters")
RATIOS = (0.1, 0.3, 0.5)
NEAR = 0.03
FOLDER = Path("out") / "bench" / "pruned"
SOURCES = (
    "passes/prune/coupling", "passes/prune/structured.py", "passes/prune/choosing.py", "passes/prune/candidates.py", "passes/prune/sketch.py",
    "compiler/core/cost.py", "tests/bench/prune_structured.py",
)  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """A model, and one sample of usual size."""

    name: str
    file: Callable[[Path], Path]
    sample: Callable[[], Sample]

    @cached_property
    def plain(self) -> ir.Model:
        """The model as the passes before pruning leave it."""
        with tempfile.TemporaryDirectory() as place:
            return optimize_model(self.file(Path(place)), Request(target="onnx", level=PLAIN)).model

    @cached_property
    def size(self) -> ModelSize:
        """Of the whole."""
        return size_of(self.plain)


def measure(only: str, seconds: float) -> tuple[list[Row], list[str]]:
    """All models whose name holds ``only``, then the tables of scores and of sentences."""
    del seconds
    rows, missed = measure_sizes(only)
    for name, table in (("scores", measure_scores), ("sentences", measure_sentences)):
        if only in name:
            found, claims = table()
            rows += found
            missed += claims
            print_table(name, found)
    return rows, missed


def measure_sizes(only: str) -> tuple[list[Row], list[str]]:
    """Every ratio of both measures, of all models whose name holds ``only``."""
    rows: list[Row] = []
    missed: list[str] = []
    journal = Journal(FOLDER / "sizes.jsonl", SOURCES)
    for subject in subjects():
        if only not in subject.name:
            continue
        for of in MEASURES:
            for ratio in RATIOS:
                asked = f"{ratio:.0%} of {of}"
                row, claims = journal.find(f"{subject.name}, {asked}", lambda subject=subject, of=of, ratio=ratio: prune(subject, of, ratio))
                rows.append(row)
                missed += [f"{subject.name}: {asked}: {claim}" for claim in claims]
    print_table("what is left of the whole", rows)
    return rows, missed


def subjects() -> Iterator[Subject]:
    """The real models that this machine has, and exported architectures with random weights."""
    for name in REAL:
        entry = find(name)
        if entry.unavailable() is None:
            sample = (lambda: tokens(8, 128)) if name == "minilm_l6" else (lambda entry=entry: next(iter(entry.feeds(1, "report"))))
            yield Subject(name, lambda folder, entry=entry: entry.file(folder), sample)
    for tiny in families(SCALE)[:EXPORTED]:
        yield Subject(tiny.name, lambda folder, tiny=tiny: tiny.export(folder), lambda tiny=tiny: tiny.arrays(batch=1, length=TOKENS))


def prune(subject: Subject, of: str, ratio: float) -> Finding:
    """One ratio: what is left, and whether it runs."""
    row: Row = {"model": subject.name, "of": of, "asked": ratio, "parameters": None, "FLOPs": None, "refused": ""}
    try:
        small = pruned(subject.plain, f"prune-structured{{ratio={ratio},of={of}}}")
    except GraphwrightError as error:
        refused = of == "parameters" and "and only" in str(error)
        return row | {"refused": str(error)[:160]}, [] if refused else [str(error)]
    after = size_of(small)
    row |= {"parameters": after.parameters / subject.size.parameters, "FLOPs": after.flops / subject.size.flops}
    missed = fault(small, subject.sample(), subject.plain)
    left = float(row["FLOPs" if of == "flops" else "parameters"])  # type: ignore[arg-type]
    if abs(left - (1 - ratio)) > NEAR:
        missed.append(f"{1 - left:.3f} went")
    if of == "flops" and ratio == max(RATIOS):
        write(subject.plain, FOLDER / f"{subject.name}.whole.onnx")
    return row, missed


def rounded(subject: Subject, ratio: float) -> ir.Model:
    """Without ``ratio`` of the FLOPs, in sizes that are measured to be fastest here, as compiling does it."""
    choice = KernelChoice(OrtBackend().baseline, KernelTable())
    choice.begin(clone_model(subject.plain), [subject.sample()])
    small, context = clone_model(subject.plain), Context(judge=choice)
    for step in parse_pipeline(f"constants-to-initialisers,prune-structured{{ratio={ratio}}},eliminate-dead-code"):
        step.run(small, context)
    print(f"{subject.name}: {'; '.join(note for note in context.notes if 'multiples' in note) or 'no sizes are surely faster'}", flush=True)
    return small


def write(model: ir.Model, path: Path) -> None:
    """The file, for the part that times it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(ir.to_proto(model).SerializeToString())


def pruned(plain: ir.Model, text: str) -> ir.Model:
    """The model without what a pass takes out of it."""
    return optimize_model(plain, Request(target="onnx", level=f"constants-to-initialisers,{text},eliminate-dead-code")).model


def fault(model: ir.Model, sample: Sample, whole: ir.Model) -> list[str]:
    """What is wrong with a file: the runtime, its numbers, or the checker, unless that says the same of the ``whole`` model that it came from."""
    proto = ir.to_proto(model)
    complaint = complaint_of(proto)
    if complaint and complaint != complaint_of(ir.to_proto(whole)):
        return [complaint]
    try:
        outputs = Plain(proto.SerializeToString()).run(sample)
    except Exception as error:  # noqa: BLE001 (whatever the runtime says is the finding)
        return [str(error).splitlines()[0]]
    floats = [np.asarray(item) for item in outputs.values() if np.issubdtype(np.asarray(item).dtype, np.floating)]
    return [] if all(np.isfinite(item).all() for item in floats) else ["it gives numbers that are not finite"]


def complaint_of(proto: onnx.ModelProto) -> str:
    """What ONNX's checker says of a model; "" where that is nothing."""
    try:
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:  # noqa: BLE001 (the checker and shape inference have errors of their own)
        return str(error).splitlines()[0]
    return ""
