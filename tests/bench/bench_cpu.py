"""The target cpu on every real model: ONNX Runtime alone, TVM alone, both by parts, and which of them shipped.

``ort-cpu`` and ``cpu`` are compiled from the same file, and then timed in turns with the file itself under ONNX Runtime ("input"), opened anew several times,
apart from what the reports say. Artifacts stay in out/bench/cpu, ``--seconds 0`` makes them and times nothing, and a row that was timed with the same code
is not timed again (remove out/bench/cpu to begin anew). Times of TVM and of the parts are those that the report names. Asked: never slower than ONNX Runtime
alone, which is ``ort-cpu`` and the stricter of the two, and faster on at least a third of the models; both comparisons are told.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from journal import made_and_timed
from tables import Row, print_table, write_rows
from turns import take_turns

import graphwright
from graphwright.compiler.driver import compile_model
from graphwright.compiler.request import Request
from graphwright.models.catalogue import Entry, Sample, catalogue
from graphwright.models.session import Plain, Runs

SHARE = 1 / 3
"""Of the models on which the target must be faster."""


def run(folder: Path, only: str, seconds: float) -> list[str]:
    """Measure, print and write; returns the claims that do not hold."""
    rows: list[Row] = []
    for entry in catalogue():
        if only not in entry.name:
            continue
        if reason := entry.unavailable():
            print(f"{entry.name} is left out: {reason}")
            continue
        row = known(entry, folder / "cpu" / entry.name, seconds)
        if row is not None:
            rows.append(row)
            print(json.dumps(row, default=str), flush=True)
    print_table("cpu", rows)
    write_rows(folder / "cpu.json", rows)
    return claims(rows, whole=not only)


def known(entry: Entry, place: Path, seconds: float) -> Row | None:
    """The row of a model, from its file where the same code wrote it; None when only artifacts are asked for."""
    return made_and_timed(place, lambda: make(entry, place), lambda made: {**made, **measure(entry, place, seconds)}, seconds)


def make(entry: Entry, place: Path) -> Row:
    """Compile one model for both targets; what the report says of its runtimes."""
    path = entry.file(place)
    samples = list(entry.feeds(1, "report"))
    started = time.perf_counter()
    runtimes = built(path, samples, "cpu", place)
    row: Row = {"model": entry.name, "build s": time.perf_counter() - started}
    built(path, samples, "ort-cpu", place)
    row |= {f"{name} ms": runtimes.get(name) for name in ("onnxruntime", "tvm", "mixed")}
    with graphwright.load(place / "cpu") as artifact:
        options = artifact.manifest.options
        return row | {"ships": options.get("runtime", "onnxruntime"), "parts": len(options.get("parts", ()))}  # type: ignore[arg-type]


def measure(entry: Entry, place: Path, seconds: float) -> Row:
    """Time the artifacts of one model and its file in turns."""
    path, samples = entry.file(place), list(entry.feeds(1, "report"))
    models: dict[str, Callable[[], Runs]] = {name: lambda name=name: graphwright.load(place / name) for name in ("ort-cpu", "cpu")}  # type: ignore[misc]
    turns = take_turns({"input": lambda: Plain(path), **models}, samples, seconds)
    row: Row = {f"{name} again ms": turns.median(name) * 1e3 for name in ("input", "ort-cpu", "cpu")}
    row |= dict(zip(("ratio", "low", "high"), turns.ratio("cpu", "ort-cpu"), strict=True))
    return row | dict(zip(("to input", "input low", "input high"), turns.ratio("cpu", "input"), strict=True))


def built(path: Path, samples: Sequence[Sample], target: str, place: Path) -> dict[str, float | str]:
    """Compile and save; milliseconds of each runtime that was tried, or why it was not."""
    request = Request(target=target, output=place / target, cache=False)
    with compile_model(str(path), [dict(sample) for sample in samples], request) as artifact:
        return {entry.name: entry.failure or entry.ms for entry in artifact.report.runtimes}


def claims(rows: Sequence[Row], whole: bool) -> list[str]:
    """What does not hold of the rows; the share of models only when all were measured."""
    missed = [f"{row['model']}: cpu takes {row['ratio']:.3f} of ort-cpu's time ({row['low']:.3f} to {row['high']:.3f})" for row in rows if row["low"] > 1]
    missed += [f"{row['model']}: cpu takes {row['to input']:.3f} of the input's time ({row['input low']:.3f} to {row['input high']:.3f})"
               for row in rows if row["input low"] > 1]  # fmt: skip
    faster = [row["model"] for row in rows if row["high"] < 1]
    print(f"faster than ONNX Runtime alone on {len(faster)} of {len(rows)} models (asked: {SHARE:.0%}): {', '.join(map(str, faster))}")
    ahead = [row["model"] for row in rows if row["input high"] < 1]
    print(f"faster than the input under ONNX Runtime on {len(ahead)} of {len(rows)} models: {', '.join(map(str, ahead))}")
    if whole and len(faster) < SHARE * len(rows):
        missed.append(f"cpu is faster than ort-cpu on {len(faster)} of {len(rows)} models")
    return missed
