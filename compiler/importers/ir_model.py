"""Models that are an onnx_ir graph already."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
from onnx import GraphProto, ModelProto, TensorProto

from ..core.errors import ModelError
from ..core.graph import all_graphs, node_label
from ..protowriter import ProtoWriter, write_tensor
from .assemble import Draft
from .external import DataFolder, FileTensor


def read_ir(model: ir.Model) -> Draft:
    """A copy of the graph; the weights are shared with the caller's, and those in files stay there. Raises ModelError when it cannot be written."""
    _check_versions(model)
    store = _Held()
    try:
        store.draft.proto = ProtoWriter(store).model(model)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"the ir.Model cannot be written as ONNX: {type(error).__name__}: {error}") from error
    return store.draft


def _check_versions(model: ir.Model) -> None:
    for graph in all_graphs(model):
        for node in graph:
            imported = model.graph.opset_imports.get(node.domain)
            if node.version is not None and imported is not None and node.version != imported:
                raise ModelError(
                    f"the node {node_label(node)} is of version {node.version}, but the model imports {imported}: ONNX has one version for the whole model"
                )


class _Held:
    """Tensors stay what they are; those in files go through the same checks as a file's."""

    def __init__(self) -> None:
        self.draft = Draft(ModelProto())
        self._folders: dict[Path, DataFolder] = {}

    def initializer(self, proto: GraphProto, graph: ir.Graph, value: ir.Value, tensor: ir.TensorProtocol) -> None:
        self._put(proto.initializer.add(), value.name or "", tensor)

    def attribute(self, proto: TensorProto, tensor: ir.TensorProtocol) -> None:
        self._put(proto, tensor.name or "", tensor)

    def replaces(self, proto: GraphProto, graph: ir.Graph, node: ir.Node) -> bool:
        return False

    def _put(self, proto: TensorProto, name: str, tensor: ir.TensorProtocol) -> None:
        if tensor.dtype == ir.DataType.STRING:
            write_tensor(proto, name, tensor)
            return
        if isinstance(tensor, ir.ExternalTensor) and not isinstance(tensor, FileTensor):
            tensor = self._placed(name, tensor)
        proto.name = name
        self.draft.hold_tensor(proto, tensor)

    def _placed(self, name: str, tensor: ir.ExternalTensor) -> FileTensor:
        folder = Path(tensor.base_dir or ".")
        if folder not in self._folders:
            self._folders[folder] = DataFolder(folder)
        entries = {key: str(value) for key, value in (("location", tensor.location), ("offset", tensor.offset), ("length", tensor.length)) if value is not None}
        return self._folders[folder].tensor(name, entries, tensor.dtype, tuple(tensor.shape.numpy()))
