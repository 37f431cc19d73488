"""What a source gives, brought into the form that a model is fed: arguments by name, stacks taken apart, everything checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from ..core.backend import Sample
from ..core.errors import InputError
from ..importers.feeds import arranger

__all__ = ["Arrange", "Cut", "Fit"]

Arrange = Callable[..., Sample]
"""Turns the arguments of a call into a sample: `importer.Source.arrange`."""
BATCH = re.compile(r"batch|^(n|b|bs)$", re.IGNORECASE)
TIME = re.compile(r"seq|time|len|tok|frame|^(t|l)$", re.IGNORECASE)


@dataclass(frozen=True)
class Cut:
    """Arrays that hold ``count`` samples along their first axis, ``step`` rows each; with ``step`` 0 that axis is only there to count them."""

    count: int
    step: int

    def __call__(self, value: object, place: int) -> object:
        """One sample's part."""
        return value[place] if self.step == 0 else value[place * self.step : (place + 1) * self.step]  # type: ignore[index]


class Fit:
    """Fits items to a model. A single item may hold many samples:

    - every array has one dimension more than its input: it is a stack, cut along it;
    - the inputs' first dimension is a fixed d, and every array has n d there: n samples of d;
    - with ``batches``, the inputs' first dimension is one symbol that is a batch (by its name, or because all outputs begin with it): one sample a row.

    ``loose`` leaves out what the model does not take: further keys of a dict, and what stands behind the inputs in a tuple (labels).
    """

    def __init__(self, model: ir.Model, arrange: Arrange | None = None, *, loose: bool = False, batches: bool = False) -> None:
        self._check = arranger(model)
        self._arrange = arrange
        self._loose = loose
        self._batches = batches
        inputs = list(model.graph.inputs)
        self._all = {value.name or "" for value in inputs}
        self.names = [value.name or "" for value in inputs if not value.is_initializer()]
        self._dims = {value.name or "": list(value.shape) for value in inputs if value.shape is not None}
        self._outputs = [list(value.shape) for value in model.graph.outputs if value.shape is not None and len(value.shape) > 0]

    def __call__(self, item: object) -> Sample:
        """The sample in an item that holds one. Raises InputError when it does not fit."""
        named = self.named(item)
        return self.checked(named) if named is not None else self._called(item)

    def checked(self, named: Mapping[str, object]) -> Sample:
        """Values by name as a sample. Raises InputError when they do not fit."""
        return self._check(**named)

    def parts(self, item: object) -> Iterator[Callable[[], Sample]]:
        """How to read each sample in an item."""
        named = self.named(item)
        cut = self.cut(_shapes(named)) if named is not None else None
        if cut is None or named is None:
            yield lambda: self(item)
            return
        for place in range(cut.count):
            yield lambda place=place: self.checked({name: cut(value, place) for name, value in named.items()})  # type: ignore[misc]

    def cut(self, shapes: Mapping[str, tuple[int, ...]]) -> Cut | None:
        """How arrays of these shapes are taken apart; None when they are one sample, or do not fit at all."""
        pairs = [(shape, self._dims[name]) for name, shape in shapes.items() if name in self._dims]
        if not pairs or len(pairs) < len(shapes) or any(not shape for shape, _ in pairs) or len({shape[0] for shape, _ in pairs}) != 1:
            return None
        size = pairs[0][0][0]
        if all(len(shape) == len(dims) + 1 for shape, dims in pairs):
            return Cut(size, 0)
        if not all(len(shape) == len(dims) for shape, dims in pairs):
            return None
        leads = {dim if isinstance(dim, int) else dim.value for _, dims in pairs for dim in dims[:1]}
        lead = leads.pop()
        if leads:
            return None
        if isinstance(lead, int):
            return Cut(size // lead, lead) if lead and size > lead and size % lead == 0 else None
        return Cut(size, 1) if self._batches and size > 1 and lead is not None and self._is_batch(lead) else None

    def named(self, item: object) -> dict[str, object] | None:
        """The values of an item by input; None when only a call of the module can tell."""
        if isinstance(item, Mapping):
            return self._of_mapping(item)
        arguments = list(item) if isinstance(item, (tuple, list)) and not _is_nested(item) else [item]
        if self._loose and len(arguments) > len(self.names) and self._arrange is None:
            arguments = arguments[: len(self.names)]
        if self._arrange is None and len(arguments) != len(self.names):
            raise InputError(f"a calibration sample has {len(arguments)} arrays, but the model has the inputs {', '.join(self.names)}")
        fits = len(arguments) == len(self.names) and all(hasattr(argument, "shape") for argument in arguments)
        return dict(zip(self.names, arguments, strict=True)) if fits or self._arrange is None else None

    def _of_mapping(self, item: Mapping[object, object]) -> dict[str, object] | None:
        if not all(isinstance(name, str) for name in item):
            raise InputError("a calibration sample is named by texts: {input name: array}")
        named = {str(name): value for name, value in item.items()}
        if self._loose and set(self.names) <= set(named):
            named = {name: value for name, value in named.items() if name in self._all}
        return named if self._arrange is None or self._all.issuperset(named) else None

    def _called(self, item: object) -> Sample:
        """What the module's own call makes of an item; of a loose tuple, as many arguments as the call takes."""
        assert self._arrange is not None
        if isinstance(item, Mapping):
            return self.checked(self._arrange(**{str(name): value for name, value in item.items()}))
        arguments = item if isinstance(item, (tuple, list)) else (item,)
        if not self._loose or len(arguments) <= 1:
            return self.checked(self._arrange(*arguments))
        try:
            return self.checked(self._arrange(*arguments))
        except InputError:
            return self.checked(self._arrange(*arguments[: len(self.names)]))

    def _is_batch(self, symbol: str) -> bool:
        if BATCH.search(symbol) or TIME.search(symbol):
            return bool(BATCH.search(symbol))
        leads = [dims[0] for dims in self._outputs]
        return bool(leads) and all(isinstance(dim, ir.SymbolicDim) and dim.value == symbol for dim in leads)


def _is_nested(item: tuple | list) -> bool:
    """Whether it is one array written as lists of numbers."""
    return isinstance(item, list) and bool(item) and not any(hasattr(part, "shape") for part in item)


def _shapes(named: Mapping[str, object]) -> dict[str, tuple[int, ...]]:
    """The shapes of arrays; nothing when something else is among them."""
    shapes = {name: tuple(value.shape) for name, value in named.items() if hasattr(value, "shape")}
    return shapes if len(shapes) == len(named) else {}
