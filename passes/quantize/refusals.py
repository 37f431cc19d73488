"""Why a site cannot compute on integers, as far as its form tells."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from ...compiler.core.graph import array, constant
from ...compiler.core.sites import Site

__all__ = ["refusal_of"]


def refusal_of(site: Site, model: ir.Model, types: Collection[str] = ()) -> str | None:
    """The reason in a few words; None when there is none. ``types`` are the only operators asked for, if there are any."""
    if types and site.kind not in types:
        return f"{site.kind} is not among the operators to quantise"
    if site.node.graph is not model.graph:
        return "it stands in a subgraph, which calibration does not look into"
    if site.weight.dtype != ir.DataType.FLOAT or (site.kind != "Gather" and site.data.dtype != ir.DataType.FLOAT):
        return f"it computes in {str(site.weight.dtype).lower()}, and integer kernels only stand in for float32"
    content = array(site.weight)
    if content is None or not np.isfinite(content).all():
        return "its weight holds NaN or infinities"
    return _bias_refusal(site)


def _bias_refusal(site: Site) -> str | None:
    if site.bias is None or site.kind not in ("Conv", "Gemm"):
        return None
    tensor = constant(site.bias)
    if tensor is None:
        return "its bias is computed"
    width = site.shape[site.channel_axis]
    if tensor.size not in (1, width) or (tensor.size == width and tensor.shape.numpy()[-1] != width):
        return f"its bias of shape {list(tensor.shape.numpy())} is no number for each of its {width} channels"
    return None if np.isfinite(tensor.numpy().astype(np.float32)).all() else "its bias holds NaN or infinities"
