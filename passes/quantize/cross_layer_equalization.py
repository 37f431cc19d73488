"""Cross-layer equalisation: channels between two convolutions are scaled to reach equally far, which leaves the function as it is.

f(s x) = s f(x) for s > 0 holds for Relu, LeakyRelu and pooling, so W2 f(W1 x + b1) = (W2 S) f(S^-1 W1 x + S^-1 b1) for a diagonal S.
Nagel et al., "Data-free quantization through weight equalization and bias correction", 2019, which scales by the ranges of both weights. Here weights
have a scale for each output channel, so what suffers from uneven channels is the activation between: its measured reach takes the place of W1's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.graph import array, attribute, constant, is_op, make_constant, users
from ...compiler.core.names import Names
from ...compiler.core.sites import Site
from ...compiler.core.statistics import Calibrator, SiteStatistics

__all__ = ["Pair", "equalise", "equalising_scales", "pairs"]

HOMOGENEOUS = ("Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Identity")
FURTHEST = 100.0
"""How far apart scales may lie: a channel that hardly ever speaks says little of how loud it can be."""


@dataclass(frozen=True)
class Pair:
    """Two convolutions; only the second reads what the first makes, through operators that scale with it; ``slope`` is that of a LeakyRelu among them."""

    first: Site
    second: Site
    slope: float = 1.0


def equalising_scales(reach: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """What each channel is divided by, float64 [C], the largest 1: ``reach`` [C] is how far its activations go, ``weights`` [C] the weights that read it.

    sqrt(reach / weights), as SmoothQuant balances the two; ``reach`` where each channel is read by weights of its own (None), whose scale follows.
    Channels that are always zero, or are not read, stay.
    """
    live = reach > 0 if weights is None else (reach > 0) & (weights > 0)
    if not live.any():
        return np.ones_like(reach)
    wanted = reach[live] if weights is None else np.sqrt(reach[live] / weights[live])
    found = np.ones_like(reach)
    found[live] = np.maximum(wanted / wanted.max(), 1.0 / FURTHEST)
    return found


def pairs(sites: Sequence[Site]) -> Iterator[Pair]:
    """The pairs among these sites."""
    known = {site.node: site for site in sites if site.kind == "Conv" and (site.bias is None or constant(site.bias) is not None)}
    for first in known.values():
        value, slope = first.node.outputs[0], 1.0
        while not value.is_graph_output() and len(readers := users(value)) == 1 and len(list(value.uses())) == 1:
            reader = readers[0]
            second = known.get(reader)
            if second is not None:
                if value is second.data and _channels(second) == first.shape[0] and second.groups in (1, first.shape[0]):
                    yield Pair(first, second, slope)
                break
            if not is_op(reader, *HOMOGENEOUS) or len(reader.outputs) != 1:
                break
            slope *= float(attribute(reader, "alpha", 1.0)) if is_op(reader, "LeakyRelu") else 1.0  # type: ignore[arg-type]
            value = reader.outputs[0]


def equalise(model: ir.Model, sites: Sequence[Site], calibrator: Calibrator) -> int:
    """Change the weights of ``model``; returns how many pairs were equalised."""
    found = {pair.second.name: pair for pair in pairs(sites)}
    names, count = Names(model), 0
    statistics = list(calibrator.sites(model, [pair.second for pair in found.values()], moments=False))
    for second, known in statistics:
        pair = found[second.name]
        scales = _scales(pair, known)
        if np.ptp(scales) > 0.0:
            _scale(model.graph, pair, scales, names)
            count += 1
    return count


def _channels(site: Site) -> int:
    return site.shape[1] * site.groups


def _scales(pair: Pair, known: list[SiteStatistics]) -> np.ndarray:
    """The reach is that of the first convolution's result: a LeakyRelu after it hides how far it goes down."""
    second, channels = pair.second, _channels(pair.second)
    above, below = np.stack([item.high for item in known]), np.stack([-item.low for item in known]) / (pair.slope or 1.0)
    reach = np.maximum(np.maximum(above, below), 0.0).reshape(channels, -1).max(axis=1)
    if second.groups > 1:
        return equalising_scales(reach, None)
    weight = np.abs(second.matrices()[0]).reshape(channels, -1).max(axis=1).astype(np.float64)
    return equalising_scales(reach, weight)


def _scale(graph: ir.Graph, pair: Pair, scales: np.ndarray, names: Names) -> None:
    """Divide the output channels of the first by ``scales``, and multiply the input channels of the second."""
    first, second = pair.first, pair.second
    one, other, bias = array(first.weight), array(second.weight), array(first.bias)
    assert one is not None and other is not None
    along_output = scales.reshape(-1, *[1] * (one.ndim - 1))
    axis = 0 if second.groups > 1 else 1
    along_input = scales.reshape([-1 if place == axis else 1 for place in range(other.ndim)])
    _replace(graph, first, 1, one / along_output, names)
    _replace(graph, second, 1, other * along_input, names)
    if bias is not None:
        _replace(graph, first, 2, bias / scales, names)


def _replace(graph: ir.Graph, site: Site, index: int, content: np.ndarray, names: Names) -> None:
    old = site.node.inputs[index]
    assert old is not None and old.dtype is not None
    site.node.replace_input_with(index, make_constant(graph, content.astype(old.dtype.numpy()), names.fresh(old.name or "weight")))
