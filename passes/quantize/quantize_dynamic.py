"""The pass that computes products in integers, with activations rounded when they come: no calibration is needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from ...compiler.core.drift import LOSSY, Drift
from ...compiler.core.errors import ModelError, UsageError
from ...compiler.core.graph import all_graphs, array, clone_model, is_op
from ...compiler.core.passes import Context, Pass
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.sites import Site, all_sites
from ...compiler.core.statistics import SiteStatistics
from ...compiler.core.target import Target
from .choosing import ASKED_TO_STAY, chosen_sites
from .coded import Affine
from .formats import format_for
from .forms.choice import ways_of
from .forms.integer import convolved_way, decomposed_way, integer_way, recurrent_way
from .forms.lookup import turned_way
from .forms.nbits import nbits_way
from .grid import Grid
from .llm_int8 import LlmInt8, outlying_channels
from .outlying import block_error, tensor_error
from .rtn import Rtn
from .surgery import Place, Recurrent, Surgery, Way, place_of
from .tied import TWICE, Tied, integer_weight, untie

__all__ = ["QuantizeDynamic"]

BITS, PAIRED_BITS = 8, 7
BLOCK, EXACT_INPUTS = 64, 4
ROWS = 256
METHODS = (Rtn.name, LlmInt8.name)
HALF_LARGEST = float(np.finfo(np.float16).max)
UNTIMED = "integer convolutions pay on few machines, and nothing was timed"


@dataclass(frozen=True)
class QuantizeDynamic(Pass):
    """Weights become int8, one scale for each output channel, and what they are multiplied with is rounded to 8 bits when it comes.

    ``format`` is as for static quantisation: "auto" keeps weights within 7 bits where the processor's kernels would saturate. Where calibration shows that
    one scale for a whole tensor costs an output more than ``limit`` (its relative error), the data is rounded block by block (MatMulNBits) if that is
    better. ``method`` "llm.int8" keeps input channels with outliers, as calibration shows them, out of that: they are multiplied in floats, and added.
    Embeddings are stored as int8, in the same bytes as the product with the same weight (a tied head). Convolutions and LSTMs change only where that was
    timed to be faster, or with ``small``, which is also what keeps products from staying floats because they are as fast. ``only`` names the sites to
    compress (none: all), ``keep`` those that stay.
    """

    name: ClassVar[str] = "quantize-dynamic"
    drift: ClassVar[Drift] = LOSSY

    method: str = Rtn.name
    format: str = "auto"
    limit: float = 0.1
    embeddings: bool = True
    small: bool = False
    only: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()

    def run(self, model: ir.Model, context: Context) -> int:
        """Replace what can be; returns how many sites and LSTMs were. Raises UsageError for a method whose numbers no integer kernel computes."""
        if self.method not in METHODS:
            raise UsageError(f"quantize-dynamic has no form for the method '{self.method}': kernels round data with one scale; it takes {', '.join(METHODS)}")
        if self.method == LlmInt8.name and context.calibrator is None:
            raise UsageError("llm.int8 looks for outliers in activations: --calibration FILE, or --calibration random, which says less")
        bits = PAIRED_BITS if format_for(self.format, context.target).paired else BITS
        surgery = Surgery(model, context, self.name)
        tied = untie(model)
        sites = chosen_sites(model, context, self.only, self.keep, self.embeddings)
        products, tables = [site for site in sites if site.kind != "Gather"], [site for site in sites if site.kind == "Gather"]
        changes = sum(self._quantize(surgery, site, statistics, bits) for site, statistics in self._with_statistics(model, products, context))
        changes += sum(self._embed(surgery, site, tied, bits) for site in tables)
        changes += sum(self._recur(surgery, node) for graph in all_graphs(model) for node in list(graph) if is_op(node, "LSTM"))
        surgery.finish()
        tied.restore()
        return changes

    def _with_statistics(self, model: ir.Model, sites: list[Site], context: Context) -> Iterator[tuple[Site, SiteStatistics | None]]:
        """Each site; products with what calibration knows of their data, where there is any."""
        known = {site.name: site for site in sites}
        products = {site.name for site in sites if site.kind in ("MatMul", "Gemm")}
        if context.calibrator is not None and products:
            twin = clone_model(model)
            twins = [site for site in all_sites(twin) if site.name in products]
            for site, statistics in context.calibrator.sites(twin, twins, moments=False, rows=ROWS):
                yield known.pop(site.name), statistics[0]
        yield from ((site, None) for site in known.values())

    def _quantize(self, surgery: Surgery, site: Site, statistics: SiteStatistics | None, bits: int) -> bool:
        coverage, place = surgery.context.coverage, place_of(site)
        try:
            ways = self._ways(place, statistics, surgery.context, bits)
        except ModelError as error:
            coverage.leave(site, str(error))
            return False
        if isinstance(ways, Skip):
            coverage.leave(site, str(ways))
            return False
        if site.kind == "Conv" and surgery.context.judge is None and not self.small:
            coverage.leave(site, UNTIMED)
            return False
        way = surgery.fastest(place, ways, must_gain=not self.small)
        if isinstance(way, Skip):
            coverage.leave(site, str(way))
            return False
        return surgery.replace(place, way, self.method if site.kind in ("MatMul", "Gemm") else Rtn.name) is None

    def _embed(self, surgery: Surgery, site: Site, tied: Tied, bits: int) -> bool:
        """Store a table as int8: with the codes of the product that it is the weight of, too, where there is one."""
        coverage, place = surgery.context.coverage, place_of(site)
        keeper = tied.keeper(site.weight) if not self.only else None
        if keeper is not None:
            coverage.leave(site, TWICE % keeper)
            return False
        table = np.ascontiguousarray(site.matrices()[0].T)
        try:
            coded = Rtn().quantize(table, None, Grid(bits, True, 0, narrow=True))
            shared = integer_weight(site.node.graph, coded.codes)
            way = turned_way(place, shared, coded.scales) if shared is not None else self._picked(place, table, surgery.context.target)
        except ModelError as error:
            way = skip("%s", error)
        if isinstance(way, Skip):
            coverage.leave(site, str(way))
            return False
        return surgery.replace(place, way, Rtn.name) is None

    def _picked(self, place: Place, table: np.ndarray, target: Target) -> Way | Skip:
        """``table`` is [width, rows]."""
        coded = Rtn().quantize(table, None, Grid(BITS, True, 0, narrow=True))
        found, reason = ways_of(place, [coded], "int8", target, EXACT_INPUTS)
        return found[0] if found else reason

    def _ways(self, place: Place, statistics: SiteStatistics | None, context: Context, bits: int) -> list[Way] | Skip:
        site, target = place.site, context.target
        matrices = site.matrices()
        coded = tuple(Rtn().quantize(matrix, None, Grid(bits, True, 0, narrow=True)) for matrix in matrices)
        if site.kind in ("Conv", "ConvTranspose"):
            way = convolved_way(place, coded)
            return way if isinstance(way, Skip) else [way]
        apart = self._decomposed(place, matrices[0], statistics, target, bits) if self.method == LlmInt8.name else None
        way = apart or self._blockwise(place, matrices[0], coded[0], statistics, context) or integer_way(place, coded[0], target)
        return way if isinstance(way, Skip) else [way]

    def _decomposed(self, place: Place, weight: np.ndarray, statistics: SiteStatistics | None, target: Target, bits: int) -> Way | Skip | None:
        """The outliers apart; None where there are none, or nothing else, or their weights are too large for 16 bits."""
        outliers = np.zeros(len(weight), bool) if statistics is None else outlying_channels(statistics)
        if not outliers.any() or outliers.all() or np.abs(weight[outliers]).max() > HALF_LARGEST:
            return None
        rest = Rtn().quantize(np.where(outliers[:, None], 0.0, weight).astype(np.float32), None, Grid(bits, True, 0, narrow=True))
        return decomposed_way(place, rest, outliers, weight[outliers], target)

    def _blockwise(self, place: Place, weight: np.ndarray, coded: Affine, statistics: SiteStatistics | None, context: Context) -> Way | None:
        """Data rounded block by block, where one scale for all of it costs too much."""
        if statistics is None or tensor_error(weight, coded, statistics) <= self.limit:
            return None
        blocks = Rtn().quantize(weight, None, Grid(BITS, True, BLOCK, narrow=True))
        way = nbits_way(place, blocks, context.target, EXACT_INPUTS)
        better = block_error(weight, blocks, statistics) < tensor_error(weight, coded, statistics)
        return way if isinstance(way, Way) and better else None

    def _recur(self, surgery: Surgery, node: ir.Node) -> bool:
        """Replace an LSTM with constant float32 weights."""
        name, context = node.outputs[0].name or node.name or "", surgery.context
        if self.only and name not in self.only:
            return False
        weights = [array(value) for value in node.inputs[1:3]]
        refusal = _lstm_refusal(weights) or (ASKED_TO_STAY if name in self.keep else None)
        if refusal is None and context.judge is None and not self.small:
            refusal = "an LSTM in integers pays on few machines, and nothing was timed"
        if refusal is not None:
            context.coverage.leave(node, refusal)
            return False
        first, second = (weight for weight in weights if weight is not None)
        place = Recurrent(node, first.size + second.size)
        way = recurrent_way(place, (first, second), context.target)
        if isinstance(way, Way):
            way = surgery.fastest(place, [way], must_gain=not self.small)
        if isinstance(way, Skip):
            context.coverage.leave(node, str(way))
            return False
        return surgery.replace(place, way, Rtn.name) is None


def _lstm_refusal(weights: list[np.ndarray | None]) -> str | None:
    if any(weight is None or weight.dtype != np.float32 for weight in weights):
        return "its weights are no float32 constants"
    strange = sum(int(np.count_nonzero(~np.isfinite(weight))) for weight in weights if weight is not None)
    return f"{strange} numbers of its weights are NaN or infinite" if strange else None
