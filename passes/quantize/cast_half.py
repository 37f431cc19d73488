"""The pass that brings a model to 16 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from ...compiler.core.drift import LOSSY, Drift
from ...compiler.core.errors import UsageError
from ...compiler.core.graph import all_graphs
from ...compiler.core.passes import Context, Pass
from ...compiler.core.shapes import settle_shapes
from ...compiler.core.sites import Site, all_sites
from .choosing import ASKED_TO_STAY
from .half.compute import Halving
from .half.islands import goes_beyond, stays_wide
from .half.reach import FORMS, HALVES
from .half.weights import store_halves

__all__ = ["CastHalf"]

COMPUTE = ("auto", "float", "half")
SAFETY = 4.0
"""Other data may be this much larger than the calibration data."""
WIDTH = 16.0


@dataclass(frozen=True)
class CastHalf(Pass):
    """``dtype`` is float16 or bfloat16. ``compute`` says whether the model also computes in it ("half"), or only stores its weights so ("float").

    "auto" computes in 16 bits unless the target is a CPU, where that is no faster. Inputs and outputs of the model stay float32, and so do operators whose
    sums or results may leave the range of 16 bits (``islands``; on a GPU, whose kernels add up in 32, these are fewer), those that the target has no kernel
    of 16 bits for, those that read a constant beyond the range (what they make is clipped before others read it in 16 bits), and, where there is calibration
    data, those around values that come within a factor of 4 of its end. ``only`` names the sites to change (none: everything), ``keep`` sites or first
    outputs of nodes that stay.
    """

    name: ClassVar[str] = "cast-half"
    drift: ClassVar[Drift] = LOSSY

    dtype: str = "float16"
    compute: str = "auto"
    islands: bool = True
    only: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()

    def run(self, model: ir.Model, context: Context) -> int:
        """Change the model in place; returns how many weights are stored in 16 bits, or nodes compute so. Raises UsageError for another option."""
        if self.dtype not in HALVES:
            raise UsageError(f"'{self.name}' knows float16 and bfloat16, not '{self.dtype}'")
        if self.compute not in COMPUTE:
            raise UsageError(f"'{self.name}' computes in auto, float or half, not '{self.compute}'")
        settle_shapes(model)
        half = self.compute == "half" or (self.compute == "auto" and context.target.device != "cpu")
        return self._compute(model, context) if half else self._store(model, context)

    def _store(self, model: ir.Model, context: Context) -> int:
        for site in all_sites(model):
            if site.weight.dtype is not ir.DataType.FLOAT and (not self.only or site.name in self.only):
                context.coverage.leave(site, f"its weight is {site.weight.dtype}")
        sites = [site for site in all_sites(model) if site.weight.dtype is ir.DataType.FLOAT]
        spared = frozenset(site.weight for site in sites if site.name in self.keep or (self.only and site.name not in self.only))
        wanted = {site.weight for site in sites} - spared
        if self.only:
            spared |= {value for graph in all_graphs(model) for value in graph.initializers.values() if value not in wanted}
        sites = [site for site in sites if not self.only or site.name in self.only]
        weights = [(site, site.weight) for site in sites]
        for site, weight in weights:
            self._note(context, site, ASKED_TO_STAY if weight in spared else None)
        found = store_halves(model, HALVES[self.dtype], self.name, context, spared)
        for site, weight in weights:
            if found.get(weight):
                context.coverage.leave(site, found[weight])
        return sum(not reason for reason in found.values())

    def _compute(self, model: ir.Model, context: Context) -> int:
        dtype = HALVES[self.dtype]
        wide = self._wide(model, context, dtype)
        sites = {site.node: site for site in all_sites(model)}
        chosen: list[ir.Node] = []
        for node in [node for graph in all_graphs(model) for node in graph]:
            site = sites.get(node)
            name = node.outputs[0].name or ""
            if self.only and name not in self.only:
                continue
            reason = ASKED_TO_STAY if name in self.keep else stays_wide(node, dtype, wide, self.islands, context.target)
            if reason is None and not context.ledger.permit(self.name, name):
                reason = "it was rolled back here"
            if reason is None:
                chosen.append(node)
            if site is not None:
                self._note(context, site, reason)
        turned = set(chosen)
        beyond = [node for graph in all_graphs(model) for node in graph if node not in turned and goes_beyond(node, dtype)]
        Halving(model, dtype, {value for node in beyond for value in node.outputs}).turn(chosen)
        return len(chosen)

    def _note(self, context: Context, site: Site, reason: str | None) -> None:
        if reason is None:
            context.coverage.take(site, FORMS[self.dtype], WIDTH)
        else:
            context.coverage.leave(site, reason)

    def _wide(self, model: ir.Model, context: Context, dtype: ir.DataType) -> frozenset[str]:
        """The values that come too near to the end of the range."""
        if context.calibrator is None or dtype is ir.DataType.BFLOAT16:
            return frozenset()
        values = [value.name for graph in all_graphs(model) for node in graph for value in node.outputs if value.dtype is ir.DataType.FLOAT and value.name]
        largest = 65504.0 / SAFETY
        found = context.calibrator.ranges(model, values)
        return frozenset(name for name, known in found.items() if max(-known.low, known.high) > largest or known.strange)
