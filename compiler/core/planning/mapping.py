"""How the elements that an operator makes depend on those that it reads (DNNFusion, PLDI 2021, section 3.1), and what fusing two of them gives."""

from __future__ import annotations

import enum


class Mapping(enum.IntEnum):
    """Mapping types, from simplest to most complex.

    One-to-One reads an element for each one it makes. Reorganize and Shuffle do so too, and change where it lies: Reorganize keeps the order of the
    elements, Shuffle permutes the dimensions. One-to-Many reads elements more than once. Many-to-Many makes each element of several.
    Opaque operators (control flow, recurrent ones, results of unknown size) are never fused.
    """

    ONE_TO_ONE = 0
    REORGANIZE = 1
    SHUFFLE = 2
    ONE_TO_MANY = 3
    MANY_TO_MANY = 4
    OPAQUE = 5

    @property
    def title(self) -> str:
        """As the paper writes it."""
        return _TITLES[self]


class Verdict(enum.Enum):
    """What the table says of two operators: fuse them, fuse them if that is faster, or leave them apart."""

    YES = "yes"
    PROFILE = "profile"
    NEVER = "never"


_TITLES = {
    Mapping.ONE_TO_ONE: "One-to-One",
    Mapping.REORGANIZE: "Reorganize",
    Mapping.SHUFFLE: "Shuffle",
    Mapping.ONE_TO_MANY: "One-to-Many",
    Mapping.MANY_TO_MANY: "Many-to-Many",
    Mapping.OPAQUE: "Opaque",
}

_O2O, _REORG, _SHUFFLE, _O2M, _M2M, _OPAQUE = Mapping
_COLUMNS = (_O2O, _O2M, _M2M, _REORG, _SHUFFLE)
_ROWS: dict[Mapping, tuple[tuple[Mapping, Verdict], ...]] = {
    _O2O: ((_O2O, Verdict.YES), (_O2M, Verdict.YES), (_M2M, Verdict.YES), (_REORG, Verdict.YES), (_SHUFFLE, Verdict.YES)),
    _O2M: ((_O2M, Verdict.YES), (_O2M, Verdict.PROFILE), (_M2M, Verdict.NEVER), (_O2M, Verdict.PROFILE), (_O2M, Verdict.PROFILE)),
    _M2M: ((_M2M, Verdict.YES), (_M2M, Verdict.PROFILE), (_M2M, Verdict.NEVER), (_M2M, Verdict.PROFILE), (_M2M, Verdict.PROFILE)),
    _REORG: ((_REORG, Verdict.YES), (_O2M, Verdict.PROFILE), (_M2M, Verdict.PROFILE), (_REORG, Verdict.YES), (_REORG, Verdict.YES)),
    _SHUFFLE: ((_SHUFFLE, Verdict.YES), (_O2M, Verdict.PROFILE), (_M2M, Verdict.PROFILE), (_REORG, Verdict.YES), (_SHUFFLE, Verdict.YES)),
}
"""For each type of the first operator, what each type of the second (`_COLUMNS`) gives (table 3 of the paper)."""
TABLE = {(first, second): cell for first, row in _ROWS.items() for second, cell in zip(_COLUMNS, row, strict=True)}


def combine(first: Mapping, second: Mapping) -> tuple[Mapping, Verdict]:
    """The mapping type of ``first`` followed by ``second``, and whether to fuse them."""
    return TABLE.get((first, second), (_OPAQUE, Verdict.NEVER))
