"""Pruning, low rank and recovery, measured: what each part claims is at the top of its module, ``prune_<part>.py``.

Calibration data and the data of a figure never overlap; seeds are fixed. ``--only lowrank`` runs one part, ``--only lowrank/wikillama`` one model of it.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from parts import run_parts

PARTS = ("structured", "latency", "hidden", "sparsity", "lowrank", "recovery", "unseen")


def run(folder: Path, only: str, seconds: float) -> list[str]:
    """Measure, print and write; returns the claims that do not hold, one for each part that is not there."""
    there = [name for name in PARTS if find_spec(f"prune_{name}") is not None]
    absent = [f"there is no part '{name}' (prune_{name}.py)" for name in PARTS if name not in there and only.partition("/")[0] in name]
    return absent + run_parts("prune", there, folder, only, seconds)
