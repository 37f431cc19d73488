"""Devices that are not this machine: sizes may have to be fixed first, and what was compiled is checked but never timed."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx_ir as ir

from .answers import judge_answers
from .census import symbols
from .core.backend import Runner, Sample
from .core.drift import Drift
from .core.errors import ContractError, UsageError
from .core.fixed import fix_inputs
from .core.records import Difference
from .core.shapes import infer_shapes
from .core.target import Target
from .importer import Source
from .request import Request
from .rewriting import Rewritten
from .usual import resized

__all__ = ["check_device", "with_fixed_sizes"]


def with_fixed_sizes(source: Source, request: Request, target: Target) -> tuple[Source, Request]:
    """The source with its inputs' sizes fixed, where the target needs that: to those of its samples, or to the dimensions asked for.

    Raises UsageError naming the sizes that are still open or a dimension that is not there, InputError for inputs that are no tensors.
    """
    known = symbols(source.model)
    if target.open_sizes or all(isinstance(dim, int) for value in source.model.graph.inputs for dim in value.shape or ()):
        return source, request
    for name in request.dims:
        if name not in known:
            raise UsageError(f"the model's inputs have no dimension '{name}'; they have: {', '.join(known)}")
    sample = source.samples[0] if source.samples else _sample_of(resized(source.model, request.dims, usual=False), target)
    model = fix_inputs(source.model, sample)
    for value in model.graph.outputs:
        value.shape = None if isinstance(value.type, ir.TensorType) else value.shape
    model.graph.meta.clear()
    infer_shapes(model)
    return dataclasses.replace(source, model=model), dataclasses.replace(request, dims={})


def check_device(rewritten: Rewritten, runner: Runner, baseline: Runner) -> tuple[Difference, int]:
    """The worst difference of a device's answers from what they must be, and the number of samples let pass (see `judge_answers`).

    Raises ContractError when they break the contract.
    """
    drifts = (Drift.ROUNDING, Drift.LOSSY) if rewritten.compressed else (Drift.ROUNDING,)
    answers = judge_answers(rewritten.verifier, runner, baseline, drifts)
    if answers.fault:
        raise ContractError(f"the compiled model does not answer as the input does ({answers.fault}). Nothing was written.")
    return answers.worst, answers.passed


def _sample_of(model: ir.Model, target: Target) -> Sample:
    """Arrays of a model's sizes that take no memory. Raises UsageError naming those that are open."""
    left = symbols(model)
    if left:
        said = " ".join(f"--dim {name}=SIZE" for name in left)
        raise UsageError(f"the target {target.name} needs every size to be fixed: say {said}, or give example inputs")
    required = [value for value in model.graph.inputs if not value.is_initializer()]
    return {value.name or "": np.broadcast_to(np.float32(0), _shape(value, target)) for value in required}


def _shape(value: ir.Value, target: Target) -> tuple[int, ...]:
    if value.shape is None or not all(isinstance(dim, int) for dim in value.shape):
        raise UsageError(f"the target {target.name} needs every size to be fixed, and those of the input '{value.name}' have no names: give example inputs")
    return tuple(int(dim) for dim in value.shape if isinstance(dim, int))
