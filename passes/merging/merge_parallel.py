"""The pass that merges what is computed side by side from the same input."""

from __future__ import annotations

from dataclasses import dataclass

from ...compiler.core.drift import ROUNDING
from ...compiler.core.rulepass import RulePass


@dataclass(frozen=True)
class MergeParallel(RulePass):
    """Linear operators that share an input become one, slices of one tensor a Split, and equal operators beside each other stand once behind a Concat."""

    name = "merge-parallel"
    drift = ROUNDING
    folder = "passes.merging"
