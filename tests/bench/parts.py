"""A benchmark in parts: each is a module ``<benchmark>_<part>.py`` with ``measure(model, seconds)``, which gives rows and the claims that do not hold."""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from pathlib import Path

from tables import write_rows


def run_parts(benchmark: str, parts: Sequence[str], folder: Path, only: str, seconds: float) -> list[str]:
    """Measure, print and write the parts whose name holds ``only`` (``part/model``: one model of it); returns the claims that do not hold."""
    part, _, model = only.partition("/")
    missed: list[str] = []
    for name in parts:
        if part not in name:
            continue
        start = time.monotonic()
        rows, claims = importlib.import_module(f"{benchmark}_{name}").measure(model, seconds)
        write_rows(folder / f"{benchmark}_{name}.json", rows)
        missed += [f"{name}: {claim}" for claim in claims]
        print(f"\n{name}: {len(rows)} rows, {len(claims)} claims missed, {time.monotonic() - start:.0f} s", flush=True)
    return missed
