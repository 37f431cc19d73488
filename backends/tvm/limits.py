"""Relu, Clip and their like with NaN treated as ONNX and ONNX Runtime do.

Generated code computes ``maximum(a, b)`` as a > b ? a : b, and minimum likewise: with the limit first, NaN comes through at no cost. TVM's own converters
write the limit last, which makes NaN the limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from ...compiler.core.graph import array, attribute

if TYPE_CHECKING:
    from .importing import Importer

LOOKED_AT = 1 << 20
"""Bytes of a constant that are looked through for NaN."""


def rectified(importer: Importer, node: ir.Node) -> Any:
    """Relu: 0 at least."""
    from tvm import relax

    value = importer.tensor(_first(node))
    return relax.op.maximum(_number(0, value), value)


def clipped(importer: Importer, node: ir.Node) -> Any:
    """Clip: both limits are optional, attributes before opset 11 and inputs since."""
    from tvm import relax

    source = importer.tensor(_first(node))
    value = source
    for place, operation in ((2, relax.op.minimum), (1, relax.op.maximum)):
        limit = _limit(importer, node, place, source)
        value = value if limit is None else importer.builder.normalize(operation(limit, value))
    return value


def hard_sigmoid(importer: Importer, node: ir.Node) -> Any:
    """HardSigmoid: alpha x + beta between 0 and 1."""
    from tvm import relax

    value = importer.tensor(_first(node))
    alpha, beta = attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5)
    line = relax.op.add(relax.op.multiply(value, _number(alpha, value)), _number(beta, value))
    return relax.op.maximum(_number(0, value), relax.op.minimum(_number(1, value), line))


def extreme(importer: Importer, node: ir.Node) -> Any:
    """Max and Min of any number of values: NaN where one of them is, as ONNX Runtime does. Constants stand first, since those are known to be no NaN."""
    from tvm import relax

    sources = sorted((value for value in node.inputs if value is not None), key=lambda value: not _is_settled(value))
    operation = relax.op.maximum if node.op_type == "Max" else relax.op.minimum
    result, settled = importer.tensor(sources[0]), _is_settled(sources[0])
    for source in sources[1:]:
        other = importer.tensor(source)
        found = importer.emit(operation(result, other))
        result = found if settled else importer.emit(relax.op.where(importer.emit(relax.op.isnan(result)), result, found))
        settled = settled and _is_settled(source)
    return result


def place_of_extreme(importer: Importer, node: ir.Node) -> Any:
    """ArgMax and ArgMin of floats: NaN is passed over unless it comes first, as ONNX Runtime does. TVM's kernels give a place that is none."""
    from tvm import relax

    value, normalize = importer.tensor(_first(node)), importer.builder.normalize
    dtype = str(value.ty.dtype)
    if not dtype.startswith("float") or attribute(node, "select_last_index", 0):
        return None
    axis, keep = int(attribute(node, "axis", 0)), bool(attribute(node, "keepdims", 1))  # type: ignore[call-overload]
    largest = node.op_type == "ArgMax"
    finite = normalize(relax.op.where(normalize(relax.op.isnan(value)), relax.const(-np.inf if largest else np.inf, dtype), value))
    found = normalize((relax.op.argmax if largest else relax.op.argmin)(finite, axis, keepdims=keep))
    first = normalize(relax.op.take(value, relax.const([0] if keep else 0, "int64"), axis=axis, mode="clip"))
    return relax.op.where(normalize(relax.op.isnan(first)), relax.const(0, "int64"), found)


def _first(node: ir.Node) -> ir.Value:
    source = node.inputs[0]
    assert source is not None, f"{node.op_type} without an input"
    return source


def _is_settled(value: ir.Value) -> bool:
    """Whether a value is never NaN: a constant that is none, or whole numbers."""
    if value.dtype is not None and not value.dtype.is_floating_point():
        return True
    content = array(value, max_bytes=LOOKED_AT)
    return content is not None and not np.isnan(content).any()


def _limit(importer: Importer, node: ir.Node, place: int, value: Any) -> Any:
    if importer.opset < 11:
        given = attribute(node, "min" if place == 1 else "max", None)
        return None if given is None else _number(given, value)
    source = node.inputs[place] if len(node.inputs) > place else None
    return _largest(value, place) if source is None else importer.tensor(source)


def _largest(value: Any, place: int) -> Any:
    """An absent limit is the largest or smallest finite number; whole numbers need none."""
    kind = np.dtype(str(value.ty.dtype)) if str(value.ty.dtype).startswith("float") else None
    if kind is None:
        return None
    return _number(float(np.finfo(kind).min if place == 1 else np.finfo(kind).max), value)


def _number(number: Any, like: Any) -> Any:
    """A scalar of the element type of ``like``."""
    from tvm import relax

    return relax.const(number, str(like.ty.dtype))
