"""The real models and labelled data that may lie beside the checkout, and how to read them.

``../shared/models`` and ``../shared/data`` are no part of the project; ``GRAPHWRIGHT_SHARED`` names another place.
"""

from __future__ import annotations

import csv
import functools
import gzip
import os
from pathlib import Path
from typing import Literal

import numpy as np

from ..compiler.core.errors import InputError

Split = Literal["calibration", "report"]
"""Which part of labelled data: what statistics may be taken from, and what figures are reported on. They never overlap."""

ABSENT = "needs the real models kept beside the checkout (../shared)"


def shared_folder() -> Path | None:
    """The folder that holds ``models`` and ``data``, or None on a machine without it."""
    named = os.environ.get("GRAPHWRIGHT_SHARED")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared"
    return folder if (folder / "models").is_dir() else None


def shared_file(relative: str) -> Path:
    """A file below the shared folder. Raises InputError when it is not there."""
    folder = shared_folder()
    if folder is None:
        raise InputError(f"{relative}: {ABSENT}")
    path = folder / relative
    if not path.exists():
        raise InputError(f"{path} is missing")
    return path


def is_calibration(index: int) -> bool:
    """Every tenth item is for calibration."""
    return index % 10 == 0


@functools.cache
def imagenet_files(split: Split) -> tuple[tuple[int, Path], ...]:
    """(class index, 256 x 256 JPEG) of one part of the 1,000 images."""
    files = sorted(shared_file("data/imagenet_1000").glob("*.jpg"))
    labelled = ((int(path.name[:4]), path) for path in files)
    return tuple((label, path) for label, path in labelled if is_calibration(label) == (split == "calibration"))


def spread(total: int, count: int | None) -> list[int]:
    """``count`` indices below ``total`` (all, for None), evenly spaced, so that a few stand for all classes."""
    if count is None or count >= total:
        return list(range(total))
    return [index * total // count for index in range(count)]


def image(path: Path, size: int = 256) -> np.ndarray:
    """The central ``size`` x ``size`` pixels of an image, uint8 RGB [size, size, 3]."""
    from PIL import Image

    pixels = np.asarray(Image.open(path).convert("RGB"))
    top, left = (pixels.shape[0] - size) // 2, (pixels.shape[1] - size) // 2
    return pixels[top : top + size, left : left + size]


def resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 RGB pixels brought to another size with a bicubic filter."""
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


@functools.cache
def cifar10(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Test images uint8 [n, 32, 32, 3] and labels; every fifth image (500 of 2,500) is for calibration."""
    with np.load(shared_file("data/cifar10/test_2500.npz")) as file:
        pixels, labels = (file[name] for name in file.files[:2])
    chosen = (np.arange(len(labels)) % 5 == 0) == (split == "calibration")
    return pixels[chosen], labels[chosen].astype(np.int64)


@functools.cache
def mnist(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Test digits uint8 [n, 28, 28] and labels; every tenth digit is for calibration."""
    folder = shared_file("data/mnist")
    pixels = np.frombuffer(gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)
    labels = np.frombuffer(gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    chosen = (np.arange(len(labels)) % 10 == 0) == (split == "calibration")
    return pixels[chosen], labels[chosen].astype(np.int64)


@functools.cache
def stsb(part: Literal["train", "dev", "test"]) -> tuple[tuple[str, str, float], ...]:
    """Pairs of English sentences and how alike people found them, 0 to 5."""
    with shared_file(f"data/stsb/stsb-en-{part}.csv").open(encoding="utf-8", newline="") as file:
        return tuple((first, second, float(gold)) for first, second, gold in csv.reader(file))


@functools.cache
def text(split: Split) -> str:
    """Wikitext-2: its validation part for calibration, its test part for the figure."""
    name = "valid" if split == "calibration" else "test"
    return shared_file(f"data/wikitext2/{name}.txt").read_text(encoding="utf-8")
