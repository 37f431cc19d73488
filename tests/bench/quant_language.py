"""Perplexity of small decoders after each method at 8, 4, 3 and 2 bits; weights only, activations as they are, on all the text that is held out.

All linear sites but the head, which the papers leave in high precision as well (`heads` of `quant_decoders`). Claimed: at 4, 3 and 2 bits gptq and awq are
below rtn, the 95 % interval of the difference of loss on the same windows lying below zero; at 8 bits the differences are too small to tell. The other
methods are judged by their reconstruction error (`quant_methods`); here they are shown, at the widths that are claimed for them. Widths below 8 have one
scale and zero point for 32 input channels, 8 bits one scale for a channel.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from quant_decoders import Decoder, decoders, without_head
from quant_methods import widths_of
from tables import Row, print_table

from graphwright.compiler.core.errors import GraphwrightError
from graphwright.compiler.core.sites import Site
from graphwright.compiler.core.statistics import SiteStatistics
from graphwright.compiler.method_bench import benchable_sites
from graphwright.compiler.substitution import substitute_weights
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.method import Method, methods

GRIDS = (Grid(8), Grid(4, symmetric=False, block=32), Grid(3, symmetric=False, block=32), Grid(2, symmetric=False, block=32))
CLAIMED, SHOWN = ("gptq", "awq"), ("rtn", "fp8")
LEFT_OUT = ("seedlm",)
"""Takes minutes a width on all sites; `quant_methods` judges it on a few."""
SURE, WHOLE = 1.96, 8

Known = Sequence[tuple[Site, list[SiteStatistics]]]


@dataclass(frozen=True)
class Result:
    """A decoder with one method at one width: the loss of each window, and what the linear weights take, in bits a weight."""

    method: str
    bits: int
    losses: np.ndarray
    stored: float
    seconds: float

    @property
    def perplexity(self) -> float:
        """exp of the mean loss."""
        return perplexity(self.losses)


def measure(only: str, seconds: float) -> tuple[list[Row], list[str]]:
    """All decoders whose name holds ``only``."""
    del seconds
    rows: list[Row] = []
    missed: list[str] = []
    for decoder in decoders():
        if only not in decoder.name:
            continue
        plain = decoder.losses(decoder.model)
        results = list(quantised(decoder))
        found = [row(result, results, plain) for result in results]
        print_table(f"{decoder.name}: perplexity {perplexity(plain):.3f} in float32, {len(plain)} windows", found)
        rows += [{"model": decoder.name, "float32": perplexity(plain), **item} for item in found]
        missed += [f"{decoder.name}: {claim}" for claim in claims(results)]
    return rows, missed


def quantised(decoder: Decoder) -> Iterator[Result]:
    """Each method at each width; one that refuses any site is left out there."""
    sites = without_head(benchable_sites(decoder.model))
    kinds = methods()
    rows = max(kind.rows for kind in kinds.values())
    known = list(decoder.calibrator("calibration", decoder.fit).sites(decoder.model, sites, moments=True, rows=rows))
    for grid in GRIDS:
        for name, kind in kinds.items():
            if name in LEFT_OUT or not (name in (*CLAIMED, *SHOWN) or f"W{grid.bits}" in widths_of(name)):
                continue
            start = time.perf_counter()
            try:
                model, stored = with_method(decoder.model, known, kind, grid)
            except GraphwrightError as error:
                print(f"{decoder.name}: {kind.name} is not there at {grid.bits} bits: {error}", flush=True)
                continue
            yield Result(kind.name, grid.bits, decoder.losses(model), stored, time.perf_counter() - start)


def with_method(model: ir.Model, known: Known, kind: type[Method], grid: Grid) -> tuple[ir.Model, float]:
    """The model with what the method makes of each of these sites, and the bits it takes for one weight."""
    weights: dict[str, np.ndarray] = {}
    stored = count = 0.0
    for site, statistics in known:
        coded = [kind().quantize(weight, group, grid) for weight, group in zip(site.matrices(), statistics, strict=True)]
        weights[site.name] = np.stack([part.matrix() for part in coded])
        stored += sum(part.stored_bits for part in coded)
        count += site.parameters
    return substitute_weights(model, weights), stored / count


def perplexity(losses: np.ndarray) -> float:
    """exp of the mean."""
    return math.exp(min(float(losses.mean()), 700.0)) if np.isfinite(losses).all() else math.inf


def row(result: Result, results: Sequence[Result], plain: np.ndarray) -> Row:
    """A line of the table: the change against float32, and against what the method refines at this width."""
    found: Row = {
        "method": result.method, "bits": result.bits, "bits/weight": result.stored, "perplexity": result.perplexity,
        "over float32": result.perplexity / perplexity(plain) - 1,
    }  # fmt: skip
    other = reference(result, results)
    low, high = interval(result.losses, other.losses) if other is not None else (math.nan, math.nan)
    found |= {"refines": other.method if other else None, "loss against it (95 %)": f"{low:+.4f} to {high:+.4f}" if other else None}
    verdict = None if other is None else "better" if high < 0 else "worse" if low > 0 else "not sure"
    return found | {"verdict": verdict, "s": result.seconds}


def reference(result: Result, results: Sequence[Result]) -> Result | None:
    """What the method refines, at the same width."""
    name = methods()[result.method].refines
    return next((other for other in results if other.method == name and other.bits == result.bits), None)


def interval(losses: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the mean difference between the two on the same windows."""
    change = losses - other
    reach = SURE * float(change.std(ddof=1)) / math.sqrt(len(change))
    return float(change.mean()) - reach, float(change.mean()) + reach


def claims(results: Sequence[Result]) -> list[str]:
    """What does not hold: a method that is claimed is not surely better than what it refines."""
    missed = []
    for result in results:
        other = reference(result, results) if result.method in CLAIMED and result.bits < WHOLE else None
        if other is not None and interval(result.losses, other.losses)[1] >= 0:
            low, high = interval(result.losses, other.losses)
            text = f"{result.method} at {result.bits} bits: perplexity {result.perplexity:.4f}, {other.method} has {other.perplexity:.4f}"
            missed.append(f"{text}; loss {low:+.4f} to {high:+.4f}")
    absent = [name for name in CLAIMED if all(result.method != name for result in results)]
    return missed + [f"there is no {name}" for name in absent]
