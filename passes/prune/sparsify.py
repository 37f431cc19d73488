"""The pass that sets single weights to zero."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from ...compiler.core.drift import LOSSY, Drift
from ...compiler.core.errors import ModelError, UsageError
from ...compiler.core.graph import clone_model, constant, make_constant
from ...compiler.core.names import Names
from ...compiler.core.passes import Context, Pass
from ...compiler.core.shapes import settle_shapes
from ...compiler.core.sites import Site, all_sites
from ...compiler.core.statistics import SiteStatistics
from ..quantize.channels import channels_of
from ..quantize.choosing import chosen_sites
from .layers import layers_of
from .unstructured.method import Sparsifier, find_sparsifier, input_norms
from .unstructured.owl import by_layer, owl
from .unstructured.pattern import Pattern, parse_pattern, rows_in_runs
from .unstructured.slopes import slopes_of

__all__ = ["Sparsify"]

FEWEST_INPUTS = 16
"""Of fewer (a depthwise convolution) each counts too much, and their weights are a small part of a model."""
UNIFORM, OWL, GLOBAL = "uniform", "owl", "global"
Found = tuple[Site, list[SiteStatistics] | None]


@dataclass(frozen=True)
class Sparsify(Pass):
    """Sets an ``amount`` of the weights of products and convolutions to zero: a part of them ("0.5"), or all but n of every m along their inputs ("2:4").

    ``method`` chooses them (see `method.Sparsifier`; none: sparsegpt with calibration data, magnitude without). Sites are pruned in order, each by what it is
    fed once those before it are. ``shares`` says how much each site loses: all the same ("uniform"), by the outliers of its layer ("owl"), or what is smallest
    over all of them ("global"). Embeddings and sites of fewer than 16 inputs stay. ``only`` names the sites to prune (none: all), ``keep`` those that stay.
    No target has kernels that are faster for zeros: the file becomes smaller (`store_sparse.StoreSparse`), and that is all.
    """

    name: ClassVar[str] = "sparsify"
    drift: ClassVar[Drift] = LOSSY

    amount: str = "0.5"
    method: str = ""
    shares: str = UNIFORM
    only: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()

    def run(self, model: ir.Model, context: Context) -> int:
        """Prune what can be; returns how many sites were. Raises UsageError for an option that does not exist, or without the data that a method needs."""
        pattern, method = parse_pattern(self.amount), self._method(context)
        sites = [site for site in chosen_sites(model, context, self.only, self.keep, embeddings=False) if self._open(site, context)]
        if not sites:
            return 0
        shares = self._shares(model, sites, pattern, context)
        slopes: dict[str, np.ndarray] = {}
        if method.gradients:
            assert context.calibrator is not None
            slopes = slopes_of(model, sites, context.calibrator)
        twin = clone_model(model)
        settle_shapes(twin)
        twins = {site.name: site for site in all_sites(twin)}
        names, changes = (Names(model), Names(twin)), 0
        for site, statistics in self._with_statistics(twin, sites, method, context):
            wanted = replace(pattern, ratio=shares[site.name])
            try:
                found = _pruned(site, statistics, method, wanted, slopes.get(site.name))
            except ModelError as error:
                context.coverage.leave(site, str(error))
                continue
            content = self._content(site, found, wanted, method, context)
            if content is not None:
                for place, taken in zip((site, twins[site.name]), names, strict=True):
                    _write(place, content, taken)
                changes += 1
        return changes

    def _method(self, context: Context) -> Sparsifier:
        if self.shares not in (UNIFORM, OWL, GLOBAL):
            raise UsageError(f"shares are {UNIFORM}, {OWL} or {GLOBAL}, not '{self.shares}'")
        if parse_pattern(self.amount).of and self.shares != UNIFORM:
            raise UsageError(f"at {self.amount} every site loses the same share: shares={self.shares} does not go with it")
        method = find_sparsifier(self.method or ("sparsegpt" if context.calibrator is not None else "magnitude"))()
        if (method.calibrated() or self.shares == OWL) and context.calibrator is None:
            wants = method.name if method.calibrated() else "shares=owl"
            raise UsageError(f"{wants} needs calibration data: --calibration FILE, or --calibration random, which says less")
        return method

    def _open(self, site: Site, context: Context) -> bool:
        """Whether a site is to be pruned; coverage is told why not."""
        reason = _refusal(site)
        if reason is not None:
            context.coverage.leave(site, reason)
        return reason is None

    def _shares(self, model: ir.Model, sites: Sequence[Site], pattern: Pattern, context: Context) -> dict[str, float]:
        if self.shares == GLOBAL:
            return _below_one_threshold(sites, pattern.ratio)
        if self.shares == UNIFORM:
            return dict.fromkeys((site.name for site in sites), pattern.ratio)
        assert context.calibrator is not None
        metrics = {site.name: np.zeros(1, np.float32) for site in sites}
        for site, statistics in context.calibrator.sites(model, sites):
            parts = zip(site.matrices(), statistics, strict=True)
            metrics[site.name] = np.stack([np.abs(part) * input_norms(known, part, OWL) for part, known in parts]).astype(np.float32)
        return owl(by_layer(metrics, layers_of(model, sites)), {site.name: site.parameters for site in sites}, pattern.ratio)

    def _with_statistics(self, twin: ir.Model, sites: Sequence[Site], method: Sparsifier, context: Context) -> Iterator[Found]:
        """Each site with what calibration says of it in the ``twin``, which is pruned as the model is."""
        calibrator = context.calibrator
        if not (method.moments or method.rows) or calibrator is None:
            yield from ((site, None) for site in sites)
            return
        known = {site.name: site for site in sites}
        twins = [site for site in all_sites(twin) if site.name in known]
        for site, statistics in calibrator.sites(twin, twins, moments=method.moments, rows=method.rows, in_turn=True):
            yield known.pop(site.name), statistics
        for name, site in known.items():
            context.coverage.leave(site, calibrator.unseen.get(name, "calibration has no numbers of what it is fed"))

    def _content(self, site: Site, found: np.ndarray, pattern: Pattern, method: Sparsifier, context: Context) -> np.ndarray | None:
        """The weight as it is stored, if there is less of it now; coverage is told."""
        tensor = constant(site.weight)
        assert tensor is not None
        before = tensor.numpy()
        content = site.stored(found).astype(before.dtype)
        if np.count_nonzero(content) == np.count_nonzero(before):
            context.coverage.leave(site, f"it has no weight left to lose to {pattern.name}")
            return None
        if not context.ledger.permit(self.name, site.name):
            return None
        left = float(np.count_nonzero(content) / content.size)
        context.coverage.take(site, f"{pattern.name} sparse, size only", tensor.dtype.itemsize * 8 * left + 1, method.name)
        return content


def _refusal(site: Site) -> str | None:
    rows = len(rows_in_runs(site, Pattern())[0])
    if rows < FEWEST_INPUTS:
        return f"each of its outputs has only {rows} weights"
    if len(site.weight.uses()) != 1 or site.weight.is_graph_output():
        return "its weight is read elsewhere, too"
    tensor = constant(site.weight)
    assert tensor is not None
    return None if np.isfinite(tensor.numpy().astype(np.float32)).all() else "its weight holds NaN or infinities"


def _pruned(site: Site, statistics: list[SiteStatistics] | None, method: Sparsifier, pattern: Pattern, slopes: np.ndarray | None) -> np.ndarray:
    """The weight float32 [groups, K, M / groups]; rows are put in the order in which the pattern counts them, and back."""
    order, pattern = rows_in_runs(site, pattern)
    found = site.matrices()
    for group, matrix in enumerate(site.matrices()):
        known = channels_of(statistics[group], order) if statistics is not None else None
        slope = slopes[group][order] if slopes is not None else None
        found[group][order] = method.prune(np.ascontiguousarray(matrix[order]), known, pattern, slope)
    return found


def _below_one_threshold(sites: Sequence[Site], ratio: float) -> dict[str, float]:
    """How much of each site is among the ``ratio`` of all weights that are smallest."""
    sizes = {site.name: np.sort(np.abs(site.matrices()), axis=None) for site in sites}
    every = np.sort(np.concatenate(list(sizes.values())))
    threshold = every[min(round(ratio * len(every)), len(every) - 1)]
    return {name: float(np.searchsorted(found, threshold) / len(found)) for name, found in sizes.items()}


def _write(site: Site, content: np.ndarray, names: Names) -> None:
    value, graph = site.weight, site.node.graph
    if value.is_initializer():
        value.const_value = ir.tensor(content, dtype=value.dtype, name=value.name)
        return
    assert isinstance(graph, ir.Graph)
    site.node.replace_input_with(site.weight_at, make_constant(graph, content, names.fresh(f"{value.name}_sparse")))
