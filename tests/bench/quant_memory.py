"""The memory that calibration takes on a model with a gibibyte of activations a sample: see ``calibrations`` in `bench_scale`."""

from __future__ import annotations

import bench_scale
from tables import Row, print_table


def measure(only: str, seconds: float) -> tuple[list[Row], list[str]]:
    """The one measurement there is."""
    del only, seconds
    rows, missed = bench_scale.calibrations()
    print_table("memory of calibration", rows)
    return rows, missed
