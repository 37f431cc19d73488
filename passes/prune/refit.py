"""Closed-form correction: what is left of a site's inputs is fitted anew to what it gave before.

With C the covariance of the inputs, k the rows that stay and r those that go, W_k + C_kk^-1 C_kr W_r is the least-squares answer on the calibration data,
and the bias takes up the means (the compensation of FLAP is its special case without the first term).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.graph import array, constant, is_op, make_constant
from ...compiler.core.names import Names
from ...compiler.core.sites import Site
from ...compiler.core.statistics import SiteStatistics
from .covariance import covariance

__all__ = ["Refit", "bias_of", "refit"]


@dataclass(frozen=True)
class Refit:
    """The rows that stay, [K, M] with zeros where rows went, and what is added to the bias, [M] (zeros where there can be none)."""

    weight: np.ndarray
    bias: np.ndarray


def refit(weight: np.ndarray, statistics: SiteStatistics, gone: np.ndarray, biased: bool) -> Refit:
    """``weight`` [K, M] without the rows ``gone`` (bool [K])."""
    wide, stays = weight.astype(np.float64), ~gone
    spread = covariance(statistics, centred=biased)
    change = np.linalg.solve(spread[np.ix_(stays, stays)], spread[np.ix_(stays, gone)] @ wide[gone])
    fitted = np.zeros_like(wide)
    fitted[stays] = wide[stays] + change
    bias = statistics.mean[gone] @ wide[gone] - statistics.mean[stays] @ change if biased else np.zeros(wide.shape[1])
    return Refit(fitted, bias)


def bias_of(site: Site) -> ir.Value | None:
    """The constant that is added to each output channel of a site and to nothing else; None when there is none."""
    if site.kind != "MatMul":
        found = site.bias
    else:
        uses = list(site.node.outputs[0].uses())
        adder = uses[0].node if len(uses) == 1 and is_op(uses[0].node, "Add") and not site.node.outputs[0].is_graph_output() else None
        found = None if adder is None else adder.inputs[1 - uses[0].idx]
    tensor = constant(found)
    fits = tensor is not None and tensor.size == _channels(site) and tensor.shape.numpy()[-1:] == (tensor.size,)
    return found if found is not None and fits and found.is_initializer() and len(found.uses()) == 1 else None


def _channels(site: Site) -> int:
    return site.shape[site.channel_axis] * (site.groups if site.kind == "ConvTranspose" else 1)


def takes_bias(site: Site) -> bool:
    """Whether the site has a bias, or can get one."""
    return bias_of(site) is not None or (site.kind in ("Conv", "ConvTranspose") and site.bias is None)


def write(site: Site, found: Refit, names: Names) -> ir.Value | None:
    """Put a refitted weight and bias in the place of the site's, which nothing else reads; returns the bias when it is new."""
    value = site.weight
    tensor = constant(value)
    assert tensor is not None
    value.const_value = ir.tensor(site.stored(found.weight[None]).astype(tensor.numpy().dtype), dtype=tensor.dtype, name=value.name)
    if not found.bias.any():
        return None
    bias, made = bias_of(site), None
    if bias is None:
        graph = site.node.graph
        assert graph is not None
        bias = made = make_constant(graph, np.zeros(_channels(site), tensor.numpy().dtype), names.fresh(f"{value.name}_bias"))
        site.node.resize_inputs(3)
        site.node.replace_input_with(2, bias)
    before = array(bias)
    assert before is not None
    bias.const_value = ir.tensor((before + found.bias.reshape(before.shape)).astype(before.dtype), name=bias.name)
    return made
