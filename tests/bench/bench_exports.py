"""MobileNetV2 and MiniLM as torch 2.13 exports them, through every optimizer: node counts, and latency in one interleaved run.

All files run in ONNX Runtime with its default (full) optimisation, its threads resting between runs, so that idle sessions do not disturb the one
that is timed.
"compiled" is our artifact with the session options that it chose.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from rivals import as_run, node_count, rivals, silence
from tables import Row, print_table, write_rows
from turns import JUDGING, Turns, take_turns

import graphwright
from graphwright.models import minilm, mobilenetv2
from graphwright.models.catalogue import Sample
from graphwright.models.session import Plain, Runs

PLAIN, OURS, PORTABLE, COMPILED = "as exported", "graphwright", "graphwright (portable)", "graphwright, compiled"
TOLERANCE = 1e-3
"""Of the output's scale: how far an optimizer's numbers may lie from the exported file's for its time to count."""


@dataclass(frozen=True)
class Export:
    """One exported file, and the input it is timed on."""

    name: str
    write: Callable[[Path], Path]
    feed: Callable[[], Sample]


def exports() -> list[Export]:
    """Both models, as the exporter leaves them and with its tidying up switched off."""

    def image() -> Sample:
        return {"input": mobilenetv2.example_inputs()[0].numpy()}

    def sentence() -> Sample:
        return minilm.encode(["Compilers turn programs into instructions that a machine can carry out, and graphs of operators into fewer of them. " * 2])

    return [
        Export("mobilenetv2", mobilenetv2.export, image),
        Export("mobilenetv2, untidied", lambda folder: mobilenetv2.export(folder, optimize=False), image),
        Export("minilm", minilm.export, sentence),
        Export("minilm, untidied", lambda folder: minilm.export(folder, optimize=False), sentence),
    ]


def run(folder: Path, only: str, seconds: float) -> list[str]:
    """Measure, print and write; returns the claims that do not hold."""
    missed: list[str] = []
    everything: list[Row] = []
    for export in exports():
        if only not in export.name:
            continue
        with tempfile.TemporaryDirectory() as place:
            rows, claims = measure(export, Path(place), seconds)
        print_table(export.name, rows)
        everything += [{"model": export.name, **row} for row in rows]
        missed += claims
    write_rows(folder / "exports.json", everything)
    return missed


def measure(export: Export, place: Path, seconds: float) -> tuple[list[Row], list[str]]:
    """One row an optimizer, the exported file first; and what does not hold for ours."""
    original, feed = onnx.load(export.write(place)), export.feed()
    rows, models = optimized(original, feed)
    artifact = graphwright.compile(original, [feed], target="ort-cpu", output=place / "out")
    models[COMPILED] = lambda: graphwright.load(place / "out")
    rows[COMPILED] = {"optimizer": COMPILED, "nodes": artifact.report.after.nodes, "nodes as run": None, "seconds to optimize": None}
    turns = take_turns(models, [feed], seconds * len(models))
    for name in models:
        ratio, low, high = turns.ratio(name, PLAIN)
        rows[name] |= {"ms": turns.median(name) * 1e3, "of exported": ratio, "95 %": f"{low:.3f} to {high:.3f}"}
    return list(rows.values()), verdict(export.name, rows, turns)


def optimized(original: onnx.ModelProto, feed: Sample) -> tuple[dict[str, Row], dict[str, Callable[[], Runs]]]:
    """What each optimizer makes of the file; one that fails or changes the numbers gets a row, but is not timed."""
    ours = {
        PLAIN: lambda model: model,
        OURS: lambda model: graphwright.optimize(model, target="ort-cpu"),
        PORTABLE: lambda model: graphwright.optimize(model, target="onnx"),
    }
    truth = Plain(original.SerializeToString()).run(feed)
    rows: dict[str, Row] = {}
    models: dict[str, Callable[[], Runs]] = {}
    for name, optimize in {**ours, **rivals()}.items():
        copy = onnx.ModelProto()
        copy.CopyFrom(original)
        rows[name] = {"optimizer": name, "nodes": None, "nodes as run": None, "seconds to optimize": None}
        try:
            start = time.perf_counter()
            with silence():
                model = optimize(copy)
            rows[name] |= {"seconds to optimize": time.perf_counter() - start, "nodes": node_count(model), "nodes as run": node_count(as_run(model))}
            content = model.SerializeToString()
            error = worst(truth, Plain(content).run(feed))
        except Exception as problem:
            if name in ours:
                raise
            rows[name]["optimizer"] = f"{name} ({type(problem).__name__})"
            continue
        if error <= TOLERANCE:
            models[name] = functools.partial(Plain, content)
        else:
            rows[name]["optimizer"] = f"{name} (wrong: {error:.1g})"
    return rows, models


def worst(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> float:
    """The largest difference, as a part of the largest number in its output; outputs are taken in order."""
    pairs = zip(before.values(), after.values(), strict=True)
    return max(float(np.abs(old - new).max() / (np.abs(old).max() + 1e-30)) for old, new in pairs)


def verdict(model: str, rows: dict[str, Row], turns: Turns) -> list[str]:
    """Ours has no more nodes than the best of the others, and is not slower than the fastest of them (95 % confidence)."""
    others = [name for name in turns.openings[0] if name not in (OURS, PORTABLE, COMPILED)]
    missed = []
    for count in ("nodes", "nodes as run"):
        fewest = min(others, key=lambda name: rows[name][count])
        if rows[OURS][count] > rows[fewest][count]:
            missed.append(f"{model}: {rows[OURS][count]} {count}, {fewest} has {rows[fewest][count]}")
    choosing, judging = turns.split()
    fastest = min(others, key=choosing.median)
    for name in (OURS, COMPILED):
        ratio, low, high = judging.ratio(name, fastest)
        print(f"{model}: {name} / {fastest} = {ratio:.3f} ({low:.3f} to {high:.3f}, {judging.rounds} rounds, {JUDGING} openings)", flush=True)
        if low > 1:
            missed.append(f"{model}: {name} takes {ratio:.3f} ({low:.3f} to {high:.3f}) of the time of {fastest}")
    return missed
