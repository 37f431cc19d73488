"""Perplexity of small decoders when what their sites read is rounded too: W8A8 and W4A8 with the ranges of calibration, W4A4 with a scale for each token.

Rounding is simulated in float32, on all linear sites but the head, which the papers leave in high precision as well; on all the text that is held out.
Claimed: a learned rotation is nearer to the model in float32 than rtn at W4A4, and so is smoothquant at W8A8 where outliers are planted (`quant_outliers`),
and their perplexity is not surely higher; `quant_language` says what near is, and why. Each recipe is set against the one with the same rounding of the
weights and nothing before it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir
from quant_decoders import Decoder, Judged, each_decoder, without_head
from quant_methods import widths_of
from tables import Findings, Row

from graphwright.compiler.calibration.engine import Engine
from graphwright.compiler.core.errors import GraphwrightError
from graphwright.compiler.core.graph import clone_model
from graphwright.compiler.core.passes import Context, parse_pipeline
from graphwright.compiler.core.shapes import settle_shapes
from graphwright.compiler.core.sites import Site
from graphwright.compiler.method_bench import benchable_sites
from graphwright.passes.quantize.activation import ActivationGrid
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.method import find_method
from graphwright.passes.quantize.simulate import round_inputs, round_weights

CLAIMED = (("spinquant", "W4A4", False), ("spinquant, gptq", "W4A4", False), ("smoothquant", "W8A8", True))
"""Recipe, setting, and whether outliers are planted."""


@dataclass(frozen=True)
class Setting:
    """Grids of weights and inputs."""

    weights: Grid
    inputs: ActivationGrid

    @property
    def name(self) -> str:
        """W4A8 and the like."""
        return f"W{self.weights.bits}A{self.inputs.bits}"


SETTINGS = (
    Setting(Grid(8), ActivationGrid(8)),
    Setting(Grid(4), ActivationGrid(8)),
    Setting(Grid(4), ActivationGrid(4, token=True)),
)
RECIPES: Mapping[str, tuple[str, str]] = {
    "rtn": ("", "rtn"),
    "gptq": ("", "gptq"),
    "smoothquant": ("smooth{{bits={bits},input_bits={inputs}}}", "rtn"),
    "awq": ("smooth{{method=awq,bits={bits},input_bits={inputs}}}", "rtn"),
    "fptq": ("smooth{{method=fptq,bits={bits},input_bits={inputs}}}", "rtn"),
    "outlier-suppression": ("smooth{{method=outlier-suppression,bits={bits},input_bits={inputs}}}", "rtn"),
    "outlier-suppression+": ("smooth{{method=outlier-suppression+,bits={bits},input_bits={inputs}}}", "rtn"),
    "quarot": ("rotate", "rtn"),
    "quarot, gptq": ("rotate", "gptq"),
    "spinquant": ("rotate{{method=spinquant,bits={bits},input_bits={inputs}}}", "rtn"),
    "spinquant, gptq": ("rotate{{method=spinquant,bits=16,input_bits={inputs}}}", "gptq"),
}
"""The passes that make a model easy to round, and the method that rounds its weights then. Where that is gptq the rotation is learned with rounded inputs
alone, and what rounding weights costs is left to gptq, as the authors of SpinQuant do.
"""

Found = dict[str, Judged]


def measure(only: str, seconds: float) -> tuple[list[Row], list[str]]:
    """All decoders whose name holds ``only``, as they are and with outliers."""
    del seconds
    return each_decoder(only, look, outliers=True)


def look(decoder: Decoder, found: Findings) -> None:
    """A table of one decoder for each setting."""
    plain = decoder.judged(decoder.model)
    for setting in SETTINGS:
        rows, judged = table(decoder, setting, plain)
        title = f"{decoder.name}, {setting.name}: perplexity {plain.perplexity:.3f} in float32, {len(plain.losses)} windows"
        found.table(title, rows, model=decoder.name, setting=setting.name)
        found.miss(decoder.name, claims(judged, setting.name, decoder.outliers))


def table(decoder: Decoder, setting: Setting, plain: Judged) -> tuple[list[Row], Found]:
    """A row for each recipe, and how it was judged."""
    judged: Found = {}
    rows: list[Row] = []
    for name, found, took in results(decoder, setting):
        judged[name] = found
        base = against(name)
        change = found.against(judged[base]) if name != base else None
        rows.append({
            "recipe": name, "perplexity": found.perplexity, "over float32": found.perplexity / plain.perplexity - 1, "divergence": found.divergence,
            "against": base if change else None, "against it (95 %)": str(change) if change else None, "verdict": change.verdict if change else None, "s": took,
        })  # fmt: skip
    return rows, judged


def results(decoder: Decoder, setting: Setting) -> Iterator[tuple[str, Judged, float]]:
    """Each recipe with how it was judged and its seconds; one that fails is left out and said."""
    engine = decoder.calibrator("calibration", decoder.fit)
    for name, (passes, method) in RECIPES.items():
        if passes.startswith("rotate") and setting.name not in widths_of("spinquant", joint=True):
            continue
        start = time.perf_counter()
        try:
            rounded = prepared(decoder.model, passes.format(bits=setting.weights.bits, inputs=setting.inputs.bits), engine)
            round_weights(rounded, find_method(method)(), setting.weights, engine, _sites(rounded))
            round_inputs(rounded, setting.inputs, engine, _sites(rounded))
        except GraphwrightError as error:
            print(f"{decoder.name}: {name} is not there at {setting.name}: {error}", flush=True)
            continue
        yield name, decoder.judged(rounded), time.perf_counter() - start


def against(name: str) -> str:
    """The recipe that rounds weights alike, with nothing before it."""
    method = RECIPES[name][1]
    return "rtn" if name == method else method


def _sites(model: ir.Model) -> list[Site]:
    settle_shapes(model)
    return without_head(benchable_sites(model))


def prepared(model: ir.Model, passes: str, engine: Engine) -> ir.Model:
    """A copy after these passes."""
    copy = clone_model(model)
    for step in parse_pipeline(passes):
        step.run(copy, Context(calibrator=engine))
    return copy


def claims(judged: Found, setting: str, outliers: bool) -> list[str]:
    """What does not hold."""
    missed = []
    for name, where, on in CLAIMED:
        if (where, on) != (setting, outliers):
            continue
        if name not in judged:
            missed.append(f"there is no {name} at {setting}")
            continue
        found, base = judged[name], against(name)
        change = found.against(judged[base])
        if not change.holds:
            missed.append(f"{name} at {setting}: perplexity {found.perplexity:.4f}, {base} has {judged[base].perplexity:.4f}; {change}")
    return missed
