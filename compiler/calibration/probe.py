"""A model cut down to some of its values: a runner that makes just those, sample by sample."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import onnx_ir as ir

from ..core.backend import Array, Runner, Sample
from ..core.errors import ModelError
from ..core.graph import all_graphs, clone_model, constant, sweep
from ..core.shapes import infer_shapes
from .data import sample_bytes
from .packing import packed

__all__ = ["Open", "Probes", "Visit", "cut_model", "main_values", "measured_bytes", "typed", "unseen"]

Open = Callable[[ir.Model], Runner]
"""Makes a runner of a model."""
Visit = Callable[[str, np.ndarray], None]
"""Shown the name of a value, and the value."""
Show = Callable[[str, Array], None]
UNKNOWN_BYTES = 4
GROWTH = 1.5
"""A sample with this many times the bytes of the largest one measured so far is measured again."""


def unseen(model: ir.Model, names: Iterable[str]) -> dict[str, str]:
    """Which of these values cannot be observed, and why, in a few words."""
    values = main_values(model)
    inner = {name for graph in all_graphs(model) if graph is not model.graph for name in _made_in(graph)}
    found: dict[str, str] = {}
    for name in names:
        value = values.get(name)
        if value is None:
            where = "it is inside a subgraph (a branch or the body of a loop)" if name in inner else "the model has no such value"
            found[name] = where
        elif value.type is not None and not isinstance(value.type, ir.TensorType):
            found[name] = "it is no tensor"
        elif value.dtype == ir.DataType.STRING:
            found[name] = "it holds texts"
    return found


def _made_in(graph: ir.Graph) -> Iterator[str | None]:
    """The values that a graph has of its own."""
    for value in (*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs)):
        yield value.name


def typed(model: ir.Model, names: Iterable[str]) -> ir.Model:
    """The model, or, when the type of one of these values is not known, a copy in which types were inferred."""
    values = main_values(model)
    if all(values[name].type is not None for name in names if name in values):
        return model
    copy = clone_model(model)
    with contextlib.suppress(ModelError):  # What stays unknown is taken for a tensor.
        infer_shapes(copy)
    return copy


def main_values(model: ir.Model) -> dict[str, ir.Value]:
    """The values of the main graph by name: its inputs, its initialisers and what its nodes make."""
    graph = model.graph
    made = (value for node in graph for value in node.outputs)
    return {value.name: value for value in (*graph.initializers.values(), *graph.inputs, *made) if value.name}


def cut_model(model: ir.Model, names: Sequence[str], *, shapes: bool = False) -> ir.Model:
    """A copy whose outputs are these values (with ``shapes``, the shape of each) and that has no node they do not need.

    As outputs the runtime must make them, whatever it fuses. Inputs and constants come through an Identity; every output has a name of its own,
    in the order of ``names``: see `output_name`.
    """
    copy = clone_model(model)
    values = main_values(copy)
    outputs = []
    for place, name in enumerate(names):
        value = values[name]
        if not shapes and value.producer() is not None:
            outputs.append(value)
            continue
        kind = ir.TensorType(ir.DataType.INT64) if shapes else value.type
        seen = ir.Value(name=output_name(place), type=kind)
        copy.graph.append(ir.Node("", "Shape" if shapes else "Identity", [value], outputs=[seen], name=output_name(place)))
        outputs.append(seen)
    copy.graph.outputs.clear()
    copy.graph.outputs.extend(outputs)
    sweep(reversed(list(copy.graph)))
    return copy


def output_name(place: int) -> str:
    """What an output is called that stands for an input, a constant or a shape."""
    return f"graphwright.seen.{place}"


class Probes:
    """Runners that make some values of a model: together, or apart where a sample is so much larger than ``measured`` bytes (None: than the first) that
    together they would not fit ``budget`` bytes.
    """

    def __init__(self, model: ir.Model, names: Sequence[str], open_runner: Open, budget: int, measured: int | None) -> None:
        self._model, self._names, self._open, self._budget = model, list(names), open_runner, budget
        self._largest = measured
        self._runners: list[tuple[list[str], Runner]] = []

    def __enter__(self) -> Probes:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def show(self, sample: Sample, show: Show) -> None:
        """Run a sample and show its values one by one; each is freed before the next is shown. Raises InputError when the model does not take it."""
        self._prepare(sample)
        for names, runner in self._runners:
            values = observe(runner, sample, names)
            for name in names:
                show(name, values.pop(0))

    def _prepare(self, sample: Sample) -> None:
        size = sample_bytes(sample)
        self._largest = size if self._largest is None else self._largest
        if size > GROWTH * self._largest:
            sizes = measured_bytes(self._model, self._names, self._open, sample)
            self._largest = size
            self._use(list(packed(sizes, dict.fromkeys(self._names, 0), self._budget)))
        elif not self._runners:
            self._use([self._names])

    def _use(self, groups: list[list[str]]) -> None:
        if groups != [names for names, _ in self._runners]:
            self._close()
            for names in groups:
                self._runners.append((names, self._open(cut_model(self._model, names))))

    def _close(self) -> None:
        for _, runner in self._runners:
            runner.close()
        self._runners = []


def observe(runner: Runner, sample: Sample, names: Sequence[str]) -> list[Array]:
    """The values of one sample, in the order of ``names``; whoever takes one out of the list decides how long it lives."""
    found = runner.run(sample)
    return [found.pop(name) if name in found else found.pop(output_name(place)) for place, name in enumerate(names)]


def measured_bytes(model: ir.Model, names: Sequence[str], open_runner: Open, sample: Sample) -> dict[str, int]:
    """How many bytes each value takes on a sample; only shapes are kept, so this needs no more memory than the model does."""
    values = main_values(model)
    known = {name: _static_bytes(values[name]) for name in names}
    open_names = [name for name in names if known[name] is None]
    if open_names:
        runner = open_runner(cut_model(model, open_names, shapes=True))
        try:
            shapes = observe(runner, sample, [output_name(place) for place in range(len(open_names))])
        finally:
            runner.close()
        known |= {name: int(np.prod(shape, dtype=np.int64)) * _width(values[name]) for name, shape in zip(open_names, shapes, strict=True)}  # type: ignore[arg-type]
    return {name: size or 0 for name, size in known.items()}


def _static_bytes(value: ir.Value) -> int | None:
    tensor = constant(value)
    if tensor is not None:
        return tensor.nbytes
    if value.shape is None or not value.shape.is_static():
        return None
    return int(np.prod(value.shape.numpy(), dtype=np.int64)) * _width(value)


def _width(value: ir.Value) -> int:
    return max(1, math.ceil(value.dtype.itemsize)) if value.dtype is not None else UNKNOWN_BYTES
