"""Some of the input channels of a site."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...compiler.core.statistics import SiteStatistics

__all__ = ["channels_of"]


def channels_of(statistics: SiteStatistics, chosen: np.ndarray) -> SiteStatistics:
    """The statistics of the channels chosen, by a bool mask [K] or by numbers in a new order."""
    moment = statistics.moment[chosen][:, chosen] if statistics.moment.size else statistics.moment
    return replace(
        statistics, moment=moment, low=statistics.low[chosen], high=statistics.high[chosen], abs_max=statistics.abs_max[chosen],
        abs_mean=statistics.abs_mean[chosen], mean=statistics.mean[chosen], rows=statistics.rows[:, chosen],
    )  # fmt: skip
