"""What the compressed model is held to: the original's answers and inner values, as one number for each batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from ..differentiable.answers import score_outputs
from ..differentiable.graph import TorchGraph
from .batches import Batch
from .losses.attention import attention_map, map_loss, relation_loss
from .losses.hidden import hidden_loss
from .losses.outputs import cosine, divergence, relative_error, reverse_divergence, similarity
from .matching import Attends, attentions, evenly, trunk
from .spool import Spool, Ticket

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

__all__ = ["Aims", "Teacher"]

MOST_HIDDEN = 8
MATRIX = 2
UNIT = 1e-3


@dataclass(frozen=True)
class Aims:
    """What is matched, and how: outputs by name with the kind of what they hold ("logits", "probabilities", "numbers"), trunk values, places of attention."""

    outputs: Mapping[str, str]
    hidden: Sequence[str]
    maps: Sequence[tuple[Attends, Attends]]
    relations: tuple[Attends, Attends] | None
    how: str = "auto"
    hidden_how: str = "mse"
    temperature: float = 2.0

    @classmethod
    def of(cls, model: ir.Model, original: ir.Model, how: str, hidden: str, attention: bool, relations: bool, temperature: float) -> Aims:
        """What two models have in common by name: the first learns, the second teaches."""
        scored = score_outputs(original)
        ours, theirs = trunk(model), set(trunk(original))
        shared = [] if hidden == "none" else [name for name in ours if name in theirs and name not in scored]
        places = {place.name: place for place in attentions(original)}
        pairs = [(place, places[place.name]) for place in attentions(model) if place.name in places]
        return cls(scored, evenly(shared, MOST_HIDDEN), pairs if attention else (), pairs[-1] if relations and pairs else None, how, hidden, temperature)

    @property
    def seen(self) -> tuple[list[str], list[str]]:
        """The values that are looked at, of the one that learns and of the one that teaches, outputs apart."""
        pairs = [*self.maps, *([self.relations] if self.relations is not None else [])]
        ours, theirs = ([name for pair in pairs for name in pair[side].reads] for side in (0, 1))
        return list(dict.fromkeys([*self.hidden, *ours])), list(dict.fromkeys([*self.hidden, *theirs]))

    def answer_loss(self, student: Tensors, teacher: Tensors) -> torch.Tensor:
        """How far the outputs are from each other, the mean over the outputs."""
        losses = [self._output(student[name], teacher[name], kind) for name, kind in self.outputs.items()]
        return sum(losses[1:], losses[0]) / len(losses)

    def inner_loss(self, student: Tensors, teacher: Tensors) -> torch.Tensor | float:
        """How far inner values are from each other: the means over hidden states, over maps, and the relations, added."""
        hidden = [hidden_loss(student[name], teacher[name], self.hidden_how) for name in self.hidden]
        maps = [map_loss(attention_map(ours, student), attention_map(theirs, teacher)) for ours, theirs in self.maps]
        related = [] if self.relations is None else [relation_loss(*self.relations, student, teacher)]
        return sum((_mean(losses) for losses in (hidden, maps, related)), 0.0)

    def _output(self, ours: torch.Tensor, theirs: torch.Tensor, kind: str) -> torch.Tensor:
        ours, theirs = ours.float(), theirs.float()
        probable = kind == "probabilities"
        if self.how == "mse":
            return relative_error(ours, theirs)
        if self.how == "cosine":
            return cosine(ours, theirs)
        if kind == "numbers":
            return relative_error(ours, theirs) + (similarity(ours, theirs) if ours.ndim == MATRIX and len(ours) > MATRIX else 0.0)
        if self.how == "reverse-kl":
            return reverse_divergence(ours, theirs, self.temperature, probable)
        found = divergence(ours, theirs, self.temperature, probable)
        return found if self.how == "kl" or probable else found + relative_error(ours, theirs)


@dataclass
class Teacher:
    """The original in torch: what it makes of each sample is computed once, where there is room to keep it."""

    graph: TorchGraph
    names: Sequence[str]
    spool: Spool
    tickets: dict[int, Ticket] = field(default_factory=dict)

    def answers(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The values of a batch by name."""
        import torch

        known = [self.tickets.get(place) for place in batch.places]
        if all(ticket is not None for ticket in known):
            parts = [self.spool.get(ticket) for ticket in known if ticket is not None]
            found = {name: np.concatenate([part[name] for part in parts]) if len(parts) > 1 else parts[0][name] for name in parts[0]}
            return {name: torch.from_numpy(array).to(self.graph.device) for name, array in found.items()}
        return self._compute(batch)

    def _compute(self, batch: Batch) -> dict[str, torch.Tensor]:
        import torch

        with torch.no_grad():
            found = run(self.graph, batch, self.names)
        for number, place in enumerate(batch.places):
            if place not in self.tickets:
                ticket = self.spool.put({name: part(tensor, number, len(batch.places)).cpu().numpy() for name, tensor in found.items()})
                if ticket is not None:
                    self.tickets[place] = ticket
        return found


def run(graph: TorchGraph, batch: Batch, names: Sequence[str], constants: Tensors | None = None) -> dict[str, torch.Tensor]:
    """The outputs of a batch, and the inner values of these names."""
    import torch

    seen: dict[str, torch.Tensor] = {}

    def tap(name: str):  # type: ignore[no-untyped-def]
        def look(tensor: torch.Tensor) -> torch.Tensor:
            seen[name] = tensor
            return tensor

        return look

    feeds = {name: torch.from_numpy(array).to(graph.device) for name, array in batch.feeds.items()}
    found = graph.run(feeds, constants, {name: tap(name) for name in names})
    return {**found, **seen}


def part(tensor: torch.Tensor, number: int, count: int) -> torch.Tensor:
    """What of a value belongs to one of ``count`` samples of one shape that were computed together."""
    size = len(tensor) // count if tensor.ndim else 0
    return tensor if count == 1 else tensor[number * size : (number + 1) * size]


def _mean(losses: Sequence[torch.Tensor | None]) -> torch.Tensor | float:
    given = [loss for loss in losses if loss is not None]
    return sum(given[1:], given[0]) / len(given) if given else 0.0
