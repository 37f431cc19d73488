"""What each operator makes of the intervals of its operands."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from .axes import ints, reduced_axes
from .dims import Dim, at_least
from .graph import array, attribute, is_op
from .interval import (
    ANYTHING,
    SLACK,
    Interval,
    absolute,
    add,
    around,
    divide,
    hull,
    increasing,
    loosened,
    multiply,
    negate,
    of_array,
    square,
)

MAX_WEIGHT_BYTES = 256 * 2**20
"""Larger weights are not read to find their largest element."""

Intervals = list[Interval]
Rule = Callable[[ir.Node, Intervals], Interval]
"""From the intervals of the inputs that are there, left out ones skipped."""

MANY = 2.0**40
"""No axis is longer."""


def rule_of(node: ir.Node, value: ir.Value) -> Rule | None:
    """How to find the interval of ``value``, an output of ``node``; None when nothing is known of the operator."""
    if value.index() != 0 and node.op_type != "Split":
        return None
    return _RULES.get(node.op_type)


def _first(node: ir.Node, found: Intervals) -> Interval:
    return found[0]


def _no_larger(node: ir.Node, found: Intervals) -> Interval:
    """|f(x)| <= |x|; at an infinity the formula may give NaN."""
    return around(found[0].magnitude, found[0].nan or found[0].has_infinity)


def _within(low: float, high: float, at_infinity: bool = True) -> Rule:
    """A function with a bounded image (approximations of Tanh overstep 1 by a rounding error); ``at_infinity`` says that it has a value there."""
    return lambda node, found: Interval(low, high, found[0].nan or (not at_infinity and found[0].has_infinity))


def _grows(function: Callable[[float], float]) -> Rule:
    return lambda node, found: increasing(function, found[0])


def _exactly(function: Callable[[float], float]) -> Rule:
    """An increasing function that kernels compute without rounding."""
    return lambda node, found: Interval(_whole(function, found[0].low), _whole(function, found[0].high), found[0].nan)


def _whole(function: Callable[[float], float], point: float) -> float:
    return point if math.isinf(point) else float(function(point))


def _softmax(node: ir.Node, found: Intervals) -> Interval:
    return Interval(0.0, 1.0, not found[0].finite)


def _log(node: ir.Node, found: Intervals) -> Interval:
    low, high = (math.log(end) if 0 < end < math.inf else (math.inf if end > 0 else -math.inf) for end in (found[0].low, found[0].high))
    loose = loosened(Interval(low, high, found[0].nan or found[0].low < 0))
    return Interval(loose.low - 1e-6, loose.high + 1e-6, loose.nan)


def _sqrt(node: ir.Node, found: Intervals) -> Interval:
    image = increasing(lambda point: math.sqrt(max(point, 0.0)), found[0])
    return Interval(image.low, image.high, image.nan or found[0].low < 0)


def _exp(node: ir.Node, found: Intervals) -> Interval:
    return increasing(lambda point: math.exp(point) if point < 1e3 else math.inf, found[0])


def _softplus(node: ir.Node, found: Intervals) -> Interval:
    return increasing(lambda point: point if point > 40 else math.log1p(math.exp(point)), found[0])


def _product(node: ir.Node, found: Intervals) -> Interval:
    same = len(node.inputs) == 2 and node.inputs[0] is node.inputs[1]
    return square(found[0]) if same else multiply(found[0], found[1])


def _difference(node: ir.Node, found: Intervals) -> Interval:
    return add(found[0], negate(found[1]))


def _quotient(node: ir.Node, found: Intervals) -> Interval:
    """A constant divisor is looked at closely: its elements may have either sign and still keep away from 0."""
    divisor = array(node.inputs[1], MAX_WEIGHT_BYTES)
    if divisor is None or divisor.size == 0 or not found[1].finite or not divisor.all():
        return divide(found[0], found[1])
    return loosened(multiply(found[0], of_array(1.0 / divisor.astype(np.float64))))


def _sum(node: ir.Node, found: Intervals) -> Interval:
    total = found[0]
    for part in found[1:]:
        total = add(total, part)
    return total if len(found) <= 2 else loosened(total)


def _power(node: ir.Node, found: Intervals) -> Interval:
    """Whole exponents are products; any other power of a number that is not negative is not negative."""
    base, exponent = found
    if exponent.low == exponent.high == 2.0:
        return loosened(square(base))
    if exponent.nan or base.low < 0:
        return ANYTHING
    if exponent.low == exponent.high and 0 < exponent.low <= 64:
        return increasing(lambda point: point**exponent.low if point < math.inf else math.inf, base)
    return Interval(0.0, math.inf, base.nan)


def _largest(node: ir.Node, found: Intervals) -> Interval:
    """The larger of all; a kernel that drops NaN may give any of them."""
    if any(part.nan for part in found):
        return hull(found)
    return Interval(max(part.low for part in found), max(part.high for part in found))


def _smallest(node: ir.Node, found: Intervals) -> Interval:
    if any(part.nan for part in found):
        return hull(found)
    return Interval(min(part.low for part in found), min(part.high for part in found))


def _mean(node: ir.Node, found: Intervals) -> Interval:
    total = _sum(node, found)
    limit = _limit(node)
    if not total.finite or total.magnitude > limit:
        return ANYTHING
    return loosened(hull(found))


def _either(node: ir.Node, found: Intervals) -> Interval:
    return hull(found[1:])


def _clip(node: ir.Node, found: Intervals) -> Interval:
    """min(max(x, low), high). A NaN stays one, or becomes either end."""
    if "min" in node.attributes or "max" in node.attributes or any(part.nan for part in found[1:]):
        return ANYTHING
    present = [index for index, value in enumerate(node.inputs) if value is not None]
    clipped = found[0]
    for index, part in zip(present[1:], found[1:], strict=True):
        nearer = max if index == 1 else min
        clipped = Interval(nearer(clipped.low, part.low), nearer(clipped.high, part.high), clipped.nan)
    return hull([clipped, *found[1:]]) if clipped.nan else clipped


def _padded(node: ir.Node, found: Intervals) -> Interval:
    if attribute(node, "mode", "constant") != "constant":
        return found[0]
    value = node.inputs[2] if len(node.inputs) > 2 else None
    return hull([found[0], found[2] if value is not None else Interval(0.0, 0.0)])


def _or_zero(node: ir.Node, found: Intervals) -> Interval:
    return hull([found[0], Interval(0.0, 0.0)])


def _relu(node: ir.Node, found: Intervals) -> Interval:
    low = 0.0 if found[0].nan else max(found[0].low, 0.0)
    return Interval(low, max(found[0].high, 0.0), found[0].nan)


def _leaky(node: ir.Node, found: Intervals) -> Interval:
    slope = float(attribute(node, "alpha", 0.01))  # type: ignore[arg-type]
    return loosened(hull([_relu(node, found), multiply(Interval(slope, slope), Interval(min(found[0].low, 0.0), 0.0, found[0].nan))]))


def _limit(node: ir.Node) -> float:
    """The largest number of the result's dtype, with room for the order of a sum."""
    dtype = node.outputs[0].dtype
    return {ir.DataType.FLOAT: 3.4e38, ir.DataType.DOUBLE: 1.7e308, ir.DataType.BFLOAT16: 3.3e38}.get(dtype, 6.5e4) if dtype is not None else 6.5e4


def _reduced(node: ir.Node) -> tuple[float, bool]:
    """How many elements go into one of the result, at most, and whether it is at least one."""
    source = node.inputs[0]
    dims = source.shape.dims if source is not None and source.shape is not None else None
    if dims is None:
        return MANY, False
    chosen = dims[2:] if is_op(node, "GlobalAveragePool", "GlobalMaxPool") else _chosen(node, dims)
    count = math.prod(dim if isinstance(dim, int) else MANY for dim in chosen)
    return min(float(count), MANY), all(at_least(dim, 1) for dim in chosen)


def _chosen(node: ir.Node, dims: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """The dimensions that a reduction runs over; all of them when it is not known which."""
    axes = reduced_axes(node)
    return dims if axes is None else tuple(dims[axis] for axis in axes)


def _averaged(node: ir.Node, found: Intervals) -> Interval:
    """The mean of at least one number lies among them, unless their sum overflows; of none it is NaN."""
    count, some = _reduced(node)
    if not found[0].finite or found[0].magnitude * count * SLACK > _limit(node):
        return ANYTHING if found[0].low < 0 else Interval(0.0, math.inf, found[0].nan or found[0].has_infinity or not some)
    kept = loosened(found[0])
    return Interval(kept.low, kept.high, not some)


def _extreme(node: ir.Node, found: Intervals) -> Interval:
    """The largest or smallest of at least one element is one of them."""
    return found[0] if _reduced(node)[1] else ANYTHING


def _summed(part: Callable[[Interval], Interval]) -> Rule:
    """A sum over ``part`` of each element; of none it is 0."""

    def total(node: ir.Node, found: Intervals) -> Interval:
        count, one = _reduced(node)[0], part(found[0])
        if one.magnitude * count * SLACK > _limit(node) or not one.finite:
            return Interval(0.0, math.inf, one.nan) if one.low >= 0 else ANYTHING
        return loosened(hull([multiply(one, Interval(count, count)), Interval(0.0, 0.0)]))

    return total


def _length(node: ir.Node, found: Intervals) -> Interval:
    return _sqrt(node, [_summed(square)(node, found)])


def _pooled(node: ir.Node, found: Intervals) -> Interval:
    """A window of a MaxPool holds an element, unless gaps or the ceiling put it all into the padding."""
    spread = any(step != 1 for step in ints(node, "dilations"))
    padded = any(ints(node, "pads")) or attribute(node, "auto_pad", "NOTSET") != "NOTSET"
    return ANYTHING if attribute(node, "ceil_mode", 0) or (spread and padded) or found[0].nan else found[0]


def _normalised(node: ir.Node, found: Intervals) -> Interval:
    """|(x - mean) / sqrt(var + epsilon)| is at most the square root of how many elements are normalised, and so is |x / rms|."""
    source, axis = node.inputs[0], int(attribute(node, "axis", -1))  # type: ignore[call-overload]
    if not all(part.finite for part in found) or source is None or source.shape is None or float(attribute(node, "epsilon", 1e-5)) <= 0:  # type: ignore[arg-type]
        return ANYTHING
    sizes = [size for size in list(source.shape)[axis:] if isinstance(size, int)]
    if len(sizes) < len(list(source.shape)[axis:]):
        return ANYTHING
    if found[0].magnitude ** 2 * math.prod(sizes) > 1e38:  # the variance would overflow
        return ANYTHING
    core = math.sqrt(math.prod(sizes)) * SLACK
    return around(core * found[1].magnitude * SLACK + (found[2].magnitude if len(found) > 2 else 0.0))


def _matmul(node: ir.Node, found: Intervals) -> Interval:
    left, right = node.inputs
    if not (found[0].finite and found[1].finite) or left is None or right is None:
        return ANYTHING
    weight = array(right, MAX_WEIGHT_BYTES)
    if weight is not None and weight.ndim == 2:
        return around(found[0].magnitude * float(np.abs(weight.astype(np.float64)).sum(axis=0).max(initial=0.0)) * SLACK)
    source = left.producer()
    if source is not None and is_op(source, "Softmax") and attribute(source, "axis", -1) == -1:
        return loosened(hull([found[1], Interval(0.0, 0.0)]))
    length = left.shape[-1] if left.shape else None
    if not isinstance(length, int):
        return ANYTHING
    size = around(found[0].magnitude * found[1].magnitude * length * SLACK)
    return Interval(0.0, size.high) if found[0].low >= 0 and found[1].low >= 0 else size


def _attention(node: ir.Node, found: Intervals) -> Interval:
    """Means of rows of V, or zeros, when no score is NaN: Q and K are finite, and the mask is at most finite."""
    size = node.inputs[0].shape[-1] if node.inputs[0] is not None and node.inputs[0].shape is not None else None
    scale = attribute(node, "scale", 1.0)
    if len(node.inputs) > 4 or not isinstance(size, int) or not isinstance(scale, float) or not all(part.finite for part in found[:3]):
        return ANYTHING
    mask = found[3] if len(found) > 3 else around(0.0)
    if mask.nan or mask.high == math.inf or found[0].magnitude * found[1].magnitude * size * max(scale, 1.0) > 1e37:
        return ANYTHING
    return loosened(hull([found[2], Interval(0.0, 0.0)]))


def _rotated(node: ir.Node, found: Intervals) -> Interval:
    """x1 cos - x2 sin."""
    return around(2 * found[0].magnitude * max(part.magnitude for part in found[1:3]) * SLACK) if all(part.finite for part in found[:3]) else ANYTHING


def _gemm(node: ir.Node, found: Intervals) -> Interval:
    weight = array(node.inputs[1], MAX_WEIGHT_BYTES)
    if weight is None or not all(part.finite for part in found):
        return ANYTHING
    columns = np.abs(weight.astype(np.float64)).sum(axis=1 if attribute(node, "transB", 0) else 0).max(initial=0.0)
    alpha, beta = abs(float(attribute(node, "alpha", 1.0))), abs(float(attribute(node, "beta", 1.0)))  # type: ignore[arg-type]
    return around(alpha * found[0].magnitude * float(columns) * SLACK + beta * (found[2].magnitude if len(found) > 2 else 0.0))


def _conv(node: ir.Node, found: Intervals) -> Interval:
    weight = array(node.inputs[1], MAX_WEIGHT_BYTES)
    if weight is None or weight.ndim < 3 or not all(part.finite for part in found):
        return ANYTHING
    taps = np.abs(weight.astype(np.float64)).reshape(weight.shape[0], -1).sum(axis=1).max(initial=0.0)
    return around(found[0].magnitude * float(taps) * SLACK + (found[2].magnitude if len(found) > 2 else 0.0))


def _dequantised(node: ir.Node, found: Intervals) -> Interval:
    """(q - zero point) * scale."""
    shifted = add(found[0], negate(found[2])) if len(found) > 2 else found[0]
    return loosened(multiply(shifted, found[1])) if found[1].finite else ANYTHING


def _filled(node: ir.Node, found: Intervals) -> Interval:
    tensor = node.attributes.get("value")
    return Interval(0.0, 0.0) if tensor is None else of_array(tensor.as_tensor().numpy())


_PASSED_ON = (
    "Identity", "Reshape", "Transpose", "Slice", "Squeeze", "Unsqueeze", "Expand", "Split", "Flatten", "Tile", "Gather", "GatherND", "GatherElements",
    "DepthToSpace", "SpaceToDepth", "Cast", "Compress", "ReverseSequence",
)  # fmt: skip
"""Operators whose result is made of elements of their first input."""

_RULES: dict[str, Rule] = {
    **dict.fromkeys(_PASSED_ON, _first),
    **dict.fromkeys(("Gelu", "HardSwish", "Mish", "ThresholdedRelu", "Swish", "Dropout"), _no_larger),
    **dict.fromkeys(("Tanh", "Erf"), _within(-SLACK, SLACK)),
    **dict.fromkeys(("Sin", "Cos"), _within(-1.0, 1.0, at_infinity=False)),
    **dict.fromkeys(("Sigmoid", "HardSigmoid"), _within(0.0, SLACK)),
    **dict.fromkeys(("ReduceMax", "ReduceMin", "GlobalMaxPool"), _extreme),
    **dict.fromkeys(("ReduceMean", "GlobalAveragePool"), _averaged),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _normalised),
    **dict.fromkeys(("Add", "Sum"), _sum),
    "Softsign": _within(-SLACK, SLACK, at_infinity=False),
    "Sign": _within(-1.0, 1.0),
    "Atan": _within(-1.571, 1.571),
    "Softmax": _softmax,
    "Exp": _exp,
    "Log": _log,
    "Sqrt": _sqrt,
    "Softplus": _softplus,
    "Sinh": _grows(lambda point: math.sinh(point) if abs(point) < 700 else math.copysign(math.inf, point)),
    "Asinh": _grows(lambda point: math.asinh(point)),
    "Floor": _exactly(math.floor),
    "Ceil": _exactly(math.ceil),
    "Round": _exactly(round),
    "Neg": lambda node, found: negate(found[0]),
    "Abs": lambda node, found: absolute(found[0]),
    "Relu": _relu,
    "LeakyRelu": _leaky,
    "Clip": _clip,
    "Reciprocal": lambda node, found: divide(Interval(1.0, 1.0), found[0]),
    "Sub": _difference,
    "Mul": _product,
    "Div": _quotient,
    "Pow": _power,
    "Mean": _mean,
    "Max": _largest,
    "Min": _smallest,
    "Where": _either,
    "Concat": lambda node, found: hull(found),
    "Pad": _padded,
    "Trilu": _or_zero,
    "ConstantOfShape": _filled,
    "ReduceSum": _summed(lambda part: part),
    "ReduceL1": _summed(absolute),
    "ReduceSumSquare": _summed(square),
    "ReduceL2": _length,
    "MaxPool": _pooled,
    "MatMul": _matmul,
    "Attention": _attention,
    "RotaryEmbedding": _rotated,
    "Gemm": _gemm,
    "Conv": _conv,
    "DequantizeLinear": _dequantised,
}
