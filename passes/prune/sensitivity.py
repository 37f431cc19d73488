"""Which groups a model is most sensitive to losing a part of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...compiler.core.sites import Site
from .coupling.groups import Group
from .readers import find_readers

__all__ = ["describe_sensitivity"]

SHOWN = 3
FEWEST = 2
"""Of fewer groups there is nothing to tell."""


def describe_sensitivity(groups: Sequence[Group], sites: Sequence[Site], missed: Mapping[str, np.ndarray], ratio: float, score: str) -> str:
    """The groups whose least members are missed most, and those that are missed least, when ``ratio`` of each goes; "" where there is nothing to compare."""
    felt = {group.name: float(np.sort(missed[group.name])[: max(1, round(ratio * group.size))].sum()) for group in groups}
    if len(felt) < FEWEST or not max(felt.values()) > 0:
        return ""
    names = _names(groups, sites)
    order = sorted(felt, key=lambda name: -felt[name])
    shown = min(SHOWN, len(order) // 2)
    most, least = (", ".join(f"'{names[name]}' ({felt[name]:.2g})" for name in chosen) for chosen in (order[:shown], order[: -shown - 1 : -1]))
    return f"of {ratio:.0%} of each group, {score} misses most what feeds {most}, and least what feeds {least}"


def _names(groups: Sequence[Group], sites: Sequence[Site]) -> dict[str, str]:
    """Each group by the first site that reads it, where there is one: people know operators better than constants."""
    found = {group.name: group.name for group in groups}
    for reader in reversed(find_readers(groups, sites)):
        found[reader.group.name] = reader.site.name
    return found
