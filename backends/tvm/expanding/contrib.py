"""The operators of ONNX Runtime that our fusions write, in standard ones: a model legalised for it is built by TVM, too.

Source of each definition: docs/ContribOperators.md of ONNX Runtime.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import cast

import numpy as np
import onnx_ir as ir

from ....compiler.core.build import Build
from ....compiler.core.graph import attribute
from ....compiler.core.shapes import static_shape
from .contrib_attention import multi_head_attention, packed_attention

Made = tuple[ir.Value | None, ...] | None
"""One value for each output of the node, None for one that nobody reads; None as a whole when it cannot be written out."""

ROOT_2 = math.sqrt(2.0)
ROOT_2_BY_PI = math.sqrt(2.0 / math.pi)


def fused_conv(op: Build, node: ir.Node) -> Made:
    """act(Conv(x, w, b) + z)"""
    x, w, b, z = _padded(node, 4)
    kept = {name: attr for name, attr in node.attributes.items() if not name.startswith("activation")}
    made = op.node("Conv", (x, w, b), cast("dict[str, object]", kept)).outputs[0]
    if z is not None:
        made = _one(op.Add(made, z))
    parameters = cast("tuple[float, ...]", attribute(node, "activation_params", ()))
    done = _activated(op, made, str(attribute(node, "activation", "")), parameters)
    return None if done is None else (done,)


def fused_gemm(op: Build, node: ir.Node) -> Made:
    """act(alpha a b + beta c)"""
    kept = {name: attr for name, attr in node.attributes.items() if not name.startswith("activation")}
    made = op.node("Gemm", tuple(_padded(node, 3)), cast("dict[str, object]", kept)).outputs[0]
    given = [attribute(node, f"activation_{name}") for name in ("alpha", "beta", "gamma")]
    parameters = tuple(float(value) for value in given if isinstance(value, int | float))
    done = _activated(op, made, str(attribute(node, "activation", "")), parameters)
    return None if done is None else (done,)


def fused_matmul(op: Build, node: ir.Node) -> Made:
    """alpha a b, with the last two axes of either turned around"""
    a, b = _padded(node, 2)
    if attribute(node, "transBatchA", 0) or attribute(node, "transBatchB", 0):
        return None
    sides = [_turned(op, value) if attribute(node, name, 0) else value for value, name in ((a, "transA"), (b, "transB"))]
    if any(side is None for side in sides):
        return None
    alpha = float(cast(float, attribute(node, "alpha", 1.0)))
    made = _one(op.MatMul(*sides))
    return (made if alpha == 1.0 else _one(op.Mul(made, _like(a, alpha))),)


def bias_gelu(op: Build, node: ir.Node) -> Made:
    """Gelu(x + b)"""
    return (_gelu(op, _one(op.Add(*_padded(node, 2)))),)


def gelu(op: Build, node: ir.Node) -> Made:
    """x/2 (1 + erf(x/sqrt 2))"""
    return (_gelu(op, _padded(node, 1)[0]),)


def quick_gelu(op: Build, node: ir.Node) -> Made:
    """x sigmoid(alpha x)"""
    (x,) = _padded(node, 1)
    alpha = float(cast(float, attribute(node, "alpha", 1.702)))
    return (_one(op.Mul(x, _one(op.Sigmoid(_one(op.Mul(x, _like(x, alpha))))))),)


def fast_gelu(op: Build, node: ir.Node) -> Made:
    """x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), of x + b"""
    x, b = _padded(node, 2)
    if b is not None:
        x = _one(op.Add(x, b))
    cube = _one(op.Mul(_one(op.Mul(x, x)), x))
    inner = _one(op.Add(x, _one(op.Mul(cube, _like(x, 0.044715)))))
    tanh = _one(op.Tanh(_one(op.Mul(inner, _like(x, ROOT_2_BY_PI)))))
    return (_one(op.Mul(_one(op.Mul(x, _like(x, 0.5))), _one(op.Add(tanh, _like(x, 1.0))))),)


def skip_layer_norm(op: Build, node: ir.Node) -> Made:
    """LayerNormalization(x + skip + b); the sum is the fourth output"""
    x, skip, scale, shift, bias = _padded(node, 5)
    if _reads(node, 1) or _reads(node, 2):
        return None
    whole = _summed(op, x, skip, bias)
    epsilon = attribute(node, "epsilon", 1e-12)
    made = _one(op.LayerNormalization(whole, scale, shift, axis=-1, epsilon=epsilon))
    return (made, None, None, whole)[: len(node.outputs)]


def skip_rms_norm(op: Build, node: ir.Node) -> Made:
    """r / sqrt(mean(r^2) + epsilon) scale, r = x + skip + b; r is the fourth output"""
    x, skip, scale, bias = _padded(node, 4)
    if _reads(node, 1) or _reads(node, 2):
        return None
    whole = _summed(op, x, skip, bias)
    squares = _one(op.ReduceMean(_one(op.Mul(whole, whole)), op.const([-1]), keepdims=1))
    epsilon = float(cast(float, attribute(node, "epsilon", 1e-12)))
    root = _one(op.Sqrt(_one(op.Add(squares, _like(x, epsilon)))))
    made = _one(op.Mul(_one(op.Div(whole, root)), scale))
    return (made, None, None, whole)[: len(node.outputs)]


def embed_layer_norm(op: Build, node: ir.Node) -> Made:
    """LayerNormalization(word[ids] + position[places] + segment[kinds]); the sum is the third output"""
    ids, kinds, word, position, segment, scale, shift, mask, places = _padded(node, 9)
    shape = static_shape(ids)
    if mask is not None or _reads(node, 1) or (places is None and (shape is None or len(shape) != 2)):
        return None
    if places is None and shape is not None:
        places = op.const(np.arange(shape[1], dtype=np.int64)[None])
    parts = [_one(op.Gather(word, ids)), _one(op.Gather(position, places))]
    if kinds is not None and segment is not None:
        parts.append(_one(op.Gather(segment, kinds)))
    whole = _summed(op, *parts)
    made = _one(op.LayerNormalization(whole, scale, shift, axis=-1, epsilon=attribute(node, "epsilon", 1e-12)))
    return (made, None, whole)[: len(node.outputs)]


EXPANSIONS: Mapping[str, Callable[[Build, ir.Node], Made]] = {
    "com.microsoft::FusedConv": fused_conv,
    "com.microsoft::FusedGemm": fused_gemm,
    "com.microsoft::FusedMatMul": fused_matmul,
    "com.microsoft::BiasGelu": bias_gelu,
    "com.microsoft::Gelu": gelu,
    "com.microsoft::QuickGelu": quick_gelu,
    "com.microsoft::FastGelu": fast_gelu,
    "com.microsoft::SkipLayerNormalization": skip_layer_norm,
    "com.microsoft::SkipSimplifiedLayerNormalization": skip_rms_norm,
    "com.microsoft::EmbedLayerNormalization": embed_layer_norm,
    "com.microsoft::MultiHeadAttention": multi_head_attention,
    "com.microsoft::Attention": packed_attention,
}
"""Operator -> what writes it out."""


def _activated(op: Build, x: ir.Value, name: str, given: tuple[float, ...]) -> ir.Value | None:
    """What FusedConv and FusedGemm apply; ``given`` are its parameters, as far as the node has them."""
    if name in ("Relu", "Tanh", "Sigmoid", "Softplus", "Softsign"):
        return op.node(name, (x,), {}).outputs[0]
    if name == "":
        return x
    if name == "LeakyRelu":
        return _one(op.LeakyRelu(x, alpha=given[0] if given else 0.01))
    if name == "HardSigmoid":
        alpha, beta = (*given, *(0.2, 0.5)[len(given) :])[:2]
        return _one(op.HardSigmoid(x, alpha=alpha, beta=beta))
    if name == "Clip" and len(given) >= 2:
        return _one(op.Clip(x, _like(x, given[0]), _like(x, given[1])))
    return None


def _gelu(op: Build, x: ir.Value | None) -> ir.Value:
    erf = _one(op.Erf(_one(op.Mul(x, _like(x, 1.0 / ROOT_2)))))
    return _one(op.Mul(_one(op.Mul(x, _like(x, 0.5))), _one(op.Add(erf, _like(x, 1.0)))))


def _summed(op: Build, first: ir.Value | None, *rest: ir.Value | None) -> ir.Value:
    """The sum of what is there."""
    whole = first
    for value in rest:
        whole = whole if value is None else _one(op.Add(whole, value))
    assert whole is not None
    return whole


def _turned(op: Build, value: ir.Value | None) -> ir.Value | None:
    """The last two axes exchanged; None when the rank is not known."""
    if value is None or value.shape is None:
        return None
    rank = len(value.shape)
    return value if rank < 2 else _one(op.Transpose(value, perm=[*range(rank - 2), rank - 1, rank - 2]))


def _like(x: ir.Value | None, number: float) -> np.ndarray:
    """A number of the type of ``x``."""
    dtype = x.dtype if x is not None and x.dtype is not None else ir.DataType.FLOAT
    return np.array(number, dtype.numpy())


def _padded(node: ir.Node, count: int) -> list[ir.Value | None]:
    """The first inputs, None for those that are not there."""
    return [*node.inputs, *[None] * count][:count]


def _reads(node: ir.Node, place: int) -> bool:
    """Whether somebody needs an output."""
    return len(node.outputs) > place and (bool(node.outputs[place].uses()) or node.outputs[place].is_graph_output())


def _one(made: ir.Value | tuple[ir.Value, ...]) -> ir.Value:
    assert isinstance(made, ir.Value)
    return made
