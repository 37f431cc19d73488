"""Which of several ways of rounding a weight of a site brings its products closer."""

from __future__ import annotations

import numpy as np

from ...compiler.core.sites import Site
from ...compiler.core.statistics import SiteStatistics
from .formats import Format
from .method import find_method
from .weight_codes import WeightCodes, code_together, code_weight

__all__ = ["USUAL", "can_be_careful", "closest_codes"]

USUAL, CAREFUL, JOINT = "rtn", "gptq", "cdquant"
MOST_ROWS = 1024
"""Of a weight: rounding larger ones carefully takes minutes and, with so many numbers in each sum, gains little."""
FEW_ROWS = 64
"""So many are rounded together from several scales at once, groups and all; that many more starts gain little."""


def can_be_careful(site: Site) -> bool:
    """Whether rounding one weight can make good for another, and takes seconds at most."""
    rows = _rows(site)
    return not (site.kind == "MatMul" and site.weight_at == 0) and rows <= (MOST_ROWS if site.groups == 1 else min(FEW_ROWS, MOST_ROWS))


def closest_codes(
    site: Site, form: Format, known: list[SiteStatistics] | None, judged: list[SiteStatistics] | None = None, *, per_channel: bool
) -> tuple[WeightCodes, str]:
    """The codes of rtn, or, where second moments are ``known``, those of another method if X W^ is closest to X W with them; and the method's name.

    X is that of ``judged`` where there are such statistics: of samples that no method was fitted on.
    """
    usual = code_weight(site, find_method(USUAL)(), form, per_channel=per_channel, statistics=known)
    if not known or not all(item.moment.size for item in known):
        return usual, USUAL
    found = [(usual, USUAL)]
    if site.groups == 1:
        found.append((code_weight(site, find_method(CAREFUL)(), form, per_channel=per_channel, statistics=known), CAREFUL))
    if _rows(site) <= FEW_ROWS:
        found.append((code_together(site, form, np.stack([item.moment for item in known])), JOINT))
    losses = [product_error(weight, judged or known) for weight, _ in found]
    return found[losses.index(min(losses))]


def product_error(weight: WeightCodes, known: list[SiteStatistics]) -> float:
    """Mean squared error of X W^, X as calibration saw it."""
    moments = np.stack([item.moment for item in known])
    return float((weight.error * (moments @ weight.error)).sum())


def _rows(site: Site) -> int:
    return site.parameters // site.shape[site.channel_axis]
