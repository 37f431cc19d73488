"""What is looked at together."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import TypeVar

__all__ = ["packed"]

Item = TypeVar("Item", bound=Hashable)
COPIES = 2
"""A value is in memory twice: the runtime's own tensor, and the array made of it."""


def packed(values: Mapping[Item, int], held: Mapping[Item, int], budget: int) -> Iterator[list[Item]]:
    """Items in their order, as many together as fit; what is larger than the budget stands alone.

    ``values`` are the bytes of one sample's value, ``held`` those collected of it over all samples; each of the two has ``budget`` bytes.
    """
    group: list[Item] = []
    room, space = budget, budget
    for item, size in values.items():
        if group and (size * COPIES > room or held[item] > space):
            yield group
            group, room, space = [], budget, budget
        group.append(item)
        room, space = room - size * COPIES, space - held[item]
    if group:
        yield group
