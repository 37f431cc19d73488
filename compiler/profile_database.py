"""What kernels took, kept from one compilation to the next: the profile that decides where the fusion table does not.

One SQLite file, beside the user's cache unless another is named. Several processes may read and write at once: each measurement is one transaction, and of
two for the same kernel the smaller stays, since whatever else a machine does only makes a kernel slower.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from .cache import open_cache
from .core.errors import ArtifactError
from .core.planning.outline import isolate
from .core.planning.signature import digest, signature

__all__ = ["Measurement", "Measuring", "ProfileDatabase", "open_profile"]

FILE = "profile.sqlite"
PATIENCE_SECONDS = 30.0
"""How long to wait for another process that writes."""
TABLE = """CREATE TABLE IF NOT EXISTS kernels (
    signature TEXT NOT NULL, target TEXT NOT NULL, runtime TEXT NOT NULL, operators TEXT NOT NULL, seconds REAL NOT NULL, measured REAL NOT NULL,
    PRIMARY KEY (signature, target, runtime)) WITHOUT ROWID"""
KEEP_SMALLER = """INSERT INTO kernels VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (signature, target, runtime) DO UPDATE SET seconds = excluded.seconds, measured = excluded.measured WHERE excluded.seconds < seconds"""


@dataclass(frozen=True)
class Measurement:
    """One kernel of the database: its operators as ``MatMul+Add``, and the seconds it took; ``measured`` is seconds since the epoch."""

    operators: str
    target: str
    runtime: str
    seconds: float
    measured: float


class ProfileDatabase:
    """Measured kernels of one target under one runtime (its name and version); a `Profile`.

    A kernel is known by what it does (operators, attributes, constants that belong to them), by shapes and dtypes. ``path`` None keeps it in memory.
    Raises ArtifactError when the file is something else or cannot be opened.
    """

    def __init__(self, path: Path | None, target: str, runtime: str) -> None:
        self._target, self._runtime = target, runtime
        self._known: dict[str, float] = {}
        self._path = path
        with self._errors():
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path or ":memory:", timeout=PATIENCE_SECONDS, isolation_level=None)
            self._connection.execute("PRAGMA synchronous = NORMAL")
            if path is not None:
                self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute(TABLE)

    def cost(self, nodes: Sequence[ir.Node]) -> float | None:
        """Seconds that the nodes took as one kernel; None when nobody measured them here."""
        return self.find(signature(nodes))

    def find(self, text: str) -> float | None:
        """As `cost`, for a signature."""
        key = digest(text)
        if key not in self._known:
            with self._errors():
                row = self._connection.execute(
                    "SELECT seconds FROM kernels WHERE signature = ? AND target = ? AND runtime = ?", (key, self._target, self._runtime)
                ).fetchone()
            if row is None:
                return None
            self._known[key] = float(row[0])
        return self._known[key]

    def record(self, nodes: Sequence[ir.Node], seconds: float) -> None:
        """Remember what the nodes took as one kernel; the smallest of several measurements counts."""
        text = signature(nodes)
        values = (digest(text), self._target, self._runtime, "+".join(node.op_type for node in nodes), seconds, time.time())
        with self._errors():
            self._connection.execute(KEEP_SMALLER, values)
        self._known.pop(values[0], None)

    def measurements(self) -> list[Measurement]:
        """All that is known, of every target and runtime; slowest first."""
        with self._errors():
            rows = self._connection.execute("SELECT operators, target, runtime, seconds, measured FROM kernels ORDER BY seconds DESC, signature").fetchall()
        return [Measurement(*row) for row in rows]

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise ArtifactError(f"the profile database '{self._path}' cannot be used: {error}. Remove it, or name another file.") from error


class Measuring:
    """A profile that measures what its database does not know. ``measure`` gives the seconds of a small model as one kernel, None when it has none for it.

    What could not be measured is not tried again by this object.
    """

    def __init__(self, database: ProfileDatabase, measure: Callable[[ir.Model], float | None]) -> None:
        self._database = database
        self._measure = measure
        self._failed: set[str] = set()

    def cost(self, nodes: Sequence[ir.Node]) -> float | None:
        """What the database knows, or else a measurement, which it then knows."""
        text = signature(nodes)
        known = self._database.find(text)
        if known is not None or text in self._failed:
            return known
        seconds = self._measure(isolate(nodes))
        if seconds is None:
            self._failed.add(text)
            return None
        self._database.record(nodes, seconds)
        return seconds


def open_profile(target: str, runtime: str) -> ProfileDatabase:
    """The database beside the user's cache; one in memory when the cache is switched off."""
    cache = open_cache()
    return ProfileDatabase(cache.folder / FILE if cache is not None else None, target, runtime)
