"""Sites as static quantisation sees them."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from ...compiler.core.graph import attribute, is_op, users
from ...compiler.core.sites import Site, all_sites
from .surgery import Place, place_of
from .weight_codes import WeightCodes

__all__ = ["forget_factors", "named", "slope_of", "spot_of", "stored_bits"]

MATRIX = 2


def named(model: ir.Model, sites: Iterable[Site]) -> list[Site]:
    """The sites of ``model`` that are called as these are."""
    known = {site.name: site for site in all_sites(model)}
    return [known[site.name] for site in sites]


def spot_of(site: Site) -> Place:
    """The site with what is added to it, where a Gemm can stand for both."""
    found = place_of(site)
    return Place(site) if site.kind == "MatMul" and found.rank != MATRIX else found


def stored_bits(site: Site, weight: WeightCodes) -> float:
    """What a number of its weight takes in the file, scales included."""
    return 8.0 + 32.0 * weight.scales.size / max(1, site.parameters)


def slope_of(value: ir.Value) -> float:
    """By how much negative numbers matter less than positive ones: a LeakyRelu that alone reads them, or what a MaxPool leaves of them, makes them smaller."""
    readers = users(value)
    while len(readers) == 1 and is_op(readers[0], "MaxPool"):
        readers = users(readers[0].outputs[0])
    return float(attribute(readers[0], "alpha", 1.0)) if len(readers) == 1 and is_op(readers[0], "LeakyRelu") else 1.0  # type: ignore[arg-type]


def forget_factors(node: ir.Node) -> None:
    """Alpha and beta of a Gemm are in its codes."""
    for name in ("alpha", "beta"):
        node.attributes.pop(name, None)
