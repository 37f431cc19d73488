"""What TVM takes: every real model and small export, built by the tvm backend, with the same answers as the input within contract, or the operator to blame.

Each is optimised for tvm-cpu, and built with its sizes open and, where that is refused, with those of its first input ("fixed") and, where that is, too,
for the numbers in it that choose between branches ("chosen", as the target cpu does: a sampling rate, say). Weights that a caller may override are constants,
as in every build. It is judged as a compiled
model is: on real inputs and on those made up to break careless rewrites (NaN, infinities, other sizes); "let pass" counts samples on which ONNX Runtime
with its own optimisations answers otherwise, too. Nothing is timed.

Each model has a process and `LIMIT` seconds of a processor of its own. What was found is written after each; a run that was ended goes on where it stopped,
and one of the same code repeats nothing (remove out/bench/coverage.json to begin anew).
"""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from tables import Row, print_table, write_rows

import graphwright
from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.answers import judge_answers
from graphwright.compiler.cache import hash_sources
from graphwright.compiler.core.errors import GraphwrightError
from graphwright.compiler.core.fixed import fix_inputs, settle_initialisers
from graphwright.compiler.importer import import_model
from graphwright.compiler.partition.sizes import simplified, switches
from graphwright.compiler.samples import generate
from graphwright.compiler.targets import find_backend
from graphwright.compiler.verify import Verifier
from graphwright.models.catalogue import catalogue
from graphwright.models.tiny import families

REAL, SMALL = "real models", "small exports"
LEAST = {REAL: 0.75, SMALL: 0.75}
"""The share that is taken, claimed."""
LIMIT = 600
Feed = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Found:
    """How something that was built answers: "same", "differ: ..." or "none" (``refused`` says why), on how many samples, and how many were let pass."""

    answers: str
    samples: int = 0
    passed: int = 0
    refused: str = ""


def run(folder: Path, only: str, seconds: float) -> list[str]:
    """Build, compare, print and write; returns the claims that do not hold."""
    file, state = folder / "coverage.json", hash_sources()
    kept = [row for row in json.loads(file.read_text()) if row["code"] == state] if file.is_file() else []
    known = {str(row["model"]): row for row in kept}
    missed: list[str] = []
    for title, names in ((REAL, _real()), (SMALL, _exports())):
        chosen = [name for name in names if only in name]
        for name in chosen:
            if name not in known:
                known[name] = {"kind": title, **_apart(name), "code": state}
                write_rows(file, list(known.values()))
        rows = [{key: value for key, value in known[name].items() if key not in ("kind", "code")} for name in chosen]
        print_table(title, rows)
        missed += verdict(title, rows)
    return missed


def verdict(title: str, rows: list[Row]) -> list[str]:
    """Nothing answers otherwise, and most are taken."""
    if not rows:
        return []
    wrong = [f"{one['model']} built by TVM answers otherwise: {one['answers']}" for one in rows if one["answers"] not in ("same", "none")]
    taken = sum(one["answers"] == "same" for one in rows) / len(rows)
    print(f"\n{title}: {taken:.0%} of {len(rows)} taken")
    return wrong + ([f"TVM takes {taken:.0%} of the {title}, {LEAST[title]:.0%} claimed"] if taken < LEAST[title] else [])


def _apart(name: str) -> Row:
    """The row of a model, made in a process of its own: what ends that one leaves the others be."""
    start = time.monotonic()
    done = subprocess.run([sys.executable, __file__, name], capture_output=True, text=True, check=False)
    row = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None
    ended = f"longer than {LIMIT} s" if -done.returncode in (signal.SIGXCPU, signal.SIGKILL) else f"ended with {done.returncode}"
    reason = (done.stderr.strip().splitlines() or [ended])[-1][:200] if done.returncode > 0 else ended
    found: Row = row or {"model": name, "sizes": "", "answers": f"broke: {reason}", "samples": 0, "let pass": 0, "refused": ""}
    found = {**found, "seconds": time.monotonic() - start}
    print(f"{name}: {found['answers']} ({found['sizes']}, {found['samples']} samples, {found['seconds']:.0f} s) {found['refused']}", flush=True)
    return found


def measure(name: str) -> Row:
    """One model: what was built of it, how it answers, and what was refused."""
    with tempfile.TemporaryDirectory() as place:
        path, feed = _brought(name, Path(place))
        source = import_model(path).model
        settle_initialisers(source)
        model = graphwright.optimize(source, target="tvm-cpu")
        assert isinstance(model, ir.Model)
        refusals: list[str] = []
        for sizes, here, made in _forms(source, model, feed):
            found = judge(source, here, made, feed)
            if not found.refused:
                break
            refusals.append(f"{sizes}: {found.refused}")
        return {"model": name, "sizes": sizes, "answers": found.answers, "samples": found.samples, "let pass": found.passed, "refused": "; ".join(refusals)}


def _forms(source: ir.Model, model: ir.Model, feed: Feed) -> Iterator[tuple[str, ir.Model, ir.Model]]:
    """A model and what was made of it: as they are, for the sizes of an input, and for what the input chooses."""
    if _is_open(model):
        yield "open", source, model
    yield "fixed", fix_inputs(source, dict(feed)), fix_inputs(model, dict(feed))
    chosen = switches(source, dict(feed))
    if chosen:
        here = fix_inputs(source, dict(feed))
        here.graph.inputs[:] = [value for value in here.graph.inputs if value.name not in chosen]
        yield "chosen", here, simplified(fix_inputs(model, dict(feed), chosen), find_backend("tvm-cpu").targets()[0])


def judge(source: ir.Model, here: ir.Model, model: ir.Model, feed: Feed) -> Found:
    """Build ``model`` and hold it to what ``source`` answers, on inputs of the form of ``here``; those that it does not have are as in ``feed``."""
    try:
        runner = find_backend("tvm-cpu").build(model, (dict(feed),), lambda text: None).runner
    except GraphwrightError as error:
        return Found("none", refused=str(error))
    runtime, free = OrtBackend(), {value.name for value in here.graph.inputs}
    reference, baseline = runtime.reference(source), runtime.baseline(source)
    settled = {name: array for name, array in feed.items() if name not in free}
    try:
        given = {name: array for name, array in feed.items() if name in free}
        made = generate(here, (given,), 0, lambda sample: reference.run({**sample, **settled}))
        samples = [{**sample, **settled} for sample in made]
        answers = judge_answers(Verifier(source, samples, runtime), runner, baseline)
    finally:
        for one in (reference, baseline, runner):
            one.close()
    return Found(f"differ: {answers.fault}" if answers.fault else "same", len(samples), answers.passed)


def _is_open(model: ir.Model) -> bool:
    return any(not isinstance(dim, int) for value in model.graph.inputs for dim in value.shape or ())


def _real() -> Iterator[str]:
    for entry in catalogue():
        reason = entry.unavailable()
        if reason is None:
            yield entry.name
        else:
            print(f"{entry.name} is left out: {reason}")


def _exports() -> Iterator[str]:
    for tiny in families():
        yield from (f"{tiny.name} ({exporter})" for exporter in tiny.exporters)


def _brought(name: str, place: Path) -> tuple[Path, Feed]:
    """The file of a model, and an input."""
    for entry in catalogue():
        if entry.name == name:
            return entry.file(place), next(iter(entry.feeds(1, "report")))
    for tiny in families():
        for exporter in tiny.exporters:
            if name == f"{tiny.name} ({exporter})":
                return tiny.export(place, exporter), next(tiny.feeds(1))
    raise SystemExit(f"there is no model '{name}'")


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT))
    print(json.dumps(measure(sys.argv[1])))
