"""A model with other weights at some of its sites: what a method does to the numbers, without what it does to the graph."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from .core.errors import UsageError
from .core.graph import clone_model, constant, make_constant
from .core.names import Names
from .core.sites import all_sites

__all__ = ["substitute_weights"]


def substitute_weights(model: ir.Model, weights: Mapping[str, np.ndarray]) -> ir.Model:
    """A copy of the model whose sites have these ``weights``: name of the site -> [groups, K, M / groups], brought to the dtype of the stored weight.

    Sites that shared a weight have one each afterwards. Raises UsageError for a name that is no site, or matrices of another shape.
    """
    copy = clone_model(model)
    left, names = dict(weights), Names(copy)
    for site in list(all_sites(copy)):
        matrices = left.pop(site.name, None)
        if matrices is None:
            continue
        expected = site.matrices().shape
        if matrices.shape != expected:
            raise UsageError(f"the site '{site.name}' takes matrices of shape {list(expected)}, not {list(matrices.shape)}")
        tensor, graph = constant(site.weight), site.node.graph
        assert tensor is not None
        assert isinstance(graph, ir.Graph)
        content = site.stored(matrices).astype(tensor.dtype.numpy())
        site.node.replace_input_with(site.weight_at, make_constant(graph, content, names.fresh(f"{site.weight.name}.substitute")))
    if left:
        raise UsageError(f"the model has no site '{min(left)}'")
    return copy
