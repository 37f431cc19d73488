"""How much the answers of a model mind each of its weights: gradients on calibration data, through torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from ....compiler.core.errors import TargetError
from ....compiler.core.sites import Site, unfold_weight
from ....compiler.core.statistics import Calibrator
from ...differentiable.answers import NUMBERS, PROBABILITIES, score_outputs
from ...differentiable.graph import TorchGraph
from ...differentiable.samples import samples_of
from ...differentiable.torch_there import need_torch

if TYPE_CHECKING:
    import torch

__all__ = ["likelihood", "signed", "slopes_of"]

SAMPLES, LEAST, DRAWS = 32, 2, 64
"""Draws are made of each sample, so many in all at the least: the mean of n squares is off by sqrt(2 / n) of itself."""
TINY = 1e-12


def slopes_of(model: ir.Model, sites: Sequence[Site], calibrator: Calibrator, seed: int = 0) -> dict[str, np.ndarray]:
    """Of each site the root mean square gradient of its weights, float64 [groups, K, M], by name.

    What is differentiated are the floating-point outputs, each number times a random sign and each output brought to the same size: the mean square is the
    diagonal of the Gauss-Newton matrix of their squared error. Of scores of classes the likelihood is added, of classes drawn from what the model itself
    says: the diagonal of their Fisher information. Neither needs labels. Raises BackendMissing without torch, TargetError naming an operator that cannot be
    differentiated, or when no output is of floats.
    """
    import torch

    need_torch("a method that looks at gradients")
    graph, kinds = TorchGraph.of(model), score_outputs(model)
    here = [site for site in sites if site.weight.name in graph.constants]
    weights = {site.weight.name or "": graph.constants[site.weight.name or ""].float().requires_grad_() for site in here}
    found = {name: torch.zeros_like(weight, requires_grad=False) for name, weight in weights.items()}
    draw = torch.Generator().manual_seed(seed)
    feeds, count = samples_of(calibrator, model, SAMPLES), 0
    for feed in feeds:
        values = {name: torch.from_numpy(np.ascontiguousarray(item)).to(graph.device) for name, item in feed.items()}
        outputs = graph.run(values, weights)
        for _ in range(max(LEAST, -(-DRAWS // len(feeds)))):
            loss = signed(outputs, draw) + likelihood(outputs, kinds, draw)
            slopes = torch.autograd.grad(loss, list(weights.values()), allow_unused=True, retain_graph=True)
            for name, slope in zip(weights, slopes, strict=True):
                if slope is not None:
                    found[name] += slope.square()
            count += 1
    squares = {name: (total / count).cpu().numpy().astype(np.float64) for name, total in found.items()}
    return {site.name: unfold_weight(np.sqrt(squares[site.weight.name or ""]), site) for site in here}


def signed(outputs: dict[str, torch.Tensor], draw: torch.Generator) -> torch.Tensor:
    """Each number of the floating-point outputs times a random sign, each output brought to the same size, added up: a gradient of it has the mean square of
    a whole Jacobian. Raises TargetError when no output is of floats that depend on the weights.
    """
    import torch

    parts = []
    for value in outputs.values():
        if value.is_floating_point() and value.requires_grad and value.numel():
            signs = torch.randint(0, 2, value.shape, generator=draw).to(value) * 2 - 1
            size = value.detach().square().mean().sqrt().clamp(min=torch.finfo(torch.float32).tiny)
            parts.append((value * signs).sum() / (size * value.numel() ** 0.5))
    if not parts:
        raise TargetError("no output of the model is of floating-point numbers that depend on its weights: there are no gradients to prune by")
    return torch.stack([part.float() for part in parts]).sum()


def likelihood(outputs: Mapping[str, torch.Tensor], kinds: Mapping[str, str], draw: torch.Generator) -> torch.Tensor | float:
    """The logarithm of what the model gives classes that are drawn by it, added up over the outputs that hold scores of classes (`kinds`), and brought to
    one row of each: a gradient of it has the mean square of the Fisher information (Kunstner et al., "Limitations of the Empirical Fisher Approximation",
    NeurIPS 2019, equation 3). 0 where there are none.
    """
    import torch

    total: torch.Tensor | float = 0.0
    for name, kind in kinds.items():
        value = outputs[name]
        if kind == NUMBERS or not value.requires_grad or not value.numel():
            continue
        scores = value.float().reshape(-1, value.shape[-1])
        told = torch.log_softmax(scores.clamp(min=TINY).log() if kind == PROBABILITIES else scores, dim=-1)
        if not torch.isfinite(told).all():
            continue
        classes = torch.multinomial(told.detach().exp().cpu(), 1, generator=draw).to(told.device)
        total = total + told.gather(1, classes).sum() / len(told) ** 0.5
    return total
