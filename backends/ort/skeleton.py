"""A model without its weights, and where ONNX Runtime finds them.

Large weights are never serialised. Those that lie in files are mapped by ONNX Runtime itself from their folder; those in memory are handed over as they are.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from ...compiler.core.errors import ModelError
from ...compiler.core.graph import all_graphs, clone_model
from .ports import ELEMENTS, FOREIGN, NAMES
from .values import PACKED_BITS

LARGEST_INLINE = 1024
"""Bytes. Smaller tensors (shapes, axes, scalars) are needed where the model is loaded."""
ELSEWHERE = "held in memory"
"""Stands where a file's name would; no such file is ever looked for."""


@dataclass(frozen=True)
class Skeleton:
    """``proto`` has every large weight left out: those in ``held`` are handed over, those in ``mapped`` lie in files below ``folder``.

    ``sizes`` are the bytes of all initialisers of the main graph.
    """

    proto: onnx.ModelProto
    folder: Path | None = None
    held: dict[str, ir.TensorProtocol] = field(default_factory=dict)
    mapped: dict[str, ir.ExternalTensor] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The model file. Raises ModelError when what must be in it exceeds the 2 GiB of a protobuf file."""
        try:
            return bytes(self.proto.SerializeToString())
        except Exception as error:  # protobuf's EncodeError and ValueError, which differ between its implementations
            raise ModelError(f"the model is too large to serialise without its initialisers: turn large Constant nodes into initialisers ({error})") from None

    def configure(self, options: ort.SessionOptions, names: Collection[str] | None = None) -> list[np.ndarray]:
        """Tell a session where the weights are (only ``names`` of them, when given); returns the arrays that must live as long as it does.

        Raises ModelError when a file is no longer the one that the model was made from.
        """
        for name, tensor in self.mapped.items():
            if (names is None or name in names) and not _is_unchanged(tensor):
                raise ModelError(f"the data file '{tensor.path}' of the weight '{name}' was replaced meanwhile: import the model again")
        if self.folder is not None:
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(self.folder))
        chosen = [name for name in self.held if names is None or name in names]
        arrays = [_aligned(self.held[name].numpy()) for name in chosen]
        if chosen:
            values = [_as_value(self.held[name].dtype, array) for name, array in zip(chosen, arrays, strict=True)]
            options.add_external_initializers(chosen, values)
        return arrays


def skeleton_of(model: ir.Model) -> Skeleton:
    """Take a model's large weights out of a copy of it; the model itself is left alone."""
    sizes = {name: value.const_value.nbytes for name, value in model.graph.initializers.items() if value.const_value is not None}
    if _is_all_inline(model):
        return Skeleton(_serialised(model), None, {}, {}, sizes)
    copy = clone_model(model)
    folder = _main_folder(copy)
    held: dict[str, ir.TensorProtocol] = {}
    mapped: dict[str, ir.ExternalTensor] = {}
    _drop_unused(copy.graph)
    for graph in all_graphs(copy):
        for name, value in graph.initializers.items():
            if value.const_value is not None:
                can_hold = graph is copy.graph and _is_used(value)
                value.const_value = _placed(name, value.const_value, folder, mapped, held if can_hold else None)
    return Skeleton(_serialised(copy), folder, held, mapped, sizes)


def _serialised(model: ir.Model) -> onnx.ModelProto:
    try:
        return ir.to_proto(model)
    except ValueError as error:
        raise ModelError(f"the model cannot be serialised: {error}") from error


def _is_all_inline(model: ir.Model) -> bool:
    """Whether there is no weight to take out."""
    tensors = (value.const_value for graph in all_graphs(model) for value in graph.initializers.values())
    return all(tensor is None or (tensor.nbytes < LARGEST_INLINE and not isinstance(tensor, ir.ExternalTensor)) for tensor in tensors)


def weight_bytes(model: ir.Model) -> int:
    """The bytes of all initialisers, those of subgraphs included."""
    values = (value for graph in all_graphs(model) for value in graph.initializers.values())
    return sum(value.const_value.nbytes for value in values if value.const_value is not None)


def _drop_unused(graph: ir.Graph) -> None:
    """ONNX Runtime drops them too, and then refuses to be handed them."""
    for name, value in list(graph.initializers.items()):
        if not _is_used(value) and not value.is_graph_input():
            del graph.initializers[name]


def _is_used(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _placed(
    name: str, tensor: ir.TensorProtocol, folder: Path | None, mapped: dict[str, ir.ExternalTensor], held: dict[str, ir.TensorProtocol] | None
) -> ir.TensorProtocol:
    """What the skeleton has in place of a weight; ``held`` takes it when it can be handed over."""
    if tensor.dtype == ir.DataType.STRING or tensor.nbytes < LARGEST_INLINE:
        return _inline(name, tensor)
    location = _location(tensor, folder)
    if location is not None and isinstance(tensor, ir.ExternalTensor):
        mapped[name] = tensor
        return _outside(name, tensor, location, tensor.offset or 0)
    if held is None or _element(tensor.dtype) in PACKED_BITS:
        return _inline(name, tensor)
    held[name] = tensor
    return _outside(name, tensor, ELSEWHERE, 0)


def _inline(name: str, tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    if not isinstance(tensor, ir.ExternalTensor):
        return tensor
    content = onnx.TensorProto(name=name, data_type=tensor.dtype.value, dims=tensor.shape.numpy(), raw_data=tensor.tobytes())
    return ir.serde.TensorProtoTensor(content)


def _outside(name: str, tensor: ir.TensorProtocol, location: str, offset: int) -> ir.ExternalTensor:
    return ir.ExternalTensor(location, offset, tensor.nbytes, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=name)


def _main_folder(model: ir.Model) -> Path | None:
    """The folder with most bytes of weights: ONNX Runtime maps files of one folder only."""
    tensors = [value.const_value for graph in all_graphs(model) for value in graph.initializers.values()]
    held = Counter[Path]()
    for tensor in tensors:
        if isinstance(tensor, ir.ExternalTensor):
            held[Path(os.path.realpath(tensor.base_dir))] += tensor.nbytes
    return held.most_common(1)[0][0] if held else None


def _location(tensor: ir.TensorProtocol, folder: Path | None) -> str | None:
    """Where below ``folder`` the file of a weight is; None when it is not there, or no longer the file that was imported."""
    if folder is None or not isinstance(tensor, ir.ExternalTensor):
        return None
    if not _is_unchanged(tensor):
        return None
    path = Path(os.path.realpath(tensor.path))
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else None


def _is_unchanged(tensor: ir.ExternalTensor) -> bool:
    """Whether the tensor's file is still the one it was made from, as far as the tensor can tell."""
    tell = getattr(tensor, "is_unchanged", None)
    return tell is None or bool(tell())


def _element(dtype: ir.DataType) -> str:
    return NAMES.get(dtype.value, "")


def _aligned(array: np.ndarray) -> np.ndarray:
    """ONNX Runtime reads through plain pointers."""
    return np.require(array, requirements=["C", "A"])


def _as_value(dtype: ir.DataType, array: np.ndarray) -> ort.OrtValue:
    if _element(dtype) in FOREIGN:
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, ELEMENTS[_element(dtype)][0])
    return ort.OrtValue.ortvalue_from_numpy(array)
