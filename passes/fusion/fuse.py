"""The pass that lowers operators to the fused kernels a target has."""

from __future__ import annotations

from dataclasses import dataclass

from ...compiler.core.drift import ROUNDING
from ...compiler.core.rulepass import RulePass


@dataclass(frozen=True)
class Fuse(RulePass):
    """Fused kernels (BiasGelu, SkipLayerNormalization, FusedConv); a rule only fires when the target has its kernel."""

    name = "fuse"
    drift = ROUNDING
    folder = "passes.fusion"
