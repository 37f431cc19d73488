"""Perplexity of small decoders after unstructured and n:m pruning: each method against the one that it has to beat, at equal sparsity, on held-out text.

All linear sites but the head, which the papers leave dense as well. Claimed, for each decoder, over all amounts together: the loss of a method on a window
less that of what it refines has a mean below zero with 95 % confidence (e-sparse at n of m alone, which its paper is about); sparsegpt is below wanda at
60 % by itself; shares by the outliers of a layer (owl) are below the same share everywhere. Shown, not claimed: weights that go in the sweep that rounds
the others to 4 bits, against sparsegpt followed by gptq. Where a claim does not hold, the row says how far apart the two
are in what the sites make (E, see `methods.md`), over all sites; for shares by outliers, how many there are.
The divergence of the next token (Kullback-Leibler) from what the dense model says is shown, too.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from quant_decoders import Decoder, Judged, decoders, interval, perplexity, verdict, without_head
from tables import Row, print_table

from graphwright.compiler.core.graph import clone_model
from graphwright.compiler.core.passes import Context, parse_pipeline
from graphwright.compiler.core.sites import Site
from graphwright.compiler.core.statistics import SiteStatistics
from graphwright.compiler.method_bench import benchable_sites
from graphwright.compiler.method_candidates import energy, relative
from graphwright.compiler.method_verdict import interval as interval_of_ratios
from graphwright.compiler.serialize import to_bytes
from graphwright.compiler.substitution import substitute_weights
from graphwright.passes.prune.layers import layers_of
from graphwright.passes.prune.unstructured.method import Sparsifier, sparsifiers
from graphwright.passes.prune.unstructured.owl import by_layer, owl
from graphwright.passes.prune.unstructured.pattern import Pattern, parse_pattern
from graphwright.passes.prune.unstructured.rounded import SparseAndRounded
from graphwright.passes.prune.unstructured.slopes import slopes_of
from graphwright.passes.prune.unstructured.sparsegpt import SparseGpt
from graphwright.passes.prune.unstructured.wanda import Wanda
from graphwright.passes.quantize.gptq import Gptq
from graphwright.passes.quantize.grid import Grid

AMOUNTS = ("0.5", "0.6", "0.7", "2:4", "4:8")
WINDOWS = 200
"""Scored; what is claimed shows on a third of the held-out text, and there are many methods."""
MEANT = {"e-sparse": ("2:4", "4:8")}
"""The amounts that a method is for, where it is not for all."""
ROUNDED, AFTER = "sparsegpt, rounded in its sweep", "sparsegpt, then gptq"
ROUNDED_AMOUNTS, GRID = ("0.5", "2:4"), Grid(4, True, 32)
ROWS = 2048
UNSEEN = 48
"""Windows of the held-out text that E is taken on."""
ALONE = {"sparsegpt": ("0.6",)}
"""Amounts at which a method has to be better by itself."""
SHARED = {"wanda + owl": "wanda", "sparsegpt + owl": "sparsegpt"}
OWL_AMOUNTS = ("0.6", "0.7")


@dataclass(frozen=True)
class Observed:
    """A site, what methods know of its input, what they are judged on, and the gradients."""

    site: Site
    known: list[SiteStatistics]
    unseen: list[SiteStatistics]
    slopes: np.ndarray


@dataclass(frozen=True)
class Result:
    """A decoder after a method: how it was judged, E at each site, the share of zeros and the bytes of the file by those of the dense one."""

    method: str
    refines: str | None
    amount: str
    judged: Judged
    errors: np.ndarray
    zeros: float
    file: float
    seconds: float


def measure(only: str, seconds: float) -> tuple[list[Row], list[str]]:
    """All decoders whose name holds ``only``."""
    del seconds
    rows: list[Row] = []
    missed: list[str] = []
    for decoder in decoders():
        if only not in decoder.name:
            continue
        decoder = dataclasses.replace(decoder, report=min(decoder.report, WINDOWS))
        plain = decoder.losses(decoder.model)
        observed = observe(decoder)
        results = list(pruned(decoder, observed))
        found = [row(result, results, plain) for result in results]
        print_table(f"{decoder.name}: perplexity {perplexity(plain):.3f} dense, {len(plain)} windows", found)
        told = notes(decoder.model, observed)
        verdicts = [over_all(name, results, told) for name in dict.fromkeys(result.method for result in results if result.refines)]
        print_table(f"{decoder.name}: over all amounts", verdicts)
        rows += [{"model": decoder.name, "dense": perplexity(plain), **item} for item in (*found, *verdicts)]
        claimed = [item for item in verdicts if item["why not"] and item["method"] != ROUNDED]
        missed += [f"{decoder.name}: {item['method']} is not below {item['refines']}: {item['why not']}" for item in claimed]
        missed += [f"{decoder.name}: {text}" for text in alone(results)]
    return rows, missed


def pruned(decoder: Decoder, observed: Sequence[Observed]) -> Iterator[Result]:
    """Each method at each amount, then shares by outliers, then the pass itself, which prunes later sites for what the earlier ones feed them."""
    for amount in AMOUNTS:
        pattern = parse_pattern(amount)
        for name, kind in sparsifiers().items():
            yield apply(decoder, observed, name, kind.refines, amount, kind(), dict.fromkeys((item.site.name for item in observed), pattern))
        if amount in ROUNDED_AMOUNTS:
            yield from rounded(decoder, observed, amount)
        if amount in OWL_AMOUNTS:
            for name, start in SHARED.items():
                yield apply(decoder, observed, name, start, amount, sparsifiers()[start](), by_outliers(decoder.model, observed, pattern))
        yield in_turn(decoder, amount)


def rounded(decoder: Decoder, observed: Sequence[Observed], amount: str) -> Iterator[Result]:
    """Pruned and in 4 bits: one after the other, and in one sweep."""
    pattern = parse_pattern(amount)
    both = SparseAndRounded(pattern=pattern)

    def apart(weight: np.ndarray, known: SiteStatistics) -> np.ndarray:
        return Gptq().quantize(SparseGpt().prune(weight, known, pattern), known, GRID).matrix()

    yield changed(decoder, observed, AFTER, None, amount, lambda item: [apart(*pair) for pair in parts_of(item)])
    yield changed(decoder, observed, ROUNDED, AFTER, amount, lambda item: [both.quantize(*pair, GRID).matrix() for pair in parts_of(item)])


def parts_of(item: Observed) -> Iterator[tuple[np.ndarray, SiteStatistics]]:
    """The weight of each group with what methods know of its input."""
    return zip(item.site.matrices(), item.known, strict=True)


def observe(decoder: Decoder) -> list[Observed]:
    sites = without_head(benchable_sites(decoder.model))
    calibrator = decoder.calibrator("calibration", decoder.fit)
    slopes = slopes_of(decoder.model, sites, calibrator)
    known = list(calibrator.sites(decoder.model, sites, moments=True, rows=ROWS))
    unseen = {site.name: found for site, found in decoder.calibrator("report", UNSEEN).sites(decoder.model, sites, moments=True)}
    return [Observed(site, found, unseen[site.name], slopes[site.name]) for site, found in known]


def by_outliers(model: ir.Model, observed: Sequence[Observed], pattern: Pattern) -> dict[str, Pattern]:
    shares = owl(outliers(model, observed), {item.site.name: item.site.parameters for item in observed}, pattern.ratio)
    return {name: dataclasses.replace(pattern, ratio=share) for name, share in shares.items()}


def outliers(model: ir.Model, observed: Sequence[Observed]) -> dict[str, float]:
    """The share of outliers in the layer of each site."""
    metrics = {item.site.name: Wanda().metric(item.site.matrices()[0], item.known[0], None) for item in observed}
    return by_layer(metrics, layers_of(model, [item.site for item in observed]))


def notes(model: ir.Model, observed: Sequence[Observed]) -> dict[str, str]:
    """What decides besides, for methods that need something a model may not have."""
    found = sorted(outliers(model, observed).values())
    told = f"of the numbers of wanda's metric {found[0]:.2%} to {found[-1]:.2%} are outliers in a layer"
    return dict.fromkeys(SHARED, told)


def apply(
    decoder: Decoder, observed: Sequence[Observed], name: str, refines: str | None, amount: str, method: Sparsifier, patterns: Mapping[str, Pattern]
) -> Result:
    """A method on every site, each as the dense model feeds it."""

    def parts(item: Observed) -> list[np.ndarray]:
        found = zip(item.site.matrices(), item.known, item.slopes, strict=True)
        return [method.prune(part, known, patterns[item.site.name], slope) for part, known, slope in found]

    return changed(decoder, observed, name, refines, amount, parts)


def changed(
    decoder: Decoder, observed: Sequence[Observed], name: str, refines: str | None, amount: str, parts: Callable[[Observed], list[np.ndarray]]
) -> Result:
    """A decoder whose sites have other weights, [K, M] for each group."""
    errors, start = [], time.perf_counter()
    weights = {item.site.name: np.stack(parts(item)) for item in observed}
    taken = time.perf_counter() - start
    for item in observed:
        before, after = item.site.matrices().astype(np.float64), weights[item.site.name]
        wrong = sum(energy(new - old, unseen.moment) for old, new, unseen in zip(before, after, item.unseen, strict=True))
        errors.append(relative(wrong, sum(energy(old, unseen.moment) for old, unseen in zip(before, item.unseen, strict=True))))
    model = substitute_weights(decoder.model, weights)
    zeros = float(np.mean(np.concatenate([content.reshape(-1) == 0 for content in weights.values()])))
    result = Result(name, refines, amount, decoder.judged(model), np.array(errors), zeros, file_share(model, decoder.model), taken)
    print(f"{decoder.name}, {amount}, {name}: {result.judged.perplexity:.3f}", flush=True)
    return result


def in_turn(decoder: Decoder, amount: str) -> Result:
    """The pass as the compiler runs it."""
    model, start = clone_model(decoder.model), time.perf_counter()
    heads = "+".join(value.name or "" for value in model.graph.outputs)
    context = Context(calibrator=decoder.calibrator("calibration", decoder.fit))
    for step in parse_pipeline(f"sparsify{{amount={amount},keep={heads}}}"):
        step.run(model, context)
    taken = time.perf_counter() - start
    return Result("sparsify (in turn)", None, amount, decoder.judged(model), np.array([]), math.nan, file_share(model, decoder.model), taken)


def file_share(model: ir.Model, dense: ir.Model) -> float:
    """The bytes of the model's file, stored sparse, by those of the dense one."""
    copy = clone_model(model)
    for step in parse_pipeline("eliminate-dead-code,store-sparse"):
        step.run(copy, Context())
    return len(to_bytes(copy)) / len(to_bytes(dense))


def row(result: Result, results: Sequence[Result], plain: np.ndarray) -> Row:
    """A line of the table: the change against the dense model, and against what the method refines at this amount."""
    found: Row = {
        "method": result.method, "amount": result.amount, "zeros": result.zeros, "perplexity": result.judged.perplexity,
        "over dense": result.judged.perplexity / perplexity(plain) - 1,
    }  # fmt: skip
    other = reference(result, results)
    found |= {"KL": result.judged.divergence, "refines": result.refines}
    against = result.judged.against(other.judged) if other is not None else None
    found["loss against it (95 %)"] = f"{against.loss[0]:+.4f} to {against.loss[1]:+.4f}" if against is not None else None
    found["verdict"] = verdict(against.loss) if against is not None else None
    found["by KL"] = against.verdict if against is not None else None
    return found | {"file": result.file, "s": result.seconds}


def reference(result: Result, results: Sequence[Result]) -> Result | None:
    """What the method refines, at the same amount."""
    return next((other for other in results if other.method == result.refines and other.amount == result.amount), None)


def over_all(name: str, results: Sequence[Result], told: Mapping[str, str]) -> Row:
    """Over all amounts: the mean difference of loss with its interval, E by that of what is refined, and why it is not better, if it is not."""
    meant = MEANT.get(name)
    mine = [result for result in results if result.method == name and (meant is None or result.amount in meant)]
    pairs = [(result, other) for result in mine if (other := reference(result, results)) is not None]
    change = np.mean([own.judged.losses for own, _ in pairs], axis=0), np.mean([other.judged.losses for _, other in pairs], axis=0)
    low, high = interval(*change)
    ratios = np.concatenate([own.errors / other.errors for own, other in pairs])
    middle = float(np.exp(np.log(ratios).mean()))
    least, most = interval_of_ratios(ratios.tolist())
    why = "" if high < 0 else reason(name, results, float((ratios < 1).mean()), middle, (low, high)) + (f"; {told[name]}" if name in told else "")
    return {
        "method": name, "refines": pairs[0][0].refines, "amounts": len(pairs), "loss against it (95 %)": f"{low:+.4f} to {high:+.4f}",
        "E by its (95 %)": f"{middle:.3f} ({least:.3f} to {most:.3f})", "verdict": verdict((low, high)), "why not": why,
    }  # fmt: skip


def reason(name: str, results: Sequence[Result], won: float, ratio: float, change: tuple[float, float]) -> str:
    """Why a method is not surely better, with numbers."""
    apart = {result.amount: result.judged.perplexity for result in results if result.method == name}
    told = ", ".join(f"{value:.2f} at {amount}" for amount, value in apart.items())
    site = f"at the sites it errs {ratio:.3f}x as much (less at {won:.0%} of them)"
    return f"loss {change[0]:+.4f} to {change[1]:+.4f}; {site}; perplexity {told}"


def alone(results: Sequence[Result]) -> list[str]:
    """What has to hold at one amount, and does not."""
    found = []
    for result in results:
        other = reference(result, results)
        if other is not None and result.amount in ALONE.get(result.method, ()) and interval(result.judged.losses, other.judged.losses)[1] >= 0:
            found.append(f"{result.method} at {result.amount}: perplexity {result.judged.perplexity:.3f}, {other.method} has {other.judged.perplexity:.3f}")
    return found
