"""Methods of quantisation against each other, on the sites of one model: fitted on some samples, judged on others.

A trial is one method on one site at one width. Its error is ``E = ||Y - X W||F / ||X W||F`` for rows X of the held-out samples and what the site makes of
them, Y. Methods are compared at equal storage: what is refined uses the widest grid and the finest blocks that take no more bits than the method does.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import onnx_ir as ir

from ..passes.quantize.grid import Grid
from .calibration.rows import layout_of
from .core.backend import Progress
from .core.errors import GraphwrightError, UsageError
from .core.sites import Site, all_sites
from .core.statistics import Calibrator, SiteStatistics
from .method_candidates import Candidate, SiteData

__all__ = ["MethodBench", "SiteBench", "Trial", "benchable_sites"]

SAME_BITS = 1.01
"""A method that stores up to this much more than the one it refines is compared with it as it is."""
WIDEST = 12
FINER = (256, 128, 64, 32, 16)
"""Blocks that what is refined may use up the same storage with."""
LARGEST_SIDE = 8192
"""Input channels of a site: beyond it a second moment takes half a gibibyte."""
JUDGED_ROWS = 512
GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
"""The fractions of its multiples fill the unit interval evenly, and in no step with anything."""


@dataclass(frozen=True)
class Trial:
    """One method on one site; ``bits`` of the weight, ``inputs`` bits of the input (None: as it is), ``stored`` bits per weight with all that is kept.

    ``error`` and ``stored`` are NaN where the method ``refused``, and ``refused`` says why. ``refines`` is what it has to beat: ``reference`` is the error
    of that at equal stored bits, ``plain`` on the same grid; None for a method that refines nothing.
    """

    site: str
    method: str
    bits: int
    inputs: int | None
    parameters: int
    error: float
    stored: float
    seconds: float
    refines: str | None = None
    reference: float | None = None
    plain: float | None = None
    refused: str = ""

    @property
    def ratio(self) -> float | None:
        """Its error by that of the method it refines, at equal stored bits; None when there is nothing to compare."""
        return self._by(self.reference)

    @property
    def same_grid(self) -> float | None:
        """The same on equal grids, whatever either stores."""
        return self._by(self.plain)

    def _by(self, other: float | None) -> float | None:
        return self.error / other if other is not None and other > 0 and not self.refused else None


@dataclass(frozen=True)
class MethodBench:
    """What to try: candidates, widths of the weight, and its grid apart from the width (``Grid.block``, ``Grid.symmetric``)."""

    candidates: tuple[Candidate, ...]
    bits: tuple[int, ...]
    grid: Grid = Grid()

    def run(self, model: ir.Model, sites: Sequence[Site], fit: Calibrator, held_out: Calibrator, progress: Progress) -> Iterator[Trial]:
        """Every candidate at every width on each of ``sites``, site by site. Statistics of a few sites are held at a time."""
        needed = [one for candidate in self.candidates for one in (candidate, candidate.refined()) if one is not None]
        moments, rows = any(one.moments for one in needed), max((one.rows for one in needed), default=0)
        joint = any(one.inputs is not None for one in needed)
        fitted = fit.sites(model, sites, moments=moments, rows=rows)
        judged = held_out.sites(model, sites, moments=True, rows=JUDGED_ROWS if joint else 0)
        for site, known, unseen in paired(fitted, judged, [site.name for site in sites]):
            progress(f"methods on {site.name}")
            bench = SiteBench(SiteData(site.name, site.matrices(), known, unseen))
            for bits in self.bits:
                yield from (bench.trial(candidate, dataclasses.replace(self.grid, bits=bits)) for candidate in self.candidates)


Observed = Iterator[tuple[Site, list[SiteStatistics]]]


def paired(fitted: Observed, judged: Observed, order: Sequence[str]) -> Iterator[tuple[Site, list[SiteStatistics], list[SiteStatistics]]]:
    """Each site that both calibrators saw, with both statistics; they come in this ``order``, and either may have missed some."""
    place = {name: index for index, name in enumerate(order)}
    other = next(judged, None)
    for site, known in fitted:
        while other is not None and place[other[0].name] < place[site.name]:
            other = next(judged, None)
        if other is not None and other[0].name == site.name:
            yield site, known, other[1]


@dataclass
class SiteBench:
    """Trials on one site; a candidate runs once on each grid, however many refine it."""

    site: SiteData
    _runs: dict[tuple[Candidate, Grid], Trial] = field(default_factory=dict, init=False)

    def trial(self, candidate: Candidate, grid: Grid) -> Trial:
        """One candidate on this grid, beside what it refines."""
        found, other = self._run(candidate, grid), candidate.refined()
        if other is None or found.refused:
            return dataclasses.replace(found, refines=other.name if other is not None else None)
        plain = self._run(other, grid)
        reference = self._reference(other, grid, found.stored)
        return dataclasses.replace(found, refines=other.name, reference=reference, plain=None if plain.refused else plain.error)

    def _run(self, candidate: Candidate, grid: Grid) -> Trial:
        key = candidate, grid
        if key not in self._runs:
            self._runs[key] = self._measure(candidate, grid)
        return self._runs[key]

    def _measure(self, candidate: Candidate, grid: Grid) -> Trial:
        count, start = int(self.site.weights.size), time.perf_counter()
        empty = Trial(self.site.name, candidate.name, grid.bits, candidate.inputs, count, math.nan, math.nan, 0.0)
        try:
            error, stored = candidate.measure(self.site, grid)
        except GraphwrightError as problem:
            return dataclasses.replace(empty, refused=str(problem))
        return dataclasses.replace(empty, error=error, stored=stored / count, seconds=time.perf_counter() - start)

    def _reference(self, candidate: Candidate, grid: Grid, stored: float) -> float | None:
        """The least error of a candidate that stores no more than this: at the widest grid that fits, and with finer blocks as far as these fit too.

        Where nothing is that small, its narrowest grid.
        """
        grid = self._widest(candidate, grid, stored * SAME_BITS)
        best = self._run(candidate, grid)
        if best.refused:
            return None
        errors = [best.error]
        for bits in (grid.bits, grid.bits - 1):
            for block in self._blocks(grid.block) if bits else ():
                finer = self._run(candidate, dataclasses.replace(grid, bits=bits, block=block))
                if finer.refused or finer.stored > stored * SAME_BITS:
                    break
                errors.append(finer.error)
        return min(errors)

    def _widest(self, candidate: Candidate, grid: Grid, room: float) -> Grid:
        """The grid with as many bits as fit into ``room`` bits a weight; one bit where none do. Stops where the candidate refuses."""
        step = 1 if self._run(candidate, grid).stored <= room else -1
        while 1 <= grid.bits + step <= WIDEST and not self._run(candidate, grid).refused:
            beside = dataclasses.replace(grid, bits=grid.bits + step)
            found = self._run(candidate, beside)
            if found.refused or (step > 0 and found.stored > room):
                break
            grid = beside
            if step < 0 and found.stored <= room:
                break
        return grid

    def _blocks(self, block: int) -> list[int]:
        """Blocks finer than this one that still hold several rows, the coarsest first."""
        rows = int(self.site.weights.shape[1])
        most = block if block > 0 else rows
        return [size for size in FINER if size < most]


def benchable_sites(model: ir.Model, most: int | None = None) -> list[Site]:
    """Sites that methods are tried on: matrices and kernels, ``most`` of them spread over the model, one from each stretch of it.

    Where in its stretch a site lies is different each time, for a step that keeps pace with the layers would find the same kind of site in each.
    Embeddings are left out (each token is a channel of its own, so there is nothing to spread an error over), and so are sites whose second moment would
    not fit. Raises UsageError when none is left.
    """
    sites = [site for site in all_sites(model) if site.kind != "Gather" and layout_of(site).width <= LARGEST_SIDE]
    if not sites:
        raise UsageError("the model has no site that methods could be tried on: no MatMul, Gemm or Conv with a constant weight")
    count = len(sites) if most is None else min(most, len(sites))
    edges = [index * len(sites) // count for index in range(count + 1)]
    return [sites[edge + int(index * GOLDEN % 1.0 * (end - edge))] for index, (edge, end) in enumerate(pairwise(edges))]
