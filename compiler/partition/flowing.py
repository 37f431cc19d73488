"""What really flows through a model: the values at the borders of its parts, on some samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import onnx_ir as ir

from ..core.backend import Runner, Sample
from ..region import expose

__all__ = ["Flow"]


class Flow:
    """Values of the main graph by name, computed when they are first asked for; the first sample is the one that is timed."""

    def __init__(self, model: ir.Model, samples: Sequence[Sample], reference: Callable[[ir.Model], Runner]) -> None:
        self._model = model
        self._samples = tuple(samples)
        self.reference = reference
        self._known: list[Sample] = [dict(sample) for sample in samples]

    def values(self, names: Iterable[str]) -> Sample:
        """These values on the first sample. Raises what the runtime raises when the model does not run."""
        return self.each(names)[0]

    def each(self, names: Iterable[str]) -> list[Sample]:
        """These values on every sample. Raises what the runtime raises when the model does not run."""
        wanted = list(dict.fromkeys(names))
        missing = [name for name in wanted if name not in self._known[0]]
        if missing:
            runner = self.reference(expose(self._model, missing))
            try:
                for sample, known in zip(self._samples, self._known, strict=True):
                    known.update(zip(missing, runner.run(sample).values(), strict=True))
            finally:
                runner.close()
        return [{name: known[name] for name in wanted} for known in self._known]
