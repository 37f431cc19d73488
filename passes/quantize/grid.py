"""The grid that weights are rounded to."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Grid"]


@dataclass(frozen=True)
class Grid:
    """Uniform steps: ``bits`` wide, ``symmetric`` around zero or with a zero point, one scale for every ``block`` rows (input channels) of a column.

    ``block`` 0 is one scale for a whole column (per channel), -1 one for the whole weight (per tensor). ``narrow`` leaves out the lowest code of a
    symmetric grid (-127 to 127), so that negation stays on the grid.
    """

    bits: int = 8
    symmetric: bool = True
    block: int = 0
    narrow: bool = False

    @property
    def levels(self) -> int:
        """How many codes there are."""
        return 2**self.bits - (1 if self.narrow and self.symmetric else 0)

    @property
    def low(self) -> int:
        """The lowest code: signed when symmetric, else 0."""
        return -(2 ** (self.bits - 1)) + (1 if self.narrow else 0) if self.symmetric else 0

    @property
    def high(self) -> int:
        """The highest code."""
        return 2 ** (self.bits - 1) - 1 if self.symmetric else 2**self.bits - 1
