"""Scores by gradients: how much the answers of the whole model would change, to first order, without a member."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import onnx_ir as ir

from ...compiler.core.sites import Site
from ...compiler.core.statistics import Calibrator
from ..differentiable.graph import TorchGraph
from ..differentiable.samples import samples_of
from ..differentiable.torch_there import need_torch
from .coupling.groups import Group, Slice
from .readers import find_readers, input_axis
from .score import Score
from .unstructured.slopes import DRAWS, LEAST, signed

if TYPE_CHECKING:
    import torch

SAMPLES = 48


@dataclass(frozen=True)
class Taylor(Score):
    """E (sum of w dL/dw over the rows that read a member)^2: what its absence does to the outputs (Molchanov et al., "Importance Estimation for Neural
    Network Pruning", 2019, equation 8), L a sum of all outputs with random signs, so that no labels are needed.
    """

    name: ClassVar[str] = "taylor"
    refines: ClassVar[str | None] = "magnitude"
    calibrated: ClassVar[bool] = True
    whole: ClassVar[bool] = True

    def of_model(self, model: ir.Model, groups: Sequence[Group], sites: Sequence[Site], calibrator: Calibrator) -> dict[str, np.ndarray]:
        """As `Score.of_model`. Raises BackendMissing without torch, TargetError naming an operator that cannot be differentiated."""
        need_torch(f"the score '{self.name}'")
        graph, read = TorchGraph.of(model), self.slices(groups, sites)
        names = list(dict.fromkeys(item.weight.name or "" for _, item in read))
        missed = {group.name: np.zeros(group.size) for group in groups}
        for slopes in _slopes(graph, names, model, calibrator):
            felt = {group.name: np.zeros(group.size) for group in groups}
            products = {name: self.of_weights(graph.constants[name].float() * slope) for name, slope in slopes.items()}
            for group, item in read:
                product = products.get(item.weight.name or "")
                if product is not None:
                    along = product.movedim(item.axis, 0).reshape(product.shape[item.axis], -1).sum(dim=1).double().cpu().numpy()
                    felt[group.name] += along[item.indices].sum(axis=1)
            for name, found in felt.items():
                missed[name] += self.of_members(found)
        return missed

    def slices(self, groups: Sequence[Group], sites: Sequence[Site]) -> Sequence[tuple[Group, Slice]]:
        """The slices of weights that read each group; of a weight that several sites share only once, for its gradient is that of all of them."""
        read = {(reader.group.name, reader.site.weight) for reader in find_readers(groups, sites)}
        axes = {site.weight: input_axis(site) for site in sites}
        return [(group, item) for group in groups for item in group.slices if (group.name, item.weight) in read and item.axis == axes[item.weight]]

    def of_weights(self, product: torch.Tensor) -> torch.Tensor:
        """What is added up over the weights of a member, of w dL/dw."""
        return product

    def of_members(self, felt: np.ndarray) -> np.ndarray:
        """What that sum is worth, on one sample."""
        return np.square(felt)


@dataclass(frozen=True)
class Fisher(Taylor):
    """The sum of E (w dL/dw)^2 over the weights of a member (the diagonal of LLM-Pruner's second-order term: Ma et al., 2023, equation 5)."""

    name: ClassVar[str] = "fisher"
    refines: ClassVar[str | None] = "magnitude"

    def of_weights(self, product: torch.Tensor) -> torch.Tensor:
        """As `Taylor.of_weights`."""
        return product.square()

    def of_members(self, felt: np.ndarray) -> np.ndarray:
        """As `Taylor.of_members`."""
        return felt


def _slopes(graph: TorchGraph, names: Sequence[str], model: ir.Model, calibrator: Calibrator) -> Iterator[dict[str, torch.Tensor]]:
    """dL/dw for a few samples and draws."""
    import torch

    weights = {name: graph.constants[name].float().clone().requires_grad_() for name in names if name in graph.constants}
    draw = torch.Generator().manual_seed(0)
    feeds = samples_of(calibrator, model, SAMPLES)
    for feed in feeds:
        outputs = graph.run({name: torch.from_numpy(np.ascontiguousarray(item)).to(graph.device) for name, item in feed.items()}, weights)
        for _ in range(max(LEAST, -(-DRAWS // len(feeds)))):
            slopes = torch.autograd.grad(signed(outputs, draw), list(weights.values()), allow_unused=True, retain_graph=True)
            yield {name: slope for name, slope in zip(weights, slopes, strict=True) if slope is not None}
