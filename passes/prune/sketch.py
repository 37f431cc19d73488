"""How large a model is without members of its groups, told from lengths alone: no smaller model is made."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ...compiler.core.cost import ModelSize, flops, is_parameter, typical_size
from ...compiler.core.graph import all_graphs, clone_model
from .coupling.groups import Group, couple

__all__ = ["Sketch"]

Dims = tuple[int | ir.SymbolicDim, ...]


class Sketch:
    """A copy of a model whose shapes are changed to those that it has without some members of ``groups``; its constants stay what they are."""

    def __init__(self, model: ir.Model, groups: Sequence[Group]) -> None:
        self._model = clone_model(model)
        coupling = couple(self._model)
        self._groups = [coupling.by_name[group.name] for group in groups]
        find, members = coupling.follower.classes.find, np.concatenate([np.zeros(0, np.int64), *(group.members for group in self._groups)])
        self._axes: list[tuple[ir.Value, int]] = []
        classes = []
        for value, axes in coupling.follower.axes.items():
            for place, axis in enumerate(axes):
                if axis is not None and value.shape is not None and np.isin(found := find(axis), members).any():
                    self._axes.append((value, place))
                    classes.append(found)
        self._starts = np.cumsum([0, *map(len, classes)])[:-1]
        self._classes = np.concatenate([np.zeros(0, np.int64), *classes])
        self._unknown = typical_size(self._model)
        self._whole: dict[ir.Value, Dims] = {value: tuple(value.shape) for value, _ in self._axes if value.shape is not None}

    def size(self, choice: dict[str, np.ndarray]) -> ModelSize:
        """Parameters and arithmetic without the members at these places of each group, by its name."""
        self._reshape(np.concatenate([np.zeros(0, np.int64), *(group.members[choice[group.name]] for group in self._groups)]))
        tensors = {id(value.const_value): value for graph in all_graphs(self._model) for value in graph.initializers.values() if value.const_value is not None}
        parameters = sum(self._count(value) for value in tensors.values())
        return ModelSize(parameters, sum(flops(node, self._unknown) or 0 for graph in all_graphs(self._model) for node in graph))

    def _reshape(self, gone: np.ndarray) -> None:
        """Let every value have the shape that it has without these classes."""
        shapes = {value: list(dims) for value, dims in self._whole.items()}
        if self._axes:
            lost = np.add.reduceat(np.isin(self._classes, gone).astype(np.int64), self._starts)
            for (value, place), count in zip(self._axes, lost.tolist(), strict=True):
                length = shapes[value][place]
                if isinstance(length, int):
                    shapes[value][place] = length - count
        for value, dims in shapes.items():
            value.shape = ir.Shape(dims)

    def _count(self, value: ir.Value) -> int:
        tensor = value.const_value
        if tensor is None or not is_parameter(value):
            return 0
        return math.prod(value.shape.numpy()) if value in self._whole and value.shape is not None else tensor.size
