"""The pass that keeps quantised graphs in integers."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from ...compiler.core.drift import EXACT
from ...compiler.core.passes import Context
from ...compiler.core.rulepass import RulePass


@dataclass(frozen=True)
class SimplifyQuantised(RulePass):
    """Pairs of QuantizeLinear and DequantizeLinear that cancel, data moved as integers, and activations in the one integer type that kernels want."""

    name = "simplify-quantised"
    drift = EXACT
    folder = "passes.quantised"

    def run(self, model: ir.Model, context: Context) -> int:
        """Apply the rules until none fires; what one does may let another fire upstream. Returns how many rewrites were made."""
        total = 0
        while changes := super().run(model, context):
            total += changes
        return total
