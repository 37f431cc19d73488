"""The way in: whatever the user has, as one checked graph."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import onnx_ir as ir

from .core.backend import Array, Sample
from .core.errors import UsageError

if TYPE_CHECKING:
    import torch

__all__ = ["Source", "import_model"]


@dataclass(frozen=True)
class Source:
    """A model that was brought in, and what is known about how it is called.

    ``kind`` is one of: path, bytes, proto, ir, graphsurgeon, module, program, huggingface. ``samples`` are the example inputs by graph input;
    ``expected`` is what the PyTorch module itself answered to each, by graph output. ``arrange`` turns a call's arguments into a sample,
    ``restore`` the graph's outputs into the form in which the module returns them. ``warnings`` are sentences for the user.
    """

    model: ir.Model
    samples: tuple[Sample, ...] = ()
    kind: str = "ir"
    path: Path | None = None
    restore: Callable[[list[np.ndarray]], object] | None = None
    arrange: Callable[..., Sample] | None = None
    warnings: tuple[str, ...] = ()
    expected: tuple[tuple[Array, ...], ...] = ()


def import_model(source: object, example_inputs: object = None, *, dynamic_shapes: object = None) -> Source:
    """Bring in a model: a .onnx path, its bytes, a ModelProto, an onnx_ir.Model, a gs.Graph, a torch module or exported program, a Hugging Face folder.

    ``example_inputs`` for a module are its positional arguments (a tuple), its keyword arguments (a dict), or both as ``(args, kwargs)``; for the
    others a sample, by input name or in order. A list of dicts is a list of samples, of which a module is exported with the first.
    ``dynamic_shapes`` is that of ``torch.export.export``. The source is not changed.

    Raises ModelError when the model is broken, InputError when the example inputs do not fit it, ExportError when PyTorch cannot export the module,
    BackendMissing when a package is needed that is not installed, UsageError when the source is nothing of the above.
    """
    if _is_a(source, "torch.jit", "ScriptModule"):
        raise UsageError("a ScriptModule cannot be exported any more: give the torch module that it was made from")
    if _is_exported_here(source) and isinstance(example_inputs, list) and example_inputs and all(isinstance(item, Mapping) for item in example_inputs):
        return _with_samples(import_model(source, example_inputs[0], dynamic_shapes=dynamic_shapes), example_inputs[1:])
    if _is_a(source, "torch.nn", "Module"):
        from .importers.torch_module import import_module

        return import_module(cast("torch.nn.Module", source), example_inputs, dynamic_shapes)
    if _is_a(source, "torch.export", "ExportedProgram"):
        from .importers.exported_program import import_program

        _refuse_dynamic(dynamic_shapes, "an ExportedProgram has its dynamic shapes already")
        return import_program(cast("torch.export.ExportedProgram", source), example_inputs)
    if _is_folder(source):
        from .importers.huggingface import import_folder

        _refuse_dynamic(dynamic_shapes, "a Hugging Face folder gets a dynamic batch and sequence by itself")
        return import_folder(Path(cast("str", source)), example_inputs)
    _refuse_dynamic(dynamic_shapes, "only a torch module is exported with dynamic shapes; an ONNX model has its own")
    return _import_onnx(source, example_inputs)


def _import_onnx(source: object, example_inputs: object) -> Source:
    """Everything that is a graph already."""
    from onnx import ModelProto

    from .importers.assemble import assemble
    from .importers.feeds import arranger, to_samples
    from .importers.ir_model import read_ir
    from .importers.onnx_file import read_bytes, read_file, read_proto

    path = None
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        kind, draft = "path", read_file(path)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        kind, draft = "bytes", read_bytes(bytes(source))
    elif isinstance(source, ModelProto):
        kind, draft = "proto", read_proto(source)
    elif isinstance(source, ir.Model):
        kind, draft = "ir", read_ir(source)
    elif _is_a(source, "onnx_graphsurgeon", "Graph"):
        from .importers.graphsurgeon import read_surgeon

        kind, draft = "graphsurgeon", read_surgeon(source)
    else:
        raise UsageError(
            f"a {type(source).__name__} is not a model: give a .onnx path, bytes, ModelProto, onnx_ir.Model, gs.Graph, torch module or Hugging Face folder"
        )
    model, warnings = assemble(draft)
    return Source(model, to_samples(model, example_inputs), kind, path, arrange=arranger(model), warnings=warnings)


def _with_samples(source: Source, more: list[Mapping[str, object]]) -> Source:
    """The source with further samples, each arranged as a call of the module."""
    assert source.arrange is not None
    return replace(source, samples=(*source.samples, *(source.arrange(**item) for item in more)))


def _is_exported_here(source: object) -> bool:
    """Whether PyTorch makes the graph of it."""
    return _is_a(source, "torch.nn", "Module") or _is_a(source, "torch.export", "ExportedProgram") or _is_folder(source)


def _is_folder(source: object) -> bool:
    """Whether it is a Hugging Face folder."""
    return isinstance(source, (str, os.PathLike)) and _is_file(Path(source) / "config.json")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _is_a(source: object, module: str, name: str) -> bool:
    """isinstance without an import: whoever has an instance has loaded the class."""
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(source, kind)


def _refuse_dynamic(dynamic_shapes: object, reason: str) -> None:
    if dynamic_shapes is not None:
        raise UsageError(f"dynamic_shapes was given, but {reason}")
