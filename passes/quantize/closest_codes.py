"""Which of two ways of rounding a weight of a site brings its products closer."""

from __future__ import annotations

from ...compiler.core.sites import Site
from ...compiler.core.statistics import SiteStatistics
from .formats import Format
from .method import find_method
from .weight_codes import WeightCodes, code_weight

__all__ = ["USUAL", "can_be_careful", "closest_codes"]

USUAL, CAREFUL = "rtn", "gptq"
MOST_ROWS = 1024
"""Of a weight: rounding larger ones carefully takes minutes and, with so many numbers in each sum, gains little."""


def can_be_careful(site: Site) -> bool:
    """Whether rounding one weight can make good for another, and takes seconds at most."""
    return site.groups == 1 and not (site.kind == "MatMul" and site.weight_at == 0) and site.parameters // site.shape[site.channel_axis] <= MOST_ROWS


def closest_codes(site: Site, form: Format, known: list[SiteStatistics] | None, *, per_channel: bool) -> tuple[WeightCodes, str]:
    """The codes of rtn, or, where second moments are ``known``, those of gptq if X W^ is closer to X W with them; and the method's name."""
    usual = code_weight(site, find_method(USUAL)(), form, per_channel=per_channel, statistics=known)
    if not known or not all(item.moment.size for item in known):
        return usual, USUAL
    careful = code_weight(site, find_method(CAREFUL)(), form, per_channel=per_channel, statistics=known)
    return (careful, CAREFUL) if product_error(careful, known) < product_error(usual, known) else (usual, USUAL)


def product_error(weight: WeightCodes, known: list[SiteStatistics]) -> float:
    """Mean squared error of X W^, X as calibration saw it."""
    pairs = zip(weight.error, known, strict=True)
    return float(sum((error * (item.moment @ error)).sum() for error, item in pairs))
