"""Closed-form correction: the weights that are left are fitted to what the site gave before, on the inputs that it gets now.

With X the inputs in the pruned model and Y what the site gave in the original one, the change D of the weights is the ridge regression of what is missing,
``D = (C + r I)^-1 Cov(X, Y - X W)`` for C the covariance of X, and the bias takes up the means. How far the weights may move (r) is chosen on samples
that were not fitted on; where no change is better there, nothing changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.graph import array, constant, is_op, make_constant
from ...compiler.core.names import Names
from ...compiler.core.sites import Site
from ...compiler.core.statistics import PairStatistics

__all__ = ["Refit", "bias_of", "error_of", "refit", "takes_bias", "together", "write"]

RIDGES = (1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0)
"""Parts of the mean of C's diagonal that are tried."""


@dataclass(frozen=True)
class Refit:
    """A weight [K, M], and what is added to the bias, [M] (zeros where there can be none)."""

    weight: np.ndarray
    bias: np.ndarray


def refit(weight: np.ndarray, bias: np.ndarray, parts: Sequence[PairStatistics], biased: bool) -> Refit | None:
    """``weight`` [K, M] fitted to what ``parts`` say of X and Y; ``bias`` [M] is what is added to X W already (zeros: nothing).

    The last part is what the ridge is chosen on. None when no change is best, or when there are too few samples to tell.
    """
    *fitting, judging = [part for part in parts if part.count]
    if not fitting:
        return None
    start = Refit(weight.astype(np.float64), np.zeros(len(bias)))
    known = together(fitting)
    tried = {ridge: _fitted(start, bias, known, ridge, biased) for ridge in RIDGES}
    errors = {ridge: error_of(found, bias, judging) for ridge, found in tried.items()}
    best = min(errors, key=lambda ridge: errors[ridge])
    if not errors[best] < error_of(start, bias, judging):
        return None
    return _fitted(start, bias, together(parts), best, biased)


def error_of(found: Refit, bias: np.ndarray, known: PairStatistics) -> float:
    """E |Y - X W - b|^2, from the moments alone."""
    shift, weight = bias + found.bias, found.weight
    crossed = float((weight * known.cross).sum() + shift @ known.target_mean)
    made = float((weight * (known.moment @ weight)).sum() + 2 * shift @ (known.mean @ weight) + shift @ shift)
    return float(known.target_square.sum()) - 2 * crossed + made


def together(parts: Sequence[PairStatistics]) -> PairStatistics:
    """Statistics over the samples of several parts."""
    parts = [part for part in parts if part.count]
    total = sum(part.count for part in parts)

    def mean(name: str) -> np.ndarray:
        return np.asarray(sum(getattr(part, name) * (part.count / total) for part in parts))

    return PairStatistics(mean("moment"), mean("cross"), mean("mean"), mean("target_mean"), mean("target_square"), total)


def _fitted(start: Refit, bias: np.ndarray, known: PairStatistics, ridge: float, biased: bool) -> Refit:
    spread, crossed = known.moment, known.cross - np.outer(known.mean, bias)
    if biased:
        spread = spread - np.outer(known.mean, known.mean)
        crossed = known.cross - np.outer(known.mean, known.target_mean)
    mean = float(np.diagonal(spread).mean())
    damped = spread + np.eye(len(spread)) * (ridge * mean if mean > 0 else 1.0)
    weight = start.weight + np.linalg.solve(damped, crossed - spread @ start.weight)
    moved = known.target_mean - known.mean @ weight - bias if biased else np.zeros(len(bias))
    return Refit(weight, moved)


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


def bias_before(site: Site) -> np.ndarray:
    """What a convolution or Gemm adds to each channel of what it makes itself, float64 [M]; zeros for a MatMul."""
    found = None if site.kind == "MatMul" else array(site.bias)
    return np.zeros(_channels(site)) if found is None else np.broadcast_to(found.astype(np.float64).reshape(-1), (_channels(site),))


def _channels(site: Site) -> int:
    return site.shape[site.channel_axis] * (site.groups if site.kind == "ConvTranspose" else 1)


def takes_bias(site: Site) -> bool:
    """Whether the site has a bias, or can get one."""
    return bias_of(site) is not None or (site.kind in ("Conv", "ConvTranspose") and site.bias is None)


def write(site: Site, found: Refit, names: Names) -> None:
    """Put a refitted weight and bias in the place of the site's, which nothing else reads."""
    value = site.weight
    tensor = constant(value)
    assert tensor is not None
    value.const_value = ir.tensor(site.stored(found.weight[None]).astype(tensor.numpy().dtype), dtype=tensor.dtype, name=value.name)
    if not found.bias.any():
        return
    bias = bias_of(site)
    if bias is None:
        graph = site.node.graph
        assert graph is not None
        bias = make_constant(graph, np.zeros(_channels(site), tensor.numpy().dtype), names.fresh(f"{value.name}_bias"))
        site.node.resize_inputs(3)
        site.node.replace_input_with(2, bias)
    before = array(bias)
    assert before is not None
    bias.const_value = ir.tensor((before + found.bias.reshape(before.shape)).astype(before.dtype), name=bias.name)
