"""What a pass has to leave alone because it went wrong there."""

from __future__ import annotations

from dataclasses import dataclass

from .core.ledger import Ledger

__all__ = ["Denials"]


@dataclass
class _Denying(Ledger):
    """A ledger that can refuse a rule everywhere."""

    rules: frozenset[str] = frozenset()

    def permit(self, rule: str, where: str) -> bool:
        """As `Ledger.permit`."""
        return rule not in self.rules and super().permit(rule, where)


@dataclass(frozen=True)
class Denials:
    """Single rewrites, as (rule, where), and whole rules. ``judged`` if what a judge refused is among them."""

    rewrites: frozenset[tuple[str, str]] = frozenset()
    rules: frozenset[str] = frozenset()
    judged: bool = False

    def ledger(self, limit: int | None = None) -> Ledger:
        """A fresh ledger that permits ``limit`` rewrites (None: any number), and none of these."""
        return _Denying(limit, self.rewrites, rules=self.rules)
