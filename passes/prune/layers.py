"""Which sites of a model belong to one layer: what repeats along its trunk."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ...compiler.core.sites import Site
from ..recover.matching import trunk

__all__ = ["layers_of"]

MOST = 0.75
"""This part of the segments at least has to be like those one layer before."""


def layers_of(model: ir.Model, sites: Sequence[Site]) -> dict[str, int]:
    """The layer of each site by its name, numbered in graph order.

    Values that all data passes through (`matching.trunk`) cut a model into segments, such as the attention and the feed-forward part of a transformer
    layer; a layer is as many of these as it takes until segments with weights of the same kinds and shapes come again. Where nothing repeats each segment is
    one, and where nothing cuts the model, all of it.
    """
    cuts, places = set(trunk(model)), {}
    place = 0
    for node in model.graph:
        places[node] = place
        place += any(value.name in cuts for value in node.outputs)
    segment = {site.name: places.get(site.node, 0) for site in sites}
    kept = {number: order for order, number in enumerate(sorted(set(segment.values())))}
    kinds: list[list[object]] = [[] for _ in kept]
    for site in sites:
        kinds[kept[segment[site.name]]].append((site.kind, site.shape))
    period = _period([sorted(map(str, found)) for found in kinds])
    return {name: kept[number] // period for name, number in segment.items()}


def _period(kinds: Sequence[object]) -> int:
    """After how many the same come again; 1 where they do not."""
    for period in range(1, len(kinds) // 2 + 1):
        alike = sum(one == other for one, other in zip(kinds, kinds[period:], strict=False))
        if alike >= MOST * (len(kinds) - period):
            return period
    return 1
