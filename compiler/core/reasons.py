"""Why rules did not fire."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Skip:
    """A rule's answer when it matches but must not fire; the text is only built when somebody reads it."""

    template: str
    values: tuple[object, ...] = ()

    def __str__(self) -> str:
        return self.template % self.values if self.values else self.template


def skip(template: str, *values: object) -> Skip:
    """``skip("the scale has shape %s, not one value per channel", shape)``."""
    return Skip(template, values)


@dataclass(frozen=True)
class NearMiss:
    """A place where a rule almost fired: ``depth`` pattern nodes matched before ``reason`` stopped it."""

    rule: str
    where: str
    depth: int
    reason: str


@dataclass
class Reasons:
    """Collects near misses for `graphwright explain`. ``only`` restricts it to one rule."""

    only: str | None = None
    misses: list[NearMiss] = field(default_factory=list)

    def wants(self, rule: str) -> bool:
        """Whether anybody asked about this rule."""
        return self.only is None or self.only == rule

    def note(self, rule: str, where: str, depth: int, reason: object) -> None:
        """Write down one near miss."""
        self.misses.append(NearMiss(rule, where, depth, str(reason)))
