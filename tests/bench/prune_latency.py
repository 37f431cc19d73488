"""How much faster pruned graphs are: both files with ONNX Runtime's own full optimisation, in turns in one process.

Claimed: none of the models of the part ``structured`` takes longer without half of its FLOPs, and MiniLM without half of its feed-forward neurons is at
least 1.25 times as fast. The files are those that ``--only structured`` leaves in ``out/bench/pruned``; rows are kept as they are found.
"""

from __future__ import annotations

from pathlib import Path

from journal import Finding, Journal
from prune_scores import widest
from prune_structured import FOLDER, SOURCES, Subject, pruned, subjects, write
from tables import Row, print_table
from turns import take_turns

from graphwright.models.session import Plain

NEURONS = 1.25
SENTENCES = "minilm_l6"


def measure(only: str, seconds: float) -> tuple[list[Row], list[str]]:
    """All models whose name holds ``only``."""
    rows: list[Row] = []
    missed: list[str] = []
    journal = Journal(FOLDER / f"latency_{seconds:g}.jsonl", (*SOURCES, "tests/bench/prune_latency.py"))
    for subject in subjects():
        if only not in subject.name:
            continue
        half = FOLDER / f"{subject.name}.half.onnx"
        if not half.exists():
            missed.append(f"{subject.name}: there is no file to time; --only structured/{subject.name} makes it")
            continue
        wanted = [("FLOPs", lambda half=half: half, 1.0)]
        if subject.name == SENTENCES:
            wanted.append(("neurons", lambda subject=subject: neurons(subject), NEURONS))
        found = [
            journal.find(
                f"{subject.name}, half of the {what}", lambda subject=subject, what=what, file=file, least=least: timed(subject, file(), what, seconds, least)
            )
            for what, file, least in wanted
        ]
        rows += [row for row, _ in found]
        missed += [f"{subject.name}: {claim}" for _, claims in found for claim in claims]
    print_table("without half of it, with 95 % intervals", rows)
    return rows, missed


def neurons(subject: Subject) -> Path:
    """The file without half of what is widest inside each layer."""
    path = FOLDER / f"{subject.name}.neurons.onnx"
    if not path.exists():
        write(pruned(subject.plain, f"prune-structured{{ratio=0.5,of=members,uniform=true,only={'+'.join(widest(subject.plain))}}}"), path)
    return path


def timed(subject: Subject, small: Path, what: str, seconds: float, least: float) -> Finding:
    """How many times as fast the smaller file is; the claim is missed where even the best of the interval is less than claimed."""
    files = {"before": FOLDER / f"{subject.name}.whole.onnx", "after": small}
    ratio, low, high = take_turns({name: (lambda path=path: Plain(path)) for name, path in files.items()}, [subject.sample()], seconds).ratio("before", "after")
    row: Row = {"model": subject.name, "half of": what, "times as fast": ratio, "95 %": f"{low:.3f} to {high:.3f}"}
    return row, [] if high >= least else [f"without half of its {what} it is {ratio:.3f} times as fast, {least} is claimed"]
