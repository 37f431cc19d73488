"""Models from ONNX text."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from graphwright.compiler.core.graph import bind_opsets


def read(text: str, **weights: np.ndarray) -> ir.Model:
    """A model from ONNX text; ``weights`` are its initialisers."""
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    model = ir.from_proto(proto)
    bind_opsets(model)
    return model
