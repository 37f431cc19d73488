"""The pass that moves data less."""

from __future__ import annotations

from dataclasses import dataclass

from ...compiler.core.drift import EXACT
from ...compiler.core.rulepass import RulePass


@dataclass(frozen=True)
class MoveData(RulePass):
    """Chains of reshapes, transposes, slices, splits and concats become as few operators as say the same; no bit of a result changes."""

    name = "move-data"
    drift = EXACT
    folder = "passes.movement"
