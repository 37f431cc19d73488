"""Low rank, low rank plus sparse, and shared weights: perplexity of small decoders and top-1 of classifiers at equal size, on data that was not calibrated on.

Decoders: all linear sites but the head keep the same share of their numbers (numbers that are not zero). Claimed (`CLAIMED`), as the 95 % interval of the
difference of loss on the same windows: svd_llm, asvd, drone, afm, losparse and basis sharing are below svd, oats below svd and wanda, two sparse
factors below sparsegpt (both at half the numbers), ranks by measured loss and learned ones (dobi_svd) below uniform ones. What misses it is shown with
why, measured on the same weights (`reasons`).
Classifiers: the convolutions that a method is for keep the same share of their arithmetic; one row a model and method, with latency against float32.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from prune_kernels import measure_kernels
from quant_decoders import Decoder, decoders, interval, perplexity, without_head
from tables import Row, print_table

from graphwright.compiler.core.graph import clone_model
from graphwright.compiler.core.passes import Context
from graphwright.compiler.core.sites import Site
from graphwright.compiler.core.statistics import SiteStatistics
from graphwright.compiler.method_bench import benchable_sites
from graphwright.compiler.remembered import Remembered
from graphwright.compiler.substitution import substitute_weights
from graphwright.passes.factorize.factorize import Factorize
from graphwright.passes.factorize.method import find_method
from graphwright.passes.factorize.relaxed_recursive import RelaxedRecursive
from graphwright.passes.factorize.roles import layers_of
from graphwright.passes.factorize.subjects import Subject
from graphwright.passes.prune.unstructured.method import find_sparsifier
from graphwright.passes.prune.unstructured.pattern import Pattern
from graphwright.passes.quantize.hessian import output_error

SHARES = (0.5, 0.8)
WINDOWS = 200
"""Scored; what is claimed shows on a third of the held-out text, and there are many methods."""
FEW = 0.7
"""Above it the differences between methods that prune are too small to tell: they are shown, not claimed."""
SPREAD = " by measured loss"
UNIFORM = ("svd", "asvd", "svd_llm", "drone", "afm", "losparse", "oats", "double_sparse", "basis_sharing", "relaxed_recursive")
SPREADING = ("svd_llm" + SPREAD, "dobi_svd")
SPARSE = ("wanda", "sparsegpt")
CLAIMED = {
    "asvd": ("svd",), "svd_llm": ("svd",), "drone": ("svd",), "afm": ("svd",), "losparse": ("svd",), "oats": ("svd", "wanda"), "double_sparse": ("sparsegpt",),
    "basis_sharing": ("svd",), "relaxed_recursive": ("svd",), "svd_llm" + SPREAD: ("svd_llm",),
    "dobi_svd": ("svd", "svd_llm"),
}  # fmt: skip
WHITENED = ("svd", "asvd", "svd_llm")


@dataclass(frozen=True)
class Result:
    """A decoder after one method: the loss of each window, and the share of the numbers of its sites that are left; ``why`` it may not be better."""

    method: str
    share: float
    losses: np.ndarray
    left: float
    why: str | None = None


def measure(only: str, seconds: float) -> tuple[list[Row], list[str]]:
    """All models whose name holds ``only``."""
    rows: list[Row] = []
    missed: list[str] = []
    for decoder in decoders():
        if only not in decoder.name:
            continue
        decoder = dataclasses.replace(decoder, report=min(decoder.report, WINDOWS))
        plain = decoder.losses(decoder.model)
        for share in SHARES:
            results: list[Result] = []
            for result in factorised(decoder, share):
                results.append(result)
                told = row(result, results)["loss (95 %)"] or ""
                print(f"{decoder.name}, {share:.0%} left, {result.method}: {perplexity(result.losses):.3f} {told}", flush=True)
            found = [row(result, results) for result in results]
            print_table(f"{decoder.name}: perplexity {perplexity(plain):.3f} as it is; {share:.0%} of the numbers left", found)
            rows += [{"model": decoder.name, "float32": perplexity(plain), **item} for item in found]
            missed += [f"{decoder.name}, {share:.0%} left: {claim}" for claim in claims(results)]
    more, claimed = measure_kernels(only, seconds)
    return rows + more, missed + claimed


def factorised(decoder: Decoder, share: float) -> Iterator[Result]:
    """Each method at a share."""
    sites = benchable_sites(decoder.model)
    chosen = tuple(site.name for site in without_head(sites))
    calibrator = Remembered(decoder.calibrator("calibration", decoder.fit))
    whole = sum(site.parameters for site in sites if site.name in chosen)
    before = nonzero(decoder.model)
    known = list(calibrator.sites(decoder.model, without_head(sites), moments=True))
    for name in SPARSE:
        kind = find_sparsifier(name)()
        parts = {site.name: [kind.prune(one, of, Pattern(1 - share)) for one, of in zip(site.matrices(), all_of, strict=True)] for site, all_of in known}
        left = sum(int(np.count_nonzero(part)) for found in parts.values() for part in found) / whole
        weights = {site: np.stack(found) for site, found in parts.items()}
        yield Result(name, share, decoder.losses(substitute_weights(decoder.model, weights)), left)
    told = reasons(known, share)
    for name in (*UNIFORM, *SPREADING):
        method, _, spread = name.partition(" ")
        allocation = "uniform" if name in UNIFORM else "measured" if spread else "learned"
        model = clone_model(decoder.model)
        context = Context(calibrator=calibrator)
        Factorize(ratio=1 - share, method=method, allocation=allocation, small=True, only=chosen).run(model, context)
        yield Result(name, share, decoder.losses(model), 1 - (before - nonzero(model)) / whole, told.get(name))


def reasons(known: Sequence[tuple[Site, list[SiteStatistics]]], share: float) -> dict[str, str]:
    """Why a method may not be better than what it refines: what scaling inputs one by one leaves of the gain of whitening them, and how little weights of
    like layers have in common.
    """
    errors = {name: np.mean([lost(name, site, statistics[0], share) for site, statistics in known]) for name in WHITENED}
    scaled = ", ".join(f"{name} {error:.2%}" for name, error in errors.items())
    group = RelaxedRecursive().together(share)
    layers = layers_of([Subject((site,)) for site, _ in known], group)
    weights = [np.stack([subject.matrices()[0] for subject in layer]) for layer in layers]
    shared = np.mean([len(each) * np.square(each.mean(axis=0)).sum() / np.square(each).sum() for each in weights]) if weights else math.nan
    alone = np.mean([1 / len(each) for each in weights]) if weights else math.nan
    return {
        "asvd": f"scales for each input alone: of what sites make on calibration data is lost, on average: {scaled}",
        "relaxed_recursive": f"the mean of {group} like weights holds {shared:.1%} of their squares ({alone:.1%} by chance), and nothing is trained",
    }


def lost(name: str, site: Site, statistics: SiteStatistics, share: float) -> float:
    """The share of a site's squared outputs that a method loses."""
    weight = site.matrices()[0].astype(np.float64)
    found = find_method(name)().factor(weight, statistics, int(share * weight.size)).matrix()  # type: ignore[attr-defined]
    return float(output_error(weight - found, statistics.moment).sum() / output_error(weight, statistics.moment).sum())


def nonzero(model: ir.Model) -> int:
    """How many float numbers that somebody reads are not zero."""
    values = [value for value in model.graph.initializers.values() if value.uses() and value.dtype == ir.DataType.FLOAT]
    return sum(int(np.count_nonzero(value.const_value.numpy())) for value in values if value.const_value is not None)


def row(result: Result, results: Sequence[Result]) -> Row:
    """A line of the table: against what it must beat."""
    found: Row = {"left": result.share, "method": result.method, "left measured": result.left, "perplexity": perplexity(result.losses)}
    told = []
    for name in CLAIMED.get(result.method, ()):
        low, high = interval(result.losses, of(results, name).losses)
        told.append(f"{'better' if high < 0 else 'worse' if low > 0 else 'not sure'} than {name} ({low:+.4f} to {high:+.4f})")
    beaten = all(text.startswith("better") for text in told)
    return found | {"loss (95 %)": "; ".join(told) or None, "note": None if beaten else result.why}


def claims(results: Sequence[Result]) -> list[str]:
    """What does not hold: a method that is not surely better than what it must beat, or keeps more than it may."""
    missed = [f"{result.method} keeps {result.left:.3f}" for result in results if result.left > result.share + 0.01]
    for result in results:
        for name in CLAIMED.get(result.method, ()):
            low, high = interval(result.losses, of(results, name).losses)
            if high >= 0 and not (name in SPARSE and result.share > FEW):
                note = f"; {result.why}" if result.why else ""
                text = f"{result.method}: perplexity {perplexity(result.losses):.3f}, {name} has {perplexity(of(results, name).losses):.3f}"
                missed.append(f"{text}; loss {low:+.4f} to {high:+.4f}{note}")
    return missed


def of(results: Sequence[Result], name: str) -> Result:
    """The result of a method."""
    return next(result for result in results if result.method == name)
