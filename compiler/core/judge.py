"""Who decides by measuring where several kernels would do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import onnx_ir as ir

from .reasons import Skip


class Span(NamedTuple):
    """The middle of a measured ratio and its 95 % interval."""

    ratio: float
    low: float
    high: float


class Judge(Protocol):
    """Times a piece of a model against its replacement on this machine."""

    def refusal(self, rule: str, before: ir.Model, after: ir.Model, doubtful: bool) -> Skip | None:
        """Why the replacement is not worth it; None when it is. One that is ``doubtful`` has to be faster, any other must only not be slower.

        Both pieces have the same inputs and outputs, and are called by the first value that would be replaced.
        """

    def slower(self, rule: str, before: ir.Model, after: ir.Model) -> Skip | None:
        """As `refusal` of a doubtful replacement, but for one whose numbers are others on purpose."""

    def ratio(self, before: ir.Model, after: ir.Model) -> Span | None:
        """How long ``after`` takes, as a part of the time of ``before``: two models with the inputs of the one that is compiled, on the user's inputs.

        None when they cannot be timed.
        """


@dataclass
class Minutes:
    """A judge that asks another, and remembers where it refused: (rule, the piece's name)."""

    judge: Judge
    refused: set[tuple[str, str]] = field(default_factory=set)

    def refusal(self, rule: str, before: ir.Model, after: ir.Model, doubtful: bool) -> Skip | None:
        """As `Judge.refusal`."""
        found = self.judge.refusal(rule, before, after, doubtful)
        if found is not None:
            self.refused.add((rule, before.graph.name or ""))
        return found

    def slower(self, rule: str, before: ir.Model, after: ir.Model) -> Skip | None:
        """As `Judge.slower`. It is not remembered: a pass asks which of several ways is fastest, and one of them may be taken all the same."""
        return self.judge.slower(rule, before, after)

    def ratio(self, before: ir.Model, after: ir.Model) -> Span | None:
        """As `Judge.ratio`; nor is this remembered."""
        return self.judge.ratio(before, after)


class Willing:
    """A judge that refuses nothing."""

    def refusal(self, rule: str, before: ir.Model, after: ir.Model, doubtful: bool) -> Skip | None:
        """As `Judge.refusal`."""
        return None

    def slower(self, rule: str, before: ir.Model, after: ir.Model) -> Skip | None:
        """As `Judge.slower`."""
        return None

    def ratio(self, before: ir.Model, after: ir.Model) -> Span | None:
        """As `Judge.ratio`: nothing was timed."""
        return None
