"""The pass that simplifies branches and loops."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import subgraphs_of
from ...compiler.core.passes import Context
from ...compiler.core.rulepass import RulePass
from .names import settle_names


@dataclass(frozen=True)
class SimplifyControlFlow(RulePass):
    """If, Loop and Scan whose course is known are written out; what their bodies do for nobody, or in each round alike, goes or moves out."""

    name = "simplify-control-flow"
    drift = ROUNDING
    folder = "passes.control"

    def run(self, model: ir.Model, context: Context) -> int:
        """Apply the rules until none fires, bodies that they copied included; returns how many rewrites were made."""
        if not any(subgraphs_of(node) for node in model.graph):
            return 0
        total = 0
        while True:
            settle_names(model)
            changes = super().run(model, context)
            if not changes:
                return total
            total += changes
