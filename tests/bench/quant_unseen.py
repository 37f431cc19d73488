"""Twenty models that nothing was developed on (`graphwright.models.strangers`), to int8: no error, and a report that accounts for every site.

The smaller model is asked for, so that nothing stays in float because a toy is fast anyway. Claimed: it compiles, at least one site is in int8, each of the
others says why it is not, and the outputs stay near those of the model (cosine; random weights have no accuracy to lose).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from never_seen import measure_strangers
from tables import Row

import graphwright
from graphwright.compiler.core.backend import Array
from graphwright.compiler.core.errors import GraphwrightError
from graphwright.models.session import Plain
from graphwright.models.strangers import Stranger

CALIBRATION, JUDGED = 16, 4
ALIKE = 0.98


def measure(only: str, seconds: float) -> tuple[list[Row], list[str]]:
    """All strangers whose name holds ``only``."""
    del seconds
    return measure_strangers(only, "int8", examine)


def examine(stranger: Stranger) -> tuple[Row, list[str]]:
    """Export, compile, and look at the report and the numbers."""
    samples = list(stranger.feeds(CALIBRATION + JUDGED))
    row: Row = dict.fromkeys(("model", "sites", "int8", "weights", "size", "cosine", "unexplained", "s"))
    row["model"], start = stranger.name, time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        path = stranger.export(Path(place))
        try:
            artifact = graphwright.compile(path, precision="int8", size=True, calibration=samples[:CALIBRATION])
        except GraphwrightError as error:
            return row, [str(error)]
        likeness = alike([artifact.run(sample) for sample in samples[CALIBRATION:]], [Plain(path).run(sample) for sample in samples[CALIBRATION:]])
    entry = artifact.report.compression
    places = entry.places if entry is not None else []
    unexplained = [item.name for item in places if not item.form and not item.why]
    row |= {
        "sites": len(places), "int8": sum(bool(item.form) for item in places), "weights": entry.weight_share if entry else 0.0,
        "size": entry.size if entry else 1.0, "cosine": likeness, "unexplained": len(unexplained), "s": time.perf_counter() - start,
    }  # fmt: skip
    missed = [] if row["int8"] else ["nothing is in int8"]
    missed += [f"the report does not say why '{name}' stayed" for name in unexplained]
    return row, missed + ([f"cosine {likeness:.4f}, at least {ALIKE} is claimed"] if likeness < ALIKE else [])


def alike(found: Sequence[dict[str, Array]], expected: Sequence[dict[str, Array]]) -> float:
    """The lowest cosine between an output and what it should be."""
    pairs = [pair for run, truth in zip(found, expected, strict=True) for pair in zip(run.values(), truth.values(), strict=True)]
    return min(cosine(np.asarray(mine, np.float64), np.asarray(exact, np.float64)) for mine, exact in pairs)


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    """Of two arrays, all their elements in one row."""
    return float((first * second).sum() / (np.linalg.norm(first) * np.linalg.norm(second) + 1e-30))
