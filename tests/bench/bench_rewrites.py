"""The catalogue of one-rewrite graphs through every optimizer, side by side: which fire, which change the numbers, which fail.

All run in one process, which is replaced when one of them ends it. A result is right when it computes what the unoptimised model does, beyond rounding,
on inputs made for the model: ordinary ones, empty and large shapes, and ones with zeros, infinities and NaN. "edge" counts results that are right
on ordinary inputs and differ where an infinity, a NaN or a very large number went in. Traps ask for nothing: there the numbers only have to stay.

Ours has two columns: as it is asked for by default, where rules whose kernels were measured to be slower on this device do not fire, and with every rule.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import onnx
from rivals import as_run, rivals, silence
from tables import Row, print_table, write_rows

import graphwright
from graphwright.tests.rewrites import CATEGORIES, TRAPS
from graphwright.tests.rewrites.graphs import Graph, fired
from graphwright.tests.rewrites.running import every_rule, judge

OURS, ALL_OURS = "graphwright", "graphwright, every rule"
FIRED, NOT, WRONG, EDGE, FAILED = "fired", "not", "wrong", "edge", "failed"
AT_LEAST = 0.95
"""Part of the graphs that ours fires on."""


@dataclass(frozen=True)
class Verdict:
    """What one tool made of one graph, and why it is not right."""

    outcome: str
    reason: str = ""


def tools(target: str) -> dict[str, Callable[[onnx.ModelProto], onnx.ModelProto]]:
    """Every optimizer by name, asked to do what it does for a target."""
    ours = {
        OURS: lambda model: graphwright.optimize(model, target=target),
        ALL_OURS: lambda model: graphwright.optimize(model, target=target, level=every_rule(target)),
    }
    found = {**ours, **rivals(), "onnxruntime": as_run}
    if target == "ort-cpu":
        found["onnxscript"] = _onnxscript_for_runtime
    return found


def _onnxscript_for_runtime(model: onnx.ModelProto) -> onnx.ModelProto:
    """Its optimizer, then its fusions for ONNX Runtime's kernels."""
    import onnx_ir as ir
    from onnxscript import optimizer
    from onnxscript.rewriter.ort_fusions import optimize_for_ort

    changed = ir.from_proto(optimizer.optimize(model))
    result = optimize_for_ort(changed)
    return ir.to_proto(result[0] if isinstance(result, tuple) else result)


def run(folder: Path, only: str, seconds: float) -> list[str]:
    """Measure, print and write; returns the claims that do not hold."""
    rows: list[Row] = []
    for category in (*CATEGORIES, *TRAPS):
        if only in category:
            rows += [{"category": category, **row} for row in judged(category)]
    names = list(tools("onnx"))
    rewrites, traps = [row for row in rows if row["category"] in CATEGORIES], [row for row in rows if row["category"] in TRAPS]
    print_table("fired, by category", [_by_category(category, rewrites, names) for category in CATEGORIES if only in category])
    print_table("one-rewrite graphs", [_totals(name, rewrites) for name in names])
    print_table("traps", [_totals(name, traps) for name in names])
    _print_ours(rows)
    write_rows(folder / "rewrites.json", rows)
    return _missed(rewrites, [*rewrites, *traps])


def judged(category: str) -> Iterator[Row]:
    """One row a graph: the outcome of each tool. A tool that ends the process fails on that graph, and the rest goes on in another."""
    graphs = importlib.import_module(f"graphwright.tests.rewrites.{category}").GRAPHS
    pool = ProcessPoolExecutor(1)
    for index, graph in enumerate(graphs):
        row: Row = {"graph": graph.name, "target": graph.target}
        for name in tools(graph.target):
            try:
                verdict = pool.submit(attempt, category, index, name).result(timeout=300)
            except (BrokenProcessPool, TimeoutError):
                pool.shutdown(wait=False, cancel_futures=True)
                pool, verdict = ProcessPoolExecutor(1), Verdict(FAILED, "the process ended")
            row[name] = verdict.outcome
            row[f"{name}: why"] = verdict.reason
        yield row
    pool.shutdown()


def attempt(category: str, index: int, name: str) -> Verdict:
    """Let a tool optimise a graph, and look at what comes out."""
    graph: Graph = importlib.import_module(f"graphwright.tests.rewrites.{category}").GRAPHS[index]
    model = graph.model()
    try:
        with silence():
            result = tools(graph.target)[name](graph.model())
    except Exception as problem:
        return Verdict(FAILED, f"{type(problem).__name__}: {str(problem)[:200]}")
    referee = judge(model, graph.samples)
    fault = referee.fault(result)
    if fault:
        ordinary = referee.fault_on_ordinary_inputs(result)
        return Verdict(WRONG if ordinary else EDGE, ordinary or fault)
    return Verdict(FIRED if fired(graph, model, result) else NOT)


def _by_category(category: str, rows: list[Row], names: list[str]) -> Row:
    mine = [row for row in rows if row["category"] == category]
    return {"category": category, "graphs": len(mine), **{name: sum(row[name] == FIRED for row in mine) for name in names}}


def _totals(name: str, rows: list[Row]) -> Row:
    found = Counter(row[name] for row in rows)
    right = {"fired": found[FIRED], "not": found[NOT]} if any(row["category"] in CATEGORIES for row in rows) else {"right": found[NOT]}
    return {"optimizer": name, "graphs": len(rows), **right, "wrong": found[WRONG], "edge": found[EDGE], "failed": found[FAILED]}


def _print_ours(rows: list[Row]) -> None:
    for row in rows:
        for name in (OURS, ALL_OURS):
            if row[name] not in (FIRED, NOT) or (row[name] == NOT and row["category"] in CATEGORIES):
                print(f"  {name}: {row[name]}: {row['category']}: {row['graph']} {row[f'{name}: why']}".rstrip())


def _missed(rewrites: list[Row], rows: list[Row]) -> list[str]:
    missed = [
        f"{row['category']}: {row['graph']}: {name} is {row[name]} ({row[f'{name}: why']})"
        for row in rows
        for name in (OURS, ALL_OURS)
        if row[name] not in (FIRED, NOT)
    ]
    count = sum(row[ALL_OURS] == FIRED for row in rewrites)
    if count < AT_LEAST * len(rewrites):
        missed.append(f"{ALL_OURS}: {count} of {len(rewrites)} graphs, fewer than {AT_LEAST:.0%}")
    return missed
