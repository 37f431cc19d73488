"""The same models and data through Olive's and ONNX Runtime's own quantisers: accuracy at equal bits, and time in turns, in one run.

Claimed of ours on every model: no peer is more accurate or faster, as far as the figures can tell (95 % intervals of the paired difference on the same
items, and of the ratio of times). Point figures are in the table. A peer that fails has a row that says so.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from quant_peers import Quantiser, dynamic_peers, int4_peers, raised, static_peers
from quant_pictures import NAMES, Pictures, pictures
from quant_sentences import Sentences, sentences
from tables import Row, print_table
from turns import take_turns

import graphwright
from graphwright.models.catalogue import Sample
from graphwright.models.session import Plain, Runs

CALIBRATION = 32
"""Samples for everyone: histograms of more take ONNX Runtime's calibrators minutes and gigabytes."""
IMAGES = 450
SURE = 1.96
OURS = "graphwright"


@dataclass(frozen=True)
class Contest:
    """One model at one precision. ``scores(runner)`` is how good it is on each item, higher is better; ``timed`` what it is timed on."""

    name: str
    path: Path
    precision: str
    calibration: Sequence[Sample]
    peers: Mapping[str, Quantiser]
    scores: Callable[[Runs], np.ndarray]
    timed: Sequence[Sample]


def measure(only: str, seconds: float) -> tuple[list[Row], list[str]]:
    """All contests whose name holds ``only``."""
    rows: list[Row] = []
    missed: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        for contest in contests(Path(place), only):
            found, claims = compete(contest, Path(place), seconds)
            print_table(f"{contest.name}, {contest.precision}", found)
            rows += [{"model": contest.name, "precision": contest.precision, **row} for row in found]
            missed += [f"{contest.name}, {contest.precision}: {claim}" for claim in claims]
    return rows, missed


def contests(place: Path, only: str) -> Sequence[Contest]:
    """Classifiers in int8, the sentence encoder in dynamic int8 and in int4."""
    found = [_of_pictures(one) for one in pictures(NAMES) if only in one.name]
    if only in "minilm_l6" and (encoder := sentences(place)) is not None:
        found.append(_of_sentences(encoder, "int8-dynamic", dynamic_peers()))
        found.append(_of_sentences(encoder, "int4", int4_peers()))
    return found


def _of_pictures(one: Pictures) -> Contest:
    samples = one.samples(CALIBRATION)
    return Contest(one.name, one.path, "int8", samples, static_peers(), lambda runner: one.right(runner, IMAGES).astype(np.float64), samples[:2])


def _of_sentences(one: Sentences, precision: str, peers: Mapping[str, Quantiser]) -> Contest:
    return Contest("minilm_l6", one.path, precision, one.calibration, peers, one.agreement, [one.long, one.short])


def compete(contest: Contest, place: Path, seconds: float) -> tuple[list[Row], list[str]]:
    """A row for the model, one for ours, and one for each peer; and what does not hold."""
    files, rows = quantised(contest, place)
    plain = contest.scores(Plain(contest.path))
    scores = {name: contest.scores(open_()) for name, open_ in files.items()}
    turns = take_turns({"float32": lambda: Plain(contest.path), **files}, contest.timed, seconds * len(files))
    missed = []
    rows["float32"] |= {"score": float(plain.mean()), "ms": turns.median("float32") * 1e3}
    for name in files:
        ratio, low, high = turns.ratio(name, OURS)
        worse = interval(scores[name], scores[OURS])
        rows[name] |= {
            "score": float(scores[name].mean()), "over ours (95 %)": f"{worse[0]:+.4f} to {worse[1]:+.4f}", "ms": turns.median(name) * 1e3,
            "time by ours": ratio, "95 %": f"{low:.3f} to {high:.3f}",
        }  # fmt: skip
        if worse[0] > 0:
            missed.append(f"{name} scores {scores[name].mean():.4f}, ours {scores[OURS].mean():.4f}")
        if high < 1:
            missed.append(f"{name} takes {ratio:.3f} ({low:.3f} to {high:.3f}) of our time")
    return list(rows.values()), missed


def quantised(contest: Contest, place: Path) -> tuple[dict[str, Callable[[], Runs]], dict[str, Row]]:
    """How to open what each made, and a row for each with its size or what it failed with."""
    out = place / f"{contest.name}-{contest.precision}"
    graphwright.compile(contest.path, precision=contest.precision, calibration=list(contest.calibration), output=out)
    files: dict[str, Callable[[], Runs]] = {OURS: lambda: graphwright.load(out)}
    rows = {"float32": row("float32", contest.path), OURS: row(OURS, out / "model.onnx")}
    given = raised(contest.path, place / f"{contest.name}-raised.onnx")
    for index, (name, quantise) in enumerate(contest.peers.items()):
        path = place / f"{contest.name}-{contest.precision}-{index}.onnx"
        try:
            quantise(given, contest.calibration, path)
            Plain(path)
        except Exception as problem:
            rows[name] = row(f"{name} (fails: {type(problem).__name__}: {str(problem).splitlines()[0][:80]})", None)
            continue
        files[name] = lambda path=path: Plain(path)
        rows[name] = row(name, path)
    return files, rows


def row(name: str, path: Path | None) -> Row:
    """A row to be filled, with the columns of all rows."""
    size = path.stat().st_size / 2**20 if path is not None else None
    return {"quantiser": name, "MiB": size, "score": None, "over ours (95 %)": None, "ms": None, "time by ours": None, "95 %": None}


def interval(scores: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the mean difference on the same items."""
    change = scores - other
    reach = SURE * float(change.std(ddof=1)) / math.sqrt(len(change))
    return float(change.mean()) - reach, float(change.mean()) + reach
