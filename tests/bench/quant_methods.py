"""Every method against the one that it refines, on sites of trained models: E on held-out data, at equal stored bits.

Claimed at the widths that methods.md names (`NAMED`), else those of the method's paper (`PAPERS`), else at 4, 3 and 2 bits: over all sites of all models the
error by that of the other is below 1 with 95 % confidence (`method_verdict`). What methods.md sets against outliers among the inputs (`OUTLIERS`) is judged
on a decoder with planted ones, the rest on the models as they are. What does not hold has a table of its own: what was asked, what it got, and why.
Trials are kept as they are found (``out/bench/quant_methods.jsonl``), so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
from journal import Finding, Journal
from quant_decoders import PLANTED, Decoder, calibrator, decoders, raised
from quant_pictures import Pictures, pictures
from tables import Row, print_table

from graphwright.compiler.calibration.engine import Engine
from graphwright.compiler.method_bench import MethodBench, Trial, benchable_sites
from graphwright.compiler.method_candidates import JointCandidate, WeightCandidate
from graphwright.compiler.method_verdict import Line, sum_up
from graphwright.compiler.request import silent
from graphwright.models import minilm
from graphwright.passes.quantize.activation import ActivationGrid
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.joint import find_joint, joint_methods
from graphwright.passes.quantize.method import methods

KEPT = Path("out") / "bench" / "quant_methods.jsonl"
SOURCES = (
    "passes/quantize", "compiler/method_bench.py", "compiler/method_candidates.py", "compiler/calibration", "tests/bench/quant_methods.py",
    "tests/bench/quant_decoders.py", "tests/bench/quant_outliers.py",
)  # fmt: skip
BITS = (8, 4, 3, 2)
SITES = 6
UNNAMED = ("W4", "W3", "W2")
NAMED: Mapping[str, tuple[str, ...]] = {
    "quip": ("W3", "W2"), "lorc": ("W4",), "lqer": ("W4",), "gobo": ("W3",), "squeezellm": ("W3",), "spqr": ("W3",), "nf4": ("W4",), "bcq": ("W3",),
    "lut_gemm": ("W3",), "olive": ("W4", "W4A4"), "seedlm": ("W4", "W3"), "onebit": ("W2",), "arb_llm": ("W2",), "stbllm": ("W2",), "fp8": ("W8",),
    "smoothquant": ("W8A8",), "fptq": ("W4A8",), "llm.int8": ("W8A8",), "quarot": ("W4A4", "W4A8"), "spinquant": ("W4A4", "W4A8"), "mofq": ("W4A8", "W8A8"),
}  # fmt: skip
"""Widths that methods.md gives with what a method must beat ("at 1-2 bits" is 2 here: there is no grid of 1; inputs of 8 bits are W8A8 and W4A8)."""
PAPERS: Mapping[str, tuple[str, ...]] = {
    "zeroquant": ("W8A8", "W4A8"), "outlier-suppression": ("W8A8",), "outlier-suppression+": ("W8A8",), "qllm": ("W4A8", "W4A4"), "rrs": ("W4A4",),
    "ostquant": ("W4A4",), "rptq": ("W4A8", "W4A4"), "ternarybert": ("W2",), "binarybert": ("W2",), "loftq": ("W4", "W2"), "omniquant": (*UNNAMED, "W4A4"),
    "awq": UNNAMED,
}  # fmt: skip
"""Widths that the papers claim, where methods.md gives none."""
OUTLIERS = ("smoothquant", "llm.int8", "outlier-suppression", "outlier-suppression+", "zeroquant", "qllm", "olive", "fptq", "mofq")
"""Judged at rounded inputs with planted outliers; rounding weights alone has no inputs to plant them in."""
EXACT = ("fptq",)
"""Tried with inputs of 16 bits too, which tells what the weight alone costs."""
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
    journal = Journal(KEPT, SOURCES)
    for name, make in subjects():
        if only not in name:
            continue
        trials = list(tried(journal, name, functools.cache(make)))
        (outliers if PLANTED in name else natural).extend(trials)
        found = [row(line) for line in sum_up(trials)]
        rows += [{"model": name, **item} for item in found]
        print_table(f"{name}: E on held-out data, {SITES} sites", [item for item in found if item["E"] is not None])
    others = sum_up(outliers)
    lines = [line for line in sum_up(natural) if not _planted(line)] + [line for line in others if _planted(line)]
    print_table("all models, and those with outliers for what is made for them", [row(line) for line in lines if line.refines and line.sites])
    missed = [miss(line, lines, others) for line in lines if line.beats is False and line.width in widths_of(line.method, line.inputs is not None)]
    print_table("what does not hold", missed)
    rows += [{"model": "all", **row(line)} for line in lines] + [{"model": "all", **item} for item in missed]
    return rows, [f"{item['method']} at {item['width']}: {item['got']}, asked {item['asked']}; {item['why']}" for item in missed]


def subjects() -> Iterator[tuple[str, Callable[[], Subject]]]:
    """Decoders, the first of them with outliers too, a sentence encoder and two networks of convolutions."""
    for decoder in (*decoders(), *(first.with_outliers() for first in decoders()[:1])):
        yield decoder.name, functools.partial(_decoder, decoder)
    yield "minilm_l6", _minilm
    for one in pictures(("mobilenetv1_0.25_224_trained", "darknet_tiny")):
        yield one.name, functools.partial(_pictures, one)


def widths_of(method: str, joint: bool = False) -> tuple[str, ...]:
    """The widths at which a method has to be better than what it refines: of weights alone, or of weights and inputs."""
    named = NAMED.get(method) or PAPERS.get(method) or (*UNNAMED, *(f"W{bits}A{inputs}" for bits, inputs in JOINT))
    return tuple(width for width in named if ("A" in width) == joint)


def _planted(line: Line) -> bool:
    return line.method in OUTLIERS and line.inputs is not None


def _decoder(decoder: Decoder) -> Subject:
    return _subject(decoder.name, decoder.model, list(decoder.feeds("calibration", 32)), list(decoder.feeds("report", 16)))


def _pictures(one: Pictures) -> Subject:
    samples = one.samples(32)
    return _subject(one.name, raised(ir.load(one.path)), samples[:24], samples[24:])


def _subject(name: str, model: ir.Model, fit: Sequence[dict], judge: Sequence[dict]) -> Subject:
    return Subject(name, model, calibrator(fit), calibrator(judge))


def _minilm() -> Subject:
    with tempfile.TemporaryDirectory() as place:
        model = raised(ir.load(minilm.export(Path(place))))
        return _subject("minilm_l6", model, list(minilm.feeds(32, "calibration")), list(minilm.feeds(16, "report")))


def tried(journal: Journal, name: str, make: Callable[[], Subject]) -> Iterator[Trial]:
    """What is known of a model, and all else tried: weights alone on grids with one scale a channel; both sides at each pair of widths."""
    for width, bench in benches(PLANTED in name):
        row, _ = journal.find(f"{name}, {width}", functools.partial(run, bench, make))
        yield from (Trial(**item) for item in row["trials"])


def benches(planted: bool) -> Iterator[tuple[str, MethodBench]]:
    """What is tried, by width; where outliers are planted both sides only."""
    for width in () if planted else BITS:
        weights = tuple(WeightCandidate(kind) for name, kind in methods().items() if f"W{width}" in widths_of(name))
        yield f"W{width}", MethodBench(weights, (width,), Grid())
    for bits, inputs in JOINT:
        grid = ActivationGrid(inputs, token=inputs < 8)
        yield f"W{bits}A{inputs}", MethodBench(tuple(JointCandidate(kind, grid) for kind in joint_methods().values()), (bits,), Grid())
    yield "W4A16", MethodBench(tuple(JointCandidate(find_joint(name), ActivationGrid(16)) for name in EXACT), (4,), Grid())


def run(bench: MethodBench, make: Callable[[], Subject]) -> Finding:
    """Its trials on some sites of a model."""
    subject = make()
    trials = bench.run(subject.model, benchable_sites(subject.model, SITES), subject.fit, subject.judge, silent)
    return {"trials": [dataclasses.asdict(trial) for trial in trials]}, []


def row(line: Line) -> Row:
    """A line as a row of the table."""
    return {
        "method": line.method, "width": line.width, "E": line.error if line.sites else None, "bits/weight": line.stored if line.sites else None,
        "refines": line.refines, "ratio": line.ratio, "95 %": None if line.low is None else f"{line.low:.3f} to {line.high:.3f}", "same grid": line.same_grid,
        "won": f"{line.won} of {line.compared}" if line.compared else None, "verdict": verdict(line), "s": line.seconds,
        "refused": "; ".join(line.refused) or None,
    }  # fmt: skip


def verdict(line: Line) -> str | None:
    """In words; what is only shown, because nobody claims it at this width, is in brackets."""
    if line.beats is None:
        return None
    text = "better" if line.beats else "not better"
    return text if line.width in widths_of(line.method, line.inputs is not None) else f"({text})"


def miss(line: Line, lines: Sequence[Line], outliers: Sequence[Line]) -> Row:
    """A method that is not better than what it refines, where it has to be; ``outliers`` are the lines of models with planted ones."""
    return {
        "method": line.method, "width": line.width, "asked": f"below 1 of the error of {line.refines}, with 95 % confidence",
        "got": f"{line.ratio:.4f} ({line.low:.4f} to {line.high:.4f})", "same grid": line.same_grid, "won": f"{line.won} of {line.compared}",
        "why": why(line, lines, outliers),
    }  # fmt: skip


def why(line: Line, lines: Sequence[Line], outliers: Sequence[Line]) -> str:
    """What the figures tell of the reason."""
    if line.method == "rex" and line.same_grid:
        told = f"one order more divides the error by {1 / line.same_grid:.1f} (the paper's steps: 2^{line.bits} - 2), {line.bits} bits more of one grid by"
        return f"{told} 2^{line.bits}"
    exact = next((other for other in lines if (other.method, other.bits, other.inputs) == (line.method, line.bits, 16)), None)
    if exact is not None and exact.ratio is not None:
        told = "its scales look at the input alone, those of what it refines even out the weight as well, which makes most of the error: with inputs of"
        return f"{told} 16 bits it is {exact.ratio:.3f} ({exact.low:.3f} to {exact.high:.3f})"
    if line.low == line.high == 1:
        return f"it is {line.refines} at every site: on rows held back nothing that it tries does better than that start"
    reasons = ["not told apart"] if line.low is not None and line.low <= 1 else []
    plain = find(line.refines, line, lines)
    if plain is not None and line.same_grid is not None and line.same_grid < 1 and line.stored > plain.stored:
        beside = f"the {line.stored - plain.stored:.2f} bits a weight that it keeps beside buy finer blocks of {line.refines}, which do as much"
        reasons.append(f"on the same grid it is {line.same_grid:.3f}; {beside}")
    planted = find(line.method, line, outliers) if line.inputs is not None and not _planted(line) else None
    if planted is not None and planted.ratio is not None:
        told = "these models have few outliers to take away: with planted ones" if planted.beats else "with planted outliers"
        reasons.append(f"{told} it is {planted.ratio:.3f} ({planted.low:.3f} to {planted.high:.3f})")
    return "; ".join(reasons)


def find(method: str | None, like: Line, lines: Sequence[Line]) -> Line | None:
    """A method at the widths of another."""
    return next((line for line in lines if (line.method, line.width) == (method, like.width)), None)
