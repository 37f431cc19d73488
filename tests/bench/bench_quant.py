"""Quantisation, measured: what each part claims is at the top of its module, ``quant_<part>.py``.

Calibration data and the data of a figure never overlap; seeds are fixed. ``--only language`` runs one part, ``--only images/mobilenetv2`` one model of it.
"""

from __future__ import annotations

from pathlib import Path

from parts import run_parts

PARTS = ("methods", "language", "activations", "mixture", "images", "sentences", "rivals", "unseen", "memory")


def run(folder: Path, only: str, seconds: float) -> list[str]:
    """Measure, print and write; returns the claims that do not hold."""
    return run_parts("quant", PARTS, folder, only, seconds)
