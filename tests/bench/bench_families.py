"""Twenty families of networks as torch exports them, through every optimizer: who is fastest on each, and by how much on the whole.

All files run in ONNX Runtime with its default (full) optimisation, its threads resting between runs; "as exported" is therefore its own full optimisation
of the raw export, and "ONNX Runtime, extended" the file that it writes at the level that other machines can run. "compiled" is our artifact with the
options that it chose. Without --only, the files of torch's current exporter; ``--only torchscript`` takes those of the older one.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from bench_exports import COMPILED, OURS, PORTABLE, optimized
from rivals import as_run
from tables import Row, print_table, write_rows
from turns import Turns, take_turns

import graphwright
from graphwright.models.session import Plain
from graphwright.models.tiny import Exporter, Scale, Tiny, families

EXTENDED = "ONNX Runtime, extended"
SCALE = Scale(
    width=256, layers=4, heads=8, vocabulary=1000, positions=512, length=32, pixels=128, patch=16, stages=(1, 1, 2, 1), channels=(32, 64, 128, 256),
    shrink=0.5, frames=256, mels=80,
)  # fmt: skip
"""Large enough that operators count for more than calling them."""
TOKENS = 96
OVER_BEST, OVER_EACH = 1.05, 1.3
"""Geometric means claimed: over the best of the others on each model, and over each of them on all models."""


@dataclass(frozen=True)
class Outcome:
    """One model: the fastest of the others, how many times its time ours is (with the 95 % interval), and each peer's time by ours."""

    name: str
    best: str
    ratio: float
    low: float
    high: float
    gains: dict[str, float]


def run(folder: Path, only: str, seconds: float) -> list[str]:
    """Measure, print and write; returns the claims that do not hold."""
    outcomes: list[Outcome] = []
    everything: list[Row] = []
    start = time.monotonic()
    for tiny in families(SCALE):
        for exporter in tiny.exporters:
            name = f"{tiny.name} ({exporter})"
            if only not in name or (not only and exporter != "dynamo"):
                continue
            rows, outcome = measure(name, tiny, exporter, seconds)
            print_table(name, rows)
            print(f"{name}: ours / {outcome.best} = {outcome.ratio:.3f} ({outcome.low:.3f} to {outcome.high:.3f})", flush=True)
            everything += [{"model": name, **row} for row in rows]
            outcomes.append(outcome)
            write_rows(folder / "families.json", everything)
    print_table(f"ours against the best of the others ({time.monotonic() - start:.0f} s)", [summary(outcome) for outcome in outcomes])
    return verdict(outcomes)


def measure(name: str, tiny: Tiny, exporter: Exporter, seconds: float) -> tuple[list[Row], Outcome]:
    """One row an optimizer, the exported file first; and how ours compares with the others."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        original, feed = onnx.load(tiny.export(folder, exporter)), tiny.arrays(batch=1, length=TOKENS)
        rows, models = optimized(original, feed)
        rows[EXTENDED], models[EXTENDED] = extended(original)
        artifact = graphwright.compile(original, [feed], target="ort-cpu", output=folder / "out")
        models[COMPILED] = lambda: graphwright.load(folder / "out")
        rows[COMPILED] = {"optimizer": COMPILED, "nodes": artifact.report.after.nodes, "nodes as run": None, "seconds to optimize": None}
        del models[PORTABLE]
        turns = take_turns(models, [feed], seconds * len(models))
    for model in models:
        ratio, low, high = turns.ratio(model, COMPILED)
        rows[model] |= {"ms": turns.median(model) * 1e3, "of ours": ratio, "95 %": f"{low:.3f} to {high:.3f}"}
    return [rows[model] for model in rows if model != PORTABLE], judge(name, turns)


def extended(original: onnx.ModelProto) -> tuple[Row, object]:
    """The file that ONNX Runtime writes itself."""
    start = time.perf_counter()
    content = as_run(original)
    took, nodes = time.perf_counter() - start, len(content.graph.node)
    data = content.SerializeToString()
    return {"optimizer": EXTENDED, "nodes": nodes, "nodes as run": nodes, "seconds to optimize": took}, lambda: Plain(data)


def judge(name: str, turns: Turns) -> Outcome:
    """The fastest of the others, chosen on some openings and judged on the rest."""
    others = [model for model in turns.openings[0] if model not in (OURS, COMPILED)]
    choosing, judging = turns.split()
    best = min(others, key=choosing.median)
    return Outcome(name, best, *judging.ratio(COMPILED, best), {other: judging.ratio(other, COMPILED)[0] for other in others})


def summary(outcome: Outcome) -> Row:
    return {"model": outcome.name, "best of the others": outcome.best, "ours / best": outcome.ratio, "95 %": f"{outcome.low:.3f} to {outcome.high:.3f}"}


def verdict(outcomes: Sequence[Outcome]) -> list[str]:
    """Never behind the best beyond noise, and ahead on the whole."""
    if not outcomes:
        return []
    missed = [f"{one.name}: ours takes {one.ratio:.3f} ({one.low:.3f} to {one.high:.3f}) of the time of {one.best}" for one in outcomes if one.low > 1]
    gain = geometric_mean([1 / one.ratio for one in outcomes])
    print(f"\nover the best of the others on each model: {gain:.3f}x ({len(outcomes)} models)")
    if gain < OVER_BEST:
        missed.append(f"geometric mean over the best of the others: {gain:.3f}x, {OVER_BEST}x claimed")
    for peer in dict.fromkeys(peer for one in outcomes for peer in one.gains):
        gains = [one.gains[peer] for one in outcomes if peer in one.gains]
        gain = geometric_mean(gains)
        print(f"over {peer}: {gain:.3f}x ({len(gains)} models)")
        if gain < OVER_EACH:
            missed.append(f"geometric mean over {peer}: {gain:.3f}x, {OVER_EACH}x claimed")
    return missed


def geometric_mean(numbers: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, numbers)) / len(numbers))
