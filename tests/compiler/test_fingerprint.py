"""What a compilation's key is made of."""

from __future__ import annotations

import onnx_ir as ir
import torch
from onnx_ir.tensor_adapters import TorchTensor

from graphwright.compiler.fingerprint import hash_weights


def model_with(tensor: ir.TensorProtocol) -> ir.Model:
    """A graph that hands out one weight."""
    weight = ir.Value(name="w", shape=ir.Shape(tensor.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    node = ir.Node("", "Identity", [weight])
    graph = ir.Graph([], node.outputs, nodes=[node], initializers=[weight], opset_imports={"": 21}, name="g")
    return ir.Model(graph, ir_version=10)


def test_a_weight_hashes_alike_as_a_torch_tensor_and_as_an_array() -> None:
    content = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    other = content.clone()
    other[2, 3] = 0
    hashes = [hash_weights(model_with(tensor)) for tensor in (TorchTensor(content), ir.tensor(content.numpy()), TorchTensor(other))]
    assert hashes[0] == hashes[1] != hashes[2]
