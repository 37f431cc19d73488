"""Inputs for a piece cut out of a model, of the sizes that the user's inputs give it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from .core.backend import Sample
from .core.dims import Dim, evaluate
from .core.shapes import name_inputs
from .core.symbolic.contents import content
from .tolerance import is_float

__all__ = ["Sizes", "Unsized", "bind_sizes", "make_sample", "sized"]

Sizes = Mapping[str, int]
"""Symbol -> the size it stands for."""
MOST_ELEMENTS = 1 << 27
MOSTLY = 0.9
"""How much of a mask is true: rows without any are no ordinary work."""


class Unsized(Exception):
    """A size is not known from the sizes of the model's inputs, or there is nothing or too much to run on."""


def bind_sizes(model: ir.Model, samples: Sequence[Sample]) -> tuple[Sizes, ...]:
    """What the symbols in the shapes of the model's inputs stand for in each sample, each different set once.

    Dimensions without a name get one, so that inner shapes are told in terms of them.
    """
    name_inputs(model)
    found = dict.fromkeys(tuple(sorted(_sizes_of(model, sample).items())) for sample in samples)
    return tuple(map(dict, found)) or ({},)


def _sizes_of(model: ir.Model, sample: Sample) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for value in model.graph.inputs:
        array = sample.get(value.name or "")
        if not isinstance(array, np.ndarray) or value.shape is None or len(value.shape) != array.ndim:
            continue
        for dim, size in zip(value.shape, array.shape, strict=True):
            if isinstance(dim, ir.SymbolicDim) and dim.value is not None:
                sizes[dim.value] = size
    return sizes


def sized(value: ir.Value, sizes: Sizes) -> tuple[int, ...]:
    """The shape of a value. Raises Unsized when that is not known."""
    return tuple(_size(dim, sizes) for dim in value.shape or ())


def _size(dim: Dim, sizes: Sizes) -> int:
    size = evaluate(dim, sizes)
    if size is None:
        raise Unsized(f"a size ({dim}) depends on more than the sizes of the inputs")
    return size


def make_sample(piece: ir.Model, sizes: Sizes) -> Sample:
    """Normal noise for floats, zeros and ones for integers, and whatever is known of small integers. Raises Unsized."""
    shapes = [sized(value, sizes) for value in piece.graph.inputs]
    if any(math.prod(shape) == 0 for shape in shapes):
        raise Unsized("one of its inputs is empty")
    if sum(map(math.prod, shapes)) > MOST_ELEMENTS:
        raise Unsized("its inputs are too large to make up")
    rng = np.random.default_rng(0)
    return {value.name or "": _fill(value, shape, sizes, rng) for value, shape in zip(piece.graph.inputs, shapes, strict=True)}


def _fill(value: ir.Value, shape: tuple[int, ...], sizes: Sizes, rng: np.random.Generator) -> np.ndarray:
    if value.dtype is None or value.dtype is ir.DataType.STRING:
        raise Unsized(f"'{value.name}' holds {value.dtype}")
    dtype = value.dtype.numpy()
    if is_float(dtype):
        return rng.standard_normal(shape, dtype=np.float32).astype(dtype)
    if dtype == np.bool_:
        return rng.random(shape) < MOSTLY
    numbers = rng.integers(0, 2, shape)
    known = content(value)
    if known is not None and known.shape == shape:
        # Item by item: a size that is not known leaves the made-up number in its place.
        for place, item in np.ndenumerate(known):
            number = evaluate(item, sizes)
            numbers[place] = numbers[place] if number is None else number
    return numbers.astype(dtype)
