"""Fusion plans written into the model: every block of several operators becomes a function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from ...compiler.core.drift import Drift
from ...compiler.core.passes import Context, Pass
from ...compiler.core.planning.outline import Outliner
from ...compiler.core.planning.plan import Constraints
from ...compiler.core.planning.planner import plan_model
from ...compiler.core.shapes import infer_shapes

RULE = "fuse-block"


@dataclass(frozen=True)
class PlanFusion(Pass):
    """Plans which operators become one kernel (DNNFusion), and puts each block of several operators into a model-local function.

    Whatever runs the model computes the same: a runtime that knows nothing of blocks inlines them, ``inline-functions`` does it in the file. Operators
    that stay alone, and those whose results nobody reads, stay as they are. ``operators`` and ``inputs`` bound a block, ``live_bytes`` what one tile of
    it holds, ``repeated`` the arithmetic in front of a Conv or MatMul, ``deep`` joins products with what works on their rows,
    ``bands`` blocks that work on the same band of an image; see `Constraints`.
    """

    name: ClassVar[str] = "plan-fusion"
    drift: ClassVar[Drift] = Drift.EXACT
    operators: int = Constraints.operators
    inputs: int = Constraints.inputs
    live_bytes: int = Constraints.live_bytes
    repeated: int = Constraints.repeated
    deep: bool = Constraints.deep
    bands: bool = Constraints.bands

    def run(self, model: ir.Model, context: Context) -> int:
        """Plan the main graph and every graph nested in it; returns how many blocks became functions."""
        infer_shapes(model)
        plans = plan_model(model, self._constraints(), context.profile)
        outliner = Outliner(model)
        written = 0
        for block in (block for plan in plans for block in plan.blocks if block.fused and block.outputs):
            if context.ledger.permit(RULE, block.outputs[0].name or ""):
                outliner.outline(block)
                written += 1
        outliner.settle()
        return written

    def _constraints(self) -> Constraints:
        return Constraints(self.operators, self.inputs, self.live_bytes, self.repeated, self.deep, self.bands)
