"""MiniLM on STS-B, calibrated on its training part and scored on its test part: rank correlation, size of the linear weights, and time.

Claimed against ONNX Runtime with the fused graph in float32: int8 (rounding inputs as they come, after smoothing) loses at most 0.3 points of Spearman and
is 1.35 times as fast on 8 x 128 tokens and 1.6 times on 1 x 16; int4 weights lose at most 1.0, and the linear weights take at most 0.16 of their size.
"""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from tables import Row, print_table
from turns import take_turns

import graphwright
from graphwright.compiler.artifact import Artifact
from graphwright.compiler.core.errors import GraphwrightError
from graphwright.models import minilm
from graphwright.models.catalogue import Sample, find
from graphwright.models.session import Plain, Runs
from graphwright.models.shared import spread, stsb

CALIBRATION = 64
SCORED = 500
"""Sentences on which embeddings are compared one by one."""
PRECISIONS: dict[str, dict[str, object]] = {
    "int8-dynamic": {"precision": "int8-dynamic"},
    "int8": {"precision": "int8"},
    "int4 rtn": {"precision": "int4", "method": "rtn"},
    "int4 gptq": {"precision": "int4", "method": "gptq"},
}
DROPS = {"int8-dynamic": 0.3, "int4 gptq": 1.0}
SPEEDS = {("int8-dynamic", "8 x 128"): 1.35, ("int8-dynamic", "1 x 16"): 1.6}
LINEAR = {"int4 gptq": 0.16}
LINEAR_KINDS = ("MatMul", "Gemm")


@dataclass(frozen=True)
class Sentences:
    """The encoder as torch exports it, and its data."""

    path: Path

    @functools.cached_property
    def calibration(self) -> list[Sample]:
        """Batches of training sentences."""
        return list(minilm.feeds(CALIBRATION, "calibration"))

    @property
    def long(self) -> Sample:
        """8 x 128 tokens."""
        return tokens(8, 128)

    @property
    def short(self) -> Sample:
        """1 x 16 tokens."""
        return tokens(1, 16)

    def spearman(self, runner: Runs) -> float:
        """In points, on the whole test part."""
        return 100 * minilm.sts_spearman(runner)

    def agreement(self, runner: Runs) -> np.ndarray:
        """The cosine between each of some test sentences' embedding and that of the float32 model."""
        return np.asarray((minilm.embed(runner, self._texts) * self._exact).sum(axis=1), np.float64)

    @functools.cached_property
    def _texts(self) -> list[str]:
        pairs = stsb("test")
        return [pairs[index][0] for index in spread(len(pairs), SCORED)]

    @functools.cached_property
    def _exact(self) -> np.ndarray:
        return minilm.embed(Plain(self.path), self._texts)


def tokens(batch: int, length: int) -> Sample:
    """Real text, cut into rows of exactly so many tokens."""
    text = " ".join(pair[0] for pair in stsb("test"))
    ids = [minilm.encode([text[start : start + 4 * minilm.LONGEST * 4]])["input_ids"][0, :length] for start in range(0, 4096 * batch, 4096)]
    return {"input_ids": np.stack(ids), "attention_mask": np.ones((batch, length), np.int64)}


def sentences(place: Path) -> Sentences | None:
    """The encoder exported into a folder; None where this machine has not what it takes."""
    return Sentences(minilm.export(place)) if find("minilm_l6").unavailable() is None else None


def measure(only: str, seconds: float) -> tuple[list[Row], list[str]]:
    """All precisions whose name holds ``only``."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        encoder = sentences(place)
        if encoder is None:
            print("left out: needs MiniLM and STS-B")
            return [], []
        fused = place / "fused.onnx"
        onnx.save(graphwright.optimize(encoder.path, target="ort-cpu"), fused)
        before = encoder.spearman(Plain(fused))
        rows: list[Row] = []
        missed: list[str] = []
        for precision, options in PRECISIONS.items():
            if only in precision:
                row, claims = examine(encoder, precision, options, fused, before, seconds)
                rows.append(row)
                missed += claims
                print_table(precision, [row])
    print_table("MiniLM on STS-B", rows)
    return rows, missed


def examine(encoder: Sentences, precision: str, options: dict[str, object], fused: Path, before: float, seconds: float) -> tuple[Row, list[str]]:
    """Compile the encoder at one precision, and look at all that is claimed of it."""
    out = fused.parent / precision.replace(" ", "-")
    try:
        artifact = graphwright.compile(encoder.path, calibration=encoder.calibration, output=out, **options)  # type: ignore[arg-type]
    except GraphwrightError as error:
        return {"precision": precision, "error": str(error)}, [f"{precision}: {error}"]
    after = encoder.spearman(artifact)
    row: Row = {
        "precision": precision, "Spearman before": before, "after": after, "drop": before - after, "cosine": float(encoder.agreement(artifact).mean()),
        "linear weights": linear_share(artifact), "file": size(out, fused), "shipped": artifact.report.shipped,
    }  # fmt: skip
    missed = [f"{precision}: the input was shipped"] if artifact.report.shipped == "input" else []
    for shape, feed in (("8 x 128", encoder.long), ("1 x 16", encoder.short)):
        ratio, low, high = take_turns({"float32": lambda: Plain(fused), "ours": lambda: graphwright.load(out)}, [feed], seconds).ratio("float32", "ours")
        row |= {f"speed {shape}": ratio, f"95 % {shape}": f"{low:.3f} to {high:.3f}"}
        if high < SPEEDS.get((precision, shape), 0):
            missed.append(f"{precision}: {ratio:.3f} times as fast on {shape}, {SPEEDS[precision, shape]} is claimed")
    return row, missed + claims(precision, row)


def claims(precision: str, row: Row) -> list[str]:
    """What does not hold of accuracy and size."""
    missed = []
    if row["drop"] > DROPS.get(precision, np.inf):
        missed.append(f"{precision}: Spearman falls by {row['drop']:.3f} points, at most {DROPS[precision]} is claimed")
    if row["linear weights"] > LINEAR.get(precision, np.inf):
        missed.append(f"{precision}: linear weights take {row['linear weights']:.4f} of their size, at most {LINEAR[precision]} is claimed")
    return missed


def linear_share(artifact: Artifact) -> float:
    """Bits of all linear weights, by 32 bits for each; those that stayed as they were count in full."""
    entry = artifact.report.compression
    linear = [place for place in (entry.places if entry is not None else []) if place.kind in LINEAR_KINDS and place.parameters]
    stored = sum((place.bits if place.form else 32.0) * place.parameters for place in linear)
    return stored / (32 * sum(place.parameters for place in linear)) if linear else 1.0


def size(out: Path, fused: Path) -> float:
    """The artifact's model by the float32 file."""
    return sum(path.stat().st_size for path in out.glob("model.onnx*")) / fused.stat().st_size
