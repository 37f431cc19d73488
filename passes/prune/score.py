"""What a score of group members is, and where they are found."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from ...compiler.core.modules import classes_below, find_class
from ...compiler.core.sites import Site
from ...compiler.core.statistics import Calibrator, SiteStatistics
from .coupling.groups import Group

__all__ = ["Score", "find_score", "scores"]


@dataclass(frozen=True)
class Score:
    """How much the members of a group are missed when they are gone; pure numerics, it knows no graph.

    A score looks at the slices of every weight of the group (`of_weight`), or, when it is ``calibrated``, at the sites that read what the members make
    (`of_reader`): that is brought to shares of the whole there, so that groups can be compared. One of the ``whole`` looks at the model (`of_model`).
    """

    name: ClassVar[str]
    refines: ClassVar[str | None] = None
    calibrated: ClassVar[bool] = False
    whole: ClassVar[bool] = False

    def of_weight(self, rows: np.ndarray) -> np.ndarray:
        """``rows`` [members, numbers]: float64 [members]."""
        raise TypeError(f"{type(self).__name__} has no of_weight")

    def of_reader(self, weight: np.ndarray, statistics: SiteStatistics, places: np.ndarray) -> np.ndarray:
        """``weight`` [K, M] of a site that reads the group; ``places`` int64 [members, n] says which rows are whose: float64 [members]."""
        raise TypeError(f"{type(self).__name__} has no of_reader")

    def of_model(self, model: ir.Model, groups: Sequence[Group], sites: Sequence[Site], calibrator: Calibrator) -> dict[str, np.ndarray]:
        """For each group by name, float64 [members] that can be compared across groups."""
        raise TypeError(f"{type(self).__name__} has no of_model")


@functools.cache
def scores() -> dict[str, type[Score]]:
    """Every score by name, from every module below ``passes/prune``."""
    return dict(sorted(classes_below("passes.prune", Score).items()))


def find_score(name: str) -> type[Score]:
    """A score by name. Raises UsageError when there is none."""
    return find_class(name, scores(), "score {}")
