"""What a model is, as a hash: graph and weights, wherever they are stored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import onnx_ir as ir
from onnx import GraphProto, TensorProto

from .importers.external import FileTensor
from .protowriter import ProtoWriter, texts, write_tensor
from .serialize import content_key, tensors_of

__all__ = ["fingerprint", "tensor_digest", "weights_digest"]


def fingerprint(model: ir.Model) -> str:
    """The SHA-256 of the graph and of every weight, external data included; where the weights are stored makes no difference. Streams them."""
    return hashlib.sha256(ProtoWriter(_Digests()).model(model).SerializeToString(deterministic=True)).hexdigest()


def weights_digest(model: ir.Model) -> str:
    """The SHA-256 of every tensor in the model, in order: initialisers and attributes, those of subgraphs and functions included."""
    digest = hashlib.sha256()
    known: dict[tuple[int, ...], bytes] = {}
    for tensor in tensors_of(model):
        key = content_key(tensor)
        if key not in known:
            known[key] = tensor_digest(tensor)
        digest.update(f"{tensor.dtype.name}{tuple(tensor.shape.numpy())}".encode() + known[key])
    return digest.hexdigest()


def tensor_digest(tensor: ir.TensorProtocol) -> bytes:
    """The SHA-256 of a tensor's bytes, read piece by piece."""
    digest = hashlib.sha256()
    for piece in _pieces(tensor):
        digest.update(piece)
    return digest.digest()


def _pieces(tensor: ir.TensorProtocol) -> Iterator[bytes | memoryview]:
    if tensor.dtype == ir.DataType.STRING:
        yield from (len(text).to_bytes(8, "little") + text for text in texts(tensor))
    elif isinstance(tensor, FileTensor):
        yield from tensor.chunks()
    else:
        yield tensor.tobytes()


class _Digests:
    """Writes the hash of a tensor in place of its bytes."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], bytes] = {}

    def initializer(self, proto: GraphProto, graph: ir.Graph, value: ir.Value, tensor: ir.TensorProtocol) -> None:
        self._put(proto.initializer.add(), value.name or "", tensor)

    def attribute(self, proto: TensorProto, tensor: ir.TensorProtocol) -> None:
        self._put(proto, "", tensor)

    def replaces(self, proto: GraphProto, graph: ir.Graph, node: ir.Node) -> bool:
        return False

    def _put(self, proto: TensorProto, name: str, tensor: ir.TensorProtocol) -> None:
        key = content_key(tensor)
        if key not in self._known:
            self._known[key] = tensor_digest(tensor)
        write_tensor(proto, name, tensor, with_data=False)
        proto.ClearField("doc_string")
        proto.raw_data = self._known[key]
