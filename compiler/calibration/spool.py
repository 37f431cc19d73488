"""Samples that can be had only once, or that differ each time, kept for the passes to come: few in memory, the rest in files."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator

from ..cache import hash_parts
from ..core.backend import Progress, Sample
from ..core.errors import InputError
from ..fingerprint import hash_samples
from .fit import Fit
from .store import Store

__all__ = ["Spool", "drawn"]

MEMORY_BYTES = 64 << 20


class Spool:
    """Goes through ``source`` once, when it is made. Raises InputError when the source itself fails, or never seems to end.

    Samples beyond ``memory`` bytes are written to a temporary folder, which goes with this object.
    """

    def __init__(self, source: Iterable[object], fit: Fit, progress: Progress | None = None, *, most: int | None = None, memory: int = MEMORY_BYTES) -> None:
        self._store = Store(memory)
        self._kept: list[tuple[str, Callable[[], Sample]]] = []
        self._hashes: list[str] = []
        for place, item in enumerate(_guarded(source)):
            if most is not None and len(self._kept) >= most:
                break
            if progress is not None:
                progress(f"reading calibration samples: {place + 1}")
            self._take(place, item, fit)
        if most is not None:
            del self._kept[most:]

    def items(self) -> Iterator[tuple[str, Callable[[], Sample]]]:
        """As `data.Feed.items`."""
        yield from self._kept

    def digest(self) -> str:
        """As `data.Feed.digest`."""
        return hash_parts(self._hashes)

    def close(self) -> None:
        """Remove the files."""
        self._store.close()

    def _take(self, place: int, item: object, fit: Fit) -> None:
        try:
            parts = list(fit.parts(item))
        except InputError as error:
            self._kept.append((f"sample {place}", functools.partial(_fail, str(error))))
            return
        for part, read in enumerate(parts):
            name = f"sample {place}" if len(parts) == 1 else f"sample {place}[{part}]"
            try:
                sample = read()
            except InputError as error:
                self._kept.append((name, functools.partial(_fail, str(error))))
            else:
                self._hashes.append(hash_samples([sample]))
                self._kept.append((name, self._store.put(sample)))


def drawn(reader: object) -> Iterator[object]:
    """What an object with ``get_next`` gives (ONNX Runtime's CalibrationDataReader), until it gives None."""
    while (item := reader.get_next()) is not None:  # type: ignore[attr-defined]
        yield item


def _guarded(source: Iterable[object]) -> Iterator[object]:
    """The source's items; whatever it raises is told as an InputError."""
    count = 0
    try:
        for item in source:
            yield item
            count += 1
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"the calibration data failed after {count} samples: {type(error).__name__}: {error}") from error


def _fail(reason: str) -> Sample:
    raise InputError(reason)
