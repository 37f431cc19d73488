"""Bits site by site against the same bits everywhere: gptq on small decoders, weights only, all linear sites but the head.

What a site minds is measured: the Kullback-Leibler divergence of the next token on calibration text when this site alone is rounded, at one bit less, as
many, and one more. `allocation` spends what uniform bits take. Claimed: the loss on all text that is held out is lower than that of uniform bits of at
least the same size, the 95 % interval of the difference on the same windows lying below zero.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
from quant_decoders import Decoder, decoders, interval, perplexity, without_head
from tables import Row, print_table

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

Codes = dict[int, list[Coded]]
"""Bits -> the weight of each group of a site."""


def measure(only_models: str, seconds: float) -> tuple[list[Row], list[str]]:
    """All decoders whose name holds ``only_models``."""
    del seconds
    rows: list[Row] = []
    missed: list[str] = []
    for decoder in decoders():
        if only_models not in decoder.name:
            continue
        sites = without_head(benchable_sites(decoder.model))
        known = list(decoder.calibrator("calibration", decoder.fit).sites(decoder.model, sites, moments=True))
        feeds = list(decoder.feeds("calibration", WINDOWS))
        for bits in UNIFORM:
            found, claim = compared(decoder, known, feeds, bits)
            print_table(f"{decoder.name}, {bits} bits", found)
            rows += [{"model": decoder.name, "bits": bits, **row} for row in found]
            missed += [f"{decoder.name}: {claim}"] if claim else []
    return rows, missed


def compared(decoder: Decoder, known: Sequence[tuple[Site, list[SiteStatistics]]], feeds: Sequence[Sample], bits: int) -> tuple[list[Row], str | None]:
    """Uniform and mixed bits of at most the same size, and the claim when it does not hold."""
    start = time.perf_counter()
    codes = {site.name: {width: _coded(site, statistics, width) for width in (bits - 1, bits, bits + 1)} for site, statistics in known}
    harms = _harms(decoder.model, codes, feeds)
    choices = [[Choice(_stored(item[width]), harms[name, width]) for width in item] for name, item in codes.items()]
    taken = allocate(choices, sum(_stored(item[bits]) for item in codes.values()))
    assert taken is not None
    mixed = {name: list(item)[place] for (name, item), place in zip(codes.items(), taken, strict=True)}
    plans = {"uniform": dict.fromkeys(codes, bits), "mixed": mixed}
    losses = {name: decoder.losses(_rounded(decoder.model, codes, plan)) for name, plan in plans.items()}
    count = sum(site.parameters for site, _ in known)
    low, high = interval(losses["mixed"], losses["uniform"])
    rows: list[Row] = [
        {"plan": name, "bits/weight": sum(_stored(codes[site][width]) for site, width in plan.items()) / count, "perplexity": perplexity(losses[name]),
         "sites of fewer, as many, more bits": "  ".join(str(sum(width == kind for width in plan.values())) for kind in (bits - 1, bits, bits + 1)),
         "loss (95 %)": f"{low:+.4f} to {high:+.4f}" if name == "mixed" else None, "s": time.perf_counter() - start}
        for name, plan in plans.items()
    ]  # fmt: skip
    claim = f"mixed bits are not surely better than {bits} everywhere: loss {low:+.4f} to {high:+.4f}"
    return rows, claim if high >= 0 else None


def _coded(site: Site, statistics: Sequence[SiteStatistics], bits: int) -> list[Coded]:
    grid = Grid(bits, symmetric=False, block=BLOCK)
    return [Gptq().quantize(weight, group, grid) for weight, group in zip(site.matrices(), statistics, strict=True)]


def _stored(coded: Sequence[Coded]) -> float:
    return sum(part.stored_bits for part in coded)


def _rounded(model: ir.Model, codes: Mapping[str, Codes], plan: Mapping[str, int]) -> ir.Model:
    return substitute_weights(model, {name: np.stack([part.matrix() for part in codes[name][width]]) for name, width in plan.items()})


def _harms(model: ir.Model, codes: Mapping[str, Codes], feeds: Sequence[Sample]) -> dict[tuple[str, int], float]:
    """The divergence of the next token from the model as it is, for each site alone at each width."""
    exact = [_log_shares(row) for row in _logits(model, feeds)]
    found = {}
    for name, item in codes.items():
        for width in item:
            rounded = [_log_shares(row) for row in _logits(_rounded(model, codes, {name: width}), feeds)]
            found[name, width] = float(np.mean([(np.exp(p) * (p - q)).sum(axis=-1).mean() for p, q in zip(exact, rounded, strict=True)]))
    return found


def _logits(model: ir.Model, feeds: Sequence[Sample]) -> list[np.ndarray]:
    runner = Plain(to_bytes(model))
    return [only(runner.run(feed)) for feed in feeds]


def _log_shares(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))
