"""Operators between and behind the sites that compute in float when a model is quantised."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import onnx_ir as ir

from ...compiler.core.graph import constant
from ...compiler.core.sites import all_sites
from .placement import Placement
from .surgery import Place

__all__ = ["floats_of"]

FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})


def floats_of(model: ir.Model, found: Placement, spots: Collection[Place]) -> Iterator[ir.Node]:
    """What makes floats from floats, but for branches, loops, sites, what is ``found`` to compute on integers, and what ``spots`` and clamps take up."""
    taken = {*found.integer, *found.clamps.values(), *(spot.added for spot in spots)}
    sites = {site.node for site in all_sites(model)}
    return (node for node in model.graph if node not in taken and node not in sites and _computes(node))


def _computes(node: ir.Node) -> bool:
    if any(item.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for item in node.attributes.values()):
        return False
    read = any(value is not None and value.dtype in FLOATS and constant(value) is None for value in node.inputs)
    return read and any(value.dtype in FLOATS for value in node.outputs)
