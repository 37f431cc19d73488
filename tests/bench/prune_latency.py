"""How much faster pruned graphs are: both files with ONNX Runtime's own full optimisation, in turns in one process.

Claimed: none of the models of the part ``structured`` takes longer without half of its FLOPs, and MiniLM without half of its feed-forward neurons is at
least 1.25 times as fast. What is pruned are the files that ``--only structured`` leaves in ``out/bench/pruned`` (or what is exported where there are none), to
sizes that are measured to be fastest here; rows are kept as they are found. To be run while the machine does nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import onnx_ir as ir
from journal import Finding, Journal
from prune_scores import widest
from prune_structured import FOLDER, SOURCES, Subject, pruned, rounded, subjects, write
from tables import Row, print_table
from turns import take_turns

from graphwright.compiler.serialize import to_bytes
from graphwright.models.session import Plain

HALF, NEURONS = 0.5, 1.25
SENTENCES = "minilm_l6"


def measure(only: str, seconds: float) -> tuple[list[Row], list[str]]:
    """All models whose name holds ``only``."""
    rows: list[Row] = []
    missed: list[str] = []
    journal = Journal(FOLDER / f"latency_{seconds:g}.jsonl", SOURCES)
    for subject in subjects():
        if only not in subject.name:
            continue
        whole = FOLDER / f"{subject.name}.whole.onnx"
        if not whole.exists():
            write(subject.plain, whole)
        found = list(half(journal, replace(subject, file=lambda folder, whole=whole: whole), seconds))
        rows += [row for row, _ in found]
        missed += [f"{subject.name}: {claim}" for _, claims in found for claim in claims]
    print_table("without half of it, with 95 % intervals", rows)
    return rows, missed


def half(journal: Journal, subject: Subject, seconds: float) -> Iterator[Finding]:
    """Half of the FLOPs, and of MiniLM half of the neurons."""
    yield journal.find(f"{subject.name}, half of the FLOPs", lambda: timed(subject, rounded(subject, HALF), "FLOPs", seconds, 1.0))
    if subject.name == SENTENCES:
        yield journal.find(f"{subject.name}, half of the neurons", lambda: timed(subject, neurons(subject), "neurons", seconds, NEURONS))


def neurons(subject: Subject) -> ir.Model:
    """Without half of what is widest inside each layer."""
    return pruned(subject.plain, f"prune-structured{{ratio={HALF},of=members,uniform=true,only={'+'.join(widest(subject.plain))}}}")


def timed(subject: Subject, small: ir.Model, what: str, seconds: float, least: float) -> Finding:
    """How many times as fast the smaller model is; the claim is missed where even the best of the interval is less than claimed."""
    models = {"before": to_bytes(subject.plain), "after": to_bytes(small)}
    ratio, low, high = take_turns({name: (lambda data=data: Plain(data)) for name, data in models.items()}, [subject.sample()], seconds).ratio(
        "before", "after"
    )
    row: Row = {"model": subject.name, "half of": what, "times as fast": ratio, "95 %": f"{low:.3f} to {high:.3f}"}
    return row, [] if high >= least else [f"without half of its {what} it is {ratio:.3f} times as fast, {least} is claimed"]
