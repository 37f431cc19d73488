"""A model for one set of input sizes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from .backend import Sample
from .errors import InputError
from .graph import clone_model, make_constant
from .names import Names

__all__ = ["fix_inputs", "settle_initialisers"]


def fix_inputs(model: ir.Model, sample: Sample, settled: Mapping[str, np.ndarray] | None = None) -> ir.Model:
    """A copy whose inputs have the sizes of this sample; what reads a ``settled`` one reads its number. Overridable initialisers are constants of it.

    Raises InputError when an input is no tensor, or the sample leaves one out.
    """
    copy = clone_model(model)
    settle_initialisers(copy)
    required = list(copy.graph.inputs)
    names = Names(copy)
    for value in required:
        array = sample.get(value.name or "")
        if not isinstance(array, np.ndarray) or not isinstance(value.type, ir.TensorType) or array.dtype == object:
            raise InputError(f"the input '{value.name}' is no tensor of numbers, so its size cannot be fixed")
        value.shape = ir.Shape(array.shape)
        if value.name in (settled or {}) and not value.is_graph_output():
            value.replace_all_uses_with(make_constant(copy.graph, array, names.fresh(f"{value.name}_here")))
    return copy


def settle_initialisers(model: ir.Model) -> tuple[str, ...]:
    """Make initialisers that a caller may override constants, in place; returns their names."""
    found = tuple(value.name or "" for value in model.graph.inputs if value.is_initializer())
    if found:
        model.graph.inputs[:] = [value for value in model.graph.inputs if not value.is_initializer()]
    return found
