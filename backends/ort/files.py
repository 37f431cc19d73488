"""A model as files: ``model.onnx``, and ``model.onnx.data`` beside it when the weights are many."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import onnx
import onnx_ir as ir

from ...compiler.core.errors import ArtifactError
from ...compiler.core.graph import all_graphs, clone_model
from ...compiler.core.shapes import PLAIN_TO_SEE, forget_ours

MODEL = "model.onnx"
DATA = "model.onnx.data"
INLINE_BYTES = 64 << 20
"""Models with fewer bytes of weights are one file."""
SMALLEST_OUTSIDE = 1024
ALIGNMENT = 64
CHUNK = 4 << 20


def write_model(model: ir.Model, folder: Path, *, inline_bytes: int = INLINE_BYTES) -> tuple[Path, ...]:
    """Write a model into ``folder``, never holding more than one weight in memory. Raises ArtifactError when the disk refuses."""
    copy = clone_model(model)
    values = [value for graph in all_graphs(copy) for value in graph.initializers.values()]
    total = sum(value.const_value.nbytes for value in values if value.const_value is not None)
    files = [folder / MODEL]
    try:
        if total >= inline_bytes:
            files.append(folder / DATA)
            with (folder / DATA).open("wb") as data:
                for value in values:
                    if value.const_value is not None and _goes_outside(value.const_value):
                        value.const_value = _append(value.const_value, data)
        for value in values:
            if isinstance(value.const_value, ir.ExternalTensor) and value.const_value.location != DATA:
                value.const_value = _inline(value.const_value)
        forget_ours(copy)
        proto = ir.to_proto(copy)
        _leave_out_types(proto.graph)
        (folder / MODEL).write_bytes(proto.SerializeToString())
    except OSError as error:
        raise ArtifactError(f"the model cannot be written to '{folder}': {error.strerror}") from error
    return tuple(files)


def _leave_out_types(graph: onnx.GraphProto) -> None:
    """Types that everybody sees without being told: those of weights, of what quantises and dequantises, and of convolutions quantised right away."""
    seen = {tensor.name for tensor in graph.initializer} | {name for node in graph.node if node.op_type in PLAIN_TO_SEE for name in node.output}
    convolved = {node.output[0] for node in graph.node if node.op_type == "Conv"}
    seen |= {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] in convolved}
    told = [info for info in graph.value_info if info.name not in seen]
    del graph.value_info[:]
    graph.value_info.extend(told)
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        for body in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
            _leave_out_types(body)


def _goes_outside(tensor: ir.TensorProtocol) -> bool:
    return tensor.dtype != ir.DataType.STRING and tensor.nbytes >= SMALLEST_OUTSIDE


def _append(tensor: ir.TensorProtocol, data: BinaryIO) -> ir.ExternalTensor:
    data.write(bytes(-data.tell() % ALIGNMENT))
    offset = data.tell()
    _copy(tensor, data)
    return ir.ExternalTensor(DATA, offset, tensor.nbytes, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=tensor.name or "")


def _copy(tensor: ir.TensorProtocol, data: BinaryIO) -> None:
    """Through plain reads: the pages of a mapped file would stay in memory."""
    if hasattr(tensor, "chunks"):
        for piece in tensor.chunks():
            data.write(piece)
        return
    if not isinstance(tensor, ir.ExternalTensor):
        data.write(tensor.tobytes())
        return
    left = tensor.nbytes
    with Path(tensor.path).open("rb") as source:
        source.seek(tensor.offset or 0, os.SEEK_SET)
        while left:
            piece = source.read(min(CHUNK, left))
            if not piece:
                raise ArtifactError(f"the data file '{tensor.path}' ends before the weight '{tensor.name}' does")
            data.write(piece)
            left -= len(piece)


def _inline(tensor: ir.ExternalTensor) -> ir.TensorProtocol:
    content = onnx.TensorProto(name=tensor.name, data_type=tensor.dtype.value, dims=tensor.shape.numpy(), raw_data=tensor.tobytes())
    return ir.serde.TensorProtoTensor(content)
