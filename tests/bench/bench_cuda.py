"""A vision transformer, BERT and a ResNet of the usual sizes, random weights, on a GPU: ours in half precision against what everybody has.

torch eager and torch.compile run the module in half precision, ONNX Runtime runs torch's export as it is, with its own defaults (TensorFloat-32 among them).
Inputs lie on the device beforehand for all of them, the device is waited for before each look at the clock, and they take turns in an order drawn anew each
round. A model is compiled once, with an open batch and an example of one: verifying it on the CPU at a batch of 32 would take longer than all the rest.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tables import Row, print_table, write_rows

import graphwright
from graphwright.backends.ort.cuda.device import why_missing_here
from graphwright.backends.ort.cuda.options import CudaOptions
from graphwright.backends.ort.options import DEFAULT
from graphwright.backends.ort.session import open_file
from graphwright.compiler.core.timing import Stopwatch, median_interval
from graphwright.models.exporting import dynamo, quiet

if TYPE_CHECKING:
    import torch

BATCHES = (1, 32)
OURS, EAGER, COMPILED, RAW = "compiled", "torch eager", "torch.compile", "ONNX Runtime"
LEAST_ROUNDS = 9
LEAST_SECONDS = 2e-3
ERROR = 2e-2
"""How far ours may lie from the module in single precision, as a share of its norm."""


@dataclass(frozen=True)
class Network:
    """A network, what it is fed (a batch of one), and the name of its input."""

    name: str
    module: torch.nn.Module
    example: torch.Tensor
    feed: str


@dataclass(frozen=True)
class Place:
    """Where it is measured: torch's device, our target and precision, and the options of the raw export."""

    device: str = "cuda"
    target: str = "ort-cuda"
    precision: str = "fp16"

    @property
    def halves(self) -> bool:
        """Whether torch computes in half precision."""
        return self.precision == "fp16" and self.device == "cuda"


def run(folder: Path, only: str, seconds: float) -> list[str]:
    """Measure, print and write; returns the claims that do not hold. Without a GPU nothing is measured, and a sentence says so."""
    missing = why_missing_here() or _torch_missing()
    if missing:
        print(f"not measured: {missing}")
        return []
    return measure_all(folder, only, seconds, Place(), networks())


def measure_all(folder: Path, only: str, seconds: float, place: Place, found: Sequence[Network], batches: Sequence[int] = BATCHES) -> list[str]:
    """One row for each network, batch and way of running it."""
    start = time.monotonic()
    rows: list[Row] = []
    for network in found:
        if only in network.name:
            with tempfile.TemporaryDirectory() as draft:
                rows += measure(network, place, Path(draft), seconds, batches)
            print(f"{network.name} done after {time.monotonic() - start:.0f} s", flush=True)
            write_rows(folder / "cuda.json", rows)
    print_table(f"ms a batch, {place.device} ({time.monotonic() - start:.0f} s)", rows)
    return [claim for row in rows for claim in claims(row)]


def measure(network: Network, place: Place, draft: Path, seconds: float, batches: Sequence[int]) -> list[Row]:
    """The rows of one network: exported once, compiled once, timed at each batch."""
    import torch

    batch = torch.export.Dim("batch", min=1, max=1024)
    path = dynamo(network.module, (network.example,), draft / "model.onnx", dynamic_shapes=({0: batch},))
    artifact = graphwright.compile(path, {network.feed: network.example.numpy()}, target=place.target, precision=place.precision)
    raw = open_file(path, CudaOptions(tf32=True) if place.device == "cuda" else DEFAULT)
    rows = []
    for size in batches:
        given = _batch(network.example, size)
        torched = torch_runs(network, place, given)
        feeds = {network.feed: given.numpy()}
        timers = {OURS: artifact.runner.stopwatch(feeds), **torched, RAW: raw.stopwatch({raw.inputs[0].name: given.numpy()})}
        medians, ratios = take_turns(timers, seconds)
        rows.append(row_of(network, size, medians, ratios, error_of(network, given, artifact.runner.run(feeds)), artifact.report.options))
        del torched, timers
    raw.close()
    artifact.close()
    return rows


def torch_runs(network: Network, place: Place, given: torch.Tensor) -> dict[str, Stopwatch]:
    """The module as it is, and compiled by torch, as stopwatches."""
    import copy

    import torch

    module = copy.deepcopy(network.module).to(place.device)
    whole = given.is_floating_point() and place.halves
    module = module.half() if place.halves else module
    fed = given.to(place.device).half() if whole else given.to(place.device)
    torch._dynamo.reset()
    with quiet():
        compiled = torch.compile(module, mode="reduce-overhead" if place.device == "cuda" else "default", dynamic=False)
        for _ in range(3):
            with torch.inference_mode():
                compiled(fed)
    return {EAGER: _watch(module, fed), COMPILED: _watch(compiled, fed)}


def _watch(module: Callable[[torch.Tensor], object], fed: torch.Tensor) -> Stopwatch:
    import torch

    def wait() -> None:
        if fed.is_cuda:
            torch.cuda.synchronize()

    def timed(calls: int) -> float:
        with torch.inference_mode():
            wait()
            start = time.perf_counter()
            for _ in range(calls):
                module(fed)
            wait()
            return time.perf_counter() - start

    return timed


def take_turns(timers: Mapping[str, Stopwatch], seconds: float, seed: int = 0) -> tuple[dict[str, float], dict[str, tuple[float, float, float]]]:
    """Median seconds of each, and the time of ours by that of each with its 95 % interval, over rounds in which all take part."""
    shuffle = random.Random(seed).shuffle
    calls = {name: _calls(timer) for name, timer in timers.items()}
    times: dict[str, list[float]] = {name: [] for name in timers}
    end = time.perf_counter() + seconds
    order = list(timers)
    while len(times[OURS]) < LEAST_ROUNDS or time.perf_counter() < end:
        shuffle(order)
        for name in order:
            times[name].append(timers[name](calls[name]) / calls[name])
    ratios = {}
    for name, mine in times.items():
        each = [ours / other for ours, other in zip(times[OURS], mine, strict=True)]
        ratios[name] = (statistics.median(each), *median_interval(each, 0.95))
    return {name: statistics.median(mine) for name, mine in times.items()}, ratios


def _calls(timer: Stopwatch) -> int:
    timer(2)
    return max(1, round(LEAST_SECONDS / max(timer(2) / 2, 1e-7)))


def row_of(
    network: Network, size: int, medians: Mapping[str, float], ratios: Mapping[str, tuple[float, float, float]], error: float, options: Mapping[str, object]
) -> Row:
    """Milliseconds of each, and how ours compares with the best of the others."""
    best = min((name for name in medians if name != OURS), key=lambda name: medians[name])
    ratio, low, high = ratios[best]
    row: Row = {"model": network.name, "batch": size, **{name: median * 1e3 for name, median in medians.items()}}
    return row | {"best other": best, "ours / best": ratio, "low": low, "high": high, "error": error, "CUDA graph": options.get("graph", False)}


def error_of(network: Network, given: torch.Tensor, outputs: Mapping[str, Any]) -> float:
    """The distance between ours and the module in single precision on the CPU, as a share of its norm; of the first item of a batch."""
    import torch

    with torch.inference_mode():
        expected = network.module(given[:1]).double().numpy()
    found = next(iter(outputs.values()))[:1].astype(np.float64)
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def claims(row: Row) -> list[str]:
    """What does not hold of a row: ours is never behind the best of the others, and it computes the network."""
    name = f"{row['model']}, batch {row['batch']}"
    wrong = [f"{name}: off by {row['error']:.2g} of its norm"] if not row["error"] <= ERROR else []
    behind = row["low"] > 1
    return wrong + ([f"{name}: {row['ours / best']:.3f} ({row['low']:.3f} to {row['high']:.3f}) of the time of {row['best other']}"] if behind else [])


def networks(small: bool = False) -> Iterator[Network]:
    """ViT-Base, BERT-base and ResNet-50 as transformers configures them; ``small`` ones of the same kind to try the benchmark itself."""
    import torch
    from transformers import BertConfig, BertModel, ResNetConfig, ResNetModel, ViTConfig, ViTModel

    torch.manual_seed(0)
    pixels, length = (64 if small else 224), (16 if small else 128)
    shrunk = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128} if small else {}
    stages = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1]} if small else {}
    image = torch.randn(1, 3, pixels, pixels)
    with quiet():
        yield _network("ViT-Base", ViTModel(ViTConfig(image_size=pixels, **shrunk), add_pooling_layer=False), image, "pixel_values", "last_hidden_state")
        tokens = torch.randint(1, 30000, (1, length))
        yield _network("BERT-base", BertModel(BertConfig(**shrunk), add_pooling_layer=False), tokens, "input_ids", "last_hidden_state")
        yield _network("ResNet-50", ResNetModel(ResNetConfig(**stages)), image, "pixel_values", "pooler_output")


def _network(name: str, model: torch.nn.Module, example: torch.Tensor, feed: str, output: str) -> Network:
    """A model of transformers as a module of one input and one output."""
    import torch

    class Single(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, given: torch.Tensor) -> torch.Tensor:
            return self.model(**{feed: given})[output]

    return Network(name, Single().eval(), example, "given")


def _batch(example: torch.Tensor, size: int) -> torch.Tensor:
    """As many items, each other than the rest."""
    import torch

    return torch.cat([example.roll(shift, dims=-1) for shift in range(size)])


def _torch_missing() -> str:
    import torch

    return "" if torch.cuda.is_available() else "torch cannot use the GPU: install a build of torch with CUDA"
