"""What a quantised model is judged by: its outputs on samples that nothing of it was fitted on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from ...compiler.core.backend import Array
from ...compiler.core.sites import Site
from ...compiler.core.statistics import Calibrator, SiteStatistics
from .output_error import output_error

__all__ = ["EVERY", "SAMPLES", "Jury"]

EVERY = 5
"""One sample in so many is kept to judge on: what fits the others by chance does not fit these."""
SAMPLES = 64
"""That are judged on, at most."""


@dataclass
class Jury:
    """Compares with ``model``, on the samples of ``calibrator``."""

    model: ir.Model
    calibrator: Calibrator
    _truth: list[dict[str, Array]] = field(default_factory=list)

    def loss(self, trial: ir.Model, limit: int = SAMPLES) -> float:
        """How much the outputs of a quantised model differ from those of the model, on the first ``limit`` samples (see `output_error`)."""
        if not self._truth:
            self._truth = list(self.calibrator.outputs(self.model, SAMPLES))
        return output_error(self._truth[:limit], self.calibrator.outputs(trial, limit))

    def beside(self, fitted: Calibrator, model: ir.Model, sites: Sequence[Site]) -> Iterator[tuple[Site, list[SiteStatistics], list[SiteStatistics] | None]]:
        """The statistics of each site, with moments, to fit on and (None: there are none) to judge on."""
        if fitted is self.calibrator:
            yield from ((site, known, known) for site, known in fitted.sites(model, sites, moments=True))
            return
        places = {site.name: place for place, site in enumerate(sites)}
        others = self.calibrator.sites(model, sites, moments=True)
        other = next(others, None)
        for site, known in fitted.sites(model, sites, moments=True):
            while other is not None and places[other[0].name] < places[site.name]:
                other = next(others, None)
            yield site, known, other[1] if other is not None and other[0].name == site.name else None
