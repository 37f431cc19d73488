"""Programs that torch.export made."""

from __future__ import annotations

import inspect
from collections.abc import Iterable

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind

from ..core.backend import Sample
from ..core.errors import ExportError, GraphwrightError, InputError
from ..importer import Source
from ..tensors import to_numpy
from .assemble import assemble
from .calls import Call, split_examples, take_apart, unique_names
from .torch_module import feeder, import_call, quiet, read_program, reason_of


def import_program(program: ExportedProgram, example_inputs: object) -> Source:
    """Convert an exported program; ``example_inputs`` default to those it was exported with.

    Raises InputError when the example inputs do not fit it, ExportError when PyTorch cannot convert it.
    """
    given = example_inputs if example_inputs is not None else program.example_inputs
    if given is None:
        raise InputError("the exported program was saved without example inputs: give some")
    specs = [spec for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT]
    call = Call(_signature(program), *split_examples(given), places=_variable(spec.arg for spec in specs))
    inputs = unique_names([leaf.name for leaf in call.structure.leaves])
    with quiet(), torch.no_grad():
        answer = take_apart(
            _run(program, call), "output", _variable(spec.arg for spec in program.graph_signature.output_specs if spec.kind is OutputKind.USER_OUTPUT)
        )
        outputs = unique_names([leaf.name for leaf in answer.leaves], taken=inputs)
        try:
            draft = read_program(_convert(program), inputs, outputs)
        except ExportError:
            if program.range_constraints:
                raise
            return import_call(program.module(), call, None, kind="program")
        model, notes = assemble(draft)
    feed = feeder(model, inputs)

    def arrange(*args: object, **kwargs: object) -> Sample:
        return feed(call.tensors(args, kwargs))

    sample = feed([leaf.tensor for leaf in call.structure.leaves])
    expected = tuple(to_numpy(leaf.tensor) for leaf in answer.leaves)
    return Source(model, (sample,), "program", None, answer.rebuild, arrange, notes, (expected,))


def _variable(arguments: Iterable[object]) -> frozenset[int]:
    """Positions of what is not a constant of the program: tensors, and numbers that may change."""
    return frozenset(index for index, argument in enumerate(arguments) if not isinstance(argument, ConstantArgument))


def _signature(program: ExportedProgram) -> inspect.Signature:
    """What the program takes: those arguments that it was exported with."""
    positional, keyword = program.call_spec.in_spec.children()
    names = [*inspect.signature(program.module().forward).parameters][: positional.num_children]
    names += [f"input_{index}" for index in range(len(names), positional.num_children)]
    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    return inspect.Signature(parameters + [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in keyword.context])


def _run(program: ExportedProgram, call: Call) -> object:
    module = program.module()
    try:
        return call.invoke(module, [leaf.tensor for leaf in call.structure.leaves])
    except GraphwrightError:
        raise
    except Exception as error:
        raise InputError(f"the exported program fails on the example inputs: {reason_of(error)}") from error


def _convert(program: ExportedProgram) -> torch.onnx.ONNXProgram | None:
    try:
        return torch.onnx.export(program, dynamo=True, verbose=False)
    except Exception as error:
        raise ExportError(f"PyTorch cannot convert the exported program to ONNX: {reason_of(error)}") from error
