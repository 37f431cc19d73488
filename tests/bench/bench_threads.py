"""Two pools of threads in one process: what ONNX Runtime's and TVM's threads cost each other by how they wait between runs.

Each row is a process of its own that runs one model under both runtimes in turns, or under one alone. ONNX Runtime's threads "spin" for the next run as
they do by default, "rest" between runs (`session.force_spinning_stop`, what our sessions do) or "sleep" (`session.intra_op.allow_spinning=0`). TVM's look for
work 300,000 times before they sleep by default ("spin"), or 100 times ("rest", what our runners do). Asked: with both resting, neither is slower
beside the other than alone by more than a quarter.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx_ir as ir
from tables import Row, print_table, write_rows

from graphwright.backends.tvm.build import build_model
from graphwright.backends.tvm.machine import this_machine
from graphwright.backends.tvm.options import Options
from graphwright.backends.tvm.package import write_package
from graphwright.backends.tvm.threads import ENOUGH, SAID, SPINS
from graphwright.compiler.core.fixed import fix_inputs
from graphwright.compiler.driver import optimize_model
from graphwright.compiler.request import Request
from graphwright.models.catalogue import Entry, catalogue

MODELS = ("resnet8_cifar10", "mobilenetv1_0.5_160", "kws_dscnn")
ORT = {"spin": {}, "rest": {"session.force_spinning_stop": "1"}, "sleep": {"session.intra_op.allow_spinning": "0"}}
TVM = {"spin": "300000", "rest": ENOUGH}
WAYS = [*((ort, "") for ort in ORT), *(("", tvm) for tvm in TVM), *((ort, tvm) for ort in ORT for tvm in TVM)]
"""How the threads of each wait; "" where a runtime is not there."""
AT_MOST = 1.25
PROGRAM = """
import json, pickle, statistics, sys, time
from pathlib import Path
folder, settings, seconds = Path(sys.argv[1]), json.loads(sys.argv[2]), float(sys.argv[3])
feeds = pickle.loads((folder / "feeds.pickle").read_bytes())
runs = {}
if settings["ort"] is not None:
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    for name, value in settings["ort"].items():
        options.add_session_config_entry(name, value)
    session = onnxruntime.InferenceSession(settings["model"], options, providers=["CPUExecutionProvider"])
    runs["ONNX Runtime"] = lambda: session.run(None, feeds)
if settings["tvm"]:
    from graphwright.backends.tvm.opening import open_package
    runner = open_package(folder)
    runs["TVM"] = lambda: runner.run(feeds)
times = {name: [] for name in runs}
def timed(run, calls):
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls
calls = {name: max(1, int(2e-3 / min(timed(run, 1) for _ in range(3)))) for name, run in runs.items()}
end = time.perf_counter() + seconds
while time.perf_counter() < end or len(next(iter(times.values()))) < 5:
    for name, run in runs.items():
        times[name].append(timed(run, calls[name]))
print(json.dumps({name: statistics.median(found) * 1e3 for name, found in times.items()}))
"""


def run(folder: Path, only: str, seconds: float) -> list[str]:
    """Measure, print and write; returns the claims that do not hold."""
    rows: list[Row] = []
    missed: list[str] = []
    for entry in catalogue():
        if entry.name in MODELS and only in entry.name and not entry.unavailable():
            with tempfile.TemporaryDirectory() as place:
                found = measure(entry, Path(place), seconds / len(WAYS))
            rows += found
            missed += claims(entry.name, found)
    print_table("threads of two runtimes, ms", rows)
    write_rows(folder / "threads.json", rows)
    return missed


def measure(entry: Entry, place: Path, seconds: float) -> list[Row]:
    """One model in all ways."""
    path = entry.file(place)
    sample = next(iter(entry.feeds(1, "report")))
    model = fix_inputs(optimize_model(fix_inputs(ir.load(path), sample), Request(target="onnx")).model, sample)
    write_package(build_model(model, Options(), this_machine(), lambda _: None), place)
    (place / "feeds.pickle").write_bytes(pickle.dumps(dict(sample)))
    return [{"model": entry.name, "ONNX Runtime": ort, "TVM": tvm} | timed(path, place, ort, tvm, seconds) for ort, tvm in WAYS]


def timed(path: Path, place: Path, ort: str, tvm: str, seconds: float) -> Row:
    """Milliseconds of a run, in a process of its own."""
    settings = {"model": str(path), "ort": ORT.get(ort), "tvm": bool(tvm)}
    surroundings = {name: value for name, value in os.environ.items() if name not in SAID} | ({SPINS: TVM[tvm]} if tvm else {})
    command = [sys.executable, "-c", PROGRAM, str(place), json.dumps(settings), str(seconds)]
    done = subprocess.run(command, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return {"ONNX Runtime ms": found.get("ONNX Runtime"), "TVM ms": found.get("TVM")}


def claims(name: str, rows: list[Row]) -> list[str]:
    """What does not hold."""
    missed = []
    for runtime, alone in (("ONNX Runtime", ("rest", "")), ("TVM", ("", "rest"))):
        column = f"{runtime} ms"
        by_way = {(row["ONNX Runtime"], row["TVM"]): row[column] for row in rows}
        ratio = float(str(by_way["rest", "rest"])) / float(str(by_way[alone]))
        if ratio > AT_MOST:
            missed.append(f"{name}: {runtime} takes {ratio:.2f} of its time where the other runtime rests beside it")
    return missed
