"""A grid for each site against the same grid everywhere: gptq on small decoders, weights only, all linear sites but the head.

What a site minds is measured: the Kullback-Leibler divergence of the next token on calibration text when this site alone is rounded, at one bit less, as
many, and one more, in blocks of 32 rows and in whole columns. `allocation` spends what so many bits in blocks of 32 take. Claimed, as in `quant_language`:
on all text that is held out it is surely nearer to the model in float32 than the same grid everywhere, and its loss is not surely higher. Of the grids
that take no more the one is taken for that whose divergences have the least sum.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
from quant_decoders import Decoder, each_decoder, without_head
from tables import Findings, Row

from graphwright.compiler.allocation import Choice, allocate
from graphwright.compiler.core.sites import Site
from graphwright.compiler.core.statistics import SiteStatistics
from graphwright.compiler.method_bench import benchable_sites
from graphwright.compiler.serialize import to_bytes
from graphwright.compiler.substitution import substitute_weights
from graphwright.models.catalogue import Sample
from graphwright.models.session import Plain, only
from graphwright.passes.quantize.coded import Coded
from graphwright.passes.quantize.gptq import Gptq
from graphwright.passes.quantize.grid import Grid

UNIFORM = (4, 3)
BLOCK, WINDOWS = 32, 8

Kind = tuple[int, int]
"""Bits and block."""
Codes = dict[Kind, list[Coded]]
"""The weight of each group of a site, by its grid."""


def measure(only_models: str, seconds: float) -> tuple[list[Row], list[str]]:
    """All decoders whose name holds ``only_models``."""
    del seconds
    return each_decoder(only_models, look)


def look(decoder: Decoder, found: Findings) -> None:
    """A table for each number of bits that one decoder has everywhere."""
    sites = without_head(benchable_sites(decoder.model))
    known = list(decoder.calibrator("calibration", decoder.fit).sites(decoder.model, sites, moments=True))
    feeds = list(decoder.feeds("calibration", WINDOWS))
    for bits in UNIFORM:
        rows, claims = compared(decoder, known, feeds, bits)
        found.table(f"{decoder.name}, {bits} bits", rows, model=decoder.name, bits=bits)
        found.miss(decoder.name, claims)


def compared(decoder: Decoder, known: Sequence[tuple[Site, list[SiteStatistics]]], feeds: Sequence[Sample], bits: int) -> tuple[list[Row], list[str]]:
    """Uniform and mixed grids of at most the same size, and the claim where it does not hold."""
    start = time.perf_counter()
    kinds = [(width, block) for width in (bits - 1, bits, bits + 1) for block in (BLOCK, 0)]
    codes = {site.name: {kind: _coded(site, statistics, kind) for kind in kinds} for site, statistics in known}
    harms = _harms(decoder.model, codes, feeds)
    choices = [[Choice(_stored(item[kind]), harms[name, kind]) for kind in kinds] for name, item in codes.items()]
    budget = sum(_stored(item[bits, BLOCK]) for item in codes.values())
    taken = allocate(choices, budget)
    assert taken is not None
    same = {kind: (sum(_stored(item[kind]) for item in codes.values()), sum(harms[name, kind] for name in codes)) for kind in kinds}
    best = min((kind for kind in kinds if same[kind][0] <= budget), key=lambda kind: same[kind][1])
    plans = {"uniform": dict.fromkeys(codes, best), "mixed": {name: kinds[place] for name, place in zip(codes, taken, strict=True)}}
    judged = {name: decoder.judged(_rounded(decoder.model, codes, plan)) for name, plan in plans.items()}
    change = judged["mixed"].against(judged["uniform"])
    count = sum(site.parameters for site, _ in known)
    rows: list[Row] = [
        {"plan": name, "bits/weight": sum(_stored(codes[site][kind]) for site, kind in plan.items()) / count, "perplexity": judged[name].perplexity,
         "divergence": judged[name].divergence, "sites by bits": "  ".join(_told(kind, plan) for kind in kinds if kind in plan.values()),
         "against uniform (95 %)": str(change) if name == "mixed" else None, "verdict": change.verdict if name == "mixed" else None,
         "s": time.perf_counter() - start}
        for name, plan in plans.items()
    ]  # fmt: skip
    return rows, [] if change.holds else [f"a grid for each site is not surely nearer than {bits} bits everywhere: {change}"]


def _told(kind: Kind, plan: Mapping[str, Kind]) -> str:
    return f"{kind[0]}{'' if kind[1] else ' whole'}: {list(plan.values()).count(kind)}"


def _coded(site: Site, statistics: Sequence[SiteStatistics], kind: Kind) -> list[Coded]:
    grid = Grid(kind[0], symmetric=False, block=kind[1])
    return [Gptq().quantize(weight, group, grid) for weight, group in zip(site.matrices(), statistics, strict=True)]


def _stored(coded: Sequence[Coded]) -> float:
    return sum(part.stored_bits for part in coded)


def _rounded(model: ir.Model, codes: Mapping[str, Codes], plan: Mapping[str, Kind]) -> ir.Model:
    return substitute_weights(model, {name: np.stack([part.matrix() for part in codes[name][kind]]) for name, kind in plan.items()})


def _harms(model: ir.Model, codes: Mapping[str, Codes], feeds: Sequence[Sample]) -> dict[tuple[str, Kind], float]:
    """The divergence of the next token from the model as it is, for each site alone on each grid."""
    exact = [_log_shares(row) for row in _logits(model, feeds)]
    found = {}
    for name, item in codes.items():
        for kind in item:
            rounded = [_log_shares(row) for row in _logits(_rounded(model, codes, {name: kind}), feeds)]
            found[name, kind] = float(np.mean([(np.exp(p) * (p - q)).sum(axis=-1).mean() for p, q in zip(exact, rounded, strict=True)]))
    return found


def _logits(model: ir.Model, feeds: Sequence[Sample]) -> list[np.ndarray]:
    runner = Plain(to_bytes(model))
    return [only(runner.run(feed)) for feed in feeds]


def _log_shares(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))
