"""Generated kernels against ONNX Runtime: TVM by itself, TVM's own fusion with our schedules, and our plan, untuned and tuned.

All get the model as our passes leave it (standard operators), with the sizes of one sample:

- ``input``: the file as it is under ONNX Runtime's default options, but for its threads, which rest between runs: left to spin they take every other
  generated run's second core, and each side its turn at being ten times slower.
- ``TVM``: TVM's own fusion and its own schedules. Untuned it has none for a CPU, so that each kernel is the loops it was written as.
- ``own``: TVM's own fusion with our schedules, so that it differs from the next in who fuses only.
- ``plan``: our plan with our schedules: what an untuned build is.
- ``..., tuned``: each with the same number of measured schedules (`TUNED`, TRIALS=400, none with 0); for ``TVM`` all of them are MetaSchedule's.

Every column but ``TVM`` uses our importer, layouts and vector mathematics. All runs take turns, with all processors; ``TVM`` is timed on its own where it
would take most of the time.

Every build is packed into out/bench/tvm, and opened from there to be timed; ``--seconds 0`` builds only, so that both can be done at different times. A row
that was timed with the same code is not timed again (remove out/bench/tvm to begin anew).

Asked: plan at least 1.2x faster than TVM's own fusion at equal trials (geometric mean), and the tuned models at least as fast as the input.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
from journal import made_and_timed
from tables import Row, print_table, write_rows
from turns import take_turns

from graphwright.backends.tvm.build import build_model
from graphwright.backends.tvm.machine import this_machine
from graphwright.backends.tvm.opening import open_package
from graphwright.backends.tvm.options import Fusion, Options, read_options
from graphwright.backends.tvm.package import write_package
from graphwright.backends.tvm.session import TvmRunner
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
            row = known(entry, folder / "tvm" / entry.name, folder / "tuning", seconds)
        except GraphwrightError as error:
            print(f"{entry.name} is left out: {error}", flush=True)
            continue
        if row is not None:
            rows.append(row)
            print(json.dumps(row, default=str), flush=True)
    print_table("generated kernels, ms", rows)
    write_rows(folder / "tvm.json", rows)
    return claims(rows)


def known(entry: Entry, place: Path, database: Path, seconds: float) -> Row | None:
    """The row of a model, from its file where the same code wrote it; None when only builds are asked for."""
    return made_and_timed(place, lambda: build(entry, place, database), lambda builds: measure(entry, place, builds, seconds), seconds)


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


def build(entry: Entry, place: Path, database: Path) -> dict[str, dict[str, object]]:
    """Build one model in all ways and pack what was built; returns the options of each."""
    path = entry.file(place)
    sample = next(iter(entry.feeds(1, "report")))
    model = fix_inputs(optimize_model(fix_inputs(ir.load(path), sample), Request(target="onnx")).model, sample)
    verifier = Verifier(fix_inputs(ir.load(path), sample), [sample], find_backend("onnx"))
    runners = {"TVM": by_itself(model, None)}
    for fusion in ("own", "plan"):
        runners[fusion] = built(model, fusion, None)  # type: ignore[arg-type]
    if TRIALS and entry.name.startswith(TUNED):
        limit = Tuning(trials=TRIALS, database=database)
        runners["plan, tuned"] = built(model, "plan", TuningSession(limit))
        runners["own, tuned"] = built(model, "own", TuningSession(limit))
        runners["TVM, tuned"] = by_itself(model, TuningSession(replace(limit, database=database / "theirs"), ours=False))
    options: dict[str, dict[str, object]] = {}
    for name, runner in runners.items():
        if not name.startswith("TVM"):
            check(runner, verifier, name)
        (place / name).mkdir(exist_ok=True)
        write_package(runner, place / name)
        options[name] = replace(Options(), kept=runner.kept).to_dict()
    return options


def measure(entry: Entry, place: Path, options: Mapping[str, Mapping[str, object]], seconds: float) -> Row:
    """One model in all ways that were built."""
    path, sample = entry.file(place), next(iter(entry.feeds(1, "report")))
    runners: dict[str, Callable[[], Runs]] = {"input": lambda: Plain(path)}
    row: Row = {"model": entry.name}
    for name in options:
        runner = open_package(place / name, read_options(options[name]).kept)
        once = alone(runner, sample) if name.startswith("TVM") else 0.0
        if name == "TVM" or once > QUICK_S:
            row[name] = once * 1e3
        else:
            runners[name] = lambda runner=runner: runner  # type: ignore[misc]
    turns = take_turns(runners, [sample], seconds)
    row |= {name: turns.median(name) * 1e3 for name in runners}
    row["TVM / plan"] = number(row, "TVM") / number(row, "plan")
    row["own / plan"] = turns.ratio("own", "plan")[0]
    row["plan / input"] = turns.ratio("plan", "input")[0]
    if "plan, tuned" in options:
        row["tuned TVM / plan"] = number(row, "TVM, tuned") / number(row, "plan, tuned")
        row["tuned own / plan"] = turns.ratio("own, tuned", "plan, tuned")[0]
        row["tuned / input"], row["low"], row["high"] = turns.ratio("plan, tuned", "input")
    return row


def built(model: ir.Model, fusion: Fusion, tuning: TuningSession | None) -> TvmRunner:
    """A build of the model, tuned first where that is asked for."""
    told: list[str] = []
    scheduler = tuning.scheduler(this_machine(), lambda _: None, told) if tuning is not None else None
    runner = build_model(model, Options(fusion=fusion), this_machine(), lambda _: None, scheduler)
    for line in told:
        print(f"{fusion}: {line}", flush=True)
    return runner


def by_itself(model: ir.Model, tuning: TuningSession | None) -> TvmRunner:
    """A build with TVM's own fusion and schedules."""
    told: list[str] = []
    scheduler = tuning.scheduler(this_machine(), lambda _: None, told) if tuning is not None else None
    runner = build_model(model, Options(fusion="own", fast_math=False), this_machine(), lambda _: None, scheduler or (lambda module: module))
    for line in told:
        print(f"TVM: {line}", flush=True)
    return runner


def check(runner: TvmRunner, verifier: Verifier, what: str) -> None:
    """Raise ContractError when a build does not compute what the model does."""
    worst = verifier.check_runner(runner, ROUNDING)
    if worst.broken:
        raise ContractError(f"wrong numbers ({what}): {worst.output} is off by {worst.max_abs:.3g} where {worst.allowed:.3g} is allowed")


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
