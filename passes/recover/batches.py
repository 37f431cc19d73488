"""Calibration samples as batches: those of one shape go through the model together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from ...compiler.core.errors import InputError
from .spool import Spool, Ticket

__all__ = ["Batch", "Kind", "Samples", "batchable", "rows"]

Arrays = dict[str, np.ndarray]
Kind = tuple[tuple[str, tuple[int, ...]], ...]
"""The shape of each input."""
LEAST = 2
"""Samples there must be: one to learn from and one to judge by."""


@dataclass(frozen=True)
class Batch:
    """Samples of one shape by their places, and the feeds that hold them all."""

    places: tuple[int, ...]
    feeds: Arrays


@dataclass
class Samples:
    """All samples, put aside: ``kinds`` has for each its shapes. ``together`` says whether several may be fed as one, along their first dimension."""

    spool: Spool
    together: bool
    tickets: list[Ticket] = field(default_factory=list)
    kinds: list[Kind] = field(default_factory=list)

    @classmethod
    def of(cls, found: Iterable[Arrays], spool: Spool, together: bool) -> Samples:
        """Put samples aside as long as there is room. Raises InputError when there are fewer than two."""
        samples = cls(spool, together)
        for sample in found:
            ticket = spool.put(sample)
            if ticket is None:
                break
            samples.tickets.append(ticket)
            samples.kinds.append(tuple((name, array.shape) for name, array in sample.items()))
        if len(samples.tickets) < LEAST:
            count = len(samples.tickets)
            raise InputError(f"recovery learns from some samples and is judged on others: {count} calibration sample is too few, give at least 2")
        return samples

    def batch(self, places: Sequence[int]) -> Batch:
        """These samples, which are of one kind, as one."""
        records = [self.spool.get(self.tickets[place]) for place in places]
        feeds = records[0] if len(records) == 1 else {name: np.concatenate([record[name] for record in records]) for name in records[0]}
        return Batch(tuple(places), feeds)

    def epoch(self, places: Sequence[int], size: int, random: np.random.Generator) -> Iterator[list[Batch]]:
        """Every sample once, in random order: steps of about ``size`` rows, each as batches of one kind. Rows count along the first dimension."""
        order = random.permutation(np.asarray(places))
        kinds: dict[Kind, list[int]] = {}
        for place in order:
            kinds.setdefault(self.kinds[place], []).append(int(place))
        parts = [part for kind, members in kinds.items() for part in chunks(members, max(1, size // rows(kind)) if self.together else 1)]
        step: list[Batch] = []
        held = 0
        for number in random.permutation(len(parts)):
            step.append(self.batch(parts[number]))
            held += len(parts[number]) * rows(self.kinds[parts[number][0]])
            if held >= size:
                yield step
                step, held = [], 0
        if step:
            yield step


def rows(kind: Kind) -> int:
    """How many rows a sample of a kind has: the first dimension of its first input that has any."""
    return next((max(1, shape[0]) for _, shape in kind if shape), 1)


def chunks(members: Sequence[int], size: int) -> list[list[int]]:
    """Runs of at most ``size``."""
    return [list(members[start : start + size]) for start in range(0, len(members), size)]


def batchable(model: ir.Model) -> bool:
    """Whether the first dimension of every input is the same unknown size, and that of no output a fixed one: the graph's word for a batch.

    Whether samples are really computed apart, only running them tells.
    """
    inputs = [_first(value) for value in model.graph.inputs if not value.is_initializer()]
    named = {str(size) for size in inputs if isinstance(size, ir.SymbolicDim) and size.value is not None}
    free = all(isinstance(size, ir.SymbolicDim) for size in inputs) and len(named) == (1 if len(inputs) > 1 else len(named))
    return free and not any(isinstance(_first(value), int) for value in model.graph.outputs)


def _first(value: ir.Value) -> object:
    return value.shape[0] if value.shape is not None and len(value.shape) else None
