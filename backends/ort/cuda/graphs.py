"""Whether the kernels of a model can be captured once and replayed: then sizes, branches and random numbers are those of the first run for ever."""

from __future__ import annotations

import onnx_ir as ir

from ....compiler.core.graph import constant, node_label, subgraphs_of
from ....compiler.core.target import STANDARD_DOMAINS

__all__ = ["why_not_captured"]

SIZED_BY_DATA = frozenset({"NonZero", "Compress", "Unique", "NonMaxSuppression", "StringSplit", "TfIdfVectorizer"})
RANDOM = frozenset({"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"})
ON_THE_HOST = {
    "Reshape": (1,),
    "Expand": (1,),
    "Tile": (1,),
    "Slice": (1, 2, 3, 4),
    "Resize": (1, 2, 3),
    "Upsample": (1,),
    "ConstantOfShape": (0,),
    "Range": (0, 1, 2),
    "TopK": (1,),
    "Pad": (1, 2, 3),
    "OneHot": (1,),
    "Squeeze": (1,),
    "Unsqueeze": (1,),
    "Split": (1,),
    "CumSum": (1,),
    "Trilu": (1,),
    "Clip": (1, 2),
    "DFT": (1, 2),
    "STFT": (1, 3),
    "AffineGrid": (1,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "MaxUnpool": (2,),
    **{f"Reduce{kind}": (1,) for kind in ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")},
}
"""Standard operator -> the inputs that its CUDA kernel reads on the host, before anything runs on the device."""
CACHES = {"GroupQueryAttention": (6,), "DecoderMaskedMultiHeadAttention": (7,), "Attention": (6,), "SparseAttention": (7, 8)}
"""The same for operators of com.microsoft: how long a sequence has become."""


def why_not_captured(model: ir.Model) -> str:
    """Why a captured run would not be right for other inputs of the same shapes, in a few words; "" when it would."""
    settled: set[ir.Value] = set()
    for node in model.graph:
        reason = _of_itself(node)
        if reason:
            return f"{node_label(node)} {reason}"
        measures = node.op_type in ("Shape", "Size") and node.domain in STANDARD_DOMAINS
        if measures or (node.inputs and all(_is_settled(value, settled) for value in node.inputs)):
            settled.update(node.outputs)
        moving = next((value for index in _host_inputs(node) for value in node.inputs[index : index + 1] if not _is_settled(value, settled)), None)
        if moving is not None:
            return f"{node_label(node)} is told by '{moving.name}' what to do, which depends on more than the shapes of the inputs"
    return ""


def _of_itself(node: ir.Node) -> str:
    if subgraphs_of(node):
        return "branches or loops"
    if node.op_type in SIZED_BY_DATA:
        return "makes a result whose size depends on the data"
    if node.op_type in RANDOM or (node.op_type == "Dropout" and len(node.inputs) > 2):
        return "draws random numbers, which would be the same ones each time"
    return ""


def _host_inputs(node: ir.Node) -> tuple[int, ...]:
    table = ON_THE_HOST if node.domain in STANDARD_DOMAINS else CACHES
    return table.get(node.op_type, ())


def _is_settled(value: ir.Value | None, settled: set[ir.Value]) -> bool:
    """Whether a value is the same for all inputs of the same shapes."""
    if value is None or value in settled:
        return True
    return constant(value) is not None or (value.is_initializer() and not value.is_graph_input())
