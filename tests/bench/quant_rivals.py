"""The same models and data through Olive's and ONNX Runtime's own quantisers: accuracy at equal bits, and time in turns, in one run.

Claimed of ours on every model: no peer is more accurate or faster, as far as the figures can tell (95 % intervals of the paired difference on the same
items, and of the ratio of times). Point figures are in the table. A peer that fails has a row that says so.

What everyone made, and how well it does, are kept in ``out/bench/rivals`` while the compiler stays what it is; time is always taken anew, so that it can be
taken while the machine does nothing else.
"""

from __future__ import annotations

import functools
import math
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from journal import Finding, Journal
from quant_peers import Quantiser, dynamic_peers, int4_peers, raised, static_peers
from quant_pictures import NAMES, Pictures, pictures
from quant_sentences import Sentences, sentences
from tables import Row, print_table
from turns import take_turns

import graphwright
from graphwright.models.catalogue import Sample
from graphwright.models.session import Plain, Runs

FOLDER = Path("out") / "bench" / "rivals"
SOURCES = ("passes", "compiler", "backends/ort", "tests/bench/quant_rivals.py", "tests/bench/quant_peers.py")
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
    journal = Journal(FOLDER / "scores.jsonl", SOURCES)
    with tempfile.TemporaryDirectory() as place:
        for contest in contests(Path(place), only):
            known, _ = journal.find(f"{contest.name}, {contest.precision}", functools.partial(scored, contest))
            found, claims = compete(contest, known, seconds)
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


def scored(contest: Contest) -> Finding:
    """A row for the model, for ours and for each peer; the files; how well each does on each item."""
    files, rows = quantised(contest)
    scores = {name: contest.scores(opened(path)()).tolist() for name, path in {"float32": contest.path, **files}.items()}
    return {"rows": rows, "files": files, "scores": scores}, []


def compete(contest: Contest, known: Row, seconds: float) -> tuple[list[Row], list[str]]:
    """The rows with scores and times, and what does not hold."""
    files, rows = {name: opened(Path(path)) for name, path in known["files"].items()}, known["rows"]
    scores = {name: np.array(found) for name, found in known["scores"].items()}
    turns = take_turns({"float32": opened(contest.path), **files}, contest.timed, seconds * len(files))
    missed = []
    rows["float32"] |= {"score": float(scores["float32"].mean()), "ms": turns.median("float32") * 1e3}
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


def opened(path: Path) -> Callable[[], Runs]:
    """How to open a file, or an artifact's folder."""
    return lambda: graphwright.load(path) if path.is_dir() else Plain(path)


def quantised(contest: Contest) -> tuple[dict[str, Path], dict[str, Row]]:
    """What each made, and a row for each with its size or what it failed with."""
    place = FOLDER / f"{contest.name}-{contest.precision}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    out = place / "ours"
    graphwright.compile(contest.path, precision=contest.precision, calibration=list(contest.calibration), output=out)
    files = {OURS: out}
    rows = {"float32": row("float32", contest.path), OURS: row(OURS, out / "model.onnx")}
    given = raised(contest.path, place / "raised.onnx")
    for index, (name, quantise) in enumerate(contest.peers.items()):
        path = place / f"{index}.onnx"
        try:
            quantise(given, contest.calibration, path)
            Plain(path)
        except Exception as problem:
            rows[name] = row(f"{name} (fails: {type(problem).__name__}: {str(problem).splitlines()[0][:80]})", None)
            continue
        files[name] = path
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
