"""Every method against the one that it refines, on sites of trained models: E on held-out data, at equal stored bits.

Claimed, at the widths where methods.md claims it (`WIDTHS`; everywhere for the others): the geometric mean over all sites of all models is lower. What is
made for outliers among the inputs (`OUTLIERS`) is judged on a decoder with planted ones, the rest on the models as they are.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
from quant_decoders import Decoder, calibrator, decoders, raised
from quant_outliers import planted
from quant_pictures import Pictures, pictures
from tables import Row, print_table

from graphwright.compiler.calibration.engine import Engine
from graphwright.compiler.method_bench import MethodBench, Trial, benchable_sites
from graphwright.compiler.method_candidates import Candidate, JointCandidate, WeightCandidate
from graphwright.compiler.method_verdict import Line, sum_up
from graphwright.compiler.request import silent
from graphwright.models import minilm
from graphwright.passes.quantize.activation import ActivationGrid
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.joint import joint_methods
from graphwright.passes.quantize.method import methods

BITS = (8, 4, 3, 2)
SITES = 4
WIDTHS: Mapping[str, tuple[str, ...]] = {
    "quip": ("W3", "W2"), "ldlq": ("W4", "W3", "W2"), "lorc": ("W4",), "gobo": ("W3",), "squeezellm": ("W3",), "spqr": ("W3",), "nf4": ("W4",),
    "bcq": ("W3",), "lut_gemm": ("W3",), "seedlm": ("W4", "W3"), "onebit": ("W2",), "fp8": ("W8",), "stbllm": ("W2",),
    "arb_llm": ("W2",), "ternarybert": ("W2",), "binarybert": ("W2",), "lqer": ("W4",), "loftq": ("W4",),
    "mofq": ("W4", "W3"), "smoothquant": ("W8A8",), "fptq": ("W4A8",),
    "llm.int8": ("W8A8",), "zeroquant": ("W8A8", "W4A8"), "rptq": ("W8A8", "W4A4"), "olive": ("W4A4",), "quarot": ("W4A4", "W4A8"),
    "spinquant": ("W4A4", "W4A8"), "outlier-suppression": ("W8A8",), "outlier-suppression+": ("W8A8",), "qllm": ("W4A4",),
}  # fmt: skip
"""Where a method has to be better than what it refines, as far as that is not everywhere; methods for weights are not tried elsewhere."""
NOTED: Mapping[str, str] = {
    "rex": "a code of n bits and one of n for its error are at best a grid of 2n bits: at equal storage rtn has that grid itself",
}
"""Why a method that is better on the same grid cannot be better at equal storage."""
PLANTED = " with outliers"
OUTLIERS = ("smoothquant", "llm.int8", "outlier-suppression", "outlier-suppression+", "zeroquant", "qllm", "olive", "fptq")
JOINT = ((8, 8), (4, 8), (4, 4))
"""Bits of weight and input tried together. Inputs of 4 bits have a scale for each row."""


@dataclass(frozen=True)
class Subject:
    """A model, and what methods are fitted and judged on."""

    name: str
    model: ir.Model
    fit: Engine
    judge: Engine


def measure(only: str, seconds: float) -> tuple[list[Row], list[str]]:
    """All models whose name holds ``only``."""
    del seconds
    rows: list[Row] = []
    natural: list[Trial] = []
    outliers: list[Trial] = []
    for name, make in subjects():
        if only not in name:
            continue
        subject = make()
        trials = list(tried(subject))
        (outliers if PLANTED in name else natural).extend(trials)
        found = [row(line) for line in sum_up(trials)]
        rows += [{"model": name, **item} for item in found]
        print_table(f"{name}: E on held-out data, {SITES} sites", [item for item in found if item["E"] is not None])
    lines = [line for line in sum_up(natural) if line.method not in OUTLIERS] + [line for line in sum_up(outliers) if line.method in OUTLIERS]
    print_table("all models, and those with outliers for what is made for them", [row(line) for line in lines if line.refines and line.sites])
    return rows + [{"model": "all", **row(line)} for line in lines], claims(lines)


def subjects() -> Iterator[tuple[str, Callable[[], Subject]]]:
    """Decoders, the first of them with outliers too, a sentence encoder and two networks of convolutions."""
    for decoder in decoders():
        yield decoder.name, functools.partial(_decoder, decoder, decoder.name)
    for decoder in decoders()[:1]:
        yield decoder.name + PLANTED, functools.partial(_decoder, decoder, decoder.name + PLANTED)
    yield "minilm_l6", _minilm
    for one in pictures(("mobilenetv1_0.25_224_trained", "darknet_tiny")):
        yield one.name, functools.partial(_pictures, one)


def _decoder(decoder: Decoder, name: str) -> Subject:
    model = planted(decoder.model) if PLANTED in name else decoder.model
    return _subject(name, model, list(decoder.feeds("calibration", 32)), list(decoder.feeds("report", 16)))


def _pictures(one: Pictures) -> Subject:
    samples = one.samples(32)
    return _subject(one.name, raised(ir.load(one.path)), samples[:24], samples[24:])


def _subject(name: str, model: ir.Model, fit: Sequence[dict], judge: Sequence[dict]) -> Subject:
    return Subject(name, model, calibrator(fit), calibrator(judge))


def _minilm() -> Subject:
    with tempfile.TemporaryDirectory() as place:
        model = raised(ir.load(minilm.export(Path(place))))
        return _subject("minilm_l6", model, list(minilm.feeds(32, "calibration")), list(minilm.feeds(16, "report")))


def tried(subject: Subject) -> Iterator[Trial]:
    """Weights alone on grids with one scale a channel; both sides at each pair of widths."""
    sites = benchable_sites(subject.model, SITES)
    for width in BITS if PLANTED not in subject.name else ():
        weights = tuple(WeightCandidate(kind) for name, kind in methods().items() if f"W{width}" in WIDTHS.get(name, (f"W{width}",)))
        yield from MethodBench(weights, (width,), Grid()).run(subject.model, sites, subject.fit, subject.judge, silent)
    for bits, inputs in JOINT:
        grid = ActivationGrid(inputs, token=inputs < 8)
        joint: tuple[Candidate, ...] = tuple(JointCandidate(kind, grid) for kind in joint_methods().values())
        yield from MethodBench(joint, (bits,), Grid()).run(subject.model, sites, subject.fit, subject.judge, silent)


def row(line: Line) -> Row:
    """A line as a row of the table."""
    return {
        "method": line.method, "width": line.width, "E": line.error if line.sites else None, "bits/weight": line.stored if line.sites else None,
        "refines": line.refines, "ratio": line.ratio, "same grid": line.same_grid, "won": f"{line.won} of {line.compared}" if line.compared else None,
        "beats": line.beats, "s": line.seconds, "refused": "; ".join(line.refused) or None,
    }  # fmt: skip


def claims(lines: Sequence[Line]) -> list[str]:
    """Methods that are not better than what they refine, where they have to be."""
    missed = []
    for line in lines:
        wanted = WIDTHS.get(line.method, (line.width,))
        if line.beats is False and line.width in wanted:
            text = f"{line.method} at {line.width}: {line.ratio:.4f} of the error of {line.refines} ({line.same_grid:.4f} on the same grid)"
            if line.method in NOTED and line.same_grid is not None and line.same_grid < 1:
                print(f"{text}: {NOTED[line.method]}")
            else:
                missed.append(f"{text}, better on {line.won} of {line.compared} sites")
    return missed
