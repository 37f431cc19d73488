"""The pass that computes the same with less arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from ...compiler.core.drift import ROUNDING
from ...compiler.core.rulepass import RulePass


@dataclass(frozen=True)
class SimplifyAlgebra(RulePass):
    """Laws of arithmetic, applied where they save arithmetic, then bytes, then operators (DNNFusion, PLDI 2021)."""

    name = "simplify-algebra"
    drift = ROUNDING
    folder = "passes.algebra"
