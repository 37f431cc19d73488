"""Perplexity of small decoders with narrower hidden states, and with fewer layers: each way against the one that it has to beat, at equal size.

Claimed, for each decoder and amount: the loss of slicegpt on a window less that of channels of the stream chosen by magnitude has a mean below zero with 95 %
confidence, of both as they are cut and of both fitted afterwards; so has that of the most similar residuals dropped, and of merged layers (laco), less that
of residuals dropped by chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from prune_scores import size_of
from quant_decoders import Decoder, decoders, interval, perplexity
from tables import Row, print_table

from graphwright.compiler.core.graph import clone_model
from graphwright.compiler.core.passes import Context, parse_pipeline
from graphwright.compiler.core.sites import all_sites

CHANNELS = (0.125, 0.25)
LAYERS = (0.2,)
WINDOWS = 150


@dataclass(frozen=True)
class Way:
    """A pipeline with ``{ratio}`` and ``{stream}`` to fill in, and what it must be better than."""

    text: str
    beats: str | None = None


STREAM = "prune-structured{{ratio={ratio},of=members,uniform=true,score=magnitude,multiple=1,only={stream},refit="
NARROWER = {
    "magnitude": Way(STREAM + "false}}"),
    "slicegpt": Way("slicegpt{{ratio={ratio}}}", "magnitude"),
    "magnitude, fitted": Way(STREAM + "true}}"),
    "slicegpt, fitted": Way("slicegpt{{ratio={ratio},refit=true}}", "magnitude, fitted"),
}
FEWER = {
    "chance": Way("drop-blocks{{ratio={ratio},score=chance}}"),
    "similarity": Way("drop-blocks{{ratio={ratio}}}", "chance"),
    "laco": Way("laco{{ratio={ratio}}}", "chance"),
}


def measure(only: str, seconds: float) -> tuple[list[Row], list[str]]:
    """All decoders whose name holds ``only``."""
    del seconds
    rows: list[Row] = []
    missed: list[str] = []
    for decoder in decoders():
        if only in decoder.name:
            for title, ways, amounts in (("of the channels", NARROWER, CHANNELS), ("of the arithmetic in layers", FEWER, LAYERS)):
                found, claims = compare(decoder, ways, amounts, title)
                rows += found
                missed += [f"{decoder.name}: {claim}" for claim in claims]
    return rows, missed


def compare(decoder: Decoder, ways: dict[str, Way], amounts: tuple[float, ...], title: str) -> tuple[list[Row], list[str]]:
    """Every way at every amount."""
    plain, rows, missed = decoder.losses(decoder.model)[:WINDOWS], [], []
    whole = size_of(decoder.model)
    for amount in amounts:
        losses: dict[str, np.ndarray] = {}
        for name, way in ways.items():
            small = changed(decoder, way.text.format(ratio=amount, stream=embedding(decoder.model)))
            losses[name], left = decoder.losses(small)[:WINDOWS], size_of(small)
            row: Row = {"model": decoder.name, title: amount, "way": name, "perplexity": perplexity(losses[name])}
            row |= {"parameters": left.parameters / whole.parameters, "FLOPs": left.flops / whole.flops, "loss (95 %)": ""}
            if way.beats is not None:
                low, high = interval(losses[name], losses[way.beats])
                row["loss (95 %)"] = f"{low:+.3f} to {high:+.3f} of {way.beats}"
                missed += [f"{amount:.1%} {title}: {name} is not surely below {way.beats}"] if high >= 0 else []
            print(row, flush=True)
            rows.append(row)
    print_table(f"{decoder.name}: perplexity {perplexity(plain):.3f} whole", rows)
    return rows, missed


def changed(decoder: Decoder, text: str) -> ir.Model:
    """The model after a pass, with the decoder's calibration data."""
    model = clone_model(decoder.model)
    context = Context(calibrator=decoder.calibrator("calibration", decoder.fit))
    for step in parse_pipeline(f"constants-to-initialisers,{text},eliminate-dead-code"):
        step.run(model, context)
    return model


def embedding(model: ir.Model) -> str:
    """The site whose table starts the stream: its only group is the stream itself."""
    return next(site.name for site in all_sites(model) if site.kind == "Gather")
