"""Every real model the project knows: how it is obtained, how it is fed, and how well it does its job.

    for entry in catalogue():
        if reason := entry.unavailable():
            print(entry.name, "left out:", reason)
        else:
            print(entry.name, entry.metric.name, entry.metric.measure(Plain(entry.file()), 50))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..compiler.core.errors import InputError
from .session import Runs
from .shared import ABSENT, Split, shared_file, shared_folder

Sample = dict[str, np.ndarray]
"""Graph-input name -> array."""


@dataclass(frozen=True)
class Metric:
    """How well a model does its job.

    ``measure(runner, limit)`` runs the model on the report part of its data (``limit`` items of it, evenly spaced; None for all).
    ``expected`` is the figure of the model as obtained, on all of it, under plain ONNX Runtime.
    """

    name: str
    measure: Callable[[Runs, int | None], float]
    higher_is_better: bool = True
    expected: float | None = None

    def drop(self, before: float, after: float) -> float:
        """By how much ``after`` is worse than ``before``; negative when it is better."""
        return before - after if self.higher_is_better else after - before


@dataclass(frozen=True)
class Entry:
    """One model. ``feeds(n, split)`` yields ``n`` real inputs; ``path`` is below the shared folder, or ``build`` writes the file into a folder."""

    name: str
    what: str
    obtained: str
    feeds: Callable[[int, Split], Iterator[Sample]]
    metric: Metric
    path: str | None = None
    build: Callable[[Path], Path] | None = None
    needs: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()

    def unavailable(self) -> str | None:
        """Why this machine cannot use the model, in one sentence; None when it can."""
        missing = [package for package in self.packages if not _installed(package)]
        if missing:
            return f"needs the package{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
        wanted = [name for name in (self.path, *self.needs) if name]
        folder = shared_folder()
        if wanted and folder is None:
            return ABSENT
        absent = [name for name in wanted if folder is not None and not (folder / name).exists()]
        return f"needs {', '.join(absent)} in {folder}" if absent else None

    def file(self, folder: Path | None = None) -> Path:
        """The ONNX file; a model that is built is written into ``folder``."""
        if self.path is not None:
            return shared_file(self.path)
        if self.build is None or folder is None:
            raise InputError(f"{self.name} is built, not kept: say into which folder")
        return self.build(folder)


def catalogue() -> tuple[Entry, ...]:
    """All entries, whether or not this machine has what they need."""
    from . import audio, detection, digits, images, language, minilm, style

    families = (minilm, digits, images, detection, style, audio, language)
    return tuple(entry for family in families for entry in family.entries())


def find(name: str) -> Entry:
    """The entry of that name. Raises InputError listing the names."""
    entries = {entry.name: entry for entry in catalogue()}
    if name not in entries:
        raise InputError(f"the catalogue has no '{name}'; it has: {', '.join(entries)}")
    return entries[name]


def _installed(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None
