"""From the protobuf form of a model to the graph the compiler works on. Every kind of source comes through here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import onnx_ir as ir
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto

from ..core.errors import ModelError
from ..core.graph import all_graphs, bind_opsets
from ..protowriter import texts
from .external import DataFolder, FileTensor
from .inference import check_inference
from .normal import normalise, type_attributes
from .operators import check_operators
from .ordering import settle_names, settle_order
from .scopes import check_scopes
from .structure import bodies, check_structure
from .weights import has_nan

SMALL = 1024
"""Bytes. Shapes, axes and scalars are wanted everywhere: they are read at import."""
_HELD = "\0held"


@dataclass
class Draft:
    """A model on its way in: ``proto`` is ours to change, ``folder`` is where its external weights are.

    A tensor written by `hold_tensor` stands for one in ``held``.
    """

    proto: ModelProto
    folder: DataFolder | None = None
    held: list[ir.TensorProtocol] = field(default_factory=list)

    def hold_tensor(self, target: TensorProto, tensor: ir.TensorProtocol) -> None:
        """Let ``target`` stand for a tensor that is not serialised."""
        target.data_type = tensor.dtype.value
        target.dims.extend(tensor.shape.numpy())
        self.point(target, tensor)

    def point(self, target: TensorProto, tensor: ir.TensorProtocol) -> None:
        """Let ``target``, which has the dtype and dims of ``tensor``, stand for it."""
        target.data_location = TensorProto.EXTERNAL
        target.ClearField("external_data")
        target.external_data.add(key="location", value=_HELD)
        target.external_data.add(key="offset", value=str(len(self.held)))
        self.held.append(tensor)


def assemble(draft: Draft) -> tuple[ir.Model, tuple[str, ...]]:
    """Check and normalise a model, and build its graph; returns it with what the user should know.

    Raises ModelError, in one sentence, for everything that is wrong with it.
    """
    try:
        return _assemble(draft)
    except ModelError as error:
        raise ModelError(_readable(str(error))) from error.__cause__


def _readable(text: str) -> str:
    """One line, whatever is in the names of the model."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))[:1000]


def _assemble(draft: Draft) -> tuple[ir.Model, tuple[str, ...]]:
    type_attributes(draft.proto)
    check_structure(draft.proto)
    warnings = normalise(draft.proto)
    check_scopes(draft.proto)
    check_operators(draft.proto)
    _place_external(draft)
    model = _deserialise(draft.proto)
    _attach(model, draft.held)
    settle_order(model)
    settle_names(model)
    bind_opsets(model)
    check_inference(model)
    return model, (*warnings, *_nan_warnings(model))


def _place_external(draft: Draft) -> None:
    """Find the file of every external tensor; what is small is read."""
    for tensor, name in _tensors(draft.proto):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if draft.held and entries.get("location") == _HELD:
            continue
        placed = _in_folder(draft.folder, name, entries, tensor)
        if placed.nbytes > SMALL:
            draft.point(tensor, placed)
            continue
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
        tensor.raw_data = placed.tobytes()


def _in_folder(folder: DataFolder | None, name: str, entries: dict[str, str], tensor: TensorProto) -> FileTensor:
    if not all(isinstance(text, str) for pair in entries.items() for text in pair):
        raise ModelError(f"the place of the external weight '{name}' is not readable text: the file is broken")
    if folder is None:
        raise ModelError(
            f"the weight '{name}' is in the file '{entries.get('location', '')}', and a model in memory has no folder "
            "to find it in: give the path of the .onnx file"
        )
    return folder.tensor(name, entries, ir.DataType(tensor.data_type), tuple(tensor.dims))


def _tensors(proto: ModelProto) -> Iterator[tuple[TensorProto, str]]:
    for body in bodies(proto.graph, *proto.functions):
        if isinstance(body, GraphProto):
            yield from ((tensor, tensor.name) for tensor in body.initializer)
        for node in body.node:
            for attribute in node.attribute:
                if attribute.type in (AttributeProto.TENSOR, AttributeProto.TENSORS) and not attribute.ref_attr_name:
                    name = next((name for name in node.output if name), node.name)
                    yield from ((tensor, name) for tensor in ((attribute.t,) if attribute.type == AttributeProto.TENSOR else attribute.tensors))


def _deserialise(proto: ModelProto) -> ir.Model:
    try:
        return ir.from_proto(proto)
    except Exception as error:
        raise ModelError(f"the model cannot be read: {_root_cause(error)}") from error


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else 'no reason given'}"


def _attach(model: ir.Model, held: list[ir.TensorProtocol]) -> None:
    """Put the tensors that were not serialised into their places."""
    functions = [function.graph for function in model.functions.values()]
    for root in (model.graph, *functions):
        for value in _initializers(root):
            if value.const_value is not None:
                value.const_value = _real(value.const_value, held, value.name)
        for node in root.all_nodes():
            for name, attr in list(node.attributes.items()):
                if not attr.is_ref() and attr.type == ir.AttributeType.TENSOR:
                    node.attributes[name] = ir.AttrTensor(name, _real(attr.value, held, None), doc_string=attr.doc_string)
                elif not attr.is_ref() and attr.type == ir.AttributeType.TENSORS:
                    node.attributes[name] = ir.AttrTensors(name, [_real(tensor, held, None) for tensor in attr.value], doc_string=attr.doc_string)


def _initializers(root: ir.Graph) -> Iterator[ir.Value]:
    yield from root.initializers.values()
    for graph in root.subgraphs():
        yield from graph.initializers.values()


def _real(tensor: ir.TensorProtocol, held: list[ir.TensorProtocol], name: str | None) -> ir.TensorProtocol:
    if not isinstance(tensor, ir.ExternalTensor):
        return tensor
    real = held[tensor.offset or 0]
    return real if isinstance(real, FileTensor) else _renamable(real, name)


def _renamable(tensor: ir.TensorProtocol, name: str | None) -> ir.TensorProtocol:
    """A tensor with a name of its own, so that the caller's keeps its name; the data is shared."""
    if tensor.dtype == ir.DataType.STRING:
        return ir.StringTensor(texts(tensor), shape=ir.Shape(tensor.shape.numpy()), name=name)
    return ir.LazyTensor(lambda: tensor, dtype=tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=name)


def _nan_warnings(model: ir.Model) -> list[str]:
    found = [value.name for graph in all_graphs(model) for value in graph.initializers.values() if value.const_value is not None and has_nan(value.const_value)]
    if not found:
        return []
    names = ", ".join(f"'{name}'" for name in found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
    return [f"weights hold NaN: {names}"]
