"""Levels and pipelines: which passes run for a target."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from .core.errors import UsageError
from .core.passes import Pass, format_pass, parse_pipeline, pass_classes
from .core.rulepass import RulePass
from .core.target import Target
from .surgeon import Operation, SurgeonFunction, SurgeonPass

PRECISIONS = ("fp32",)
LEVELS = (0, 1, 2, 3)

NORMALISE = "inline-functions,normalise-opset"
CANONICAL = f"{NORMALISE},constants-to-initialisers,deduplicate-initialisers"
CLEAN = "drop-no-ops,fold-constants,fold-shapes,eliminate-common-subexpressions,eliminate-dead-code"
CONTROLLED = f"{CANONICAL},{CLEAN},simplify-control-flow,simplify-quantised,{CLEAN}"
FOLDED = f"{CONTROLLED},fold-weights,move-data,{CLEAN},deduplicate-initialisers,settle-opset"
PLAINER = f"raise,fold-weights,simplify-algebra,place-transposes,move-data,{CLEAN}"
FUSED = f"{CONTROLLED},{PLAINER},{PLAINER},merge-parallel,fuse,{CLEAN},deduplicate-initialisers,settle-opset"

Step = Pass | SurgeonFunction
Level = int | str | Sequence[Step]
"""A level from 0 to 3, a pipeline as text, or passes (a function on ``gs.Graph`` counts as one)."""


def pipeline_for(target: Target, level: int, precision: str) -> tuple[Pass, ...]:
    """The passes of a level: 0 only normalises, 1 cleans up and folds, 2 and 3 also raise and fuse.

    Level 3 runs those of level 2, and then searches among its parts by measuring (`search.variants`). The passes are the same for every target:
    a rule only fires where the target has the kernel it needs. Raises UsageError for a level or precision that does not exist.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"the precision '{precision}' is not there; this version has: {', '.join(PRECISIONS)}")
    if level not in LEVELS:
        raise UsageError(f"there is no level {level}; the levels are {', '.join(map(str, LEVELS))}")
    return parse_pipeline({0: NORMALISE, 1: FOLDED}.get(level, FUSED))


def steps_of(level: Level, target: Target, precision: str) -> tuple[Pass, ...]:
    """The passes that ``level`` means: see `Level`."""
    if isinstance(level, int):
        return pipeline_for(target, level, precision)
    pipeline_for(target, 0, precision)
    if isinstance(level, str):
        return parse_pipeline(level)
    return tuple(_as_pass(step) for step in level)


def narrow(steps: Sequence[Pass], only: Sequence[str] = (), without: Sequence[str] = ()) -> tuple[Pass, ...]:
    """The passes with only these passes and rules, and without those. Raises UsageError for a name that is neither."""
    known = {step.name for step in steps} | {item.name for step in steps if isinstance(step, RulePass) for item in step.chosen()}
    for name in (*only, *without):
        if name not in known and name not in pass_classes():
            raise UsageError(f"there is no pass or rule '{name}' in this pipeline; 'graphwright passes' lists them")
    kept = [_keep_only(step, only) for step in steps] if only else list(steps)
    return tuple(left for step in kept if step is not None and (left := _leave_out(step, without)) is not None)


def describe_level(level: Level) -> str:
    """A level as the report names it."""
    return str(level) if isinstance(level, int) else "custom"


def _as_pass(step: Step) -> Pass:
    if isinstance(step, Pass):
        return step
    if callable(step):
        return SurgeonPass(Operation(step))
    raise UsageError(f"{step!r} is no pass: give a Pass, or a function that takes a gs.Graph")


def _keep_only(step: Pass, only: Sequence[str]) -> Pass | None:
    if step.name in only:
        return step
    if not isinstance(step, RulePass):
        return None
    chosen = tuple(item.name for item in step.chosen() if item.name in only)
    return dataclasses.replace(step, only=chosen) if chosen else None


def _leave_out(step: Pass, without: Sequence[str]) -> Pass | None:
    if step.name in without:
        return None
    if not isinstance(step, RulePass):
        return step
    chosen = [item.name for item in step.chosen()]
    removed = tuple(name for name in chosen if name in without)
    if not removed:
        return step
    if len(removed) == len(chosen):
        return None
    return dataclasses.replace(step, without=(*step.without, *removed))


def recipe(steps: Sequence[Pass]) -> str:
    """The passes as text, one line; `parse_pipeline` reads it back unless a user's own passes are among them."""
    return ",".join(format_pass(step) for step in steps)
