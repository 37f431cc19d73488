"""The door for calibration data: whatever the user has, as samples of a model."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ..cache import hash_parts
from ..core.backend import Progress, Sample
from ..core.errors import InputError, UsageError
from ..samples import Run
from .data import CalibrationData, Feed, Stacks
from .fit import Arrange, Fit
from .images import SUFFIXES, open_images
from .made_up import make_up
from .npz_files import NpzFiles
from .preprocess import Preprocess, read_preprocess
from .spool import Spool, drawn
from .texts import open_texts

__all__ = ["RANDOM", "open_calibration"]

RANDOM = "random"
MADE_UP = 32
TEXTS = (".txt", ".text")


def open_calibration(
    source: object,
    model: ir.Model,
    arrange: Arrange | None = None,
    *,
    preprocess: str | Mapping[str, object] | Preprocess | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    run: Run | None = None,
) -> CalibrationData:
    """Calibration data for ``model`` from one of these:

    - a dict by input name, or a list of dicts or of tuples in the order of the inputs (for a torch module: of what it is called with);
    - a DataLoader, a generator, or anything else that can be iterated (it is gone through once and kept, in files when it is large);
    - ONNX Runtime's CalibrationDataReader, or whatever else has ``get_next()``;
    - the path of an .npz, of a folder of them, of a folder of images, of a text file (see `Preprocess`), or a list of such paths;
    - "random", or "random:64" for so many: made up, and ``made_up`` says so.

    Arrays that hold many samples are taken apart as `Fit` says; of single dicts, .npz files and DataLoaders a symbolic batch too. ``run`` says
    whether the model accepts a made-up sample. Raises InputError when there is no data, or none that fits; UsageError when the source is nothing of
    the above, does not exist, or needs ``preprocess``.
    """
    spec = read_preprocess(preprocess)
    opener = _Opener(model, arrange, spec, seed, progress, run)
    data = opener.open(source)
    if next(data.feed.items(), None) is None:
        data.refuse_empty()
    return data


@dataclass(frozen=True)
class _Opener:
    model: ir.Model
    arrange: Arrange | None
    spec: Preprocess | None
    seed: int
    progress: Progress | None
    run: Run | None

    def open(self, source: object) -> CalibrationData:
        if isinstance(source, (str, os.PathLike)):
            return self._path(os.fspath(source))
        if isinstance(source, (list, tuple)) and source and all(isinstance(item, (str, os.PathLike)) for item in source):
            return self._paths([os.fspath(item) for item in source])
        if isinstance(source, Mapping):
            return self._data(Stacks([source], self._fit(batches=True)), "given samples")
        if hasattr(source, "get_next"):
            return self._spooled(drawn(source), self._fit(loose=True), f"a {type(source).__name__}")
        if isinstance(source, tuple):
            return self._data(Stacks([source], self._fit(batches=True)), "given samples")
        if isinstance(source, list):
            return self._data(Stacks(source, self._fit()), "given samples")
        if isinstance(source, Iterable) and not _is_array(source):
            is_loader = hasattr(source, "dataset") and hasattr(source, "batch_size")
            return self._spooled(source, self._fit(loose=True, batches=is_loader), f"a {type(source).__name__}")
        if _is_array(source):
            return self._data(Stacks([source], self._fit(batches=True)), "given samples")
        raise UsageError(
            f"a {type(source).__name__} is no calibration data: give a list of dicts by input name, a DataLoader, a CalibrationDataReader, the path of .npz "
            "files, of a folder of images or of a text file, or 'random'"
        )

    def _fit(self, *, loose: bool = False, batches: bool = False) -> Fit:
        return Fit(self.model, self.arrange, loose=loose, batches=batches)

    def _data(self, feed: Feed, kind: str, *, made_up: bool = False) -> CalibrationData:
        most = self.spec.samples if self.spec is not None else None
        return CalibrationData(feed if most is None else _First(feed, most), kind, made_up=made_up)

    def _spooled(self, source: Iterable[object], fit: Fit, kind: str) -> CalibrationData:
        most = self.spec.samples if self.spec is not None else None
        return CalibrationData(Spool(source, fit, self.progress, most=most), kind)

    def _path(self, text: str) -> CalibrationData:
        name, _, count = text.partition(":")
        if name == RANDOM and not Path(text).exists():
            if count and not (count.isdigit() and int(count)):
                raise UsageError(f"'{text}' should say how many samples to make up: random:64")
            made = make_up(self.model, int(count or MADE_UP), self.seed, self.run)
            return CalibrationData(Spool(made, self._fit(), self.progress), "random", made_up=True)
        return self._paths([text])

    def _paths(self, texts: Sequence[str]) -> CalibrationData:
        if len(texts) == 1 and texts[0].partition(":")[0] == RANDOM and not Path(texts[0]).exists():
            return self._path(texts[0])
        feeds = [self._feed(Path(text)) for text in texts]
        shown = ", ".join(Path(text).name or text for text in texts[:3]) + (" ..." if len(texts) > 3 else "")
        return self._data(feeds[0] if len(feeds) == 1 else _Chain(tuple(feeds)), shown)

    def _feed(self, path: Path) -> Feed:
        if path.is_dir():
            return self._folder(path)
        if not path.is_file():
            raise UsageError(f"there is no calibration file or folder '{path}'")
        suffix = path.suffix.lower()
        if suffix == ".npz":
            return NpzFiles([path], self._fit(batches=True), path.parent)
        if suffix in SUFFIXES:
            return open_images([path], self.model, self._fit(), self.spec, path.parent)
        if suffix in TEXTS or self.spec is not None and self.spec.tokenizer is not None:
            return open_texts(path, self.model, self._fit(), self.spec)
        raise UsageError(f"'{path}' is no calibration data: it must be .npz, .txt, or a folder of .npz files or images")

    def _folder(self, path: Path) -> Feed:
        files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
        arrays = [file for file in files if file.suffix.lower() == ".npz"]
        images = [file for file in files if file.suffix.lower() in SUFFIXES]
        if arrays and images:
            raise UsageError(f"the folder '{path}' holds both .npz files and images: give a folder of one kind")
        if arrays:
            return NpzFiles(arrays, self._fit(batches=True), path)
        if images:
            return open_images(images, self.model, self._fit(), self.spec, path)
        raise InputError(f"the folder '{path}' holds no .npz files and no images ({', '.join(SUFFIXES)})")


@dataclass(frozen=True)
class _Chain:
    """Several feeds, one after the other."""

    feeds: tuple[Feed, ...]

    def items(self) -> Iterator[tuple[str, Callable[[], Sample]]]:
        """As `data.Feed.items`."""
        for place, feed in enumerate(self.feeds):
            yield from ((name if place == 0 else f"{name} ({place + 1})", read) for name, read in feed.items())

    def digest(self) -> str:
        """As `data.Feed.digest`."""
        return hash_parts(feed.digest() for feed in self.feeds)


@dataclass(frozen=True)
class _First:
    """The first samples of a feed."""

    feed: Feed
    most: int

    def items(self) -> Iterator[tuple[str, Callable[[], Sample]]]:
        """As `data.Feed.items`."""
        return itertools.islice(self.feed.items(), self.most)

    def digest(self) -> str:
        """As `data.Feed.digest`."""
        return hash_parts([self.feed.digest(), str(self.most)])


def _is_array(source: object) -> bool:
    return isinstance(source, np.ndarray) or hasattr(source, "detach")
