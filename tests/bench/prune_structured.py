"""Structured pruning: graphs that really shrink.

Claimed of MobileNetV2, ShuffleNet, MiniLM, silero-vad and 15 exported architectures at 10, 30 and 50 % of the FLOPs, and of the parameters where so many
can go (else it is refused with the weight that stays): the file is valid, runs in ONNX Runtime and gives finite numbers; what was asked for falls by as
much as was asked for, within 3 %; half the FLOPs take less time. MiniLM with half of its feed-forward neurons is at least 1.25 times as fast.
``--only structured/NAME`` takes one model; ``scores`` the table of scores, ``sentences`` what pruning costs MiniLM on STS-B.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from bench_families import SCALE, TOKENS
from prune_scores import PLAIN, measure_scores, measure_sentences, size_of, widest
from quant_sentences import tokens
from tables import Row, print_table
from turns import take_turns

from graphwright.compiler.core.cost import ModelSize
from graphwright.compiler.core.errors import GraphwrightError
from graphwright.compiler.driver import optimize_model
from graphwright.compiler.request import Request
from graphwright.models.catalogue import Sample, find
from graphwright.models.session import Plain
from graphwright.models.tiny import families

REAL = ("mobilenetv2", "shufflenetv2", "minilm_l6", "silero_vad")
EXPORTED = 15
RATIOS = (0.1, 0.3, 0.5)
NEAR = 0.03
NEURONS = 1.25


@dataclass(frozen=True)
class Subject:
    """A model, and one sample of usual size."""

    name: str
    file: Callable[[Path], Path]
    sample: Callable[[], Sample]


def measure(only: str, seconds: float) -> tuple[list[Row], list[str]]:
    """All models whose name holds ``only``, then the tables of scores and of sentences."""
    rows: list[Row] = []
    missed: list[str] = []
    for subject in subjects():
        if only not in subject.name:
            continue
        found, claims = examine(subject, seconds)
        rows += found
        missed += [f"{subject.name}: {claim}" for claim in claims]
        print_table(subject.name, found)
    for name, table in (("scores", measure_scores), ("sentences", measure_sentences)):
        if only in name:
            found, claims = table()
            rows += found
            missed += claims
            print_table(name, found)
    return rows, missed


def subjects() -> Iterator[Subject]:
    """The real models that this machine has, and exported architectures with random weights."""
    for name in REAL:
        entry = find(name)
        if entry.unavailable() is None:
            sample = (lambda: tokens(8, 128)) if name == "minilm_l6" else (lambda entry=entry: next(iter(entry.feeds(1, "report"))))
            yield Subject(name, lambda folder, entry=entry: entry.file(folder), sample)
    for tiny in families(SCALE)[:EXPORTED]:
        yield Subject(tiny.name, lambda folder, tiny=tiny: tiny.export(folder), lambda tiny=tiny: tiny.arrays(batch=1, length=TOKENS))


def examine(subject: Subject, seconds: float) -> tuple[list[Row], list[str]]:
    """Every ratio of both measures."""
    rows: list[Row] = []
    missed: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        plain = optimize_model(subject.file(Path(place)), Request(target="onnx", level=PLAIN)).model
        sample, before = subject.sample(), size_of(plain)
        for measure_of in ("flops", "parameters"):
            for ratio in RATIOS:
                timed = seconds if measure_of == "flops" and ratio == max(RATIOS) else 0.0
                row, claims = prune(plain, before, sample, measure_of, ratio, timed)
                rows.append({"model": subject.name, **row})
                missed += [f"{ratio:.0%} of {measure_of}: {claim}" for claim in claims]
        if subject.name == "minilm_l6":
            row, claims = half_the_neurons(plain, sample, seconds)
            rows.append({"model": subject.name, **row})
            missed += claims
    return rows, missed


def prune(plain: ir.Model, before: ModelSize, sample: Sample, measure_of: str, ratio: float, seconds: float) -> tuple[Row, list[str]]:
    """One ratio: what is left, and whether it runs."""
    row: Row = {"of": measure_of, "asked": ratio, "parameters": None, "FLOPs": None, "speed": None, "95 %": None, "refused": ""}
    try:
        small = pruned(plain, f"prune-structured{{ratio={ratio},of={measure_of}}}")
    except GraphwrightError as error:
        refused = measure_of == "parameters" and "and only" in str(error)
        return row | {"refused": str(error)[:100]}, [] if refused else [str(error)]
    after = size_of(small)
    row |= {"parameters": after.parameters / before.parameters, "FLOPs": after.flops / before.flops}
    missed = fault(small, sample)
    asked = row["FLOPs" if measure_of == "flops" else "parameters"]
    if abs(asked - (1 - ratio)) > NEAR:  # type: ignore[operator]
        missed.append(f"{1 - asked:.3f} went")  # type: ignore[operator]
    if seconds:
        ratio_found, low, high = in_turns(plain, small, sample, seconds)
        row |= {"speed": ratio_found, "95 %": f"{low:.3f} to {high:.3f}"}
        if high < 1.0:
            missed.append(f"it takes longer: {ratio_found:.3f} times as fast")
    return row, missed


def half_the_neurons(plain: ir.Model, sample: Sample, seconds: float) -> tuple[Row, list[str]]:
    """Half of what is widest inside each layer."""
    small = pruned(plain, f"prune-structured{{ratio=0.5,of=members,uniform=true,only={'+'.join(widest(plain))}}}")
    ratio, low, high = in_turns(plain, small, sample, seconds)
    row: Row = {"of": "neurons", "asked": 0.5, "speed": ratio, "95 %": f"{low:.3f} to {high:.3f}"}
    return row, [] if high >= NEURONS else [f"half the neurons: {ratio:.3f} times as fast, {NEURONS} is claimed"]


def pruned(plain: ir.Model, text: str) -> ir.Model:
    """The model without what a pass takes out of it."""
    return optimize_model(plain, Request(target="onnx", level=f"constants-to-initialisers,{text},eliminate-dead-code")).model


def fault(model: ir.Model, sample: Sample) -> list[str]:
    """What is wrong with a file: the checker, the runtime, or its numbers."""
    proto = ir.to_proto(model)
    try:
        onnx.checker.check_model(proto, full_check=True)
        outputs = Plain(proto.SerializeToString()).run(sample)
    except Exception as error:  # noqa: BLE001 (whatever the checker or the runtime says is the finding)
        return [str(error).splitlines()[0]]
    floats = [np.asarray(item) for item in outputs.values() if np.issubdtype(np.asarray(item).dtype, np.floating)]
    return [] if all(np.isfinite(item).all() for item in floats) else ["it gives numbers that are not finite"]


def in_turns(plain: ir.Model, small: ir.Model, sample: Sample, seconds: float) -> tuple[float, float, float]:
    """How many times as fast, with ONNX Runtime's own full optimisation of both, and the 95 % interval."""
    files = {name: ir.to_proto(model).SerializeToString() for name, model in (("before", plain), ("after", small))}
    return take_turns({name: (lambda data=data: Plain(data)) for name, data in files.items()}, [sample], seconds).ratio("before", "after")
