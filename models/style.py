"""Models that make images, with real weights: style transfer and super-resolution."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .catalogue import Entry, Metric, Sample
from .ranks import psnr
from .session import Plain, Runs, only
from .shared import Split, image, imagenet_files, resized, shared_file, spread

CANDY, LARGER = "models/style_candy.onnx", "models/super_resolution.onnx"
IMAGES = ("data/imagenet_1000",)
EQUAL = 100.0
"""dB at which two images count as equal."""


def entries() -> tuple[Entry, ...]:
    """Both makers of images."""
    return (
        Entry("style_candy", "style transfer: InstanceNormalization, reflected padding, upsampling, 720 x 720", "shared models", _candy_feeds,
              Metric("dB to the file as obtained (at most 100)", candy_likeness, expected=EQUAL), path=CANDY, needs=IMAGES, packages=("PIL",)),
        Entry("super_resolution", "three times larger, sub-pixel convolution", "shared models", _larger_feeds,
              Metric("PSNR in dB of images made small, then large", larger_psnr, expected=25.69), path=LARGER, needs=IMAGES, packages=("PIL",)),
    )  # fmt: skip


def _candy_feeds(count: int, split: Split) -> Iterator[Sample]:
    files = imagenet_files(split)
    for index in spread(len(files), count):
        pixels = resized(image(files[index][1]), 720, 720).astype(np.float32)
        yield {"inputImage": np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])}


def candy_likeness(runner: Runs, limit: int | None = None) -> float:
    """Mean PSNR against the images that the model as obtained makes."""
    original = Plain(shared_file(CANDY))
    feeds = _candy_feeds(limit or 5, "report")
    return float(np.mean([min(EQUAL, psnr(only(runner.run(feed)), only(original.run(feed)), 255.0)) for feed in feeds]))


def mosaic(split: Split, index: int) -> np.ndarray:
    """Brightness from 0 to 1, float32 [672, 672], of nine images beside each other: larger than any single one kept."""
    files = imagenet_files(split)
    tiles = [image(files[(9 * index + offset) % len(files)][1], 224) @ np.array([0.299, 0.587, 0.114]) for offset in range(9)]
    return np.block([[tiles[3 * row + column] for column in range(3)] for row in range(3)]).astype(np.float32) / 255


def _smaller(large: np.ndarray) -> np.ndarray:
    from PIL import Image

    small = Image.fromarray(np.round(large * 255).astype(np.uint8)).resize((224, 224), Image.Resampling.BICUBIC)
    return np.asarray(small).astype(np.float32)[None, None] / 255


def _larger_feeds(count: int, split: Split) -> Iterator[Sample]:
    for index in range(count):
        yield {"input": _smaller(mosaic(split, index))}


def larger_psnr(runner: Runs, limit: int | None = None) -> float:
    """Mean PSNR of what the model makes of images brought to a third of their size, against the images."""
    truths = (mosaic("report", index) for index in range(limit or 10))
    return float(np.mean([psnr(np.clip(only(runner.run({"input": _smaller(truth)}))[0, 0], 0, 1), truth, 1.0) for truth in truths]))
