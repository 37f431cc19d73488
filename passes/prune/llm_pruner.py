"""LLM-Pruner: what every weight of a group does to the outputs (Ma et al., "LLM-Pruner: On the Structural Pruning of Large Language Models", 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ...compiler.core.sites import Site
from .coupling.groups import Group, Slice
from .taylor import Taylor

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LlmPruner(Taylor):
    """The sum over *all* weights that go with a member, those that make it as well as those that read it, of ``|E[(w dL/dw)^2] / 2|`` (section 3.2, equation
    5 with the Fisher information for the Hessian; its first-order term has a mean of zero for the outputs' random signs, which stand for labels). The group
    is scored by the sum over its structures, the first of the four ways of section 3.2.
    """

    name: ClassVar[str] = "llm-pruner"
    refines: ClassVar[str | None] = "magnitude"

    def of_weights(self, product: torch.Tensor) -> torch.Tensor:
        """As `Taylor.of_weights`."""
        return product.square() / 2

    def of_members(self, felt: np.ndarray) -> np.ndarray:
        """As `Taylor.of_members`."""
        return felt

    def slices(self, groups: Sequence[Group], sites: Sequence[Site]) -> Sequence[tuple[Group, Slice]]:
        """As `Taylor.slices`: all that hold floating-point numbers."""
        slices = [(group, item) for group in groups for item in group.slices]
        return [(group, item) for group, item in slices if item.weight.dtype is not None and item.weight.dtype.is_floating_point()]
