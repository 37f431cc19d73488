"""The pass that computes the same with less arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from ...compiler.core.drift import ROUNDING
from ...compiler.core.passes import Context
from ...compiler.core.rule import Rule
from ...compiler.core.rulepass import RulePass
from .selection import apply_greedily


@dataclass(frozen=True)
class SimplifyAlgebra(RulePass):
    """Laws of arithmetic, applied where they save arithmetic, then bytes, then operators: the largest saving first (DNNFusion, PLDI 2021)."""

    name = "simplify-algebra"
    drift = ROUNDING
    folder = "passes.algebra"

    def apply(self, model: ir.Model, rules: Sequence[Rule], context: Context) -> int:
        """Apply the rules, the one that saves most first."""
        return apply_greedily(model, rules, context)
