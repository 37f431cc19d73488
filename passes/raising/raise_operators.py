"""The pass that recovers standard operators from what exporters spell out."""

from __future__ import annotations

from dataclasses import dataclass

from ...compiler.core.drift import ROUNDING
from ...compiler.core.rulepass import RulePass


@dataclass(frozen=True)
class RaiseOperators(RulePass):
    """Gelu, LayerNormalization and their kin, found by what the graph computes."""

    name = "raise"
    drift = ROUNDING
    folder = "passes.raising"
