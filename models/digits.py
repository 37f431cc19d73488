"""A small convolutional network, trained in seconds on the 8 x 8 handwritten digits that come with scikit-learn."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .catalogue import Entry, Metric, Sample
from .exporting import dynamo, quiet
from .session import Runs, only
from .shared import Split, spread

if TYPE_CHECKING:
    import torch

EPOCHS = 12
BATCH = 64
SEED = 7


def entries() -> tuple[Entry, ...]:
    """The digits network."""
    return (
        Entry(
            "digits_cnn", "three convolutions with BatchNormalization on 8 x 8 digits, dynamic batch", "trained here, from scikit-learn's digits", feeds,
            Metric("top-1 on held-out digits", accuracy, expected=0.995), build=export, packages=("torch", "sklearn"),
        ),
    )  # fmt: skip


@functools.cache
def digits(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Pixels float32 [n, 1, 8, 8] from 0 to 1 and labels; every fourth digit is held out of training, for the figure."""
    from sklearn.datasets import load_digits

    data = load_digits()
    held_out = np.arange(len(data.target)) % 4 == 0
    chosen = held_out if split == "report" else ~held_out
    return (data.images[chosen, None] / 16).astype(np.float32), data.target[chosen].astype(np.int64)


def network() -> torch.nn.Module:
    """The untrained network: float32 [batch, 1, 8, 8] -> scores [batch, 10]."""
    from torch import nn

    def block(before: int, after: int) -> list[nn.Module]:
        return [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]

    return nn.Sequential(
        *block(1, 24), *block(24, 48), nn.MaxPool2d(2), *block(48, 96), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(96 * 4, 10)
    )


@functools.cache
def trained() -> torch.nn.Module:
    """The network after training, in eval mode; the same numbers on every call on one machine."""
    import torch

    pixels, labels = (torch.from_numpy(part) for part in digits("calibration"))
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        module = network()
        optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3, weight_decay=1e-2)
        for _ in range(EPOCHS):
            for batch in torch.randperm(len(labels)).split(BATCH):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(module(pixels[batch]), labels[batch]).backward()
                optimizer.step()
    return module.eval().requires_grad_(False)


def example_inputs() -> tuple[torch.Tensor]:
    """Eight digits."""
    import torch

    return (torch.from_numpy(digits("calibration")[0][:8]),)


def program() -> torch.export.ExportedProgram:
    """The network as torch captures it, with a free batch."""
    import torch

    with quiet():
        return torch.export.export(trained(), example_inputs(), dynamic_shapes=({0: torch.export.Dim("batch")},))


def export(folder: Path, *, optimize: bool = True) -> Path:
    """The ONNX file that torch's exporter writes, with a dynamic batch."""
    import torch

    return dynamo(trained(), example_inputs(), folder / "digits_cnn.onnx", dynamic_shapes=({0: torch.export.Dim("batch")},), optimize=optimize)


def feeds(count: int, split: Split) -> Iterator[Sample]:
    """Batches of 1 to 8 digits."""
    pixels, _ = digits(split)
    for index in range(count):
        chosen = (np.arange(1 + index % 8) + 8 * index) % len(pixels)
        yield {"input": pixels[chosen]}


def accuracy(runner: Runs, limit: int | None = None) -> float:
    """The part of the held-out digits that is recognised."""
    pixels, labels = digits("report")
    chosen = spread(len(labels), limit)
    scores = only(runner.run({"input": pixels[chosen]}))
    return float((scores.argmax(axis=1) == labels[chosen]).mean())
