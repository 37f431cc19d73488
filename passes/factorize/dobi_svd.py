"""Where to truncate, learned through the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import onnx_ir as ir

from ...compiler.core.errors import UsageError
from ...compiler.core.sites import Site
from ...compiler.core.statistics import Calibrator, SiteStatistics
from ..differentiable.graph import TorchGraph
from ..differentiable.samples import samples_of
from .method import Decomposition, LowRank
from .ranks import Curve
from .svd_llm import SvdLlm

if TYPE_CHECKING:
    import torch

__all__ = ["DobiSvd", "Spot", "learn_ranks"]

SAMPLES, STEPS, RATE, MOMENTUM, SMOOTH = 16, 64, 0.2, 0.8, 16
TINY = 1e-12


@dataclass(frozen=True)
class DobiSvd(LowRank):
    """Wang et al., "Dobi-SVD: Differentiable SVD for LLM Compression and Some New Perspectives" (ICLR 2025), section 3.1.

    Every weight is truncated as `SvdLlm` does, which is the truncation of its outputs on the calibration data; the ranks are learned on the answers of the
    model (`learn_ranks`). The paper's packing of the factors into half the bits is no matter of rank: quantise them.
    """

    name: ClassVar[str] = "dobi_svd"
    refines: ClassVar[str | None] = "svd"
    moments: ClassVar[bool] = True
    learned: ClassVar[bool] = True

    def decompose(self, weight: np.ndarray, statistics: SiteStatistics | None) -> Decomposition:
        """As `LowRank.decompose`."""
        return SvdLlm().decompose(weight, statistics)


@dataclass(frozen=True)
class Spot:
    """A weight that a rank is learned for: the sites that read it, its decomposition and what it costs."""

    sites: Sequence[Site]
    parts: Decomposition
    curve: Curve


def learn_ranks(model: ir.Model, spots: Sequence[Spot], budget: float, calibrator: Calibrator) -> list[int | None]:
    """The rank of each weight that together cost at most ``budget``; None where it stays whole, for it would cost as much.

    Component i of n counts ``(1 + tanh((k - i) / w)) / 2`` times (equation 3; w is a sixteenth of n). The gradient of the squared error of the model's
    outputs by their size, on calibration samples in turn, says what a rank is worth for its cost at each weight: where that is more than at others k grows,
    and all are moved alike to where they cost the budget. Raises BackendMissing without torch, TargetError for an operator that cannot be differentiated,
    UsageError for a weight inside a branch or a loop.
    """
    graph = TorchGraph.of(model)
    for spot in spots:
        if spot.sites[0].weight.name not in graph.constants or spot.sites[0].groups > 1:
            raise UsageError(f"'{spot.sites[0].name}' cannot learn its rank, for it is in a branch or a loop, or has groups: keep it, or allocate otherwise")
    import torch

    samples = [{name: torch.from_numpy(np.ascontiguousarray(item)) for name, item in sample.items()} for sample in samples_of(calibrator, model, SAMPLES)]
    with torch.no_grad():
        truth = [_floats(graph.run(sample)) for sample in samples]
    learned = [_Learned.of(spot) for spot in spots]
    shares = _onto(np.full(len(spots), 0.5), spots, budget)
    worth = np.zeros(len(spots))
    for step in range(STEPS):
        place = step % len(samples)
        given = torch.tensor(shares, dtype=torch.float32, requires_grad=True)
        weights = {name: content for one, share in zip(learned, given, strict=True) for name, content in one.weights(share).items()}
        (slope,) = torch.autograd.grad(_error(truth[place], graph.run(samples[place], weights)), [given])
        saved = -slope.numpy().astype(np.float64) / [len(spot.parts.values) * spot.curve.unit for spot in spots]
        worth = saved if step == 0 else MOMENTUM * worth + (1 - MOMENTUM) * saved
        shares = _onto(shares * np.exp(RATE * (1 - step / STEPS) * _relative(worth)), spots, budget)
    return [_whole(share, spot) for share, spot in zip(shares, spots, strict=True)]


def _relative(worth: np.ndarray) -> np.ndarray:
    """The logarithm of what a rank is worth at each weight by what it is on the whole, between -1 and 1; -1 where it is worth nothing."""
    if not (worth > 0).any():
        return np.zeros_like(worth)
    logs = np.log(np.maximum(worth, worth.max() * TINY))
    return np.asarray(np.clip(logs - np.median(logs[worth > 0]), -1.0, 1.0))


@dataclass(frozen=True)
class _Learned:
    """The factors of one weight as torch has them."""

    spot: Spot
    left: torch.Tensor
    right: torch.Tensor

    @classmethod
    def of(cls, spot: Spot) -> _Learned:
        import torch

        left = torch.from_numpy((spot.parts.left * spot.parts.values).astype(np.float32))
        return cls(spot, left, torch.from_numpy(spot.parts.right.astype(np.float32)))

    def weights(self, share: torch.Tensor) -> dict[str, torch.Tensor]:
        """The weight as it is stored, softly truncated."""
        import torch

        site, count = self.spot.sites[0], len(self.spot.parts.values)
        soft = (1 + torch.tanh((share * count - torch.arange(count) - 0.5) * SMOOTH / count)) / 2
        matrix = (self.left * soft) @ self.right
        stored = matrix.T if site.flipped or site.kind == "Conv" else matrix
        return {site.weight.name or "": stored.reshape(site.shape)}


def _floats(outputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in outputs.items() if tensor.is_floating_point() and bool(tensor.isfinite().all())}


def _error(truth: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Squared error by squared size, the mean over the outputs."""
    parts = [(found[name] - tensor).square().sum() / tensor.square().sum().clamp_min(TINY) for name, tensor in truth.items()]
    if not parts:
        raise UsageError("ranks are learned on outputs of floating-point numbers, and this model has none that are finite")
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total / len(parts)


def _onto(shares: np.ndarray, spots: Sequence[Spot], budget: float) -> np.ndarray:
    """The shares moved by the same number, each kept between one rank and all, to where they cost the budget."""
    least = np.array([1.0 / len(spot.parts.values) for spot in spots])
    low, high = -1.0 - float(shares.max()), 1.0 - float(shares.min())
    for _ in range(60):
        middle = (low + high) / 2
        if _cost(np.clip(shares + middle, least, 1.0), spots) > budget:
            high = middle
        else:
            low = middle
    return np.asarray(np.clip(shares + low, least, 1.0))


def _cost(shares: np.ndarray, spots: Sequence[Spot]) -> float:
    return sum(min(share * len(spot.parts.values) * spot.curve.unit, spot.curve.whole) for share, spot in zip(shares, spots, strict=True))


def _whole(share: float, spot: Spot) -> int | None:
    rank = max(1, int(share * len(spot.parts.values)))
    return None if rank * spot.curve.unit >= spot.curve.whole else rank
