"""What TVM takes: every real model and small export, built by the tvm backend, with the same answers as the input within contract, or the operator to blame.

Each is optimised for tvm-cpu, and built with its sizes open and, where that is refused, with those of its first input. Nothing is timed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
from tables import Row, print_table, write_rows

import graphwright
from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.core.drift import Drift
from graphwright.compiler.core.errors import GraphwrightError
from graphwright.compiler.core.fixed import fix_inputs
from graphwright.compiler.importer import import_model
from graphwright.compiler.targets import find_backend
from graphwright.compiler.verify import Verifier
from graphwright.models.catalogue import catalogue
from graphwright.models.tiny import families

LEAST = {"real models": 0.75, "small exports": 0.75}
"""The share that is taken, claimed."""


def run(folder: Path, only: str, seconds: float) -> list[str]:
    """Build, compare, print and write; returns the claims that do not hold."""
    missed: list[str] = []
    everything: list[Row] = []
    for title, models in (("real models", _real(only)), ("small exports", _exports(only))):
        rows = [row(name, path, feed) for name, path, feed in models]
        print_table(title, rows)
        everything += [{"kind": title, **one} for one in rows]
        write_rows(folder / "coverage.json", everything)
        missed += verdict(title, rows)
    return missed


def row(name: str, path: Path, feed: Mapping[str, np.ndarray]) -> Row:
    """One model: what was built of it, how it compares, and what was refused."""
    start = time.monotonic()
    source = import_model(path).model
    model = graphwright.optimize(source, target="tvm-cpu")
    sizes, answers, refused = "open", *judge(source, model, feed)
    if refused is not None and _is_open(model):
        sizes, answers, _ = "fixed", *judge(source, fix_inputs(model, dict(feed)), feed)
    line: Row = {"model": name, "sizes": sizes, "answers": answers, "refused": refused or "", "seconds": time.monotonic() - start}
    print(f"{name}: {answers} ({sizes}) {refused or ''}", flush=True)
    return line


def judge(source: ir.Model, model: ir.Model, feed: Mapping[str, np.ndarray]) -> tuple[str, str | None]:
    """("same", None), ("differ: ...", None), or ("none", why TVM refused the model)."""
    try:
        runner = find_backend("tvm-cpu").build(model, (dict(feed),), lambda text: None).runner
    except GraphwrightError as error:
        return "none", str(error)
    try:
        found = Verifier(source, (dict(feed),), OrtBackend()).check_runner(runner, Drift.ROUNDING)
    finally:
        runner.close()
    return (f"differ: {found.reason or f'{found.max_abs:.2g} of {found.allowed:.2g} allowed'}" if found.broken else "same"), None


def verdict(title: str, rows: list[Row]) -> list[str]:
    """Nothing answers otherwise, and most are taken."""
    if not rows:
        return []
    wrong = [f"{one['model']} built by TVM answers otherwise: {one['answers']}" for one in rows if str(one["answers"]).startswith("differ")]
    taken = sum(one["answers"] == "same" for one in rows) / len(rows)
    print(f"\n{title}: {taken:.0%} of {len(rows)} taken")
    return wrong + ([f"TVM takes {taken:.0%} of the {title}, {LEAST[title]:.0%} claimed"] if taken < LEAST[title] else [])


def _is_open(model: ir.Model) -> bool:
    return any(not isinstance(dim, int) for value in model.graph.inputs for dim in value.shape or ())


def _real(only: str) -> Iterator[tuple[str, Path, Mapping[str, np.ndarray]]]:
    for entry in catalogue():
        if only in entry.name and entry.path is not None and entry.unavailable() is None:
            yield entry.name, entry.file(), next(iter(entry.feeds(1, "report")))


def _exports(only: str) -> Iterator[tuple[str, Path, Mapping[str, np.ndarray]]]:
    with tempfile.TemporaryDirectory() as place:
        for tiny in families():
            for exporter in tiny.exporters:
                name = f"{tiny.name} ({exporter})"
                if only in name:
                    yield name, tiny.export(Path(place), exporter), next(tiny.feeds(1))
