"""A convolution as one along the first axis and one along the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...compiler.core.statistics import SiteStatistics
from .factors import Stage, balanced
from .method import KernelMethod, finite
from .svd import decomposed
from .whitening import DAMP, Whitening

__all__ = ["SpatialSvd"]

LINES = 2


@dataclass(frozen=True)
class SpatialSvd(KernelMethod):
    """Jaderberg et al., "Speeding up Convolutional Neural Networks with Low Rank Expansions" (BMVC 2014), scheme 2, in closed form as Tai et al. (ICLR 2016).

    A kernel [M, C, h, w] as a matrix [C h, w M] of rank r: a convolution h x 1 to r channels, and one 1 x w. With calibration data the matrix is whitened by
    the second moment of the inputs of a column of taps.
    """

    name: ClassVar[str] = "spatial_svd"

    damp: float = DAMP

    def numbers(self, shape: tuple[int, ...], rank: int) -> int:
        """As `KernelMethod.numbers`."""
        return rank * (shape[1] * shape[2] + shape[0] * int(np.prod(shape[3:])))

    def most(self, shape: tuple[int, ...]) -> int:
        """As `KernelMethod.most`."""
        return min(shape[1] * shape[2], shape[0] * int(np.prod(shape[3:])))

    def refusal(self, shape: tuple[int, ...]) -> str | None:
        """As `KernelMethod.refusal`."""
        found = super().refusal(shape)
        if found is None and (shape[2] == 1 or int(np.prod(shape[3:])) == 1):
            return f"a kernel of {' x '.join(map(str, shape[2:]))} lies along one axis already"
        return found

    def factor(self, kernel: np.ndarray, statistics: SiteStatistics | None, rank: int) -> list[Stage]:
        """As `KernelMethod.factor`."""
        outputs, inputs, first, *others = finite(kernel).shape
        axes = len(others) + 1
        columns = np.moveaxis(kernel, 0, -1).reshape(inputs * first, -1)
        if statistics is None or not statistics.moment.size:
            found = decomposed(columns)
        else:
            whitening = Whitening.of_moment(_line_moment(statistics.moment, inputs * first), self.damp)
            plain = decomposed(whitening.root @ columns)
            found = type(plain)(whitening.inverse @ plain.left, plain.values, plain.right)
        root = np.sqrt(found.values[:rank])
        left, right = balanced(found.left[:, :rank] * root, root[:, None] * found.right[:rank])
        along = left.T.reshape(-1, inputs, first, *[1] * len(others))
        across = np.moveaxis(right.reshape(-1, *others, outputs), -1, 0)[:, :, None]
        moves = (True, *[False] * (axes - 1))
        return [Stage(along, moves), Stage(across, tuple(not one for one in moves))]


def _line_moment(moment: np.ndarray, lines: int) -> np.ndarray:
    """The second moment of the inputs (channel, first axis), the mean over the taps along the other axes; float64 [lines, lines]."""
    across = len(moment) // lines
    parts = moment.reshape(lines, across, lines, across)
    found = np.einsum("ajbj->ab", parts) / across
    return (found + found.T) / LINES
