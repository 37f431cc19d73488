"""A model for one set of input sizes: every shape that follows from them is a number, and so is what decides between branches."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..core.backend import Sample
from ..core.graph import clone_model
from ..core.passes import Context, parse_pipeline
from ..core.shapes import infer_shapes
from ..core.target import Target
from ..pipeline import CLEAN
from ..roles import roles

__all__ = ["simplified", "switches"]

SIMPLER = f"simplify-control-flow,{CLEAN},move-data,{CLEAN}"
"""What becomes simpler once sizes are known: branches and arithmetic that depend on them, and what follows from both."""


def switches(model: ir.Model, sample: Sample) -> dict[str, np.ndarray]:
    """The inputs of one number that only choose what is computed, as a sampling rate does that is compared with constants, and what they are here."""
    known = roles(model)
    given = {value.name or "": sample.get(value.name or "") for value in model.graph.inputs if not value.is_initializer()}
    numbers = {name: array for name, array in given.items() if isinstance(array, np.ndarray) and array.size == 1 and array.dtype.kind in "biu"}
    return {name: array for name, array in numbers.items() if array.dtype.kind == "b" or known[name].choices}


def simplified(model: ir.Model, target: Target) -> ir.Model:
    """A copy of a model of fixed sizes in which all is folded that these decide. Raises ModelError when its shapes contradict each other."""
    copy = clone_model(model)
    for value in copy.graph.outputs:
        value.shape = None if isinstance(value.type, ir.TensorType) else value.shape
    copy.graph.meta.clear()
    infer_shapes(copy)
    for step in parse_pipeline(SIMPLER):
        step.run(copy, Context(target))
    infer_shapes(copy)
    return copy
