"""Perplexity of small decoders when what their sites read is rounded too: W8A8 and W4A8 with the ranges of calibration, W4A4 with a scale for each token.

Rounding is simulated in float32. Claimed on text that was not calibrated on: rotation is below rtn at W4A4, and smoothquant is below rtn at W8A8 where
outliers are planted (`quant_outliers`). The rest is shown, with the loss against rtn on the same windows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from quant_decoders import Decoder, decoders
from quant_language import interval, perplexity
from quant_outliers import planted
from tables import Row, print_table

from graphwright.compiler.calibration.engine import Engine
from graphwright.compiler.core.errors import GraphwrightError
from graphwright.compiler.core.graph import clone_model
from graphwright.compiler.core.passes import Context, parse_pipeline
from graphwright.passes.quantize.activation import ActivationGrid
from graphwright.passes.quantize.grid import Grid
from graphwright.passes.quantize.method import find_method
from graphwright.passes.quantize.simulate import round_inputs, round_weights

PLANTED = " with outliers"
CLAIMED = (("rotate", "W4A4", ""), ("smoothquant", "W8A8", PLANTED))
WINDOWS = 64


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
    "rotate": ("rotate", "rtn"),
    "rotate, gptq": ("rotate", "gptq"),
}
"""The passes that make a model easy to round, and the method that rounds its weights then."""

Losses = dict[str, np.ndarray]


def measure(only: str, seconds: float) -> tuple[list[Row], list[str]]:
    """All decoders whose name holds ``only``, as they are and with outliers."""
    del seconds
    rows: list[Row] = []
    missed: list[str] = []
    for decoder in decoders():
        for kind, model in (("", decoder.model), (PLANTED, planted(decoder.model))):
            if only not in decoder.name + kind:
                continue
            plain = decoder.losses(model)[:WINDOWS]
            for setting in SETTINGS:
                found, losses = table(decoder, model, setting, plain)
                print_table(f"{decoder.name}{kind}, {setting.name}: perplexity {perplexity(plain):.3f} in float32, {len(plain)} windows", found)
                rows += [{"model": decoder.name + kind, "setting": setting.name, **row} for row in found]
                missed += [f"{decoder.name}{kind}: {claim}" for claim in claims(losses, setting.name, kind)]
    return rows, missed


def table(decoder: Decoder, model: ir.Model, setting: Setting, plain: np.ndarray) -> tuple[list[Row], Losses]:
    """A row for each recipe, and the loss of each window."""
    losses: Losses = {}
    rows: list[Row] = []
    for name, found, took in results(decoder, model, setting):
        losses[name] = found[:WINDOWS]
        low, high = interval(losses[name], losses["rtn"])
        rows.append({
            "recipe": name, "perplexity": perplexity(losses[name]), "over float32": perplexity(losses[name]) / perplexity(plain) - 1,
            "loss against rtn (95 %)": f"{low:+.4f} to {high:+.4f}" if name != "rtn" else None, "s": took,
        })  # fmt: skip
    return rows, losses


def results(decoder: Decoder, model: ir.Model, setting: Setting) -> Iterator[tuple[str, np.ndarray, float]]:
    """Each recipe with the loss of each window and its seconds; one that fails is left out and said."""
    engine = decoder.calibrator("calibration", decoder.fit)
    for name, (passes, method) in RECIPES.items():
        start = time.perf_counter()
        try:
            rounded = prepared(model, passes.format(bits=setting.weights.bits, inputs=setting.inputs.bits), engine)
            round_weights(rounded, find_method(method)(), setting.weights, engine)
            round_inputs(rounded, setting.inputs, engine)
        except GraphwrightError as error:
            print(f"{decoder.name}: {name} is not there at {setting.name}: {error}", flush=True)
            continue
        yield name, decoder.losses(rounded), time.perf_counter() - start


def prepared(model: ir.Model, passes: str, engine: Engine) -> ir.Model:
    """A copy after these passes."""
    copy = clone_model(model)
    for step in parse_pipeline(passes):
        step.run(copy, Context(calibrator=engine))
    return copy


def claims(losses: Losses, setting: str, kind: str) -> list[str]:
    """What does not hold."""
    missed = []
    for name, where, on in CLAIMED:
        if (where, on) != (setting, kind):
            continue
        if name not in losses:
            missed.append(f"there is no {name} at {setting}")
        elif not losses[name].mean() < losses["rtn"].mean():
            missed.append(f"{name} at {setting}: perplexity {perplexity(losses[name]):.4f}, rtn has {perplexity(losses['rtn']):.4f}")
    return missed
