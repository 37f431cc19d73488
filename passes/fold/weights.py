"""The pass that folds constant arithmetic around linear operators into their weights."""

from __future__ import annotations

from dataclasses import dataclass

from ...compiler.core.drift import ROUNDING
from ...compiler.core.rulepass import RulePass


@dataclass(frozen=True)
class FoldWeights(RulePass):
    """Constant arithmetic and padding folded into Conv, ConvTranspose, Gemm and MatMul; chains and sums of these made one; rows nobody needs left out."""

    name = "fold-weights"
    drift = ROUNDING
    folder = "passes.fold"
