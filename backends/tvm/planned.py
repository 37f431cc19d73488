"""Our fusion plan on a prepared model."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.planning.plan import Constraints, Profile
from .prepare import BLOCK


def mark_whole(model: ir.Model) -> None:
    """Note on every node of the main graph that it belongs to one block with all others."""
    for node in model.graph:
        node.meta[BLOCK] = "whole"


def mark_plan(model: ir.Model, profile: Profile | None = None) -> None:
    """Note on every node of the main graph which block it belongs to, and put the nodes of a block beside each other.

    An operator that stays alone is a block too: TVM may write it as several. Arithmetic stands behind the products before it, never in front of those that
    read it, where generated code would do it again for each reading. A model that already has blocks (`prepare`) keeps them. ``profile`` answers where the
    table of fusions does not.
    """
    from ...compiler.core.planning.planner import plan

    graph = model.graph
    if any(BLOCK in node.meta for node in graph):
        return
    planned = plan(model, Constraints(repeated=0, bands=True), profile)
    order = [node for block in planned.blocks for node in block.nodes]
    for serial, block in enumerate(planned.blocks):
        for node in block.nodes:
            node.meta[BLOCK] = f"{serial}_{block.title}"
    graph.remove(order)
    graph.extend(order)
