"""How work grows with the model: long chains, a wide fan, what folds away, 3 GiB of weights, 1 GiB of activations, and the start of the command line."""

from __future__ import annotations

import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tables import Row, print_table, write_rows

import graphwright

CHAIN_S, CHAIN, GROWTH = 2.0, 4000, 1.25
LONG, LONG_S = 40_000, 25.0
FAN = 800
CALIBRATION_BYTES, SAMPLES = 4 * 2**30, 2
PEAK_BYTES, MATRICES, WIDE, NARROW = 1.5 * 2**30, 24, 8192, 4096
HELP_S = 0.5


def run(folder: Path, only: str, seconds: float) -> list[str]:
    """Measure, print and write; returns the claims that do not hold."""
    del seconds
    missed: list[str] = []
    for name, bench in (
        ("chain", chains),
        ("long", long_chain),
        ("fan", fans),
        ("fold", foldables),
        ("memory", memory),
        ("calibration", calibrations),
        ("help", start_up),
    ):
        if only in name:
            rows, claims = bench()
            print_table(name, rows)
            write_rows(folder / f"scale_{name}.json", rows)
            missed += claims
    return missed


def chain(length: int) -> onnx.ModelProto:
    """A chain of ``length`` nodes, of which some go away, some fold and some stay."""
    kinds = ("Relu", "Add", "Identity", "Mul", "Sigmoid", "Sub", "Tanh", "Neg")
    nodes, weights = [], []
    for index in range(length):
        kind = kinds[index % len(kinds)]
        inputs = [f"v{index}"]
        if kind in ("Add", "Mul", "Sub"):
            weights.append(numpy_helper.from_array(np.full(4, 0.5 + index / length, np.float32), f"w{index}"))
            inputs.append(f"w{index}")
        nodes.append(helper.make_node(kind, inputs, [f"v{index + 1}"]))
    return _model(nodes, weights, "v0", f"v{length}")


def fan(width: int) -> onnx.ModelProto:
    """``width`` siblings that read one value, added up pair by pair."""
    weights = [numpy_helper.from_array(np.full(4, index, np.float32), f"w{index}") for index in range(width)]
    nodes = [helper.make_node("Mul", ["x", f"w{index}"], [f"m{index}"]) for index in range(width)]
    nodes.append(helper.make_node("Sum", [f"m{index}" for index in range(width)], ["y"]))
    return _model(nodes, weights, "x", "y")


def foldable(length: int) -> onnx.ModelProto:
    """``length`` nodes of which all but the last compute from constants alone: small matrices multiplied, added and reshaped."""
    weights = [numpy_helper.from_array(np.full((2, 4), 1 + index % 7, np.float32), f"w{index}") for index in range(16)]
    weights.append(numpy_helper.from_array(np.array([2, 4], np.int64), "s0"))
    nodes, last = [], "w0"
    for index in range(length - 1):
        kind, other = (("Mul", f"w{index % 16}"), ("Tanh", ""), ("Reshape", "s0"), ("Add", f"w{index % 16}"))[index % 4]
        nodes.append(helper.make_node(kind, [last, other] if other else [last], [f"c{index}"]))
        last = f"c{index}"
    nodes[-1:] = [helper.make_node("Gather", [last, "row"], ["picked"]), helper.make_node("Add", ["x", "picked"], ["y"])]
    nodes[-2].input[0] = f"c{length - 3}"
    weights.append(numpy_helper.from_array(np.array(1, np.int64), "row"))
    return _model(nodes, weights, "x", "y")


def _model(nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto], first: str, last: str) -> onnx.ModelProto:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in (first, last)]
    graph = helper.make_graph(nodes, "scale", ports[:1], ports[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def chains() -> tuple[list[Row], list[str]]:
    """Level 2 of a chain: time for 1,000 to 8,000 nodes, and the power of the length it grows with."""
    graphwright.optimize(chain(50), target="ort-cpu")
    lengths = (1000, 2000, CHAIN, 2 * CHAIN)
    times = [_optimize_seconds(chain(length)) for length in lengths]
    power = math.log(times[-1] / times[1]) / math.log(lengths[-1] / lengths[1])
    rows: list[Row] = [{"nodes": length, "seconds": spent, "ms a node": 1e3 * spent / length} for length, spent in zip(lengths, times, strict=True)]
    print(f"time grows with the power {power:.2f} of the length")
    missed = [f"{CHAIN} nodes take {times[2]:.2f} s, at most {CHAIN_S} are allowed"] if times[2] > CHAIN_S else []
    return rows, missed + ([f"time grows with the power {power:.2f} of the length"] if power > GROWTH else [])


def long_chain() -> tuple[list[Row], list[str]]:
    """Level 2 of 40,000 nodes."""
    spent = _optimize_seconds(chain(LONG), tries=1)
    return [{"nodes": LONG, "seconds": spent}], [f"{LONG} nodes take {spent:.1f} s, at most {LONG_S} are allowed"] if spent > LONG_S else []


def foldables() -> tuple[list[Row], list[str]]:
    """Level 2 of 4,000 nodes that are a constant in the end."""
    spent = _optimize_seconds(foldable(CHAIN))
    return [{"nodes": CHAIN, "seconds": spent}], [f"{CHAIN} foldable nodes take {spent:.2f} s, at most {CHAIN_S} are allowed"] if spent > CHAIN_S else []


def fans() -> tuple[list[Row], list[str]]:
    """Level 2 of 800 siblings."""
    spent = _optimize_seconds(fan(FAN))
    return [{"siblings": FAN, "seconds": spent}], [f"{FAN} siblings take {spent:.2f} s"] if spent > CHAIN_S else []


def _optimize_seconds(model: onnx.ModelProto, tries: int = 3) -> float:
    """The best of a few tries: the least disturbed one."""
    times = []
    for _ in range(tries):
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        start = time.perf_counter()
        graphwright.optimize(copy, target="ort-cpu", level=2)
        times.append(time.perf_counter() - start)
    return min(times)


def memory() -> tuple[list[Row], list[str]]:
    """The largest resident size of ``graphwright compile`` on 3 GiB of weights beside the model."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("GRAPHWRIGHT_BENCH_FOLDER")) as place:
        room = shutil.disk_usage(place).free
        if room < 10 * 2**30:
            print(f"left out: needs 10 GiB of disk in {place}, there are {room / 2**30:.1f} (GRAPHWRIGHT_BENCH_FOLDER names another folder)")
            return [], []
        path = write_big(Path(place))
        rows = [_compile_big(path, target) for target in ("onnx", "ort-cpu")]
    missed = [f"{row['target']}: exit code {row['exit code']}" for row in rows if row["exit code"] != 0]
    missed += [f"{row['target']}: {row['peak GiB']:.2f} GiB, at most 1.5 are allowed" for row in rows if row["peak GiB"] * 2**30 > PEAK_BYTES]
    return rows, missed


def write_big(folder: Path) -> Path:
    """24 matrices of 128 MiB in one data file, no two alike, with a Relu behind each; never more than one in memory."""
    block = np.random.default_rng(0).standard_normal(WIDE * NARROW, dtype=np.float32) / 64
    nodes, weights = [], []
    with (folder / "big.onnx.data").open("wb") as file:
        for index in range(MATRICES):
            shape = [NARROW, WIDE] if index % 2 == 0 else [WIDE, NARROW]
            tensor = TensorProto(name=f"w{index}", data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
            entries = {"location": "big.onnx.data", "offset": file.tell(), "length": block.nbytes}
            tensor.external_data.extend(onnx.StringStringEntryProto(key=key, value=str(value)) for key, value in entries.items())
            weights.append(tensor)
            file.write((block * np.float32(1 + index / MATRICES)).data)
            nodes += [helper.make_node("MatMul", [f"v{index}", f"w{index}"], [f"m{index}"]), helper.make_node("Relu", [f"m{index}"], [f"v{index + 1}"])]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", NARROW]) for name in ("v0", f"v{MATRICES}")]
    graph = helper.make_graph(nodes, "big", ports[:1], ports[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (folder / "big.onnx").write_bytes(model.SerializeToString())
    return folder / "big.onnx"


def _compile_big(path: Path, target: str) -> Row:
    out = path.parent / target
    start = time.perf_counter()
    child = subprocess.Popen([*_command(), "compile", str(path), "-o", str(out), "--target", target, "--no-cache"], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    row: Row = {"target": target, "peak GiB": usage.ru_maxrss / 2**20, "seconds": time.perf_counter() - start, "exit code": child.returncode}
    shutil.rmtree(out, ignore_errors=True)
    return row


CALIBRATE = """
import resource, sys
import numpy as np
from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.calibration.engine import Engine
from graphwright.compiler.calibration.opening import open_calibration
from graphwright.compiler.core.sites import all_sites
from graphwright.compiler.importer import import_model

model = import_model(sys.argv[1]).model
dims = [int(dim) for dim in model.graph.inputs[0].shape]
random = np.random.default_rng(0)
samples = ({"x": random.standard_normal(dims, dtype=np.float32)} for _ in range(int(sys.argv[2])))
engine = Engine(open_calibration(samples, model), OrtBackend(), shelf=None)
values = [value.name for node in model.graph for value in node.outputs]
assert len(engine.ranges(model, values)) == len(values)
sites = list(all_sites(model))
assert sum(1 for _ in engine.sites(model, sites, rows=256)) == len(sites)
"""


def calibrations() -> tuple[list[Row], list[str]]:
    """The largest resident size while ranges and second moments are taken of a model with 1 GiB of activations for each sample, in many values or two."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("GRAPHWRIGHT_BENCH_FOLDER")) as place:
        for side, layers in ((512, 16), (1024, 4), (1448, 2)):
            path = Path(place) / f"{layers}.onnx"
            onnx.save(convolutions(side, layers), path)
            start = time.perf_counter()
            child = subprocess.Popen([sys.executable, "-c", CALIBRATE, str(path), str(SAMPLES)])
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            activations = layers * 64 * side * side * 4 / 2**30
            rows.append(
                {
                    "values": layers,
                    "activations GiB": activations,
                    "peak GiB": usage.ru_maxrss / 2**20,
                    "seconds": time.perf_counter() - start,
                    "exit code": child.returncode,
                }
            )
    missed = [f"calibration of {row['values']} values: exit code {row['exit code']}" for row in rows if row["exit code"] != 0]
    missed += [f"calibration: {row['peak GiB']:.2f} GiB, at most 4 are allowed" for row in rows if row["peak GiB"] * 2**30 > CALIBRATION_BYTES]
    return rows, missed


def convolutions(side: int, layers: int) -> onnx.ModelProto:
    """``layers`` convolutions that each make [1, 64, side, side]."""
    random = np.random.default_rng(0)
    weights = [numpy_helper.from_array(random.standard_normal((64, 3, 3, 3), dtype=np.float32) / 5, "w0")]
    nodes = [helper.make_node("Conv", ["x", "w0"], ["v0"], pads=[1, 1, 1, 1])]
    for index in range(1, layers):
        weights.append(numpy_helper.from_array(random.standard_normal((64, 64, 1, 1), dtype=np.float32) / 8, f"w{index}"))
        nodes.append(helper.make_node("Conv", [f"v{index - 1}", f"w{index}"], [f"v{index}"]))
    nodes.append(helper.make_node("GlobalAveragePool", [f"v{layers - 1}"], ["y"]))
    ports = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, side, side]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64, 1, 1]),
    ]
    graph = helper.make_graph(nodes, "activations", ports[:1], ports[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def start_up() -> tuple[list[Row], list[str]]:
    """How long ``graphwright --help`` takes: the median of nine."""
    times = []
    for _ in range(9):
        start = time.perf_counter()
        subprocess.run([*_command(), "--help"], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    median = statistics.median(times)
    return [{"command": "--help", "seconds": median}], [f"--help takes {median:.2f} s, at most {HELP_S} are allowed"] if median > HELP_S else []


def _command() -> list[str]:
    return [sys.executable, "-m", "graphwright.tools.main"]
