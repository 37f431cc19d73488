"""Image classifiers in int8, compiled as a user does it: top-1 on images that were not calibrated on, size, and time against ONNX Runtime in float32.

Claimed of each: top-1 falls by at most half a point, the file is at most 0.27 of the float32 one (for float16 weights: of what they are in float32), and it
is at least 1.4 times as fast in turns, or the report says of each operator that stayed in float why.

What was compiled, and how well it does, are kept in ``out/bench/quantised`` while the compiler stays what it is; time is always taken anew, so that it can be
taken while the machine does nothing else.
"""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import numpy as np
import onnx_ir as ir
from journal import Finding, Journal
from quant_pictures import Pictures, pictures
from tables import Row, print_table
from turns import take_turns

import graphwright
from graphwright.compiler.artifact import Artifact
from graphwright.compiler.core.errors import GraphwrightError
from graphwright.models.session import Plain

DROP, SIZE, SPEED = 0.005, 0.27, 1.4
FOLDER = Path("out") / "bench" / "quantised"
SOURCES = ("passes", "compiler", "backends/ort", "tests/bench/quant_images.py", "tests/bench/quant_pictures.py")


def measure(only: str, seconds: float) -> tuple[list[Row], list[str]]:
    """All classifiers whose name holds ``only``."""
    rows: list[Row] = []
    missed: list[str] = []
    journal = Journal(FOLDER / "images.jsonl", SOURCES)
    for one in pictures():
        if only not in one.name:
            continue
        try:
            known, left = journal.find(one.name, functools.partial(compiled, one))
            row, claims = timed(one, known, left, seconds)
        except GraphwrightError as error:
            row, claims = {"model": one.name, "error": str(error)}, [f"{one.name}: {error}"]
        rows.append(row)
        missed += claims
        print_table(one.name, [row])
    print_table("int8", rows)
    return rows, missed


def compiled(one: Pictures) -> Finding:
    """Compile one classifier, and look at what it gives; beside it the sites that stayed in float for no reason given."""
    out = FOLDER / one.name
    shutil.rmtree(out, ignore_errors=True)
    artifact = graphwright.compile(one.path, precision="int8", calibration=one.samples(one.calibration), output=out)
    before, after = one.right(Plain(one.path), one.report), one.right(artifact, one.report)
    size = (out / "model.onnx").stat().st_size / float32_bytes(one.path)
    row: Row = {
        "model": one.name, "top-1 before": float(before.mean()), "top-1 after": float(after.mean()), "drop": float(before.mean() - after.mean()),
        "size": size, "of the file": size * float32_bytes(one.path) / one.path.stat().st_size, "shipped": artifact.report.shipped,
        "stayed in float": stayed(artifact),
    }  # fmt: skip
    return row, unexplained(artifact)


def timed(one: Pictures, known: Row, left: list[str], seconds: float) -> tuple[Row, list[str]]:
    """The row with how many times as fast it is, and what does not hold."""
    out = FOLDER / one.name
    turns = take_turns({"float32": lambda: Plain(one.path), "int8": lambda: graphwright.load(out)}, one.samples(2), seconds)
    ratio, low, high = turns.ratio("float32", "int8")
    row: Row = {**known, "speed": ratio, "95 %": f"{low:.3f} to {high:.3f}", "stayed in float": known["stayed in float"]}
    return row, claims(one.name, row, high, left)


def claims(name: str, row: Row, high: float, left: list[str]) -> list[str]:
    """What does not hold. Speed counts as reached when its interval reaches it."""
    missed = []
    if row["drop"] > DROP:
        missed.append(f"{name}: top-1 falls by {row['drop']:.4f}, at most {DROP} is claimed")
    if row["size"] > SIZE:
        missed.append(f"{name}: {row['size']:.3f} of the size, at most {SIZE} is claimed")
    if row["shipped"] == "input":
        missed.append(f"{name}: the input was shipped")
    if high < SPEED and (left or not row["stayed in float"]):
        missed.append(f"{name}: {row['speed']:.3f} times as fast, {SPEED} is claimed, and the report says of no operator why it stayed in float")
    return missed


def float32_bytes(path: Path) -> int:
    """The size of the file, were its weights float32."""
    model = ir.load(path)
    tensors = [value.const_value for value in model.graph.initializers.values()]
    halves = [tensor for tensor in tensors if tensor is not None and tensor.dtype == ir.DataType.FLOAT16]
    return path.stat().st_size + sum(int(np.prod(tensor.shape.numpy(), dtype=np.int64)) * 2 for tensor in halves)


def stayed(artifact: Artifact) -> str:
    """What the report says of the sites that stayed in float, each reason with how many it holds for."""
    entry = artifact.report.compression
    reasons: dict[str, int] = {}
    for place in entry.places if entry is not None else []:
        if not place.form:
            reasons[place.why] = reasons.get(place.why, 0) + 1
    return "; ".join(f"{count}: {why}" for why, count in reasons.items())


def unexplained(artifact: Artifact) -> list[str]:
    """Sites that stayed in float for no reason given."""
    entry = artifact.report.compression
    return [place.name for place in (entry.places if entry is not None else []) if not place.form and not place.why]
