"""A pass made of the rules of one folder."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from .engine import apply_rules
from .errors import UsageError
from .modules import modules_below
from .passes import Context, Pass
from .rule import Rule, rules_in
from .shapes import settle_shapes


@dataclass(frozen=True)
class RulePass(Pass):
    """Applies every rule found in the modules below ``folder`` until none fires.

    ``only`` restricts it to the named rules, ``without`` leaves some out; ``doubtful`` lets those fire as well whose kernel was measured to be
    slower on the target's device; where there is a judge to ask, those that are measured may fire anyway. Raises UsageError for a rule that is
    not there.
    """

    folder: ClassVar[str]

    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    doubtful: bool = False

    def run(self, model: ir.Model, context: Context) -> int:
        """Apply the rules; returns how many rewrites were made."""
        device = context.target.device
        judged = context.judge is not None
        trusted = [
            item
            for item in self.chosen(context.without)
            if self.doubtful or item.name in self.only or device not in item.doubtful or (judged and item.measured)
        ]
        settle_shapes(model)
        return self.apply(model, trusted, context)

    def apply(self, model: ir.Model, rules: Sequence[Rule], context: Context) -> int:
        """Apply these rules until none fires; a pass may choose its own order."""
        return apply_rules(model, rules, context)

    def chosen(self, without: frozenset[str] = frozenset()) -> Sequence[Rule]:
        """The rules this pass applies, in a fixed order."""
        found = rules_below(self.folder)
        names = {item.name for item in found}
        for name in (*self.only, *self.without):
            if name not in names:
                raise UsageError(f"the pass '{self.name}' has no rule '{name}'; it has: {', '.join(sorted(names))}")
        left_out = {*self.without, *without}
        return [item for item in found if (not self.only or item.name in self.only) and item.name not in left_out]


@functools.cache
def rules_below(folder: str) -> tuple[Rule, ...]:
    """Every rule in the modules below a folder of this package, by module name, then in the order they stand there."""
    found: dict[str, Rule] = {}
    for module in modules_below(folder):
        for item in rules_in(module):
            if item.build.__module__ == module.__name__:
                found[item.name] = item
    return tuple(found.values())
