"""Statistics of finished groups, kept in the user's cache folder: a calibration that was killed goes on where it stopped.

A file's name is the hash of all that its content follows from: the model down to the values observed, the data, and what was asked of them.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ..cache import CALIBRATION, hash_parts, open_cache
from ..core.statistics import Histogram, Range, SiteStatistics
from ..fingerprint import hash_weights
from ..manifest import versions
from ..serialize import skeleton

__all__ = ["Kept", "Shelf", "group_key", "open_shelf", "pack_ranges", "pack_sites", "skipped_in", "unpack_ranges", "unpack_sites"]

LIMIT_BYTES = 2 << 30
ARRAYS = ("moment", "low", "high", "abs_max", "abs_mean", "mean", "rows")
SKIPPED = "skipped"

Kept = dict[str, np.ndarray]


@dataclass(frozen=True)
class Shelf:
    """A folder of .npz files, held below ``limit`` bytes by dropping the oldest."""

    folder: Path
    limit: int = LIMIT_BYTES

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing that could be found."""
        return not self.folder.is_dir() or next(self.folder.glob("*.npz"), None) is None

    def find(self, key: str) -> Kept | None:
        """What was kept under a key; None when there is nothing, or it is broken."""
        path = self.folder / f"{key}.npz"
        try:
            with np.load(path, allow_pickle=False) as content:
                found = {name: content[name] for name in content.files}
            os.utime(path)
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
            return None
        return found

    def has_room(self, size: int) -> bool:
        """Whether so many bytes would leave room for others."""
        return size <= self.limit // 2

    def put(self, key: str, content: Kept) -> None:
        """Keep arrays; what cannot be written is not kept."""
        draft: str | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, draft = tempfile.mkstemp(suffix=".partial", dir=self.folder)
            with os.fdopen(handle, "wb") as file:
                np.savez(file, **content)  # type: ignore[arg-type]
            Path(draft).replace(self.folder / f"{key}.npz")
        except OSError:
            if draft is not None:
                Path(draft).unlink(missing_ok=True)
        self._shrink(key)

    def _shrink(self, newest: str) -> None:
        with contextlib.suppress(OSError):
            files = sorted(self.folder.glob("*.npz"), key=lambda path: path.stat().st_mtime)
            total = sum(path.stat().st_size for path in files)
            for path in files:
                if total <= self.limit or path.stem == newest:
                    return
                total -= path.stat().st_size
                path.unlink()


def open_shelf() -> Shelf | None:
    """The shelf in the user's cache; None when it is switched off."""
    cache = open_cache()
    return Shelf(cache.folder / CALIBRATION) if cache is not None else None


def group_key(cut: ir.Model, data: str, question: object) -> str:
    """The key of what ``question`` asks of the outputs of a model that was cut down to them."""
    graph = skeleton(cut, max_inline=0).SerializeToString(deterministic=True)
    sources = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    return hash_parts([graph, hash_weights(cut), data, repr(question), *sources, repr(sorted(versions().items()))])


def pack_sites(found: Sequence[Sequence[SiteStatistics]], skipped: Mapping[str, str]) -> Kept:
    """Statistics of groups, in order, as arrays."""
    content = _texts(skipped)
    for place, groups in enumerate(found):
        content[f"{place}.counts"] = np.array([(item.count, item.strange) for item in groups], np.int64).reshape(-1, 2)
        if groups:
            content |= {f"{place}.{name}": np.stack([getattr(item, name) for item in groups]) for name in ARRAYS}
    return content


def unpack_sites(content: Kept, count: int) -> list[list[SiteStatistics]]:
    """The opposite of `pack_sites`."""
    found = []
    for place in range(count):
        counts = content[f"{place}.counts"].tolist()
        arrays = {name: content[f"{place}.{name}"] for name in ARRAYS} if counts else {}
        found.append(
            [
                SiteStatistics(**{name: array[group] for name, array in arrays.items()}, count=seen, strange=strange)
                for group, (seen, strange) in enumerate(counts)
            ]
        )
    return found


def pack_ranges(found: Sequence[Range | None], skipped: Mapping[str, str]) -> Kept:
    """Ranges, in order, as arrays."""
    content = _texts(skipped)
    for place, item in enumerate(found):
        if item is not None:
            content[f"{place}.ends"] = np.array([item.low, item.high, item.strange], np.float64)
            content[f"{place}.counts"], content[f"{place}.edges"] = item.histogram.counts, item.histogram.edges
    return content


def unpack_ranges(content: Kept, count: int) -> list[Range | None]:
    """The opposite of `pack_ranges`."""
    found: list[Range | None] = []
    for place in range(count):
        ends = content.get(f"{place}.ends")
        if ends is None:
            found.append(None)
        else:
            found.append(Range(float(ends[0]), float(ends[1]), Histogram(content[f"{place}.counts"], content[f"{place}.edges"]), int(ends[2])))
    return found


def skipped_in(content: Kept) -> dict[str, str]:
    """The samples that were left out, and why."""
    return {str(name): str(reason) for name, reason in content[SKIPPED].reshape(-1, 2)}


def _texts(skipped: Mapping[str, str]) -> Kept:
    return {SKIPPED: np.array([list(pair) for pair in skipped.items()] or np.empty((0, 2)), dtype=str)}
