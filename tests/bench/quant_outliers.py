"""Outliers planted into a decoder: it computes the same, but a few channels of what its norms make are far larger than the rest, as in large models."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graphwright.compiler.core.graph import array, make_constant
from graphwright.compiler.core.names import Names
from graphwright.compiler.core.sites import Site, all_sites
from graphwright.compiler.substitution import substitute_weights

NORMS = {"RMSNormalization": (1,), "LayerNormalization": (1, 2)}
"""Operator -> which of its inputs scale and shift the channels."""
FACTOR, SHARE = 40.0, 0.02
SEED = 5


def planted(model: ir.Model, factor: float = FACTOR, share: float = SHARE) -> ir.Model:
    """A copy in which the scale of a norm is ``factor`` times itself in a ``share`` of the channels, and the weights behind it take that back.

    The channels are the same in all norms, as in the models this is known from. Norms that something else than sites reads stay.
    """
    sites = {id(site.node): site for site in all_sites(model)}
    norms = [node for node in model.graph if node.op_type in NORMS and _readers(node, sites)]
    weights: dict[str, np.ndarray] = {}
    for norm in norms:
        for site in _readers(norm, sites):
            matrices = site.matrices()
            weights[site.name] = matrices / _factors(matrices.shape[1], factor, share)[:, None]
    copy = substitute_weights(model, weights)
    names, chosen = Names(copy), {norm.outputs[0].name for norm in norms}
    for node in list(copy.graph):
        if node.outputs[0].name in chosen:
            _scale(node, copy, names, factor, share)
    return copy


def _readers(norm: ir.Node, sites: dict[int, Site]) -> list[Site]:
    """The sites that read a norm, or none when anything else does."""
    value = norm.outputs[0]
    readers = [sites.get(id(node)) for node, _ in value.uses()]
    if value.is_graph_output() or any(site is None or site.data is not value for site in readers):
        return []
    return [site for site in readers if site is not None]


def _factors(channels: int, factor: float, share: float) -> np.ndarray:
    """float32 [channels]: ``factor`` in a few, 1 in the rest."""
    found = np.ones(channels, np.float32)
    found[np.random.default_rng(SEED).choice(channels, max(1, round(share * channels)), replace=False)] = factor
    return found


def _scale(norm: ir.Node, model: ir.Model, names: Names, factor: float, share: float) -> None:
    for index in NORMS[norm.op_type]:
        content = array(norm.inputs[index]) if index < len(norm.inputs) else None
        if content is not None:
            scaled = (content * _factors(content.size, factor, share)).astype(content.dtype)
            norm.replace_input_with(index, make_constant(model.graph, scaled, names.fresh(f"{norm.outputs[0].name}.planted")))
