"""How two models differ: in what they compute, and in what they consist of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from .census import census
from .core.backend import Backend, Progress, Sample
from .core.drift import Drift
from .core.graph import all_graphs
from .core.records import Difference
from .samples import generate
from .verify import Verifier

__all__ = ["ModelDifference", "compare_models"]


@dataclass(frozen=True)
class ModelDifference:
    """``numbers`` is the worst element over ``samples`` inputs (None when the signatures differ and nothing could be run).

    ``operators`` are those whose counts differ (before, after); ``weights`` are initialisers that only one has, or with other content.
    """

    signature: tuple[str, ...]
    operators: Mapping[str, tuple[int, int]]
    weights: Mapping[str, str]
    numbers: Difference | None = None
    samples: int = 0
    opsets: tuple[int, int] = (0, 0)
    notes: tuple[str, ...] = field(default=())

    @property
    def same_numbers(self) -> bool:
        """Whether both compute the same within the contract that was asked for."""
        return self.numbers is not None and not self.numbers.broken

    @property
    def same_structure(self) -> bool:
        """Whether both consist of the same."""
        return not (self.signature or self.operators or self.weights or self.opsets[0] != self.opsets[1])


def compare_models(one: ir.Model, other: ir.Model, given: Sequence[Sample], backend: Backend, *, exact: bool, seed: int, progress: Progress) -> ModelDifference:
    """Compare a model with another on the samples given, or on ones made for the first; ``exact`` asks for the same bits."""
    signature = tuple(_signature(one, other))
    before, after = census(one), census(other)
    numbers, count = None, 0
    if not signature:
        runner = backend.reference(one)
        try:
            progress("making inputs")
            samples = generate(one, given, seed, runner.run)
        finally:
            runner.close()
        count = len(samples)
        progress("running both")
        numbers = Verifier(one, samples, backend, progress).check(other, Drift.EXACT if exact else Drift.ROUNDING)
    names = sorted({*before.operators, *after.operators})
    counts = {name: (before.operators.get(name, 0), after.operators.get(name, 0)) for name in names}
    changed = {name: pair for name, pair in counts.items() if pair[0] != pair[1]}
    return ModelDifference(signature, changed, _weights(one, other), numbers, count, (before.opset, after.opset))


def _signature(one: ir.Model, other: ir.Model) -> list[str]:
    """What a caller would notice: names and dtypes of inputs and outputs."""
    found: list[str] = []
    for kind, before, after in (("input", one.graph.inputs, other.graph.inputs), ("output", one.graph.outputs, other.graph.outputs)):
        old, new = ({value.name: value for value in values} for values in (before, after))
        found += [f"the {kind} '{name}' is only in the first" for name in old if name not in new]
        found += [f"the {kind} '{name}' is only in the second" for name in new if name not in old]
        found += [
            f"the {kind} '{name}' is {old[name].dtype} in the first and {new[name].dtype} in the second"
            for name in old
            if name in new and old[name].dtype != new[name].dtype
        ]
    return found


def _weights(one: ir.Model, other: ir.Model) -> dict[str, str]:
    before, after = _initializers(one), _initializers(other)
    found = {name: "only in the first" for name in before if name not in after}
    found |= {name: "only in the second" for name in after if name not in before}
    for name in before:
        if name in after and (reason := _weight_change(before[name], after[name])):
            found[name] = reason
    return found


def _initializers(model: ir.Model) -> dict[str, ir.TensorProtocol]:
    return {name: value.const_value for graph in all_graphs(model) for name, value in graph.initializers.items() if value.const_value is not None}


def _weight_change(one: ir.TensorProtocol, other: ir.TensorProtocol) -> str:
    if one.dtype != other.dtype:
        return f"{one.dtype} became {other.dtype}"
    if list(one.shape) != list(other.shape):
        return f"{list(one.shape)} became {list(other.shape)}"
    if one is other or one.numpy().tobytes() == other.numpy().tobytes():
        return ""
    return "other numbers"
