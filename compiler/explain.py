"""Why a rule did or did not fire."""

from __future__ import annotations

from dataclasses import dataclass

from .core.errors import UsageError
from .core.graph import clone_model
from .core.passes import pass_classes
from .core.reasons import NearMiss, Reasons
from .core.rulepass import RulePass
from .importer import import_model
from .manager import Manager
from .request import Request
from .targets import find_target

__all__ = ["Explained", "explain"]


@dataclass(frozen=True)
class Explained:
    """What became of a rule in a model: how often it fired, and the places where it nearly did, the nearest first."""

    rule: str
    fired: int
    misses: tuple[NearMiss, ...]


def explain(model: object, rule: str, request: Request) -> Explained:
    """Run the pipeline (nothing is run or timed) and note why ``rule`` did not fire where it matched in part.

    Raises UsageError when there is no such rule, or the pipeline does not have it.
    """
    target = find_target(request.target)
    steps = request.steps(target)
    chosen = {item.name for step in steps if isinstance(step, RulePass) for item in step.chosen()}
    if rule not in chosen:
        raise UsageError(_unknown(rule, chosen))
    reasons = Reasons(only=rule)
    records = Manager(target, None, None, request.progress, fast_math=request.fast_math, reasons=reasons).run(clone_model(import_model(model).model), steps)
    return Explained(rule, sum(record.rules.get(rule, 0) for record in records), _nearest(reasons.misses))


def _nearest(misses: list[NearMiss]) -> tuple[NearMiss, ...]:
    """Each place once, with the reason that came furthest; passes run more than once, and the last word counts."""
    found: dict[str, NearMiss] = {}
    for miss in misses:
        if miss.where not in found or miss.depth >= found[miss.where].depth:
            found[miss.where] = miss
    return tuple(sorted(found.values(), key=lambda miss: -miss.depth))


def _unknown(rule: str, chosen: set[str]) -> str:
    everywhere = {item.name for step in pass_classes().values() if issubclass(step, RulePass) for item in step().chosen()}
    if rule in everywhere:
        return f"the rule '{rule}' is not part of this pipeline; try a higher --level or another --target"
    return f"there is no rule '{rule}'; 'graphwright passes' lists them"
