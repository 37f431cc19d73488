"""Arrays put aside in a temporary file, so that memory holds one batch at a time."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["Spool", "Ticket"]

SHARE = 4
"""At most one part in so many of the free disk is taken."""


@dataclass(frozen=True)
class Ticket:
    """Where each array of a record lies."""

    places: Mapping[str, tuple[int, tuple[int, ...], np.dtype]]


class Spool:
    """Takes records of arrays and gives them back; the file goes when this does. At most ``most_bytes`` are taken (and a quarter of the free disk)."""

    def __init__(self, most_bytes: int) -> None:
        self._file = tempfile.TemporaryFile(prefix="graphwright-recover-")  # noqa: SIM115 (open as long as this is)
        self._left = min(most_bytes, shutil.disk_usage(tempfile.gettempdir()).free // SHARE)
        self._end = 0

    def put(self, record: Mapping[str, np.ndarray]) -> Ticket | None:
        """Keep a record; None when there is no more room."""
        size = sum(array.nbytes for array in record.values())
        if size > self._left:
            return None
        self._left -= size
        places = {}
        self._file.seek(self._end)
        for name, array in record.items():
            self._file.write(np.ascontiguousarray(array).data)
            places[name] = self._end, tuple(array.shape), array.dtype
            self._end += array.nbytes
        return Ticket(places)

    def get(self, ticket: Ticket) -> dict[str, np.ndarray]:
        """The record of a ticket."""
        self._file.flush()
        return {name: self._read(*place) for name, place in ticket.places.items()}

    def _read(self, start: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        found = np.empty(shape, dtype)
        self._file.seek(start)
        self._file.readinto(found.reshape(-1).view(np.uint8).data)
        return found

    def close(self) -> None:
        """Remove the file."""
        self._file.close()
