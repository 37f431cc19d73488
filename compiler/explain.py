"""Why rules did or did not fire."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from .core.errors import UsageError
from .core.graph import clone_model, opset
from .core.passes import Pass, pass_classes
from .core.reasons import NearMiss, Reasons
from .core.rule import Rule
from .core.rulepass import RulePass
from .core.target import Target
from .importer import import_model
from .manager import Manager
from .request import Request
from .targets import find_target

__all__ = ["Explained", "explain", "explain_all"]

UNDRAWN = 1.0
"""The promise of a rule without a pattern that said why not: it does so only where it found what is its business."""


@dataclass(frozen=True)
class Explained:
    """What became of a rule in a model: how often it fired, the places where it nearly did, the nearest first, and why it was never tried.

    ``promise`` tells how much was there at the nearest place: the nodes beyond the first one, times their part of the rule's pattern.
    """

    rule: str
    fired: int
    misses: tuple[NearMiss, ...]
    promise: float = 0.0
    barred: str | None = None


def explain(model: object, rule: str, request: Request) -> Explained:
    """Run the pipeline (nothing is run or timed) and note why ``rule`` did not fire where it matched in part.

    Raises UsageError when there is no such rule, or the pipeline does not have it.
    """
    target = find_target(request.target)
    steps = request.steps(target)
    if rule not in _rules_of(steps) and rule not in {step.name for step in steps}:
        raise UsageError(_unknown(rule))
    return _explained(model, [rule], Reasons(only=rule), target, steps, request)[0]


def explain_all(model: object, request: Request) -> tuple[Explained, ...]:
    """The same for every rule of the pipeline that fired, or matched somewhere in part; the most promising first."""
    target = find_target(request.target)
    steps = request.steps(target)
    found = _explained(model, list(_rules_of(steps)), Reasons(), target, steps, request)
    told = [item for item in found if item.fired or item.misses]
    return tuple(sorted(told, key=lambda item: (-item.promise, -len(item.misses), item.rule)))


def _explained(model: object, names: Sequence[str], reasons: Reasons, target: Target, steps: Sequence[Pass], request: Request) -> list[Explained]:
    rewritten = clone_model(import_model(model).model)
    records = Manager(target, None, None, request.progress, fast_math=request.fast_math, reasons=reasons).run(rewritten, steps)
    rules = _rules_of(steps)
    by_rule: dict[str, list[NearMiss]] = {}
    for miss in reasons.misses:
        by_rule.setdefault(miss.rule, []).append(miss)
    found = []
    for name in names:
        item = rules.get(name)
        misses = _nearest(by_rule.get(name, ()))
        promise = max((_promise(item, miss) for miss in misses), default=0.0)
        fired = sum(record.rules.get(name, 0) for record in records)
        barred = _bar(item, steps, target, rewritten) if item is not None and not (fired or misses) else None
        found.append(Explained(name, fired, misses, promise, barred))
    return found


def _rules_of(steps: Iterable[Pass]) -> Mapping[str, Rule]:
    return {item.name: item for step in steps if isinstance(step, RulePass) for item in step.chosen()}


def _nearest(misses: Iterable[NearMiss]) -> tuple[NearMiss, ...]:
    """Each place once, with the reason that came furthest; passes run more than once, and the last word counts."""
    found: dict[str, NearMiss] = {}
    for miss in misses:
        if miss.where not in found or miss.depth >= found[miss.where].depth:
            found[miss.where] = miss
    return tuple(sorted(found.values(), key=lambda miss: -miss.depth))


def _promise(item: Rule | None, miss: NearMiss) -> float:
    if item is None or not item.patterns:
        return max(UNDRAWN, miss.depth - 1.0)
    return (miss.depth - 1) * min(1.0, miss.depth / min(pattern.size for pattern in item.patterns))


def _bar(item: Rule, steps: Sequence[Pass], target: Target, model: ir.Model) -> str | None:
    """Why the rule was not tried anywhere."""
    lacking = [kernel for kernel in item.kernels if not target.has(*_split(kernel))]
    if lacking:
        return f"the target {target.name} has no {', '.join(lacking)}"
    if item.opset > opset(model):
        return f"it needs opset {item.opset}, and the model has {opset(model)}"
    asked = any(isinstance(step, RulePass) and (step.doubtful or item.name in step.only) for step in steps)
    if target.device in item.doubtful and not asked:
        return f"its kernel was measured to be slower on {target.device}; --only {item.name} tries it"
    kinds = {item_type for _, item_type in item.anchors}
    return f"the model has no {' or '.join(sorted(kinds))} where it could start"


def _split(kernel: str) -> tuple[str, str]:
    domain, _, op_type = kernel.rpartition("::")
    return domain, op_type


def _unknown(rule: str) -> str:
    everywhere = {item.name for step in pass_classes().values() if issubclass(step, RulePass) for item in step().chosen()}
    if rule in everywhere:
        return f"the rule '{rule}' is not part of this pipeline; try a higher --level or another --target"
    near = difflib.get_close_matches(rule, sorted(everywhere), n=3)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return f"there is no rule '{rule}'; 'graphwright passes' lists them.{hint}"
