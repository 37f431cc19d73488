"""Factorised convolutions of trained classifiers: top-1 on images that were not calibrated on, arithmetic, and latency in turns.

Every method takes 30 % of the arithmetic of the convolutions that it is for, asked for as size; a second row lets only those be factorised that are measured to
be faster. Nothing is trained afterwards. Claimed: top-1 of svd_llm is not surely below that of svd, on the same images; a model of which
only faster sites were factorised is not slower.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from quant_decoders import calibrator, interval, raised
from quant_pictures import Pictures, pictures
from tables import Row, print_table
from turns import take_turns

from graphwright.backends.ort.backend import OrtBackend
from graphwright.compiler.core.cost import flops
from graphwright.compiler.core.graph import all_graphs, clone_model
from graphwright.compiler.core.passes import Context
from graphwright.compiler.kernel_choice import KernelChoice
from graphwright.compiler.kernel_table import KernelTable
from graphwright.compiler.serialize import to_bytes
from graphwright.models.session import Plain
from graphwright.passes.factorize.factorize import Factorize

NAMES = ("resnet8_cifar10", "squeezenet_fp16", "darknet_tiny", "mobilenetv2")
METHODS = ("svd", "svd_llm", "spatial_svd", "tucker", "cp")
RATIO, FITTED, JUDGED = 0.3, 40, 300


@dataclass(frozen=True)
class Result:
    """A classifier after one method: what it says of each image, and how."""

    method: str
    fast: bool
    right: np.ndarray
    row: Row


def measure_kernels(only: str, seconds: float) -> tuple[list[Row], list[str]]:
    """All classifiers whose name holds ``only``."""
    rows: list[Row] = []
    missed: list[str] = []
    for one in pictures(NAMES):
        if only not in one.name:
            continue
        results = list(factorised(one, seconds))
        print_table(f"{one.name}: {RATIO:.0%} of the arithmetic of the sites taken out, nothing trained", [result.row for result in results])
        rows += [{"model": one.name, **result.row} for result in results]
        missed += [f"{one.name}: {claim}" for claim in claims(results)]
    return rows, missed


def factorised(one: Pictures, seconds: float) -> Iterator[Result]:
    """Each method, for the size and for the time."""
    model = raised(ir.load(one.path))
    fit, feeds = calibrator(one.samples(FITTED)), one.samples(2)
    before = one.right(Plain(to_bytes(model)), JUDGED)
    for fast in (False, True):
        for method in METHODS:
            judge = KernelChoice(OrtBackend().baseline, KernelTable(), total_s=60.0) if fast else None
            copy, context = clone_model(model), Context(calibrator=fit, judge=judge)
            if judge is not None:
                judge.begin(copy, feeds)
            Factorize(ratio=RATIO, method=method, of="flops", allocation="uniform", small=not fast).run(copy, context)
            after = one.right(Plain(to_bytes(copy)), JUDGED)
            turns = take_turns({"before": lambda: Plain(to_bytes(model)), "after": lambda copy=copy: Plain(to_bytes(copy))}, feeds, seconds)  # type: ignore[misc]
            ratio, low, high = turns.ratio("before", "after")
            reasons = {record.why.split(":")[0] for record in context.coverage.records.values() if not record.form}
            row: Row = {
                "method": method, "asked": "time" if fast else "size", "sites": context.coverage.taken, "of": len(context.coverage.records),
                "arithmetic": arithmetic(copy) / arithmetic(model), "top-1 before": float(before.mean()), "top-1": float(after.mean()), "speed": ratio,
                "95 %": f"{low:.3f} to {high:.3f}", "left": "; ".join(sorted(reasons))[:120],
            }  # fmt: skip
            yield Result(method, fast, after, row)


def arithmetic(model: ir.Model) -> float:
    """Additions of one image."""
    return float(sum(flops(node, 1) or 0 for graph in all_graphs(model) for node in graph))


def claims(results: list[Result]) -> list[str]:
    """What does not hold."""
    missed = []
    found = {(result.method, result.fast): result for result in results}
    low, high = interval(found["svd_llm", False].right.astype(float), found["svd", False].right.astype(float))
    if high < 0 or math.isnan(low):
        missed.append(f"svd_llm: top-1 differs from that of svd by {low:+.3f} to {high:+.3f}")
    for result in results:
        if result.fast and float(str(result.row["95 %"]).split(" to ")[1]) < 1:
            missed.append(f"{result.method}: only faster sites were factorised, and the model is slower: {result.row['speed']:.3f} ({result.row['95 %']})")
    return missed
