"""The pass that lets weights that are nearly equal be one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from ...compiler.core.drift import LOSSY, Drift
from ...compiler.core.errors import UsageError
from ...compiler.core.graph import array, make_constant
from ...compiler.core.names import Names
from ...compiler.core.passes import Context, Pass
from ...compiler.core.sites import Site, all_sites

__all__ = ["ShareWeights", "clusters_of"]


@dataclass(frozen=True)
class ShareWeights(Pass):
    """Lets several sites read one weight, where their own are the same up to ``tolerance``: the length of the difference by that of the weight.

    The weight of a cluster is the mean of theirs; no member is further from it than the tolerance. Weights are compared where they have one shape, type and
    layout, and stand in one graph; equal ones are shared by deduplicate-initialisers, without any loss. Only the file gets smaller. ``only`` names the sites
    to look at (none: all), ``keep`` those that stay.
    """

    name: ClassVar[str] = "share-weights"
    drift: ClassVar[Drift] = LOSSY

    tolerance: float = 0.05
    only: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()

    def run(self, model: ir.Model, context: Context) -> int:
        """Share what can be; returns how many weights went. Raises UsageError for a tolerance that is none."""
        if not 0 < self.tolerance < 1:
            raise UsageError("share-weights takes a tolerance between 0 and 1: the part of a weight that may be lost")
        names, gone = Names(model), 0
        for sites in self._alike(model, context):
            contents = [array(site.weight) for site in sites]
            for members in clusters_of([content for content in contents if content is not None], self.tolerance):
                chosen = [sites[place] for place in members]
                gone += self._share(chosen, context, names)
        return gone

    def _alike(self, model: ir.Model, context: Context) -> Iterator[list[Site]]:
        """Sites whose weights could be one, each weight once; coverage is told of the others."""
        found: dict[object, list[Site]] = {}
        seen: set[ir.Value] = set()
        for site in all_sites(model):
            if (self.only and site.name not in self.only) or site.weight in seen:
                continue
            seen.add(site.weight)
            content = array(site.weight)
            if site.name in self.keep:
                context.coverage.leave(site, "it was asked to stay")
            elif content is None or not np.isfinite(content.astype(np.float64)).all():
                context.coverage.leave(site, "its weight holds NaN or infinities")
            elif not site.weight.is_initializer() or site.weight.is_graph_output() or any(node is not site.node for node, _ in site.weight.uses()):
                context.coverage.leave(site, "its weight is read elsewhere too, or is no initialiser")
            else:
                found.setdefault((site.kind, site.flipped, site.groups, site.shape, site.weight.dtype, site.weight.graph), []).append(site)
        for sites in found.values():
            for site in sites:
                context.coverage.leave(site, f"no other weight is within {self.tolerance:g} of it")
            if len(sites) > 1:
                yield sites

    def _share(self, sites: Sequence[Site], context: Context, names: Names) -> int:
        """One weight for these sites; returns how many went."""
        sites = [site for site in sites if context.ledger.permit(self.name, site.name)]
        if len(sites) < 2:
            return 0
        first = sites[0].weight
        graph = first.graph
        assert isinstance(graph, ir.Graph) and first.dtype is not None
        for site in sites:
            context.coverage.take(site, f"shared by {len(sites)}", first.dtype.itemsize * 8 / len(sites), "mean")
        mean = np.mean([np.asarray(array(site.weight), np.float64) for site in sites], axis=0)
        common = make_constant(graph, mean.astype(first.dtype.numpy()), names.fresh(f"{first.name}_shared"))
        for site in sites:
            old = site.weight
            site.node.replace_input_with(site.weight_at, common)
            del graph.initializers[old.name or ""]
        return len(sites) - 1


def clusters_of(weights: Sequence[np.ndarray], tolerance: float) -> list[list[int]]:
    """Groups of two or more weights, by their places, each no further from the mean of its group than ``tolerance`` times its own length.

    The two nearest groups become one, again and again, as long as that holds (centroid linkage).
    """
    flat = np.stack([weight.reshape(-1).astype(np.float64) for weight in weights])
    lengths = np.linalg.norm(flat, axis=1)
    products = flat @ flat.T
    groups = [[place] for place in range(len(flat))]
    while len(groups) > 1:
        pairs = [(one, other) for one in range(len(groups)) for other in range(one + 1, len(groups))]
        options = [(_spread(products, groups[one] + groups[other], lengths), one, other) for one, other in pairs]
        best, one, other = min(options)
        if best > tolerance:
            break
        groups[one] += groups.pop(other)
    return [sorted(group) for group in groups if len(group) > 1]


def _spread(products: np.ndarray, members: Sequence[int], lengths: np.ndarray) -> float:
    """The greatest distance of a member from the mean, by its own length; float64 inner products say it all."""
    inner = products[np.ix_(members, members)]
    squares = np.diagonal(inner) - 2 * inner.mean(axis=1) + inner.mean()
    own = np.maximum(lengths[list(members)], np.finfo(np.float64).tiny)
    return float((np.sqrt(np.maximum(squares, 0.0)) / own).max())
