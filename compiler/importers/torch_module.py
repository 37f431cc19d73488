"""torch modules: exported by PyTorch, with their nested arguments and results kept in mind."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import onnx_ir as ir
import torch
from torch.jit._trace import TracerWarning

from ..core.backend import Sample
from ..core.errors import ExportError, GraphwrightError, InputError
from ..core.names import Names
from ..importer import Source
from ..tensors import to_numpy
from .assemble import Draft, assemble
from .calls import Call, Structure, signature_of, split_examples, take_apart, unique_names
from .dynamic_shapes import AxisSpec, axes_of, axis_names
from .feeds import arranger
from .ir_model import read_ir
from .onnx_file import read_file

_PREFIX = "module."


def import_module(module: torch.nn.Module, example_inputs: object, dynamic_shapes: object = None) -> Source:
    """Export a module in eval mode; its own mode, buffers and gradients stay as they are. Only the dimensions asked for become dynamic.

    Raises InputError when the module does not take the example inputs, ExportError when neither exporter of PyTorch takes the module.
    """
    call = Call(signature_of(module), *split_examples(example_inputs))
    return import_call(module, call, axes_of(call, dynamic_shapes, module))


def import_call(module: torch.nn.Module, call: Call, axes: list[AxisSpec] | None, kind: str = "module", path: Path | None = None) -> Source:
    """Export one way of calling a module. ``axes`` are the dynamic axes of each of its tensors."""
    notes = ("the module was in training mode; it was exported in eval mode",) if module.training else ()
    with _untouched(module), quiet(), torch.no_grad():
        answer = take_apart(_try(module, call), "output")
        if not answer.leaves:
            raise ExportError(f"the module returns no tensor, but a {type(_first_constant(answer)).__name__}: there is nothing to compute")
        expected = tuple(to_numpy(leaf.tensor) for leaf in answer.leaves)
        inputs = unique_names([leaf.name for leaf in call.structure.leaves])
        outputs = unique_names([leaf.name for leaf in answer.leaves], taken=inputs)
        draft, doubts = _export(_Flat(module, call), [leaf.tensor for leaf in call.structure.leaves], inputs, outputs, axes)
        model, found = assemble(draft)
    feed = feeder(model, inputs)
    sample = feed([leaf.tensor for leaf in call.structure.leaves])

    def arrange(*args: object, **kwargs: object) -> Sample:
        return feed(call.tensors(args, kwargs))

    return Source(model, (sample,), kind, path, answer.rebuild, arrange, (*notes, *doubts, *found), (expected,))


def feeder(model: ir.Model, inputs: Sequence[str]) -> Callable[[list[torch.Tensor]], Sample]:
    """A function from the tensors of a call, named ``inputs``, to the sample that the graph takes; the exporter may have dropped some."""
    fit = arranger(model)
    kept = {value.name for value in model.graph.inputs}
    return lambda tensors: fit(**{name: tensor for name, tensor in zip(inputs, tensors, strict=True) if name in kept})


def _first_constant(structure: Structure) -> object:
    return next(iter(structure.constants.values()), None)


class _Flat(torch.nn.Module):
    """A module that takes its tensors one by one, and returns its tensors one by one."""

    def __init__(self, module: torch.nn.Module, call: Call) -> None:
        super().__init__()
        self.module = module
        self._call = call
        self.training = module.training

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        answer = self._call.invoke(self.module, tensors)
        return tuple(leaf for leaf in torch.utils._pytree.tree_leaves(answer) if isinstance(leaf, torch.Tensor))


def _try(module: torch.nn.Module, call: Call) -> object:
    try:
        return call.invoke(module, [leaf.tensor for leaf in call.structure.leaves])
    except GraphwrightError:
        raise
    except Exception as error:
        raise InputError(f"the module fails on the example inputs: {reason_of(error)}") from error


def _export(flat: _Flat, tensors: list[torch.Tensor], inputs: list[str], outputs: list[str], axes: list[AxisSpec] | None) -> tuple[Draft, list[str]]:
    """By the exporter on torch.export, or else by tracing; returns also what tracing may have got wrong."""
    try:
        return _export_program(flat, tensors, inputs, outputs, axes), []
    except Exception as error:
        first = error
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            return _export_trace(flat, tensors, inputs, outputs, axes), _doubts(caught)
    except Exception as second:
        reasons = f'torch.export says "{reason_of(first)}", and tracing says "{reason_of(second)}"'
        raise ExportError(f"PyTorch cannot export the module: {reasons}") from first


def _doubts(caught: list[warnings.WarningMessage]) -> list[str]:
    """Where tracing turned values into constants: right for the example inputs, and perhaps for no others."""
    places = {f"{Path(warning.filename).name}:{warning.lineno}": None for warning in caught if issubclass(warning.category, TracerWarning)}
    if not places:
        return []
    return [
        f"torch.export failed and the module was traced: decisions that it takes on values at {', '.join(list(places)[:3])} are fixed as for the example inputs"
    ]


def _export_program(flat: _Flat, tensors: list[torch.Tensor], inputs: list[str], outputs: list[str], axes: list[AxisSpec] | None) -> Draft:
    shapes = None if axes is None else {"tensors": tuple(axes)}
    program = torch.onnx.export(flat, tuple(tensors), dynamo=True, verbose=False, dynamic_shapes=shapes)
    return read_program(program, inputs, outputs)


def read_program(program: torch.onnx.ONNXProgram | None, inputs: Sequence[str], outputs: Sequence[str]) -> Draft:
    """What the exporter made, with our names for inputs and outputs. Raises ExportError when it has others than the module."""
    if program is None:
        raise ExportError("the exporter made nothing")
    model, graph = program.model, program.model.graph
    for what, ports, names in (("inputs", graph.inputs, inputs), ("outputs", graph.outputs, outputs)):
        if len(ports) != len(names):
            raise ExportError(f"the exporter made {len(ports)} {what} of the module's {len(names)}")
    _give_names(model, [*zip(graph.inputs, inputs, strict=True), *zip(graph.outputs, outputs, strict=True)])
    for value in list(graph.initializers.values()):
        shorter = (value.name or "").removeprefix(_PREFIX)
        if shorter not in graph.initializers:
            value.name = shorter
    return read_ir(model)


def _give_names(model: ir.Model, wanted: list[tuple[ir.Value, str]]) -> None:
    fresh = Names(model)
    for _, name in wanted:
        fresh.fresh(name)
    graph = model.graph
    inside = dict.fromkeys((*graph.inputs, *graph.initializers.values(), *(value for node in graph.all_nodes() for value in node.outputs)))
    taken = {name for _, name in wanted}
    for value in inside:
        if value.name in taken:
            value.name = fresh.fresh(f"{value.name}_inner")
    seen: set[ir.Value] = set()
    for index, (value, name) in enumerate(wanted):
        if value in seen:
            value = _repeat(graph, value, index - len(graph.inputs))
        seen.add(value)
        value.name = name


def _repeat(graph: ir.Graph, value: ir.Value, index: int) -> ir.Value:
    """A value that is given out twice, or comes in and goes out, has two names: an Identity makes the second."""
    node = ir.Node("", "Identity", [value])
    node.outputs[0].type, node.outputs[0].shape = value.type, value.shape
    graph.append(node)
    graph.outputs[index] = node.outputs[0]
    return node.outputs[0]


def _export_trace(flat: _Flat, tensors: list[torch.Tensor], inputs: list[str], outputs: list[str], axes: list[AxisSpec] | None) -> Draft:
    dynamic = {name: axis_names(spec, name) for name, spec in zip(inputs, axes or [], strict=False) if spec}
    if dynamic:
        answers = flat(*tensors)
        dynamic |= {name: {axis: f"{name}_dim_{axis}" for axis in range(answer.ndim)} for name, answer in zip(outputs, answers, strict=True)}
    folder = Path(tempfile.mkdtemp(prefix="graphwright-"))
    try:
        file = folder / "model.onnx"
        torch.onnx.export(flat, tuple(tensors), file, dynamo=False, verbose=False, input_names=list(inputs), output_names=list(outputs), dynamic_axes=dynamic)
        draft = read_file(file)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(draft.folder, shutil.rmtree, folder, ignore_errors=True)
    return draft


@contextlib.contextmanager
def _untouched(module: torch.nn.Module) -> Iterator[None]:
    """Eval mode for a while; mode, buffers and random state are as before afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    buffers = [(part, name, buffer, buffer.detach().clone()) for part in module.modules() for name, buffer in part.named_buffers(recurse=False)]
    _evaluate(module)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        for part, training in modes:
            part.training = training
        with torch.no_grad():
            for part, name, buffer, content in buffers:
                if not torch.equal(buffer, content):
                    buffer.copy_(content)
                part._buffers[name] = buffer


def _evaluate(module: torch.nn.Module) -> None:
    """Eval mode for a module; part by part where it holds a program that torch.export made, which has no modes and stops what asks for one."""
    try:
        module.eval()
    except NotImplementedError:
        for part in module.children():
            _evaluate(part)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps what the exporters print, log and warn of from the user: errors are raised, and the rest is about the exporters themselves."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def reason_of(error: BaseException) -> str:
    """The first line of what went wrong first."""
    seen = {error}
    while (deeper := error.__cause__) is not None and deeper not in seen:
        seen.add(deeper)
        error = deeper
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
