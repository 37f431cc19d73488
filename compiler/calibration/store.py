"""Samples put aside: few in memory, the rest in a temporary folder."""

from __future__ import annotations

import copy
import functools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from ..core.backend import Sample
from ..core.errors import InputError
from ..npz import load_sample, save_sample
from .data import sample_bytes

__all__ = ["Store"]

DISK_BYTES = 32 << 30


class Store:
    """Keeps samples, up to ``memory`` bytes of them in memory. The files go with this object."""

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._disk = DISK_BYTES
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._count = 0

    def put(self, sample: Sample) -> Callable[[], Sample]:
        """Keep a copy of a sample; what comes back reads it. Raises InputError when there is no room."""
        size = sample_bytes(sample)
        if size <= self._memory:
            self._memory -= size
            kept = copy.deepcopy(sample)
            return lambda: kept
        if size > self._disk:
            raise InputError(f"the calibration samples take more than {DISK_BYTES >> 30} GiB: give fewer of them (samples=100 in --preprocess)")
        self._disk -= size
        path = self._place()
        try:
            entries = save_sample(path, sample)
        except OSError as error:
            raise InputError(f"the calibration samples cannot be kept in '{path.parent}': {error}") from None
        return functools.partial(load_sample, path, entries)

    def has_room(self, size: int) -> bool:
        """Whether so many bytes would fit, and leave half of the disk's free space."""
        return size <= self._memory or size <= min(self._disk, shutil.disk_usage(tempfile.gettempdir()).free // 2)

    def close(self) -> None:
        """Remove the files."""
        if self._folder is not None:
            self._folder.cleanup()

    def _place(self) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="graphwright-calibration-")
        self._count += 1
        return Path(self._folder.name) / f"{self._count}.npz"
