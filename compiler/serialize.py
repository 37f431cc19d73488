"""Models written out: as protobuf in memory, as files with their weights streamed, and without their weights.

No function here changes the model, or holds more than one weight in memory at a time unless its result does.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import onnx_ir as ir
from onnx import GraphProto, ModelProto, TensorProto

from .core.errors import ArtifactError, ModelError
from .core.graph import all_graphs
from .importers.external import FileTensor
from .protowriter import ProtoWriter, write_tensor, write_type

__all__ = ["save_model", "skeleton", "tensors_of", "to_bytes", "to_proto"]

LARGEST_INLINE = 64 << 20
"""Bytes of weights; from here on they go into a data file."""
SMALL = 1024
"""Bytes. Shapes and scalars stay in the model file: ONNX Runtime infers shapes from nothing else."""
_PAGED = 1 << 20
_PAGE = 1 << 16
_ALIGNMENT = 64
_LARGEST_PROTO = (1 << 31) - 1


def to_proto(model: ir.Model) -> ModelProto:
    """The model with all its weights in it. Raises ModelError when they do not fit into the 2 GiB of a protobuf message."""
    total = sum(tensor.nbytes for tensor in tensors_of(model) if tensor.dtype != ir.DataType.STRING)
    if total > _LARGEST_PROTO:
        raise ModelError(f"the model holds {total / 2**30:.1f} GiB of weights, more than the 2 GiB of a model in memory: save it to a file")
    return ProtoWriter(_Inline()).model(model)


def to_bytes(model: ir.Model) -> bytes:
    """The model as the bytes of a .onnx file. Raises ModelError when it is larger than 2 GiB."""
    return _serialise(to_proto(model))


def save_model(model: ir.Model, path: Path) -> tuple[Path, ...]:
    """Write the model to ``path`` and, from 64 MiB of weights on, those to ``<path>.data`` beside it; returns the files written.

    Either file appears only when it is complete. Raises ArtifactError when they cannot be written.
    """
    path = Path(path)
    store = _Beside(f"{path.name}.data") if _is_large(model) else _Inline()
    content = _serialise(ProtoWriter(store).model(model))
    files: list[tuple[Path, Callable[[BinaryIO], object]]] = [(path, lambda file: file.write(content))]
    if isinstance(store, _Beside) and store.size:
        files.insert(0, (path.with_name(store.location), store.write))
    written = []
    try:
        with contextlib.ExitStack() as stack:
            drafts = [(stack.enter_context(_draft_of(target)), target) for target, _ in files]
            for (draft, _), (_, write) in zip(drafts, files, strict=True):
                with draft.open("wb") as file:
                    write(file)
            for draft, target in drafts:
                draft.replace(target)
                written.append(target)
    except OSError as error:
        raise ArtifactError(f"cannot write '{path}': {error.strerror or error}") from error
    return tuple(reversed(written))


def skeleton(model: ir.Model, max_inline: int = SMALL) -> ModelProto:
    """The model with every weight of more than ``max_inline`` bytes turned into an input of the main graph, for checks and shape inference.

    A weight in a subgraph becomes an input of the main graph too, and so does a large Constant; weights in functions stay.
    """
    renamed: dict[ir.Value, str] = {}
    store = _Skeleton(model, max_inline, renamed)
    proto = ProtoWriter(store, renamed).model(model)
    for name, tensor in store.inputs:
        info = proto.graph.input.add(name=name)
        write_type(info.type, ir.TensorType(tensor.dtype), ir.Shape(tensor.shape.numpy()))
    return proto


def tensors_of(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    """Every tensor the model holds: initialisers, then attributes; those of subgraphs and functions included."""
    for graph in all_graphs(model):
        yield from (value.const_value for value in graph.initializers.values() if value.const_value is not None)
    for root in (model.graph, *(function.graph for function in model.functions.values())):
        if root is not model.graph:
            yield from (value.const_value for graph in root.subgraphs() for value in graph.initializers.values() if value.const_value is not None)
        for node in root.all_nodes():
            for attr in node.attributes.values():
                if not attr.is_ref() and attr.type == ir.AttributeType.TENSOR:
                    yield attr.as_tensor()
                elif not attr.is_ref() and attr.type == ir.AttributeType.TENSORS:
                    yield from attr.as_tensors()


def content_key(tensor: ir.TensorProtocol) -> tuple[int, ...]:
    """Equal for tensors that are the same object, or the same range of one file."""
    return (id(tensor.file), tensor.begin, tensor.nbytes) if isinstance(tensor, FileTensor) else (id(tensor),)


def _is_large(model: ir.Model) -> bool:
    sizes = {content_key(tensor): tensor.nbytes for tensor in tensors_of(model) if tensor.dtype != ir.DataType.STRING}
    return sum(sizes.values()) >= LARGEST_INLINE


def _serialise(proto: ModelProto) -> bytes:
    try:
        content: bytes = proto.SerializeToString()
    except Exception as error:  # protobuf's EncodeError and ValueError, which differ between its implementations
        raise ModelError(f"the model cannot be serialised: {error}") from error
    if len(content) > _LARGEST_PROTO:
        raise ModelError(f"the model takes {len(content) / 2**30:.1f} GiB even without its weights, more than the 2 GiB of a .onnx file")
    return content


@contextlib.contextmanager
def _draft_of(target: Path) -> Iterator[Path]:
    """A path beside ``target`` to write to, gone afterwards."""
    draft = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)


class _Inline:
    """Every tensor in the model file."""

    def initializer(self, proto: GraphProto, graph: ir.Graph, value: ir.Value, tensor: ir.TensorProtocol) -> None:
        write_tensor(proto.initializer.add(), value.name or "", tensor)

    def attribute(self, proto: TensorProto, tensor: ir.TensorProtocol) -> None:
        write_tensor(proto, tensor.name or "", tensor)

    def replaces(self, proto: GraphProto, graph: ir.Graph, node: ir.Node) -> bool:
        return False


@dataclass
class _Beside(_Inline):
    """Large tensors in a data file called ``location``; what is stored twice in the model is stored once in the file. ``size`` is in bytes."""

    location: str
    size: int = 0
    places: dict[tuple[int, ...], int] = field(default_factory=dict)
    queue: list[tuple[int, ir.TensorProtocol]] = field(default_factory=list)

    def initializer(self, proto: GraphProto, graph: ir.Graph, value: ir.Value, tensor: ir.TensorProtocol) -> None:
        self._put(proto.initializer.add(), value.name or "", tensor, SMALL)

    def attribute(self, proto: TensorProto, tensor: ir.TensorProtocol) -> None:
        self._put(proto, tensor.name or "", tensor, _PAGED)

    def _put(self, proto: TensorProto, name: str, tensor: ir.TensorProtocol, small: int) -> None:
        if tensor.dtype == ir.DataType.STRING or tensor.nbytes <= small:
            write_tensor(proto, name, tensor)
            return
        write_tensor(proto, name, tensor, with_data=False)
        proto.data_location = TensorProto.EXTERNAL
        for key, text in (("location", self.location), ("offset", self._place(tensor)), ("length", tensor.nbytes)):
            proto.external_data.add(key=key, value=str(text))

    def _place(self, tensor: ir.TensorProtocol) -> int:
        key = content_key(tensor)
        if key not in self.places:
            alignment = _PAGE if tensor.nbytes >= _PAGED else _ALIGNMENT
            self.places[key] = -(-self.size // alignment) * alignment
            self.size = self.places[key] + tensor.nbytes
            self.queue.append((self.places[key], tensor))
        return self.places[key]

    def write(self, file: BinaryIO) -> None:
        """Write the data file. Raises ModelError when a tensor has another size than it said."""
        for offset, tensor in self.queue:
            file.seek(offset)
            _append(tensor, file)
            if file.tell() != offset + tensor.nbytes:
                raise ModelError(f"the weight '{tensor.name}' says it has {tensor.nbytes:,} bytes, but has {file.tell() - offset:,}")
        file.truncate(self.size)


def _append(tensor: ir.TensorProtocol, file: BinaryIO) -> None:
    stream = getattr(tensor, "tofile", None)
    if stream is not None:
        stream(file)
    else:
        file.write(tensor.tobytes())


class _Skeleton(_Inline):
    """Small tensors as they are, large ones noted as ``inputs`` (name, tensor) of the main graph."""

    def __init__(self, model: ir.Model, max_inline: int, renamed: dict[ir.Value, str]) -> None:
        self.inputs: list[tuple[str, ir.TensorProtocol]] = []
        self._main = model.graph
        self._nested = {graph for graph in all_graphs(model) if graph is not model.graph}
        self._max_inline = max_inline
        self._renamed = renamed
        self._taken = {value.name or "" for graph in all_graphs(model) for value in _values(graph)}

    def initializer(self, proto: GraphProto, graph: ir.Graph, value: ir.Value, tensor: ir.TensorProtocol) -> None:
        if not self._hoist(proto, graph, value, tensor):
            super().initializer(proto, graph, value, tensor)

    def replaces(self, proto: GraphProto, graph: ir.Graph, node: ir.Node) -> bool:
        attr = node.attributes.get("value")
        if node.op_type != "Constant" or node.domain not in ("", "ai.onnx") or attr is None or attr.is_ref():
            return False
        return self._hoist(proto, graph, node.outputs[0], attr.as_tensor())

    def _hoist(self, proto: GraphProto, graph: ir.Graph, value: ir.Value, tensor: ir.TensorProtocol) -> bool:
        if tensor.nbytes <= self._max_inline or (graph is not self._main and graph not in self._nested):
            return False
        if value.is_graph_input():
            return graph is self._main
        if graph is self._main:
            self.inputs.append((value.name or "", tensor))
            return True
        name = self._fresh(value.name or "")
        self.inputs.append((name, tensor))
        if value.is_graph_output():
            proto.node.add(op_type="Identity", input=[name], output=[value.name or ""])
        else:
            self._renamed[value] = name
        return True

    def _fresh(self, hint: str) -> str:
        name, number = f"{hint}_hoisted", 1
        while name in self._taken:
            name, number = f"{hint}_hoisted_{number}", number + 1
        self._taken.add(name)
        return name


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    yield from graph.initializers.values()
    yield from (value for node in graph for value in node.outputs)
