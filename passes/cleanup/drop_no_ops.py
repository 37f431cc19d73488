"""The pass that takes out what computes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from ...compiler.core.drift import EXACT
from ...compiler.core.rulepass import RulePass


@dataclass(frozen=True)
class DropNoOps(RulePass):
    """Identities, inference dropouts, casts to the same type, transposes that cancel, and arithmetic with a neutral element."""

    name = "drop-no-ops"
    drift = EXACT
    folder = "passes.cleanup"
