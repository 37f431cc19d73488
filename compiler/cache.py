"""Artifacts kept from earlier compilations, found by everything that could change the result.

An entry is a folder: ``key.json`` with the hash of each component of the key, ``artifact/`` as it was saved. It lives below
``$GRAPHWRIGHT_CACHE``, or ``graphwright`` in the user's cache folder; ``GRAPHWRIGHT_CACHE=off`` keeps nothing. What is broken is never used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .atomic import hold, new_folder, release
from .core.errors import ArtifactError

ENVIRONMENT = "GRAPHWRIGHT_CACHE"
LIMIT_BYTES = 8 * 2**30
SOURCES = ("compiler", "passes", "backends")
KEY_FILE = "key.json"
KERNELS = "kernels.jsonl"
"""What was measured of single kernels (see `kernel_table`)."""
CALIBRATION = "calibration"
"""Statistics of calibrations (see `calibration.shelf`)."""
TUNING = "tuning"
"""Measured schedules of generated kernels; it takes hours to measure them again, so that `Cache.clear` leaves them."""
ARTIFACT = "artifact"
OUR_NAMES = re.compile(r"[0-9a-f]{64}|\.[0-9a-f]{64}\..{8}\.(partial|previous)")

Key = Mapping[str, str]
"""Component ("graph", "weights", "target", ...) -> its hash, or its text where that is short."""


@dataclass(frozen=True)
class Entry:
    """One kept artifact. ``used`` is when it last served, in seconds since the epoch."""

    name: str
    folder: Path
    key: Key
    label: str
    bytes: int
    used: float

    @property
    def artifact(self) -> Path:
        """The artifact's folder."""
        return self.folder / ARTIFACT


@dataclass(frozen=True)
class Explanation:
    """Whether a key is in the cache and, if not, which components keep the nearest entry from serving."""

    hit: bool
    name: str
    nearest: Entry | None
    differs: tuple[str, ...]


class Cache:
    """A folder of artifacts, held below ``limit_bytes`` by dropping what was not used for longest."""

    def __init__(self, folder: Path, limit_bytes: int = LIMIT_BYTES) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes

    def find(self, key: Key) -> Path | None:
        """The artifact folder kept under ``key``; None when there is none. Marks it as used."""
        entry = _read_entry(self.folder / name_of(key))
        if entry is None or dict(entry.key) != dict(key):
            return None
        os.utime(entry.folder / KEY_FILE)
        return entry.artifact

    def put(self, key: Key, label: str, save: Callable[[Path], None]) -> bool:
        """Keep what ``save(folder)`` writes. False when it is too large to keep, or the cache cannot be written; that never stops a compilation."""
        folder = self.folder / name_of(key)
        try:
            with new_folder(folder) as draft:
                save(draft / ARTIFACT)
                (draft / KEY_FILE).write_text(json.dumps({"key": dict(key), "label": label}, indent=2) + "\n", encoding="utf-8")
                if _size(draft) > self.limit_bytes // 2:
                    raise _TooLarge
        except (_TooLarge, ArtifactError):
            return False
        self.shrink(keep=folder.name)
        return True

    def entries(self) -> list[Entry]:
        """Everything kept, most recently used first; broken entries are left out."""
        if not self.folder.is_dir():
            return []
        found = (_read_entry(folder) for folder in sorted(self.folder.iterdir()))
        return sorted((entry for entry in found if entry is not None), key=lambda entry: -entry.used)

    def explain(self, key: Key) -> Explanation:
        """Whether ``key`` would be served; otherwise the entry that differs in the fewest components, and in which."""
        entries = self.entries()
        exact = next((entry for entry in entries if dict(entry.key) == dict(key)), None)
        if exact is not None:
            return Explanation(True, name_of(key), exact, ())
        nearest = min(entries, key=lambda entry: len(_differing(entry.key, key)), default=None)
        return Explanation(False, name_of(key), nearest, _differing(nearest.key, key) if nearest else ())

    def drop(self, folder: Path) -> bool:
        """Remove one entry, unless somebody has its artifact open."""
        used = folder / ARTIFACT
        lease = hold(used if used.is_dir() else folder, exclusive=True) if folder.is_dir() else None
        if lease is None and sys.platform != "win32":
            return False
        shutil.rmtree(folder, ignore_errors=True)
        release(lease)
        return True

    def clear(self) -> int:
        """Remove every entry, broken ones and leftovers too, what was measured of kernels and calibrated, and nothing that is not ours.

        Returns how many entries went.
        """
        if not self.folder.is_dir():
            return 0
        with contextlib.suppress(OSError):
            (self.folder / KERNELS).unlink(missing_ok=True)
            shutil.rmtree(self.folder / CALIBRATION, ignore_errors=True)
        ours = [folder for folder in sorted(self.folder.iterdir()) if folder.is_dir() and OUR_NAMES.fullmatch(folder.name)]
        return sum(self.drop(folder) for folder in ours)

    def shrink(self, keep: str = "") -> None:
        """Drop the entries unused for longest until the rest fits; the one called ``keep`` stays."""
        entries = self.entries()
        total = sum(entry.bytes for entry in entries)
        for entry in reversed(entries):
            if total <= self.limit_bytes:
                return
            if entry.name != keep and self.drop(entry.folder):
                total -= entry.bytes


class _TooLarge(Exception):
    """The entry would push too much else out of the cache."""


def open_cache() -> Cache | None:
    """The user's cache, as the environment says at this moment; None when it is switched off."""
    place = os.environ.get(ENVIRONMENT)
    if place in ("off", ""):
        return None
    return Cache(Path(place).expanduser() if place else _default_folder())


def name_of(key: Key) -> str:
    """The one hash that stands for a whole key."""
    return hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()


def hash_parts(parts: Iterable[bytes | str]) -> str:
    """The hash of a sequence; where one part ends and the next begins counts."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()


def hash_sources(root: Path | None = None) -> str:
    """The hash of the program text that makes artifacts: every module of the compiler, the passes and the backends."""
    base = root or Path(__file__).resolve().parents[1]
    files = [path for folder in SOURCES for path in sorted((base / folder).rglob("*.py"))]
    return hash_parts(part for path in files for part in (path.relative_to(base).as_posix(), path.read_bytes()))


def machine() -> str:
    """The processor model and how many cores this process may use; what was measured here need not hold elsewhere."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_processor()}, {cores} cores"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    wanted = ("model name", "flags", "Features", "CPU part")
    facts = dict(line.split(":", 1) for line in reversed(lines) if ":" in line and line.split("\t")[0].strip() in wanted)
    name = next((value.strip() for key, value in facts.items() if key.strip() == "model name"), platform.machine())
    return f"{name} ({hash_parts(sorted(facts.values()))[:8]})"


def _default_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "graphwright"


def _read_entry(folder: Path) -> Entry | None:
    """An entry, or None when the folder is not a whole one."""
    try:
        record = json.loads((folder / KEY_FILE).read_bytes())
        key = {str(name): str(value) for name, value in record["key"].items()}
        used = (folder / KEY_FILE).stat().st_mtime
        complete = name_of(key) == folder.name and (folder / ARTIFACT).is_dir()
        return Entry(folder.name, folder, key, str(record["label"]), _size(folder), used) if complete else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _differing(one: Key, other: Key) -> tuple[str, ...]:
    names = dict.fromkeys([*other, *one])
    return tuple(name for name in names if one.get(name) != other.get(name))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
