"""How many operators a kernel holds on average: real models and twenty families as torch exports them, beside the kernels of TVM's own fusion.

"came in" counts the operators of the file (constants and what only holds one are none), "after" those that our passes leave (level 2, standard operators);
weights that a caller may override are constants, as in every build.
The rate is operators that came in by kernels of the plan, as the DNNFusion paper counts; "after / kernels" leaves out what the passes did. "tiles" is the
plan that also joins products with what works on their rows or channels (Deep-Fusion), as a measurement would decide, and blocks that work on the same band
of an image (`planning.bands`); the rates claimed are of that plan.
Families are exported as torch traces them, before its exporter tidies up (BatchNormalization apart from Conv, functions written out), and by the older
exporter. TVM's kernels are those of its FuseOps on the graph that our plan is made for; ours on the same graph, after the same import, must not be more.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx_ir as ir
from tables import Row, print_table, write_rows

from graphwright.compiler.core.errors import GraphwrightError
from graphwright.compiler.core.fixed import settle_initialisers
from graphwright.compiler.core.graph import all_graphs, clone_model
from graphwright.compiler.core.passes import Context, parse_pipeline
from graphwright.compiler.core.planning.plan import Constraints
from graphwright.compiler.core.planning.planner import plan_model
from graphwright.compiler.core.shapes import infer_shapes
from graphwright.compiler.core.target import PORTABLE
from graphwright.compiler.importer import import_model
from graphwright.compiler.manager import Manager
from graphwright.compiler.pipeline import CANONICAL, pipeline_for
from graphwright.compiler.plan_report import count_operators
from graphwright.models.catalogue import catalogue
from graphwright.models.tiny import FAMILIES, Tiny

AT_LEAST = {"convolutional": 3.0, "transformer": 4.0, "gpt2": 8.0}
RECURRENT = frozenset({"LSTM", "GRU", "RNN"})


@dataclass(frozen=True)
class Subject:
    """A model to plan."""

    name: str
    model: ir.Model


def run(folder: Path, only: str, seconds: float) -> list[str]:
    """Count, print and write; returns the claims that do not hold."""
    del seconds
    rows = [row for subject in subjects(only) if (row := measure(subject)) is not None]
    print_table("operators by kernels", rows)
    write_rows(folder / "plan.json", rows)
    return [line for row in rows for line in claims(row)]


def subjects(only: str) -> Iterator[Subject]:
    """Every model that this machine has, and every family from both exporters."""
    with tempfile.TemporaryDirectory() as place:
        for entry in catalogue():
            if only in entry.name and entry.unavailable() is None:
                yield Subject(entry.name, sized(import_model(entry.file(Path(place))).model, next(iter(entry.feeds(1, "report")))))
    for tiny in FAMILIES:
        for exporter in tiny.exporters:
            name = f"{tiny.name} ({exporter})"
            if only in name:
                yield Subject(name, exported(tiny, exporter))


def sized(model: ir.Model, feed: Mapping[str, np.ndarray]) -> ir.Model:
    """The model with its inputs as large as a real one, so that tiles have sizes."""
    for value in model.graph.inputs:
        if value.name in feed:
            value.shape = ir.Shape(np.shape(feed[value.name]))
    return model


def exported(tiny: Tiny, exporter: str) -> ir.Model:
    with tempfile.TemporaryDirectory() as place:
        path = tiny.export(Path(place), exporter, dynamic=False, optimize=False)  # type: ignore[arg-type]
        return import_model(path.read_bytes()).model


def measure(subject: Subject) -> Row | None:
    """One row; None, with a sentence, for a model that cannot be rewritten."""
    model = clone_model(subject.model)
    settle_initialisers(model)
    try:
        for step in parse_pipeline(CANONICAL):
            step.run(model, Context())
        came_in = count_operators(model)
        Manager(PORTABLE).run(model, pipeline_for(PORTABLE, 2, "fp32"))
        infer_shapes(model)
    except GraphwrightError as error:
        print(f"{subject.name} is left out: {error}")
        return None
    plain, tiles = (plan_model(model, constraints) for constraints in (Constraints(), Constraints(deep=True, bands=True)))
    after, kernels, fewer = count_operators(model), *(sum(plan.kernels for plan in plans) for plans in (plain, tiles))
    row: Row = {
        "model": subject.name,
        "kind": kind_of(model),
        "came in": came_in,
        "after": after,
        "kernels": kernels,
        "rate": came_in / kernels,
        "after / kernels": after / kernels,
        "tiles: kernels": fewer,
        "tiles: rate": came_in / fewer,
    }
    row |= beside_tvm(model)
    print("  ".join(str(value if not isinstance(value, float) else round(value, 2)) for value in row.values()), flush=True)
    return row


def kind_of(model: ir.Model) -> str:
    """What a model is, by its operators: recurrent, transformer, convolutional, or other."""
    nodes = [node for graph in all_graphs(model) for node in graph]
    types = {node.op_type for node in nodes}
    if types & RECURRENT:
        return "recurrent"
    if "Attention" in types or any(node.op_type == "Softmax" and _weighs(node) for node in nodes):
        return "transformer"
    return "convolutional" if types & {"Conv", "QLinearConv", "ConvInteger"} else "other"


def _weighs(softmax: ir.Node, steps: int = 6) -> bool:
    """Whether a Softmax makes weights for a product, moved about or masked on the way at most."""
    reached = {softmax}
    for _ in range(steps):
        reached = {user for node in reached for value in node.outputs for user, _ in value.uses()}
        if any(node.op_type in ("MatMul", "Einsum") for node in reached):
            return True
    return False


def beside_tvm(model: ir.Model) -> Row:
    """Kernels of TVM's own fusion and of ours for TVM, on the same graph; None where it cannot take it, or is not there."""
    if find_spec("tvm") is None:
        return {"TVM's fusion": None, "ours in TVM": None, "not taken": "needs apache-tvm"}
    from graphwright.backends.tvm.building import fused_module, kernels_of
    from graphwright.backends.tvm.options import Options

    try:
        own, ours = (len(kernels_of(fused_module(clone_model(model), Options(fusion=fusion)))) for fusion in ("own", "plan"))
    except Exception as error:  # TVM raises what it likes; a model that it cannot take has nothing to compare
        return {"TVM's fusion": None, "ours in TVM": None, "not taken": " ".join(str(error).split())[:60]}
    return {"TVM's fusion": own, "ours in TVM": ours, "not taken": ""}


def claims(row: Row) -> list[str]:
    """What does not hold of a row."""
    name, kind = str(row["model"]), str(row["kind"])
    wanted = AT_LEAST["gpt2"] if name.startswith("gpt2") else AT_LEAST.get(kind, 0.0)
    rate, own, ours = float(str(row["tiles: rate"])), row["TVM's fusion"], row["ours in TVM"]
    missed = [f"{name}: {rate:.2f} operators for each kernel, {wanted:g} claimed"] if rate < wanted else []
    worse = isinstance(own, int) and isinstance(ours, int) and ours > own
    return missed + ([f"{name}: {ours} kernels in TVM, its own fusion makes {own}"] if worse else [])
