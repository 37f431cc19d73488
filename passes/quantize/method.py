"""What a method of weight quantisation is, and where they are found."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.modules import classes_below, find_class
from ...compiler.core.statistics import SiteStatistics
from .coded import Coded
from .grid import Grid

__all__ = ["Method", "find_method", "methods"]


@dataclass(frozen=True)
class Method:
    """One way of quantising a weight; its fields are its settings. Pure numerics: it knows no graph.

    ``refines`` is the method it has to beat. ``moments`` says that it reads ``statistics.moment``, ``rows`` how many rows of X it wants; with neither and
    ``channels`` false it needs no calibration at all, and ``statistics`` may be None.
    """

    name: ClassVar[str]
    refines: ClassVar[str | None] = None
    moments: ClassVar[bool] = False
    channels: ClassVar[bool] = False
    rows: ClassVar[int] = 0

    @classmethod
    def calibrated(cls) -> bool:
        """Whether it needs statistics."""
        return cls.moments or cls.channels or cls.rows > 0

    def quantize(self, weight: np.ndarray, statistics: SiteStatistics | None, grid: Grid) -> Coded:
        """``weight`` float32 [K, M] on ``grid``."""
        raise TypeError(f"{type(self).__name__} has no quantize")


@functools.cache
def methods() -> dict[str, type[Method]]:
    """Every method by name, from every module below ``passes/quantize``."""
    return dict(sorted(classes_below("passes.quantize", Method).items()))


def find_method(name: str) -> type[Method]:
    """A method by name. Raises UsageError when there is none."""
    return find_class(name, methods(), "quantisation method {}")
