"""Perplexity of small decoders after each method at 8, 4, 3 and 2 bits; weights only, activations as they are, on all the text that is held out.

Claimed: at 4, 3 and 2 bits gptq and awq are nearer to the model in float32 than rtn, cbq at 4 and 3 bits is nearer than signround, and no perplexity is surely
higher. Near means the divergence of the next token (Kullback-Leibler), the 95 % interval of its difference on the same windows lying below zero. Perplexity
alone says little here: these models are no optimum for this text, so that any small change of a weight raises or lowers it by chance, whatever the windows
(the mean divergence is what it rises by when chance is taken out).

All linear sites but the head are rounded, which the papers leave in high precision as well; at 4 bits rtn and what is claimed are shown with the head rounded
too. What a head minds is the share of each token, not the sum of squares of its logits that awq scales by: there awq comes nearer to the model, and where its
loss is higher all the same that is printed. At 8 bits the differences are too small to tell. The other methods are judged by their reconstruction error
(`quant_methods`); here they are shown, at the widths that are claimed for them. Widths below 8 have one scale and zero point for 32 input channels, 8 bits
one scale for a channel. What was judged is kept (``out/bench/quant_language.jsonl``), so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from journal import Finding, Journal
from quant_decoders import Decoder, Judged, each_decoder, without_head
from quant_methods import widths_of
from tables import Findings, Row

from graphwright.compiler.core.errors import GraphwrightError
from graphwright.compiler.core.sites import Site
from graphwright.compiler.core.statistics import SiteStatistics
from graphwright.compiler.method_bench import benchable_sites
from graphwright.compiler.substitution import substitute_weights
from graphwright.passes.quantize.blocks import BlockMethod, block_methods
from graphwright.passes.quantize.coded import Coded
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.method import Method, methods

KEPT = Path("out") / "bench" / "quant_language.jsonl"
SOURCES = (
    "passes/quantize", "compiler/calibration", "compiler/substitution.py", "tests/bench/quant_language.py", "tests/bench/quant_decoders.py",
)  # fmt: skip
GRIDS = (Grid(8), Grid(4, symmetric=False, block=32), Grid(3, symmetric=False, block=32), Grid(2, symmetric=False, block=32))
CLAIMED, SHOWN = ("gptq", "awq", "cbq"), ("rtn", "fp8")
TOGETHER = (4, 3)
"""Widths of methods that round sites together."""
HEAD_BITS, HEAD = 4, ", head too"
LEFT_OUT = ("seedlm",)
"""Takes minutes a width on all sites; `quant_methods` judges it on a few."""
WHOLE = 8

Known = Sequence[tuple[Site, list[SiteStatistics]]]
Make = Callable[[], tuple[ir.Model, float]]
"""Makes a quantised model; with it the bits that one weight takes."""


@dataclass(frozen=True)
class Result:
    """A decoder with one method at one width, with or without its head: how it was judged, and what the linear weights take, in bits a weight."""

    method: str
    bits: int
    head: str
    judged: Judged
    stored: float
    seconds: float


def measure(only: str, seconds: float) -> tuple[list[Row], list[str]]:
    """All decoders whose name holds ``only``."""
    del seconds
    return each_decoder(only, look)


def look(decoder: Decoder, found: Findings) -> None:
    """The table of one decoder."""
    plain = decoder.judged(decoder.model)
    results = list(quantised(decoder))
    title = f"{decoder.name}: perplexity {plain.perplexity:.3f} in float32, {len(plain.losses)} windows"
    found.table(title, [row(result, results, plain) for result in results], model=decoder.name, float32=plain.perplexity)
    found.miss(decoder.name, claims(results))


def quantised(decoder: Decoder) -> Iterator[Result]:
    """Each method at each width; one that refuses any site is left out there."""
    journal = Journal(KEPT, SOURCES)
    for name, grid, head, make in trials(decoder):
        row, _ = journal.find(f"{decoder.name}, {name}{head} at {grid.bits} bits", functools.partial(judged, decoder, make))
        if "refused" not in row:
            yield Result(name, grid.bits, head, Judged(np.array(row["losses"]), np.array(row["divergences"])), float(row["stored"]), float(row["seconds"]))


def trials(decoder: Decoder) -> Iterator[tuple[str, Grid, str, Make]]:
    """Method, grid, whether the head is rounded too, and what makes the model."""
    sites = benchable_sites(decoder.model)
    body, kinds = without_head(sites), methods()
    rows = max(kind.rows for kind in kinds.values())
    known = functools.cache(lambda: list(decoder.calibrator("calibration", decoder.fit).sites(decoder.model, sites, moments=True, rows=rows)))
    for grid in GRIDS:
        for name, kind in kinds.items():
            if name in LEFT_OUT or not (name in (*CLAIMED, *SHOWN) or f"W{grid.bits}" in widths_of(name)):
                continue
            yield name, grid, "", functools.partial(with_method, decoder.model, known, body, kind, grid)
            if grid.bits == HEAD_BITS and name in (*CLAIMED, SHOWN[0]):
                yield name, grid, HEAD, functools.partial(with_method, decoder.model, known, sites, kind, grid)
        for together in block_methods().values() if grid.bits in TOGETHER else ():
            yield together.name, grid, "", functools.partial(with_blocks, decoder, body, together, grid)


def judged(decoder: Decoder, make: Make) -> Finding:
    """A decoder with what ``make`` makes of it, and the bits that takes for one weight; why not where a site is refused."""
    start = time.perf_counter()
    try:
        model, stored = make()
    except GraphwrightError as error:
        return {"refused": str(error)}, []
    found = decoder.judged(model)
    return {
        "losses": found.losses.tolist(), "divergences": found.divergences.tolist(), "stored": stored, "seconds": time.perf_counter() - start,
    }, []  # fmt: skip


def with_blocks(decoder: Decoder, sites: Sequence[Site], kind: type[BlockMethod], grid: Grid) -> tuple[ir.Model, float]:
    """The model with what a method makes of sites together, and the bits it takes for one weight."""
    found = dict(_named(kind().quantize(decoder.model, sites, decoder.calibrator("calibration", decoder.fit), lambda site: grid)))
    model = substitute_weights(decoder.model, {name: np.stack([part.matrix() for part in coded]) for name, coded in found.items()})
    return model, sum(part.stored_bits for coded in found.values() for part in coded) / sum(site.parameters for site in sites)


def _named(found: Iterable[tuple[Site, list[Coded]]]) -> Iterator[tuple[str, list[Coded]]]:
    return ((site.name, coded) for site, coded in found)


def with_method(model: ir.Model, known: Callable[[], Known], sites: Sequence[Site], kind: type[Method], grid: Grid) -> tuple[ir.Model, float]:
    """The model with what the method makes of each of these sites, and the bits it takes for one weight."""
    weights: dict[str, np.ndarray] = {}
    stored = count = 0.0
    chosen = {site.name for site in sites}
    for site, statistics in known():
        if site.name not in chosen:
            continue
        coded = [kind().quantize(weight, group, grid) for weight, group in zip(site.matrices(), statistics, strict=True)]
        weights[site.name] = np.stack([part.matrix() for part in coded])
        stored += sum(part.stored_bits for part in coded)
        count += site.parameters
    return substitute_weights(model, weights), stored / count


def row(result: Result, results: Sequence[Result], plain: Judged) -> Row:
    """A line of the table: the change against float32, and against what the method refines at this width."""
    other = reference(result, results)
    against = result.judged.against(other.judged) if other is not None else None
    return {
        "method": result.method + result.head, "bits": result.bits, "bits/weight": result.stored, "perplexity": result.judged.perplexity,
        "over float32": result.judged.perplexity / plain.perplexity - 1, "divergence": result.judged.divergence,
        "refines": other.method if other else None, "against it (95 %)": str(against) if against else None,
        "verdict": against.verdict if against else None, "s": result.seconds,
    }  # fmt: skip


def reference(result: Result, results: Sequence[Result]) -> Result | None:
    """What the method refines, on the same sites at the same width."""
    name = {**methods(), **block_methods()}[result.method].refines
    return next((other for other in results if (other.method, other.bits, other.head) == (name, result.bits, result.head)), None)


def claims(results: Sequence[Result]) -> list[str]:
    """What does not hold: a method that is claimed is not surely nearer than what it refines, or its loss is surely higher."""
    missed = []
    for result in results:
        other = reference(result, results) if result.method in CLAIMED and result.bits < WHOLE else None
        if other is None or (against := result.judged.against(other.judged)).holds:
            continue
        text = f"{result.method}{result.head} at {result.bits} bits: perplexity {result.judged.perplexity:.4f}, {other.method} has"
        text += f" {other.judged.perplexity:.4f}; {against}"
        if result.head:
            print(f"not claimed, and not so: {text}", flush=True)
        else:
            missed.append(text)
    absent = [name for name in CLAIMED if all(result.method != name for result in results)]
    return missed + [f"there is no {name}" for name in absent]
