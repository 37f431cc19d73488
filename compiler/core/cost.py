"""What a node costs: arithmetic and bytes, worked out from shapes.

Arithmetic is counted in additions: a multiply-accumulate is two, a division or a square root a handful, a transcendental function about twenty.
The numbers are there to compare two ways of computing the same, not to predict a time.

Every function answers None when a shape that matters is not known. ``unknown`` gives an estimate instead: each symbol counts as that size.
A value of unknown rank still has no size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from .dims import Dim, evaluate, free_symbols
from .graph import all_graphs, attribute, is_op, subgraphs_of
from .shapes import dims_of, static_shape
from .target import STANDARD_DOMAINS

DIVISION = 4
TRANSCENDENTAL = 20

MOVES = frozenset({
    "Cast", "CastLike", "Compress", "Concat", "ConcatFromSequence", "Constant", "ConstantOfShape", "DepthToSpace", "Expand", "EyeLike", "Gather",
    "GatherElements", "GatherND", "OneHot", "Pad", "Range", "ReverseSequence", "Scatter", "ScatterElements", "ScatterND", "Slice", "SpaceToDepth", "Split",
    "Tile", "Transpose", "Trilu",
})  # fmt: skip
"""Operators that move elements and compute nothing."""
VIEWS = frozenset({"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Shape", "Size", "Dropout"})
"""Operators that a runtime does, or can do, without touching an element."""
PART_READERS = frozenset({"Slice", "Gather", "GatherND", "GatherElements", "Split", "Compress"})
"""Operators that read no more of their first input than they write."""

PER_OUTPUT = {
    **dict.fromkeys((
        "Abs", "Add", "And", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Ceil", "Equal", "Floor", "Greater", "GreaterOrEqual",
        "IsInf", "IsNaN", "Less", "LessOrEqual", "Mul", "Neg", "Not", "Or", "PRelu", "Relu", "Round", "Sign", "Sub", "ThresholdedRelu", "Where", "Xor",
    ), 1),
    **dict.fromkeys(("Clip", "LeakyRelu", "DequantizeLinear", "QuantizeLinear", "Shrink"), 2),
    **dict.fromkeys(("Div", "Mod", "Reciprocal", "Sqrt", "Softsign", "HardSigmoid", "HardSwish"), DIVISION),
    **dict.fromkeys((
        "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cos", "Cosh", "Erf", "Exp", "Log", "Sin", "Sinh", "Tan", "Tanh", "Sigmoid", "Elu", "Selu",
        "Celu", "Softplus", "BiasGelu", "FastGelu", "Gelu", "Mish", "QuickGelu", "Swish",
    ), TRANSCENDENTAL),
    "Pow": 2 * TRANSCENDENTAL,
    "BatchNormalization": 2,
    "RotaryEmbedding": 3,
    "Resize": 7,
    "Upsample": 7,
    "GridSample": 9,
}  # fmt: skip
"""Additions for each element of the first output."""
PER_INPUT = {
    **dict.fromkeys(("ReduceSum", "ReduceMax", "ReduceMin", "ReduceMean", "ReduceProd", "ReduceL1", "ArgMax", "ArgMin", "CumSum", "TopK"), 1),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), 1),
    **dict.fromkeys(("ReduceSumSquare", "ReduceL2", "GlobalLpPool", "LRN"), 2),
    **dict.fromkeys(("ReduceLogSum",), 1),
    "ReduceLogSumExp": TRANSCENDENTAL + 2,
    **dict.fromkeys(("Softmax", "LogSoftmax"), TRANSCENDENTAL + DIVISION + 3),
    "Hardmax": 2,
    **dict.fromkeys(("LayerNormalization", "GroupNormalization", "InstanceNormalization", "SkipLayerNormalization"), 8),
    **dict.fromkeys(("RMSNormalization", "SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization"), 5),
    **dict.fromkeys(("LpNormalization", "MeanVarianceNormalization"), 6),
}
"""Additions for each element of the first input."""
GATED = {"RNN": TRANSCENDENTAL, "GRU": 3 * TRANSCENDENTAL + 5, "LSTM": 5 * TRANSCENDENTAL + 4}
"""Additions for each hidden unit at each position, its products apart."""
CODES = {"DequantizeLinear": (0,), "ConvInteger": (1,), "MatMulInteger": (0, 1), "QLinearConv": (3, 8), "QLinearMatMul": (0, 3)}
"""Where operators take the codes of numbers, by input."""
PER_OPERAND = frozenset({"Max", "Min", "Sum", "Mean"})
"""Elementwise operators of any number of inputs."""


TYPICAL, LARGEST = 64, 1 << 16
"""What an unknown dimension counts as where the size of a whole model is told, and the most that it counts as where that leaves some value nothing."""


@dataclass(frozen=True)
class ModelSize:
    """How many numbers a model holds as constants, floats and codes of such, its arithmetic in additions, and, where that was counted, the floats of zero."""

    parameters: int
    flops: int
    zeros: int = 0


def model_size(model: ir.Model, unknown: int | None = None) -> ModelSize:
    """The size of a model whose shapes are inferred, subgraphs included; a tensor shared by several counts once, an operator nobody here knows as nothing.

    An ``unknown`` dimension counts as that; by default as `typical_size`.
    """
    unknown = typical_size(model) if unknown is None else unknown
    parameters = sum(tensor.size for tensor in _constants(model, is_parameter))
    return ModelSize(parameters, sum(flops(node, unknown) or 0 for graph in all_graphs(model) for node in graph))


def typical_size(model: ir.Model) -> int:
    """What an unknown dimension is taken for: 64, or the first power of two at which the fewest values are empty. Sound comes in thousands of samples."""
    values = {value for graph in all_graphs(model) for node in graph for value in node.outputs}
    dims = {dim for value in values for dim in dims_of(value) or () if not isinstance(dim, int)}
    powers = [TYPICAL]
    while powers[-1] < LARGEST and any(_size(dim, powers[-1]) == 0 for dim in dims):
        powers.append(2 * powers[-1])
    return min(powers, key=lambda power: sum(_size(dim, power) == 0 for dim in dims))


def count_zeros(model: ir.Model) -> int:
    """How many of the floating-point numbers that a model holds as constants are zero."""
    return sum(tensor.size - int(np.count_nonzero(tensor.numpy())) for tensor in _constants(model, _is_float))


def is_parameter(value: ir.Value) -> bool:
    """Whether a constant counts as parameters: floating-point numbers, or the codes of quantised ones."""
    return _is_float(value) or any(place in CODES.get(node.op_type, ()) for node, place in value.uses())


def _is_float(value: ir.Value) -> bool:
    return value.const_value is not None and value.const_value.dtype.is_floating_point()


def _constants(model: ir.Model, counts: Callable[[ir.Value], bool]) -> list[ir.TensorProtocol]:
    """The constants that count, one that is shared by several once."""
    values = (value for graph in all_graphs(model) for value in graph.initializers.values() if counts(value))
    return list({id(value.const_value): value.const_value for value in values if value.const_value is not None}.values())


def flops(node: ir.Node, unknown: int | None = None) -> int | None:
    """The arithmetic a node does, in additions; None when it depends on unknown sizes, for control flow and for operators nobody here knows."""
    kind = node.op_type
    if subgraphs_of(node) or not node.outputs:
        return None
    if is_op(node, *MOVES, *VIEWS):
        return 0
    if kind in PER_OUTPUT:
        return _times(PER_OUTPUT[kind], _elements(node.outputs[0], unknown))
    if kind in PER_INPUT:
        return _times(PER_INPUT[kind], _elements(_input(node, 0), unknown))
    if kind in PER_OPERAND:
        return _times(max(len(node.inputs) - 1, 1), _elements(node.outputs[0], unknown))
    counted = _PRODUCTS.get(kind)
    return counted(node, unknown) if counted is not None else None


def bytes_moved(node: ir.Node, unknown: int | None = None) -> int | None:
    """The bytes a node reads and writes, weights included; None when a size is not known, and for control flow.

    A view moves nothing. An Einsum lays its operands out anew before it multiplies.
    """
    if subgraphs_of(node):
        return None
    if is_op(node, *VIEWS, "Constant"):
        return 0
    written = [_bytes(value, unknown) for value in node.outputs if value.name != ""]
    read = [_bytes(value, unknown) for value in node.inputs if value is not None]
    if is_op(node, *PART_READERS):
        read[0] = _total(written)
    if is_op(node, "Einsum"):
        read *= 3
    return _total([*read, *written])


def sizes(value: ir.Value | None, unknown: int | None = None) -> tuple[int, ...] | None:
    """The shape in numbers, with every symbol counted as ``unknown``; None when the rank, or without ``unknown`` a dimension, is not known."""
    if unknown is None or value is None:
        return static_shape(value)
    dims = dims_of(value)
    return None if dims is None else tuple(dim if isinstance(dim, int) else _size(dim, unknown) for dim in dims)


def _size(dim: Dim, unknown: int) -> int:
    found = evaluate(dim, dict.fromkeys(free_symbols(dim), unknown))
    return unknown if found is None else max(found, 0)


def _elements(value: ir.Value | None, unknown: int | None) -> int | None:
    shape = sizes(value, unknown)
    return None if shape is None else math.prod(shape)


def _bytes(value: ir.Value, unknown: int | None) -> int | None:
    count = _elements(value, unknown)
    if count is None or value.dtype in (None, ir.DataType.STRING, ir.DataType.UNDEFINED):
        return None
    return math.ceil(count * value.dtype.itemsize)


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _times(factor: int, count: int | None) -> int | None:
    return None if count is None else factor * count


def _total(parts: Iterable[int | None]) -> int | None:
    total = 0
    for part in parts:
        if part is None:
            return None
        total += part
    return total


def _matmul(node: ir.Node, unknown: int | None) -> int | None:
    """2 * batch * M * N * K: every element of the result is a sum over the last axis of the left operand."""
    left, made = sizes(_input(node, 0), unknown), _elements(node.outputs[0], unknown)
    if not left or made is None:
        return None
    return 2 * made * left[-2 if attribute(node, "transA", 0) == 1 and len(left) > 1 else -1]


def _gemm(node: ir.Node, unknown: int | None) -> int | None:
    return _total([_matmul(node, unknown), _elements(node.outputs[0], unknown) if _input(node, 2) is not None else 0])


def _conv(node: ir.Node, unknown: int | None) -> int | None:
    """Two for each tap of each element of the result, one for the bias and one for a sum or an activation fused into it."""
    weight, made = sizes(_input(node, 1), unknown), _elements(node.outputs[0], unknown)
    if weight is None or made is None:
        return None
    extras = sum(_input(node, index) is not None for index in (2, 3)) if not is_op(node, "ConvInteger") else 0
    return made * (2 * math.prod(weight[1:]) + extras + ("activation" in node.attributes))


def _conv_transpose(node: ir.Node, unknown: int | None) -> int | None:
    weight, read, made = sizes(_input(node, 1), unknown), _elements(_input(node, 0), unknown), _elements(node.outputs[0], unknown)
    if weight is None or read is None or made is None:
        return None
    return 2 * read * math.prod(weight[1:]) + (made if _input(node, 2) is not None else 0)


def _einsum(node: ir.Node, unknown: int | None) -> int | None:
    """One product for each combination of letters, and a sum where there are two operands."""
    terms = str(attribute(node, "equation", "")).replace(" ", "").partition("->")[0].split(",")
    shapes = [sizes(value, unknown) for value in node.inputs]
    if len(terms) != len(shapes) or any(shape is None or len(shape) != len(term) for shape, term in zip(shapes, terms, strict=True)):
        return None
    size = {letter: length for shape, term in zip(shapes, terms, strict=True) for letter, length in zip(term, shape or (), strict=True)}
    return (2 if len(terms) > 1 else 0) * math.prod(size.values())


def _pool(node: ir.Node, unknown: int | None) -> int | None:
    window, made = node.attributes.get("kernel_shape"), _elements(node.outputs[0], unknown)
    return None if made is None or window is None else made * math.prod(window.as_ints())


def _attention(node: ir.Node, unknown: int | None) -> int | None:
    """Both products and the Softmax between them, for the standard operator with 4-D inputs."""
    query, key, value = (sizes(_input(node, index), unknown) for index in range(3))
    if node.domain not in STANDARD_DOMAINS or not query or not key or not value or len(query) != 4 or len(key) != 4 or len(value) != 4:
        return None
    scores = math.prod(query[:3]) * key[2]
    return scores * (2 * query[3] + 2 * value[3] + TRANSCENDENTAL + DIVISION + 3)


def _recurrent(node: ir.Node, unknown: int | None) -> int | None:
    """At every position of every row both products, the bias, and what each hidden unit does with its gates: `GATED`."""
    rows, weights = sizes(_input(node, 0), unknown), [sizes(_input(node, index), unknown) for index in (1, 2)]
    if not rows or any(weight is None or len(weight) != 3 for weight in weights):
        return None
    numbers = sum(math.prod(weight) for weight in weights if weight is not None)
    directions, _, units = weights[1] or (0, 0, 0)
    biased = _elements(_input(node, 3), unknown) if _input(node, 3) is not None else 0
    return _times(math.prod(rows[:2]), _total([2 * numbers, biased, directions * units * GATED[node.op_type]]))


_PRODUCTS: dict[str, Callable[[ir.Node, int | None], int | None]] = {
    **dict.fromkeys(("MatMul", "MatMulInteger", "QLinearMatMul", "FusedMatMul"), _matmul),
    **dict.fromkeys(("Gemm", "FusedGemm"), _gemm),
    **dict.fromkeys(("Conv", "ConvInteger", "FusedConv"), _conv),
    **dict.fromkeys(("AveragePool", "MaxPool", "LpPool"), _pool),
    "ConvTranspose": _conv_transpose,
    "Einsum": _einsum,
    "Attention": _attention,
    **dict.fromkeys(GATED, _recurrent),
}
