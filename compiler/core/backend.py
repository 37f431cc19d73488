"""The seam between the compiler and what runs a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx_ir as ir

from .target import Target

Array = np.ndarray | list | None
Sample = dict[str, Array]
"""Graph-input name -> array; a list for a sequence, None for an empty optional."""
Progress = Callable[[str], None]
"""Told, in a few words, what long work is at now."""


@dataclass(frozen=True)
class Port:
    """An input or output: ``dtype`` as ONNX Runtime prints it ("tensor(float)"), unknown dims as names or None."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None


class Runner(Protocol):
    """Something that runs one model."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name. Raises InputError when the feeds do not fit."""
        ...

    def close(self) -> None:
        """Free memory and threads."""
        ...


@dataclass(frozen=True)
class Rival:
    """A runtime that a model was tried on: seconds for one pass over the samples, and their ratio to the usual runtime's with its 95 % interval.

    ``failure`` says why it was not timed.
    """

    name: str
    seconds: float = 0.0
    ratio: float = 1.0
    low: float = 1.0
    high: float = 1.0
    chosen: bool = False
    failure: str = ""


@dataclass
class Built:
    """A model made ready by a backend: its runner, and the options that were chosen for it by measuring.

    ``samples`` are what its package is checked with; ``notes`` say, a sentence each, what packaging left out and why. ``rivals`` are the runtimes it was
    tried on where there was a choice, the usual one first, and ``remarks`` what there is to say about that.
    """

    model: ir.Model
    runner: Runner
    options: dict[str, object] = field(default_factory=dict)
    trials: tuple[dict[str, object], ...] = ()
    samples: tuple[Sample, ...] = ()
    notes: tuple[str, ...] = ()
    rivals: tuple[Rival, ...] = ()
    remarks: tuple[str, ...] = ()


class Backend(Protocol):
    """One way of running models."""

    name: str

    def targets(self) -> tuple[Target, ...]:
        """The targets this backend serves."""
        ...

    def reference(self, model: ir.Model) -> Runner:
        """A runner with every runtime optimisation off: what the model means."""
        ...

    def baseline(self, model: ir.Model) -> Runner:
        """A runner as the user would have it today, with the runtime's default options."""
        ...

    def build(self, model: ir.Model, samples: Sequence[Sample], progress: Progress) -> Built:
        """Make the model ready, choosing options by measuring them on the samples."""
        ...

    def package(self, built: Built, folder: Path) -> tuple[Path, ...]:
        """Write what a device needs into ``folder``; returns the files."""
        ...

    def load(self, folder: Path, options: Mapping[str, object]) -> Runner:
        """Run what `package` wrote."""
        ...
