"""A model without members of its groups: how large it is, and how long it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx_ir as ir

from ...compiler.core.cost import ModelSize, model_size
from ...compiler.core.errors import UsageError
from ...compiler.core.graph import clone_model
from ...compiler.core.judge import Judge, Span
from ...compiler.core.passes import Context
from .choosing import Choice, Counts
from .coupling.groups import Group, couple
from .coupling.shrinking import shrink
from .sketch import Sketch

__all__ = ["Candidates", "members_of"]


@dataclass(frozen=True)
class Candidates:
    """What can become of ``model``, which stays as it is, when members of ``groups`` go."""

    model: ir.Model
    groups: Sequence[Group]
    context: Context

    @property
    def judge(self) -> Judge | None:
        """Who times models; None: nobody."""
        return self.context.judge

    @cached_property
    def whole(self) -> ModelSize:
        """The size of the model."""
        return model_size(self.model)

    @cached_property
    def _sketch(self) -> Sketch:
        return Sketch(self.model, self.groups)

    def note(self, text: str) -> None:
        """A sentence for the report."""
        self.context.notes.append(text)

    def without(self, choice: Choice) -> ir.Model:
        """A copy without these members."""
        twin = clone_model(self.model)
        other = couple(twin)
        shrink(twin, other.follower, members_of([other.by_name[group.name] for group in self.groups], choice))
        return twin

    def part(self, choice: Choice, of: str) -> float:
        """What is left of the "flops" or "parameters"."""
        return float(getattr(self._sketch.size(choice), of) / max(getattr(self.whole, of), 1))

    def time(self, counts: Counts) -> Span | None:
        """The time without the first so many members of each group, as a part of the model's own: which ones they are makes no difference to it."""
        return self.compare(self.model, self.without({group.name: np.arange(count) for group, count in zip(self.groups, counts, strict=True)}))

    def part_of_time(self, counts: Counts) -> float:
        """As `time`, its middle. Raises UsageError when the model cannot be timed."""
        span = self.time(counts)
        if span is None:
            raise UsageError("the latency of this model cannot be measured here: give example inputs that it takes (--inputs)")
        return span.ratio

    def compare(self, before: ir.Model, after: ir.Model) -> Span | None:
        """The time of one model as a part of another's."""
        return None if self.judge is None else self.judge.ratio(before, after)


def members_of(groups: Sequence[Group], choice: Choice) -> list[int]:
    """The classes of the members that are chosen."""
    return [int(member) for group in groups for member in group.members[choice[group.name]]]
