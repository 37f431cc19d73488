"""Small models for the tests of backends."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import onnx_ir as ir
import pytest

from graphwright.compiler.core.graph import bind_opsets


@pytest.fixture(scope="session")
def model() -> Callable[..., ir.Model]:
    """``model("g (float[2] x) => (float[2] y) { y = Relu(x) }", w=array)``: a model from ONNX text, with arrays as initialisers."""
    return _model


def _model(text: str, *, opset: int = 21, imports: Iterable[str] = ("com.microsoft",), **weights: np.ndarray | ir.TensorProtocol) -> ir.Model:
    domains = "".join(f', "{domain}" : 1' for domain in imports)
    made = ir.from_onnx_text(f'<ir_version: 10, opset_import: ["" : {opset}{domains}]>\n{text}')
    for name, content in weights.items():
        tensor = ir.tensor(content, name=name) if isinstance(content, np.ndarray) else content
        _give(made, name, tensor)
    bind_opsets(made)
    return made


def _give(made: ir.Model, name: str, tensor: ir.TensorProtocol) -> None:
    """Let ``tensor`` be the initialiser that the text reads as the input ``name``."""
    value = next(value for value in made.graph.inputs if value.name == name)
    made.graph.inputs.remove(value)
    value.const_value = tensor
    value.type = ir.TensorType(tensor.dtype)
    value.shape = ir.Shape(tensor.shape)
    made.graph.register_initializer(value)
