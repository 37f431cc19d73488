"""Every model kept beside the checkout, and ours, compiled as a user does it: exit code, numbers, figure, latency, and run.py on its own.

The numbers are those of the artifact's ``run.py``, run in an environment that has numpy and onnxruntime only, against the input model with every
optimisation off, within the contract for reassociated arithmetic. Latency is timed anew here, apart from what the report says.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
from tables import Row, print_table, write_rows
from turns import take_turns

import graphwright
from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.comparison import compare, worse
from graphwright.compiler.core.drift import ROUNDING
from graphwright.compiler.core.records import Difference
from graphwright.compiler.verify import Verifier
from graphwright.models.catalogue import Entry, Sample, catalogue
from graphwright.models.session import Plain

TARGETS = ("ort-cpu", "onnx")
SAMPLES = 3
ITEMS = {"style_candy": 1, "deeplabv3_qdq": 5, "dtln_1": 2, "dtln_2": 2}
"""Of how many items the figure is taken, where a hundred would take long."""
BARE = Path(".cache") / "bare"


def run(folder: Path, only: str, seconds: float) -> list[str]:
    """Measure, print and write; returns the claims that do not hold."""
    bare = bare_python()
    rows: list[Row] = []
    missed: list[str] = []
    for entry in catalogue():
        if only not in entry.name:
            continue
        if reason := entry.unavailable():
            print(f"{entry.name} is left out: {reason}")
            continue
        for target in TARGETS:
            with tempfile.TemporaryDirectory() as place:
                row = measure(entry, target, Path(place), bare, seconds)
            rows.append(row)
            print(json.dumps(row, default=str), flush=True)
            missed += claims(row)
    print_table("models", rows)
    write_rows(folder / "models.json", rows)
    return missed


def bare_python() -> Path:
    """The interpreter of an environment with numpy and onnxruntime and nothing else, made once."""
    python = BARE / "bin" / "python"
    if not (BARE / ".ready").exists():
        import onnxruntime

        venv.create(BARE, with_pip=True, clear=True)
        wanted = [f"numpy=={np.__version__}", f"onnxruntime=={onnxruntime.__version__}"]
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *wanted], check=True)
        (BARE / ".ready").touch()
    return python.absolute()


def measure(entry: Entry, target: str, place: Path, bare: Path, seconds: float) -> Row:
    """Compile one model for one target, and look at all that is promised of it."""
    path = entry.file(place)
    samples = list(entry.feeds(SAMPLES, "report"))
    row: Row = {"model": entry.name, "target": target, "exit": compile_file(path, samples, target, place)}
    if row["exit"] != 0:
        return row
    artifact = graphwright.load(place / "out")
    row |= {"nodes": f"{artifact.report.before.nodes} -> {artifact.report.after.nodes}", "shipped": artifact.report.shipped}
    difference = worst_difference(path, samples, place, bare)
    row |= {"error": difference.max_abs, "allowed": difference.allowed, "broken": difference.broken}
    plain, limit = Plain(path), ITEMS.get(entry.name, 100)
    row |= {"figure before": entry.metric.measure(plain, limit), "figure after": entry.metric.measure(artifact, limit), "figure": entry.metric.name}
    turns = take_turns({"input": lambda: Plain(path), "artifact": lambda: graphwright.load(place / "out")}, samples, seconds)
    row |= {"ms before": turns.median("input") * 1e3 / SAMPLES, "ms after": turns.median("artifact") * 1e3 / SAMPLES}
    return row | dict(zip(("ratio", "low", "high"), turns.ratio("artifact", "input"), strict=True))


def compile_file(path: Path, samples: Sequence[Sample], target: str, place: Path) -> int:
    """``graphwright compile`` with the samples as inputs; returns its exit code."""
    command = [sys.executable, "-m", "graphwright.tools.main", "compile", str(path), "-o", str(place / "out"), "--target", target, "--no-cache"]
    for index, sample in enumerate(samples):
        np.savez(place / f"in{index}.npz", **sample)
        command += ["--inputs", str(place / f"in{index}.npz")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        print(done.stdout[-2000:], done.stderr[-2000:])
    return done.returncode


def worst_difference(path: Path, samples: Sequence[Sample], place: Path, bare: Path) -> Difference:
    """How far run.py's outputs lie from the input model's."""
    verifier = Verifier(ir.load(path), samples, OrtBackend())
    worst = Difference("", 0.0, 0.0, 0.0)
    for index in range(len(samples)):
        subprocess.run([bare, "-I", place / "out" / "run.py", place / f"in{index}.npz", place / "outputs.npz"], check=True, stdout=subprocess.DEVNULL)
        with np.load(place / "outputs.npz") as file:
            outputs = dict(file)
        worst = worse(worst, compare(verifier.outputs(index), outputs, ROUNDING, noise=verifier.noise[index], sample=index))
    return worst


def claims(row: Row) -> list[str]:
    """What does not hold of a row."""
    name = f"{row['model']} for {row['target']}"
    if row["exit"] != 0:
        return [f"{name}: exit code {row['exit']}"]
    wrong = [f"{name}: off by {row['error']} where {row['allowed']} is allowed"] if row["broken"] else []
    return wrong + ([f"{name}: ratio {row['ratio']:.3f} ({row['low']:.3f} to {row['high']:.3f})"] if row["low"] > 1 else [])
