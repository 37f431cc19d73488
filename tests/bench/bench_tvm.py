"""Generated kernels against ONNX Runtime: TVM by itself, TVM's own fusion with our schedules, and our plan, untuned and tuned.

All get the model as our passes leave it (standard operators), with the sizes of one sample:

- ``input``: the file as it is under ONNX Runtime's default options, but for its threads, which rest between runs: left to spin they take every other
  generated run's second core, and each side its turn at being ten times slower.
- ``TVM``: TVM's own fusion and its own schedules. Untuned it has none for a CPU, so that each kernel is the loops it was written as.
- ``own``: TVM's own fusion with our schedules, so that it differs from the next in who fuses only.
- ``plan``: our plan with our schedules: what an untuned build is.
- ``..., tuned``: each with the same number of measured schedules (`TUNED`, TRIALS=400); for ``TVM`` all of them are MetaSchedule's.

Every column but ``TVM`` uses our importer, layouts and vector mathematics. All runs take turns, with all processors; ``TVM`` is timed on its own where it
would take most of the time.

Asked: plan at least 1.2x faster than TVM's own fusion at equal trials (geometric mean), and the tuned models at least as fast as the input.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
from tables import Row, print_table, write_rows
from turns import take_turns

from graphwright.backends.tvm.build import build_model
from graphwright.backends.tvm.machine import this_machine
from graphwright.backends.tvm.options import Fusion, Options
from graphwright.backends.tvm.tuning.session import TuningSession
from graphwright.compiler.core.drift import ROUNDING
from graphwright.compiler.core.errors import ContractError, GraphwrightError
from graphwright.compiler.core.fixed import fix_inputs
from graphwright.compiler.core.tuning import Tuning
from graphwright.compiler.driver import optimize_model
from graphwright.compiler.request import Request
from graphwright.compiler.targets import find_backend
from graphwright.compiler.verify import Verifier
from graphwright.models.catalogue import Entry, Sample, catalogue
from graphwright.models.session import Plain, Runs

TUNED = ("minilm", "darknet")
"""Beginnings of names of the models that are tuned too."""
TRIALS = int(os.environ.get("TRIALS", "400"))
AT_LEAST = 1.2
LONG = 128
"""Tokens of the long sample of a model of sentences."""
WARM = 2
QUICK_S = 0.05
"""A run by TVM itself that takes less is timed in turns with the others."""


def run(folder: Path, only: str, seconds: float) -> list[str]:
    """Measure, print and write; returns the claims that do not hold."""
    rows: list[Row] = []
    for entry in entries():
        if only not in entry.name:
            continue
        if reason := entry.unavailable():
            print(f"{entry.name} is left out: {reason}")
            continue
        try:
            with tempfile.TemporaryDirectory() as place:
                rows.append(measure(entry, Path(place), folder / "tuning", seconds))
        except GraphwrightError as error:
            print(f"{entry.name} is left out: {error}", flush=True)
            continue
        print(json.dumps(rows[-1], default=str), flush=True)
    print_table("generated kernels, ms", rows)
    write_rows(folder / "tvm.json", rows)
    return claims(rows)


def entries() -> Iterator[Entry]:
    """The catalogue, and its model of sentences with a sample of `LONG` tokens."""
    for entry in catalogue():
        yield entry
        if entry.name.startswith("minilm"):
            short = entry.feeds
            yield replace(entry, name=f"{entry.name}_1x{LONG}", feeds=lambda count, split, short=short: map(lengthened, short(count, split)))  # type: ignore[misc]


def lengthened(sample: Sample) -> Sample:
    """The tokens of a sample, again and again until there are `LONG`."""
    return {name: np.resize(array, (1, LONG)) for name, array in sample.items()}


def measure(entry: Entry, place: Path, database: Path, seconds: float) -> Row:
    """One model in all ways."""
    path = entry.file(place)
    sample = next(iter(entry.feeds(1, "report")))
    model = fix_inputs(optimize_model(fix_inputs(ir.load(path), sample), Request(target="onnx")).model, sample)
    verifier = Verifier(fix_inputs(ir.load(path), sample), [sample], find_backend("onnx"))
    runners: dict[str, Callable[[], Runs]] = {"input": lambda: Plain(path)}
    row: Row = {"model": entry.name}
    row["TVM"] = alone(by_itself(model, None), sample) * 1e3
    for fusion in ("own", "plan"):
        runners[fusion] = checked(built(model, fusion, None), verifier, fusion)  # type: ignore[arg-type]
    if tuned := entry.name.startswith(TUNED):
        limit = Tuning(trials=TRIALS, database=database)
        runners["plan, tuned"] = checked(built(model, "plan", TuningSession(limit)), verifier, "plan, tuned")
        runners["own, tuned"] = checked(built(model, "own", TuningSession(limit)), verifier, "own, tuned")
        theirs = by_itself(model, TuningSession(replace(limit, database=database / "theirs"), ours=False))
        if (once := alone(theirs, sample)) < QUICK_S:
            runners["TVM, tuned"] = lambda: theirs
        else:
            row["TVM, tuned"] = once * 1e3
    turns = take_turns(runners, [sample], seconds)
    row |= {name: turns.median(name) * 1e3 for name in runners}
    row["TVM / plan"] = number(row, "TVM") / number(row, "plan")
    row["own / plan"] = turns.ratio("own", "plan")[0]
    row["plan / input"] = turns.ratio("plan", "input")[0]
    if tuned:
        row["tuned TVM / plan"] = number(row, "TVM, tuned") / number(row, "plan, tuned")
        row["tuned own / plan"] = turns.ratio("own, tuned", "plan, tuned")[0]
        row["tuned / input"], row["low"], row["high"] = turns.ratio("plan, tuned", "input")
    return row


def built(model: ir.Model, fusion: Fusion, tuning: TuningSession | None) -> Runs:
    """A build of the model, tuned first where that is asked for."""
    told: list[str] = []
    scheduler = tuning.scheduler(this_machine(), lambda _: None, told) if tuning is not None else None
    runner = build_model(model, Options(fusion=fusion), this_machine(), lambda _: None, scheduler)
    for line in told:
        print(f"{fusion}: {line}", flush=True)
    return runner


def by_itself(model: ir.Model, tuning: TuningSession | None) -> Runs:
    """A build with TVM's own fusion and schedules."""
    told: list[str] = []
    scheduler = tuning.scheduler(this_machine(), lambda _: None, told) if tuning is not None else None
    runner = build_model(model, Options(fusion="own", fast_math=False), this_machine(), lambda _: None, scheduler or (lambda module: module))
    for line in told:
        print(f"TVM: {line}", flush=True)
    return runner


def checked(runner: Runs, verifier: Verifier, what: str) -> Callable[[], Runs]:
    """A build that computes what the model does. Raises ContractError when it does not."""
    worst = verifier.check_runner(runner, ROUNDING)  # type: ignore[arg-type]
    if worst.broken:
        raise ContractError(f"wrong numbers ({what}): {worst.output} is off by {worst.max_abs:.3g} where {worst.allowed:.3g} is allowed")
    return lambda: runner


def alone(runner: Runs, sample: Sample) -> float:
    """Seconds of a run that takes no turns."""
    times = []
    for _ in range(WARM):
        start = time.perf_counter()
        runner.run(sample)
        times.append(time.perf_counter() - start)
    return min(times)


def number(row: Row, column: str) -> float:
    """A figure of a row."""
    return float(str(row[column]))


def claims(rows: list[Row]) -> list[str]:
    """What does not hold. ``own`` with our schedules is told, and no claim: nobody but us has them."""
    missed: list[str] = []
    for column, asked in (("TVM / plan", AT_LEAST), ("tuned TVM / plan", AT_LEAST), ("own / plan", None), ("tuned own / plan", None)):
        ratios = [number(row, column) for row in rows if column in row]
        if not ratios:
            continue
        mean = math.exp(statistics.mean(math.log(ratio) for ratio in ratios))
        print(f"geometric mean of {column}: {mean:.3f} over {len(ratios)} models" + (f" (asked: {asked})" if asked else ""))
        if asked and mean < asked:
            missed.append(f"{column}: {mean:.3f} where {asked} is asked")
    slow = [row for row in rows if "low" in row and number(row, "low") > 1]
    return missed + [f"{row['model']}, tuned, takes {number(row, 'tuned / input'):.3f} of the input's time" for row in slow]
