"""What really flows through a model: the values at the borders of its parts, on one sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import onnx_ir as ir

from ..core.backend import Array, Runner, Sample
from ..region import expose

__all__ = ["Flow"]


class Flow:
    """Values of the main graph by name, computed when they are first asked for."""

    def __init__(self, model: ir.Model, sample: Sample, reference: Callable[[ir.Model], Runner]) -> None:
        self._model = model
        self._sample = sample
        self._reference = reference
        self._known: dict[str, Array] = dict(sample)

    def values(self, names: Iterable[str]) -> Sample:
        """These values. Raises what the runtime raises when the model does not run."""
        wanted = list(dict.fromkeys(names))
        missing = [name for name in wanted if name not in self._known]
        if missing:
            runner = self._reference(expose(self._model, missing))
            try:
                found = runner.run(self._sample)
            finally:
                runner.close()
            self._known.update(zip(missing, found.values(), strict=True))
        return {name: self._known[name] for name in wanted}
