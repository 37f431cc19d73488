"""Methods that round the weight and the input of a site together, and what a site computes then."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from ...compiler.core.errors import ModelError
from ...compiler.core.modules import classes_below, find_class
from ...compiler.core.statistics import SiteStatistics
from .activation import ActivationGrid, Ranges
from .coded import Coded
from .grid import Grid
from .method import find_method

__all__ = [
    "Change", "JointMethod", "Plain", "Precision", "Product", "Rounded", "Unchanged", "find_joint", "joint_methods", "product_error", "row_extremes",
    "some_columns", "whole_range",
]  # fmt: skip


@dataclass(frozen=True)
class Precision:
    """What a site is rounded to: the grid of its weight, that of its input, and the method (see `method.Method`) that rounds the weight."""

    weight: Grid = Grid()
    inputs: ActivationGrid = ActivationGrid()
    method: str = "rtn"

    def rounded(self, weight: np.ndarray, statistics: SiteStatistics) -> Coded:
        """``weight`` float32 [K, M] in few bits."""
        return find_method(self.method)().quantize(weight, statistics, self.weight)


class Change(Protocol):
    """What is done to inputs before they are rounded."""

    def inputs(self, rows: np.ndarray) -> np.ndarray:
        """Rows of X [n, K] as they are rounded, float64 [n, K']."""
        ...


class Product(Protocol):
    """A site in few bits on both sides, simulated in floating point."""

    def output(self, inputs: np.ndarray) -> np.ndarray:
        """What it makes of rows of X [n, K], float64 [n, M], without the site's own bias."""
        ...

    @property
    def stored_bits(self) -> float:
        """Bits its weight takes, everything included."""
        ...


@dataclass(frozen=True)
class Unchanged:
    """Inputs as they come."""

    def inputs(self, rows: np.ndarray) -> np.ndarray:
        """As `Change.inputs`."""
        return rows.astype(np.float64)


@dataclass(frozen=True)
class Rounded:
    """``Q(change(X)) W' + added``: ``weight`` [K', M] is coded, ``added`` float64 [M] or 0."""

    change: Change
    grid: ActivationGrid
    ranges: Ranges
    weight: Coded
    added: np.ndarray | float = 0.0

    def output(self, inputs: np.ndarray) -> np.ndarray:
        """As `Product.output`."""
        rounded = self.grid.rounded(self.change.inputs(inputs), self.ranges)
        return np.asarray(rounded @ self.weight.matrix().astype(np.float64) + self.added)

    @property
    def stored_bits(self) -> float:
        """As `Product.stored_bits`."""
        return self.weight.stored_bits


@dataclass(frozen=True)
class JointMethod:
    """One way of rounding both sides of a site; its fields are its settings. Pure numerics: it knows no graph.

    ``refines`` is the method it has to beat. ``moments`` says that it reads ``statistics.moment``, ``rows`` how many rows of X it wants.
    """

    name: ClassVar[str]
    refines: ClassVar[str | None] = "rtn"
    moments: ClassVar[bool] = False
    rows: ClassVar[int] = 0

    def apply(self, weight: np.ndarray, statistics: SiteStatistics, precision: Precision) -> Product:
        """The site with ``weight`` float32 [K, M] at a precision. Raises ModelError when weight or statistics hold no finite numbers."""
        raise TypeError(f"{type(self).__name__} has no apply")


@dataclass(frozen=True)
class Plain(JointMethod):
    """Both sides rounded to nearest as they are: what the others have to beat."""

    name: ClassVar[str] = "rtn"
    refines: ClassVar[str | None] = None

    def apply(self, weight: np.ndarray, statistics: SiteStatistics, precision: Precision) -> Rounded:
        """As `JointMethod.apply`."""
        row_extremes(weight, statistics)
        return Rounded(Unchanged(), precision.inputs, whole_range(statistics), precision.rounded(weight, statistics))


@functools.cache
def joint_methods() -> dict[str, type[JointMethod]]:
    """Every joint method by name, from every module below ``passes/quantize``."""
    return dict(sorted(classes_below("passes.quantize", JointMethod).items()))


def find_joint(name: str) -> type[JointMethod]:
    """A joint method by name. Raises UsageError when there is none."""
    return find_class(name, joint_methods(), "method {} for weights and activations together")


def product_error(product: Product, weight: np.ndarray, rows: np.ndarray) -> float:
    """``||Y' - X W||^2`` over rows of X [n, K]."""
    return float(np.square(product.output(rows) - rows.astype(np.float64) @ weight.astype(np.float64)).sum())


def some_columns(weight: np.ndarray, most: int = 256) -> np.ndarray:
    """At most so many columns, evenly spaced: enough to tell which of several transforms is better."""
    return weight if weight.shape[1] <= most else weight[:, np.arange(most) * weight.shape[1] // most]


def whole_range(statistics: SiteStatistics) -> Ranges:
    """One range for all channels."""
    return Ranges(np.array([statistics.low.min()], np.float64), np.array([statistics.high.max()], np.float64))


def row_extremes(weight: np.ndarray, statistics: SiteStatistics) -> tuple[np.ndarray, np.ndarray]:
    """max |X_j| and max |W_j| of each input channel j, float64 [K]. Raises ModelError when calibration or the weight holds no finite number there."""
    inputs, rows = statistics.abs_max.astype(np.float64), np.abs(weight).max(axis=1).astype(np.float64)
    if inputs.shape != rows.shape:
        raise ModelError(f"statistics of {inputs.size} channels were given for a weight with {rows.size} rows")
    for what, numbers in (("input", inputs), ("weight", rows)):
        strange = int(np.count_nonzero(~np.isfinite(numbers)))
        if strange:
            raise ModelError(f"{strange} of {numbers.size} channels of the {what} are NaN or infinite: repair the model or the calibration data")
    return inputs, rows
