"""Magika tells what kind of file it is given from its first and last 1,024 bytes."""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import json
import lzma
import pickle
import sqlite3
import sysconfig
import tarfile
import wave
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .catalogue import Entry, Metric, Sample
from .session import Runs, only
from .shared import Split, shared_file, spread

FILE, LABELS = "models/magika_v3_3.onnx", "models/magika_v3_3.config.json"
PART, BLOCK, PADDING = 1024, 4096, 256
MODULES = 240


def entries() -> tuple[Entry, ...]:
    """The file-type classifier."""
    metric = Metric("kinds right of files made here", accuracy, expected=0.9617)
    what = "file-type classifier: embedding, convolution, GELU, LayerNormalization"
    return (Entry("magika_v3_3", what, "shared models", feeds, metric, path=FILE, needs=(LABELS,)),)


def tokens(content: bytes) -> np.ndarray:
    """int32 [2048]: the first bytes without leading blanks, then the last without trailing ones, each padded to 1,024 with 256."""
    first, last = content[:BLOCK].lstrip()[:PART], content[-BLOCK:].rstrip()[-PART:]
    out = np.full(2 * PART, PADDING, np.int32)
    out[: len(first)] = np.frombuffer(first, np.uint8)
    out[2 * PART - len(last) :] = np.frombuffer(last, np.uint8)
    return out


@functools.cache
def files(split: Split) -> tuple[tuple[str, bytes], ...]:
    """(kind, content) of files: Python's own modules, and what Python writes of them in other formats. Every fifth is for calibration."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    modules = [path.read_bytes() for path in sorted(folder.glob("*.py")) if path.stat().st_size > 4000][:MODULES]
    everything = [pair for index, source in enumerate(modules) for pair in _forms(index, source)]
    return tuple(pair for index, pair in enumerate(everything) if (index % 5 == 0) == (split == "calibration"))


def _forms(index: int, source: bytes) -> list[tuple[str, bytes]]:
    """The module itself, and one other kind of file made of it."""
    makers = (
        ("gzip", gzip.compress), ("bzip", bz2.compress), ("xz", lzma.compress), ("zip", _zip), ("tar", _tar), ("json", _json), ("pickle", _pickle),
        ("wav", _wav), ("npy", _npy), ("sqlite", _sqlite), ("csv", _csv), ("xml", _xml),
    )  # fmt: skip
    kind, make = makers[index % len(makers)]
    return [("python", source), (kind, make(source))]


def _zip(source: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("module.txt", source)
    return buffer.getvalue()


def _tar(source: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("module.txt")
        info.size = len(source)
        archive.addfile(info, io.BytesIO(source))
    return buffer.getvalue()


def _words(source: bytes) -> list[str]:
    return source.decode("utf-8", "replace").split()[:400]


def _json(source: bytes) -> bytes:
    return json.dumps([{"word": word, "length": len(word)} for word in _words(source)], indent=1).encode()


def _pickle(source: bytes) -> bytes:
    return pickle.dumps({"words": _words(source)})


def _wav(source: bytes) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(source[: len(source) // 2 * 2])
    return buffer.getvalue()


def _npy(source: bytes) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.frombuffer(source, np.uint8).astype(np.float32))
    return buffer.getvalue()


def _sqlite(source: bytes) -> bytes:
    base = sqlite3.connect(":memory:")
    base.execute("create table words (word text)")
    base.executemany("insert into words values (?)", [(word,) for word in _words(source)])
    base.commit()
    return base.serialize()


def _csv(source: bytes) -> bytes:
    letters = [word for word in _words(source) if word.isalpha()]
    return "".join(["number,word,length\n", *(f"{index},{word},{len(word)}\n" for index, word in enumerate(letters))]).encode()


def _xml(source: bytes) -> bytes:
    letters = [word for word in _words(source) if word.isalpha()]
    body = "".join(f"  <word number=\"{index}\">{word}</word>\n" for index, word in enumerate(letters))
    return f"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<words>\n{body}</words>\n".encode()


def feeds(count: int, split: Split) -> Iterator[Sample]:
    """Batches of one to four files."""
    everything = files(split)
    for index in range(count):
        chosen = [everything[(7 * index + offset) % len(everything)][1] for offset in range(1 + index % 4)]
        yield {"bytes": np.stack([tokens(content) for content in chosen])}


def accuracy(runner: Runs, limit: int | None = None) -> float:
    """The part of the files whose kind is right."""
    labels = json.loads(shared_file(LABELS).read_text(encoding="utf-8"))["target_labels_space"]
    everything = files("report")
    chosen = [everything[index] for index in spread(len(everything), limit)]
    return float(np.mean([labels[int(only(runner.run({"bytes": tokens(content)[None]})).argmax())] == kind for kind, content in chosen]))
