"""Images with their channels last: convolutions, and what stands between them.

A value of four dimensions may be held with its channels last instead of as it is; it is turned around where an operator needs it otherwise, and only
there, so that a chain of convolutions turns nothing but its first input and its last result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from ...compiler.core.graph import array, attribute
from ...compiler.core.shapes import dims_of, static_shape

if TYPE_CHECKING:
    from .importing import Importer

WHOLE = ("int8", "uint8", "int16", "uint16", "int32")
TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


@dataclass(frozen=True)
class Last:
    """The result of a node with its channels last."""

    expression: Any


def channels_last(importer: Importer, node: ir.Node) -> Last | None:
    """The result of a node with its channels last; None where it is to be computed as it stands."""
    found = LAYOUTS.get(node.op_type)
    return found(importer, node) if found is not None and _rank(node.outputs[0]) == 4 else None


def _conv(importer: Importer, node: ir.Node) -> Last | None:
    from tvm import relax

    from .elements import constant_of

    x, weight = node.inputs[:2]
    kernel = array(weight)
    bias = array(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    known = attribute(node, "auto_pad", "NOTSET") in ("NOTSET", "VALID", "")
    if x is None or kernel is None or kernel.ndim != 4 or not known or (bias is None and len(node.inputs) > 2 and node.inputs[2] is not None):
        return None
    pads: Any = attribute(node, "pads", None) or [0] * 4
    made = relax.op.nn.conv2d(
        importer.last(x),
        constant_of(kernel.transpose(2, 3, 1, 0)),
        strides=list(attribute(node, "strides", None) or (1, 1)),  # type: ignore[call-overload]
        padding=list(pads) if attribute(node, "auto_pad", "NOTSET") != "VALID" else [0] * 4,
        dilation=list(attribute(node, "dilations", None) or (1, 1)),  # type: ignore[call-overload]
        groups=int(attribute(node, "group", 1)),  # type: ignore[call-overload]
        data_layout="NHWC",
        kernel_layout="HWIO",
    )
    return Last(made if bias is None else relax.op.add(importer.emit(made), constant_of(bias)))


def _pool(importer: Importer, node: ir.Node) -> Last | None:
    """Pooling of a value whose channels are last already; forms with dilations or open sizes are left."""
    from tvm import relax

    x = node.inputs[0]
    plain = attribute(node, "auto_pad", "NOTSET") in ("NOTSET", "") and not attribute(node, "ceil_mode", 0) and not attribute(node, "storage_order", 0)
    if x is None or not importer.is_last(x) or not plain or len(node.outputs) > 1 or any(one != 1 for one in attribute(node, "dilations", None) or ()):  # type: ignore[attr-defined]
        return None
    window: Any = attribute(node, "kernel_shape", None)
    settings: dict[str, Any] = {
        "pool_size": list(window),
        "strides": list(attribute(node, "strides", None) or (1, 1)),  # type: ignore[call-overload]
        "padding": list(attribute(node, "pads", None) or (0, 0, 0, 0)),  # type: ignore[call-overload]
        "layout": "NHWC",
    }
    if node.op_type == "MaxPool":
        return Last(relax.op.nn.max_pool2d(importer.last(x), **settings))
    return Last(relax.op.nn.avg_pool2d(importer.last(x), **settings, count_include_pad=bool(attribute(node, "count_include_pad", 0))))


def _global_average(importer: Importer, node: ir.Node) -> Last | None:
    from tvm import relax

    x = node.inputs[0]
    return None if x is None or not importer.is_last(x) else Last(relax.op.mean(importer.last(x), [1, 2], keepdims=True))


def _elementwise(importer: Importer, node: ir.Node) -> Last | None:
    """One number from the numbers in one place: at least one operand has its channels last, the others follow."""
    values = [value for value in node.inputs if value is not None]
    if not any(importer.is_last(value) for value in values):
        return None
    turned = [_operand(importer, value) for value in values]
    if any(one is None for one in turned):
        return None
    with importer.standing_for(dict(zip(values, turned, strict=True))):
        return Last(importer.converted(node)[0])


def _quantised(importer: Importer, node: ir.Node) -> Last | None:
    """To whole numbers or back, with one scale, or one for each place of an axis; blocks are left."""
    from tvm import relax

    from .elements import constant_of, dtype_of

    source, result = node.inputs[0], node.outputs[0]
    scale = array(node.inputs[1])
    zero = array(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    unknown = zero is None and len(node.inputs) > 2 and node.inputs[2] is not None
    if source is None or not importer.is_last(source) or scale is None or unknown or scale.ndim > 1 or attribute(node, "block_size", 0):
        return None
    whole = dtype_of(result if node.op_type == "QuantizeLinear" else source)
    if whole not in WHOLE:
        return None
    axis = TO_LAST.index(int(attribute(node, "axis", 1)) % 4)  # type: ignore[call-overload]
    zero = np.zeros(scale.shape, whole) if zero is None else zero
    if scale.size == 1:
        scale, zero = scale.reshape(()), zero.reshape(())
    operation = relax.op.quantize if node.op_type == "QuantizeLinear" else relax.op.dequantize
    return Last(operation(importer.last(source), constant_of(scale), constant_of(zero), axis=axis, out_dtype=dtype_of(result)))


def _operand(importer: Importer, value: ir.Value) -> Any:
    """An operand as it meets channels that are last; None where that takes more than turning it around."""
    from .elements import constant_of

    shape = static_shape(value)
    if _rank(value) == 4:
        return importer.last(value)
    content = array(value)
    if shape is None:
        return None
    if int(np.prod(shape)) == 1 and len(shape) < 2:
        return importer.tensor(value)
    if content is None or len(shape) > 4:
        return None
    return constant_of(content.reshape((1,) * (4 - len(shape)) + shape).transpose(TO_LAST))


def _joined(importer: Importer, node: ir.Node) -> Last | None:
    """Channels of several values beside each other."""
    from tvm import relax

    values = [value for value in node.inputs if value is not None]
    if not any(importer.is_last(value) for value in values) or any(_rank(value) != 4 for value in values):
        return None
    axis = int(attribute(node, "axis", 0)) % 4  # type: ignore[call-overload]
    return Last(relax.op.concat([importer.last(value) for value in values], TO_LAST.index(axis)))


def _rank(value: ir.Value | None) -> int | None:
    dims = dims_of(value)
    return None if dims is None else len(dims)


UNARY = (
    "Abs", "Cast", "Ceil", "Clip", "Elu", "Erf", "Exp", "Floor", "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "Neg", "Not", "Reciprocal", "Relu",
    "Round", "Selu", "Sigmoid", "Sign", "Softsign", "Sqrt", "Tanh", "ThresholdedRelu",
)  # fmt: skip
BINARY = ("Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Mul", "Or", "Pow", "Sub", "Where")
LAYOUTS: Mapping[str, Callable[[Importer, ir.Node], Last | None]] = {
    "Conv": _conv,
    "AveragePool": _pool,
    "MaxPool": _pool,
    "GlobalAveragePool": _global_average,
    "Concat": _joined,
    "DequantizeLinear": _quantised,
    "QuantizeLinear": _quantised,
    **dict.fromkeys((*UNARY, *BINARY), _elementwise),
}
