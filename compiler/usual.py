"""An input of usual size: what a model is timed on when the user gives no example."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from .census import symbols
from .core.backend import Sample
from .core.dims import evaluate, free_symbols
from .core.errors import GraphwrightError, InputError, UsageError
from .core.graph import clone_model
from .samples import Run, generate

BATCH = 1
LENGTH = 128
SIDE = 224
CHANNELS = (1, 3, 4)


def usual_sample(model: ir.Model, run: Run, seed: int, dims: Mapping[str, int]) -> Sample | None:
    """One input with ``dims`` as asked for and the usual sizes elsewhere: a batch of 1, 128 long, images of 224.

    None when the model does not take these sizes and ``dims`` asks for none. Raises UsageError for a dimension that is not there, InputError when
    the model does not take what ``dims`` asks for.
    """
    known = symbols(model)
    for name in dims:
        if name not in known:
            raise UsageError(f"the model's inputs have no dimension '{name}'; {_list(known)}")
    for usual in (True, False):
        try:
            return generate(resized(model, dims, usual), seed=seed, run=run, limit=1)[0]
        except InputError as error:
            refusal = error
    if dims:
        asked = ", ".join(f"{name}={size}" for name, size in dims.items())
        raise InputError(f"the model does not run with {asked}: {refusal}")
    return None


def resized(model: ir.Model, dims: Mapping[str, int], usual: bool) -> ir.Model:
    """A copy whose inputs have these sizes and, if asked, the usual ones elsewhere; what depends on a size follows it."""
    copy = clone_model(model)
    sizes = {**(usual_sizes(model) if usual else {}), **dims}
    for value in copy.graph.inputs:
        if value.shape is not None:
            value.shape = ir.Shape([_settled(dim, sizes, _usual(value.shape, axis) if usual else None) for axis, dim in enumerate(value.shape)])
    return copy


def usual_sizes(model: ir.Model) -> dict[str, int]:
    """A size for each symbolic dimension of the inputs, by where it stands first."""
    sizes: dict[str, int] = {}
    for value in model.graph.inputs:
        shape = value.shape if value.shape is not None else ir.Shape(())
        for axis, dim in enumerate(shape):
            if isinstance(dim, ir.SymbolicDim) and dim.value is not None and _is_name(dim):
                sizes.setdefault(dim.value, _usual(shape, axis))
    return sizes


def _usual(shape: ir.Shape, axis: int) -> int:
    if axis == 0 and len(shape) > 1:
        return BATCH
    image = len(shape) == 4 and (shape[1] in CHANNELS or shape[3] in CHANNELS)
    return SIDE if image else LENGTH


def _settled(dim: int | ir.SymbolicDim, sizes: Mapping[str, int], unnamed: int | None) -> int | ir.SymbolicDim | None:
    if isinstance(dim, int):
        return dim
    if dim.value is None:
        return unnamed
    try:
        size = evaluate(dim, sizes)
    except (GraphwrightError, ValueError):
        return dim
    return dim if size is None else size


def _is_name(dim: ir.SymbolicDim) -> bool:
    """Whether the dimension is a plain symbol, not computed from others."""
    try:
        return free_symbols(dim) == {dim.value}
    except (GraphwrightError, ValueError):
        return False


def _list(known: Mapping[str, list[str]]) -> str:
    return f"they have: {', '.join(known)}" if known else "all their dimensions are fixed"
