"""Range analysis: how large a float value can get, proven from the graph.

A value with a finite bound is never NaN and never infinite. A float input of the model may hold anything and has no bound; token ids, tables,
weights and whatever is normalised do. Rules of the ``domain`` kind ask here for their proof.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from .graph import array, attribute, is_op

MAX_WEIGHT_BYTES = 256 * 2**20
"""Larger weights are not read to find their largest element."""
SLACK = 1.001
"""Room for rounding in every arithmetic step."""

PASSED_ON = (
    "Identity", "Reshape", "Transpose", "Slice", "Squeeze", "Unsqueeze", "Expand", "Split", "Flatten", "Tile", "Gather", "GatherND", "GatherElements",
    "DepthToSpace", "SpaceToDepth", "Neg", "Abs", "Relu", "Gelu", "MaxPool", "GlobalMaxPool", "GlobalAveragePool", "ReduceMean", "ReduceMax", "ReduceMin",
    "Dropout", "HardSwish", "ThresholdedRelu",
)  # fmt: skip
"""Operators whose result is no larger than their first input."""
AT_MOST_ONE = ("Sigmoid", "Tanh", "Softmax", "Erf", "Sin", "Cos", "HardSigmoid")
LARGEST_OF_ALL = ("Concat", "Max", "Min", "Mean")


class Ranges:
    """Bounds of values, each found once."""

    def __init__(self) -> None:
        self._known: dict[ir.Value, float | None] = {}

    def bound(self, value: ir.Value | None) -> float | None:
        """A number that |value| never exceeds at run time, or None when nothing is proven."""
        if value is None:
            return None
        stack = [value]
        while stack:
            top = stack[-1]
            if top in self._known:
                stack.pop()
                continue
            missing = [item for item in _operands(top) if item not in self._known]
            if missing:
                stack.extend(missing)
                continue
            self._known[top] = self._limited(top, self._find(top))
            stack.pop()
        return self._known[value]

    def is_finite(self, value: ir.Value | None) -> bool:
        """Whether the value is proven to hold neither NaN nor infinity."""
        return self.bound(value) is not None

    def _limited(self, value: ir.Value, found: float | None) -> float | None:
        """The bound, unless it does not fit the value's dtype; a sum that rounds back to the largest number still fits."""
        if found is None or math.isnan(found) or value.dtype is None:
            return None
        largest = _largest(value.dtype)
        if largest is None:
            return None
        half_ulp = largest * 2.0**-26
        return min(found, largest) if found <= largest + half_ulp else None

    def _find(self, value: ir.Value) -> float | None:
        constant = array(value, MAX_WEIGHT_BYTES)
        if constant is not None:
            return _largest_element(constant)
        if value.dtype is not None and not value.dtype.is_floating_point():
            return _largest(value.dtype)
        node = value.producer()
        if node is None or not is_op(node, node.op_type):
            return None
        rule = _rule_of(node.op_type)
        return rule(node, [self._known.get(item) if item is not None else None for item in node.inputs]) if rule else None


def _operands(value: ir.Value) -> list[ir.Value]:
    node = value.producer()
    if node is None or (value.dtype is not None and not value.dtype.is_floating_point()):
        return []
    return [item for item in node.inputs if item is not None]


def _largest(dtype: ir.DataType) -> float | None:
    if dtype == ir.DataType.BOOL:
        return 1.0
    if dtype == ir.DataType.BFLOAT16:
        return float(np.float32(3.3895314e38))
    if dtype in (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16):
        return float(np.finfo(dtype.numpy()).max)
    if dtype.is_integer():
        return 2.0 ** (dtype.bitwidth if not dtype.is_signed() else dtype.bitwidth - 1)
    return None


def _largest_element(content: np.ndarray) -> float | None:
    if content.dtype.kind in "OUS":
        return None
    if content.size == 0:
        return 0.0
    largest = float(np.abs(content.astype(np.float64) if content.dtype.kind != "f" else content).max())
    return largest if math.isfinite(largest) else None


Bounds = list[float | None]
Rule = Callable[[ir.Node, Bounds], float | None]


def _rule_of(op_type: str) -> Rule | None:
    if op_type in PASSED_ON:
        return lambda node, bounds: bounds[0]
    if op_type in AT_MOST_ONE:
        return lambda node, bounds: None if bounds[0] is None else 1.0
    if op_type in LARGEST_OF_ALL:
        return lambda node, bounds: _all(bounds, max)
    return {
        "Add": lambda node, bounds: _all(bounds, sum),
        "Sub": lambda node, bounds: _all(bounds, sum),
        "Sum": lambda node, bounds: _all(bounds, sum),
        "Mul": lambda node, bounds: _all(bounds, lambda found: found[0] * found[1] * SLACK),
        "Where": lambda node, bounds: _all(bounds[1:], max),
        "Pad": lambda node, bounds: _all(bounds[:1] + bounds[2:3], max),
        "Clip": lambda node, bounds: bounds[0],
        "Cast": lambda node, bounds: bounds[0],
        "LeakyRelu": lambda node, bounds: _scaled(bounds[0], max(1.0, abs(float(attribute(node, "alpha", 0.01))))),  # type: ignore[arg-type]
        "Div": _divided,
        "Sqrt": lambda node, bounds: None,
        "LayerNormalization": _normalised,
        "MatMul": _multiplied,
        "Gemm": _gemm,
        "Conv": _convolved,
    }.get(op_type)


def _all(bounds: Bounds, combine: Callable[[list[float]], float]) -> float | None:
    known = [bound for bound in bounds if bound is not None]
    return float(combine(known)) if known and len(known) == len(bounds) else None


def _scaled(bound: float | None, factor: float) -> float | None:
    return None if bound is None else bound * factor * SLACK


def _divided(node: ir.Node, bounds: Bounds) -> float | None:
    divisor = array(node.inputs[1], MAX_WEIGHT_BYTES)
    if bounds[0] is None or divisor is None or divisor.size == 0 or not np.issubdtype(divisor.dtype, np.floating):
        return None
    smallest = float(np.abs(divisor).min())
    return bounds[0] / smallest * SLACK if smallest > 0 else None


def _normalised(node: ir.Node, bounds: Bounds) -> float | None:
    """|(x - mean) / sqrt(var + epsilon)| is at most the square root of how many elements are normalised."""
    source, axis = node.inputs[0], int(attribute(node, "axis", -1))  # type: ignore[call-overload]
    if None in bounds or source is None or source.shape is None or float(attribute(node, "epsilon", 1e-5)) <= 0:  # type: ignore[arg-type]
        return None
    normalised = list(source.shape)[axis:]
    sizes = [size for size in normalised if isinstance(size, int)]
    if len(sizes) < len(normalised):
        return None
    if bounds[0] ** 2 > 1e36:  # type: ignore[operator]  # the variance would overflow
        return None
    core = math.sqrt(math.prod(sizes)) * SLACK
    return core * bounds[1] * SLACK + (bounds[2] if len(bounds) > 2 else 0.0)  # type: ignore[operator]


def _multiplied(node: ir.Node, bounds: Bounds) -> float | None:
    left, right = node.inputs
    if bounds[0] is None or bounds[1] is None or left is None or right is None:
        return None
    weight = array(right, MAX_WEIGHT_BYTES)
    if weight is not None and weight.ndim == 2:
        return bounds[0] * float(np.abs(weight.astype(np.float64)).sum(axis=0).max(initial=0.0)) * SLACK
    if is_op(left.producer(), "Softmax") and attribute(left.producer(), "axis", -1) == -1:  # type: ignore[arg-type]
        return bounds[1] * SLACK
    length = left.shape[-1] if left.shape else None
    return bounds[0] * bounds[1] * length * SLACK if isinstance(length, int) else None


def _gemm(node: ir.Node, bounds: Bounds) -> float | None:
    weight = array(node.inputs[1], MAX_WEIGHT_BYTES)
    if None in bounds or weight is None:
        return None
    columns = np.abs(weight.astype(np.float64)).sum(axis=1 if attribute(node, "transB", 0) else 0).max(initial=0.0)
    alpha, beta = abs(float(attribute(node, "alpha", 1.0))), abs(float(attribute(node, "beta", 1.0)))  # type: ignore[arg-type]
    return alpha * bounds[0] * float(columns) * SLACK + beta * (bounds[2] if len(bounds) > 2 else 0.0)  # type: ignore[operator]


def _convolved(node: ir.Node, bounds: Bounds) -> float | None:
    weight = array(node.inputs[1], MAX_WEIGHT_BYTES)
    if None in bounds or weight is None or weight.ndim < 3:
        return None
    taps = np.abs(weight.astype(np.float64)).reshape(weight.shape[0], -1).sum(axis=1).max(initial=0.0)
    return bounds[0] * float(taps) * SLACK + (bounds[2] if len(bounds) > 2 else 0.0)  # type: ignore[operator]
