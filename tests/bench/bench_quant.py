"""Quantisation, measured: what each part claims is at the top of its module, ``quant_<part>.py``.

Calibration data and the data of a figure never overlap; seeds are fixed. ``--only language`` runs one part, ``--only images/mobilenetv2`` one model of it.
"""

from __future__ import annotations

import importlib
import time
from pathlib import Path

from tables import write_rows

PARTS = ("methods", "language", "activations", "mixture", "images", "sentences", "rivals", "unseen", "memory")


def run(folder: Path, only: str, seconds: float) -> list[str]:
    """Measure, print and write; returns the claims that do not hold."""
    part, _, model = only.partition("/")
    missed: list[str] = []
    for name in PARTS:
        if part not in name:
            continue
        start = time.monotonic()
        rows, claims = importlib.import_module(f"quant_{name}").measure(model, seconds)
        write_rows(folder / f"quant_{name}.json", rows)
        missed += [f"{name}: {claim}" for claim in claims]
        print(f"\n{name}: {len(rows)} rows, {len(claims)} claims missed, {time.monotonic() - start:.0f} s", flush=True)
    return missed
