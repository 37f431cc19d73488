"""Generated kernels against ONNX Runtime: TVM with its own fusion and with our plan, untuned and tuned with equally many measurements.

"input" is the file under ONNX Runtime as everybody runs it. The others get the model as our passes leave it (standard operators), with the sizes of one
sample: "own" and "plan" differ in who fuses only, and have the schedules of an untuned build; "as it comes" is TVM's own fusion and no schedules, timed on
its own because it would take most of the time. Models in `TUNED` are tuned for both, with the same number of trials (TRIALS=600 make bench-tvm).
All runs take turns, with all processors. Asked: plan at least 1.2x faster than own (geometric mean), and the tuned models at least as fast as the input.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
from tables import Row, print_table, write_rows
from turns import take_turns

from graphwright.backends.tvm.build import build_model
from graphwright.backends.tvm.machine import this_machine
from graphwright.backends.tvm.options import Options
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

TUNED = ("minilm", "mobilenetv1_0.5", "resnet8")
"""Parts of names of the models that are tuned too."""
TRIALS = int(os.environ.get("TRIALS", "400"))
AT_LEAST = 1.2
WARM = 2


def run(folder: Path, only: str, seconds: float) -> list[str]:
    """Measure, print and write; returns the claims that do not hold."""
    rows: list[Row] = []
    for entry in catalogue():
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


def measure(entry: Entry, place: Path, database: Path, seconds: float) -> Row:
    """One model in all ways."""
    path = entry.file(place)
    sample = next(iter(entry.feeds(1, "report")))
    model = fix_inputs(optimize_model(fix_inputs(ir.load(path), sample), Request(target="onnx")).model, sample)
    verifier = Verifier(fix_inputs(ir.load(path), sample), [sample], find_backend("onnx"))
    runners: dict[str, Callable[[], Runs]] = {"input": lambda: Plain(path)}
    for fusion in ("own", "plan"):
        runners[fusion] = ready(model, Options(fusion=fusion), verifier, None)  # type: ignore[arg-type]
        if any(part in entry.name for part in TUNED):
            tuning = TuningSession(Tuning(trials=TRIALS, database=database))
            runners[f"{fusion}, tuned"] = ready(model, Options(fusion=fusion), verifier, tuning)  # type: ignore[arg-type]
    turns = take_turns(runners, [sample], seconds)
    row: Row = {"model": entry.name, **{name: turns.median(name) * 1e3 for name in runners}}
    row["as it comes"] = alone(model, sample)
    row["own / plan"] = turns.ratio("own", "plan")[0]
    if "plan, tuned" in runners:
        row["tuned own / plan"] = turns.ratio("own, tuned", "plan, tuned")[0]
        row["tuned / input"], row["low"], row["high"] = turns.ratio("plan, tuned", "input")
    return row


def ready(model: ir.Model, options: Options, verifier: Verifier, tuning: TuningSession | None) -> Callable[[], Runs]:
    """A build of the model, checked against the reference."""
    target = this_machine()
    told: list[str] = []
    scheduler = tuning.scheduler(target, lambda _: None, told) if tuning is not None else None
    runner = build_model(model, options, target, lambda _: None, scheduler)
    for line in told:
        print(line, flush=True)
    worst = verifier.check_runner(runner, ROUNDING)
    if worst.broken:
        raise ContractError(f"wrong numbers ({options.fusion} fusion): {worst.output} is off by {worst.max_abs:.3g} where {worst.allowed:.3g} is allowed")
    return lambda: runner


def alone(model: ir.Model, sample: Sample) -> float:
    """Milliseconds of a run under TVM's own fusion without schedules."""
    runner = build_model(model, Options(fusion="own", fast_math=False), this_machine(), lambda _: None, lambda module: module)
    times = []
    for _ in range(WARM):
        start = time.perf_counter()
        runner.run(sample)
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


def claims(rows: list[Row]) -> list[str]:
    """What does not hold."""
    missed: list[str] = []
    for column in ("own / plan", "tuned own / plan"):
        ratios = [float(str(row[column])) for row in rows if column in row]
        if not ratios:
            continue
        mean = math.exp(statistics.mean(math.log(ratio) for ratio in ratios))
        print(f"geometric mean of {column}: {mean:.3f} over {len(ratios)} models (asked: {AT_LEAST})")
        if mean < AT_LEAST:
            missed.append(f"{column}: {mean:.3f} where {AT_LEAST} is asked")
    slow = [row for row in rows if "low" in row and float(str(row["low"])) > 1]
    return missed + [f"{row['model']}, tuned, takes {row['tuned / input']:.3f} of the input's time" for row in slow]
