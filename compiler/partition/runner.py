"""Several runners as one: parts that hand values on, and a fast one that serves only the inputs it was made for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.backend import Array, Port, Runner

__all__ = ["GuardedRunner", "PartsRunner", "Step", "Wanted", "steps_of"]


@dataclass(frozen=True)
class Step:
    """One part: what runs it, the values it is fed, and the values that nothing needs after it."""

    runner: Runner
    needs: tuple[str, ...]
    spent: tuple[str, ...] = ()


def steps_of(runners: Sequence[Runner], needs: Sequence[Sequence[str]], kept: Sequence[str]) -> tuple[Step, ...]:
    """Parts in turn; a value that is not ``kept`` is let go after the last part that reads it."""
    last = {name: place for place, names in enumerate(needs) for name in names}
    return tuple(
        Step(runner, tuple(names), tuple(name for name in names if last[name] == place and name not in kept))
        for place, (runner, names) in enumerate(zip(runners, needs, strict=True))
    )


class PartsRunner:
    """Runs parts one after the other. Values are handed on as arrays, which neither ONNX Runtime nor TVM copies."""

    def __init__(self, inputs: Sequence[Port], outputs: Sequence[Port], steps: Sequence[Step]) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self._names = [port.name for port in self.outputs]
        self._steps = tuple(steps)
        self._calls = [(step.runner.run, step.needs, step.spent) for step in self._steps]

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name. Raises InputError when the feeds do not fit a part."""
        values = dict(feeds)
        for run, needs, spent in self._calls:
            made = run({name: values[name] for name in needs})
            for name in spent:
                del values[name]
            values.update(made)
        return {name: values[name] for name in self._names}

    def close(self) -> None:
        """Free the memory and threads of every part."""
        self._calls = []
        for step in self._steps:
            step.runner.close()


@dataclass(frozen=True)
class Wanted:
    """The arrays of one input that a fast runner was made for: of one number only, where there is a ``value``."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    value: bool | int | None = None


class GuardedRunner:
    """Runs a model with ``fast`` where the feeds are the arrays it was made for, and with the whole model otherwise.

    ``open_whole`` opens the runner of the whole model; it is called when first needed.
    """

    def __init__(self, fast: Runner, open_whole: Callable[[], Runner], wanted: Sequence[Wanted]) -> None:
        self.inputs = fast.inputs
        self.outputs = fast.outputs
        self._fast = fast
        self._open_whole = open_whole
        self._whole: Runner | None = None
        self._wanted = tuple((one.name, one.dtype, one.shape) for one in wanted)
        self._values = tuple((one.name, one.value) for one in wanted if one.value is not None)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name. Raises InputError when the feeds do not fit the model."""
        if self._fits(feeds):
            return self._fast.run(feeds)
        if self._whole is None:
            self._whole = self._open_whole()
        return self._whole.run(feeds)

    def close(self) -> None:
        """Free memory and threads."""
        self._fast.close()
        if self._whole is not None:
            self._whole.close()
            self._whole = None

    def _fits(self, feeds: Mapping[str, Array]) -> bool:
        if len(feeds) != len(self._wanted):
            return False
        for name, dtype, shape in self._wanted:
            value = feeds.get(name)
            if type(value) is not np.ndarray or value.dtype != dtype or value.shape != shape:
                return False
        return all(feeds[name].item() == value for name, value in self._values)  # type: ignore[union-attr]
