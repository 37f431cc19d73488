"""What the outputs of a model hold, as far as the graph tells."""

from __future__ import annotations

import onnx_ir as ir

from ...compiler.core.graph import is_op
from ...compiler.core.sites import site_of

__all__ = ["LOGITS", "NUMBERS", "PROBABILITIES", "score_outputs"]

PROBABILITIES, LOGITS, NUMBERS = "probabilities", "logits", "numbers"
CLASSES = 2
MATRIX = 2


def score_outputs(model: ir.Model) -> dict[str, str]:
    """The floating-point outputs, and what they hold: "probabilities" (a Softmax makes them), "logits" (a product with a weight does), or "numbers"."""
    return {value.name: _kind(value) for value in model.graph.outputs if value.name and (value.dtype is None or value.dtype.is_floating_point())}


def _kind(value: ir.Value) -> str:
    maker = value.producer()
    while maker is not None and (is_op(maker, "Identity", "Reshape", "Cast", "DequantizeLinear", "QuantizeLinear") or _adds_constant(maker)):
        maker = next((item for item in maker.inputs if item is not None and item.const_value is None), value).producer() if maker.inputs else None
    size = value.shape[-1] if value.shape is not None and len(value.shape) > 1 else 0
    if maker is None or (isinstance(size, int) and size < CLASSES):
        return NUMBERS
    if is_op(maker, "Softmax"):
        return PROBABILITIES
    wide = len(value.shape or ()) > MATRIX or site_of(maker) is not None
    return LOGITS if is_op(maker, "MatMul", "Gemm", "LogSoftmax") and wide else NUMBERS


def _adds_constant(node: ir.Node) -> bool:
    return is_op(node, "Add") and any(value is not None and value.const_value is not None for value in node.inputs)
