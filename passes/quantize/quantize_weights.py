"""The pass that stores weights in few bits; activations stay floats."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from ...compiler.core.drift import LOSSY, Drift
from ...compiler.core.errors import ModelError, UsageError
from ...compiler.core.graph import clone_model
from ...compiler.core.passes import Context, Pass
from ...compiler.core.reasons import Skip
from ...compiler.core.sites import Site, all_sites
from ...compiler.core.statistics import SiteStatistics
from ..prune.unstructured.pattern import parse_pattern, rows_in_runs
from ..prune.unstructured.rounded import SparseAndRounded
from .blocks import BlockMethod, block_methods
from .choosing import chosen_sites
from .coded import Coded
from .forms.choice import ways_of
from .forms.nbits import ACCURACY_LEVELS
from .gptq import Gptq
from .grid import Grid
from .joint import joint_methods
from .method import Method, find_method, methods
from .rtn import Rtn
from .surgery import Surgery, place_of
from .tied import TWICE, Tied, share_codes, untie

__all__ = ["QuantizeWeights"]

FEWEST_INPUTS, BYTE = 16, 8
"""Of fewer inputs (a depthwise convolution) each counts too much for few bits, and their weights are a small part of a model: they get 8."""
_MEASURED = "no kernel computes what it needs; graphwright bench methods measures it"
_ELSEWHERE = {
    "llm.int8": "take --precision int8-dynamic",
    "quarot": "put the pass rotate before this one",
    "spinquant": "put the pass rotate{method=spinquant} before this one",
    **dict.fromkeys(("smoothquant", "fptq", "outlier-suppression", "outlier-suppression+"), "put the pass smooth{method=...} before one that rounds them"),
}
Found = tuple[Site, list[SiteStatistics] | None]


@dataclass(frozen=True)
class QuantizeWeights(Pass):
    """Stores the weights of products, convolutions and embeddings in ``bits``, one scale for ``block`` input channels (0: for each output channel).

    ``method`` rounds them (see `method.Method` and `blocks.BlockMethod`; one that needs calibration needs a calibrator). ``accuracy_level`` 4 lets kernels
    round their inputs to 8 bits, block by block; 0 keeps them floats, which is slower. Without ``small`` a site stays a float where that is measured to be as
    fast. The blocks of an embedding run along its rows; a method that needs calibration leaves it to rtn. Convolutions with fewer than 16 inputs get 8 bits,
    one scale for each output channel. ``sparsity`` ("0.5", or "2:4") sets weights of products and convolutions to zero in the sweep that rounds the others
    (gptq alone: that is SparseGPT's); where its pattern cannot be laid, they are only rounded. ``only`` names the sites to compress (none: all), ``keep``
    those that stay.
    """

    name: ClassVar[str] = "quantize-weights"
    drift: ClassVar[Drift] = LOSSY

    bits: int = 4
    block: int = 32
    method: str = "rtn"
    symmetric: bool = True
    accuracy_level: int = 4
    small: bool = True
    embeddings: bool = True
    sparsity: str = ""
    only: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()

    def run(self, model: ir.Model, context: Context) -> int:
        """Replace what can be; returns how many sites were. Raises UsageError for an option that does not exist."""
        method = self._method(context)
        surgery = Surgery(model, context, self.name)
        tied = untie(model)
        sites = chosen_sites(model, context, self.only, self.keep, self.embeddings)
        if isinstance(method, BlockMethod):
            changes = sum(self._store(surgery, tied, site, coded) for site, coded in self._rounded_together(model, sites, method, context))
        else:
            changes = sum(self._quantize(surgery, tied, site, statistics, method) for site, statistics in self._with_statistics(model, sites, method, context))
        surgery.finish()
        tied.restore()
        share_codes(model)
        return changes

    def _method(self, context: Context) -> Method | BlockMethod:
        if self.method in joint_methods() and self.method not in methods():
            raise UsageError(f"{self.method} rounds activations as well, and stored weights leave those as they are: {_ELSEWHERE.get(self.method, _MEASURED)}")
        together = block_methods().get(self.method)
        method = find_method(self.method)() if together is None else together()
        if self.sparsity:
            parse_pattern(self.sparsity)
        if (isinstance(method, BlockMethod) or method.calibrated()) and context.calibrator is None:
            raise UsageError(f"{self.method} needs calibration data: --calibration FILE, or --calibration random, which says less")
        if self.sparsity and self.method != Gptq.name:
            raise UsageError(f"weights are set to zero in the sweep of gptq, and {self.method} has none: take method=gptq, or put sparsify before this")
        if self.accuracy_level not in ACCURACY_LEVELS:
            raise UsageError(f"there is no accuracy level {self.accuracy_level}; there are 0 to 4")
        if not 1 <= self.bits <= 16 or self.block < -1:
            raise UsageError(f"there is no grid of {self.bits} bits in blocks of {self.block}")
        return method

    def _with_statistics(self, model: ir.Model, sites: list[Site], method: Method, context: Context) -> Iterator[Found]:
        """Each site with what calibration says of it, embeddings last: whether their weight stays for another site is known by then."""
        tables = [site for site in sites if site.kind == "Gather"]
        if not method.calibrated() or context.calibrator is None:
            yield from ((site, None) for site in (*(site for site in sites if site.kind != "Gather"), *tables))
            return
        known = {site.name: site for site in sites if site.kind != "Gather"}
        twin = clone_model(model)
        twins = [site for site in all_sites(twin) if site.name in known]
        for site, statistics in context.calibrator.sites(twin, twins, moments=method.moments, rows=method.rows):
            yield known.pop(site.name), statistics
        for name, site in known.items():
            context.coverage.leave(site, context.calibrator.unseen.get(name, "calibration has no numbers of what it is fed"))
        yield from ((site, None) for site in tables)

    def _rounded_together(self, model: ir.Model, sites: list[Site], method: BlockMethod, context: Context) -> Iterator[tuple[Site, list[Coded]]]:
        """Each site with its weight as it becomes; embeddings by themselves, as the others are not rounded before them."""
        assert context.calibrator is not None
        known = {site.name: site for site in sites if site.kind != "Gather"}
        twin = clone_model(model)
        twins = [site for site in all_sites(twin) if site.name in known]
        for site, coded in method.quantize(twin, twins, context.calibrator, self._grid):
            yield known.pop(site.name), coded
        for site in known.values():
            context.coverage.leave(site, f"{self.method} learns only finite weights that nothing else reads, on the main graph")
        yield from ((site, self._coded(site, None, Rtn())) for site in sites if site.kind == "Gather")

    def _quantize(self, surgery: Surgery, tied: Tied, site: Site, statistics: list[SiteStatistics] | None, method: Method) -> bool:
        coverage = surgery.context.coverage
        try:
            coded = self._coded(site, statistics, method)
        except ModelError as error:
            coverage.leave(site, str(error))
            return False
        return self._store(surgery, tied, site, coded)

    def _store(self, surgery: Surgery, tied: Tied, site: Site, coded: list[Coded]) -> bool:
        """Put the weight where the site's was, in the fastest form that the target has."""
        coverage, place = surgery.context.coverage, place_of(site)
        keeper = tied.keeper(site.weight) if site.kind == "Gather" and not self.only else None
        if keeper is not None:
            coverage.leave(site, TWICE % keeper)
            return False
        ways, reason = ways_of(place, coded, self._form(), surgery.context.target, self.accuracy_level)
        if not self.small:
            ways = [way for way in ways if not way.dense]
        if not ways:
            coverage.leave(site, str(reason))
            return False
        way = surgery.fastest(place, ways, must_gain=not self.small)
        if isinstance(way, Skip):
            coverage.leave(site, str(way))
            return False
        return surgery.replace(place, way, self._named(site)) is None

    def _named(self, site: Site) -> str:
        """What rounds a site."""
        if site.kind == "Gather":
            return Rtn.name
        return SparseAndRounded.name if self._sparse(site) else self.method

    def _sparse(self, site: Site) -> bool:
        """Whether weights of a site are set to zero: where it has enough inputs, and the pattern runs along them in the order of the rows."""
        if not self.sparsity or site.kind == "Gather":
            return False
        order, _ = rows_in_runs(site, parse_pattern(self.sparsity))
        return len(order) >= FEWEST_INPUTS and bool((np.diff(order) == 1).all())

    def _form(self) -> str:
        return self.method if self.method in ("nf4", "fp8") else f"int{self.bits}"

    def _coded(self, site: Site, statistics: list[SiteStatistics] | None, method: Method) -> list[Coded]:
        """The weight of each group. Raises ModelError when it cannot be quantised."""
        matrices, grid = site.matrices(), self._grid(site)
        if site.kind == "Gather":
            method, matrices = method if not method.calibrated() else Rtn(), np.ascontiguousarray(matrices.transpose(0, 2, 1))
        if self._sparse(site):
            method = SparseAndRounded(pattern=parse_pattern(self.sparsity))
        given = statistics if statistics is not None else [None] * len(matrices)
        return [method.quantize(matrix, known, grid) for matrix, known in zip(matrices, given, strict=True)]

    def _grid(self, site: Site) -> Grid:
        if site.kind not in ("Conv", "ConvTranspose"):
            return Grid(self.bits, self.symmetric, self.block)
        inputs = site.parameters // site.shape[0] if site.kind == "Conv" else site.shape[0] // site.groups
        return Grid(max(self.bits, BYTE), self.symmetric, 0) if inputs < FEWEST_INPUTS else Grid(self.bits, self.symmetric, self.block)
