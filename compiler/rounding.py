"""Rounding, estimated and measured.

`rounded` makes a copy of a model that means the same but rounds differently at every step: how far its outputs move from the model's own is
what rounding alone can do to this model on this input. `growth` is the estimate from the graph: how rounding adds up along the longest path.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from .core.errors import ModelError
from .core.graph import all_graphs, attribute, bind_opsets, clone_model, is_op, opset, subgraphs_of
from .core.names import Names
from .core.shapes import infer_shapes

__all__ = ["FACTORS", "MORE_FACTORS", "Rounded", "growth", "has_halves", "has_steps", "reduction_length", "rounded"]

FACTORS = (5.0, 7.0)
"""Feed one of these to the extra input of a rounded model: both drop about two bits, at different places."""
MORE_FACTORS = (4.5, 5.5, 6.0, 6.5, 7.5, 4.75)
"""The same for a model with steps: a value that lies so near to one that rounding takes it across is rare, and two draws easily miss it."""
MAX_WEIGHT_BYTES = 64 << 20
MAX_ROUNDED = 600
"""Of more operators than this only some round, and drop more bits for it: k times fewer roundings add up to the same when each is sqrt(k) times as large."""
UNKNOWN_LENGTH = 64

_DROPPED = {ir.DataType.FLOAT: 1.0, ir.DataType.DOUBLE: 1.0, ir.DataType.FLOAT16: 2.0**11, ir.DataType.BFLOAT16: 2.0**14}
"""What the factor is multiplied by, given that 16-bit floats are rounded in 32-bit arithmetic (24 bits, of which they keep 11 and 8)."""
_UNIT = {ir.DataType.FLOAT: 2.0**-24, ir.DataType.DOUBLE: 2.0**-53, ir.DataType.FLOAT16: 2.0**-11, ir.DataType.BFLOAT16: 2.0**-8}

_EXACT_TEXT = (
    "Identity Reshape Transpose Squeeze Unsqueeze Flatten Concat Split Slice Gather GatherND GatherElements ScatterND ScatterElements Scatter "
    "Expand Tile Pad Where Relu Max Min Clip Abs Neg Sign MaxPool ReduceMax ReduceMin TopK Ceil Floor Round Cast CastLike Constant "
    "ConstantOfShape Shape Size DepthToSpace SpaceToDepth NonZero If Loop Scan Equal Greater GreaterOrEqual Less LessOrEqual Not And Or Xor "
    "ArgMax ArgMin Range QuantizeLinear DequantizeLinear DynamicQuantizeLinear Trilu IsNaN IsInf GlobalMaxPool OneHot EyeLike Compress Unique "
    "ReverseSequence NonMaxSuppression OptionalGetElement Optional OptionalHasElement SequenceAt SequenceConstruct SequenceInsert SequenceErase "
    "SequenceEmpty SequenceLength SplitToSequence ConcatFromSequence CumMax BitShift Mod RandomNormal RandomUniform RandomNormalLike "
    "RandomUniformLike Multinomial Bernoulli MaxUnpool MaxRoiPool ThresholdedRelu"
)
_EXACT = frozenset(_EXACT_TEXT.split())
_RECURRENT = ("LSTM", "GRU", "RNN")
_WEIGHTED = (
    *_RECURRENT, "Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Mul", "Div", "Sum", "Einsum", "PRelu", "BatchNormalization",
    "InstanceNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization",
)  # fmt: skip

_CENTRED = ("InstanceNormalization", "LayerNormalization", "GroupNormalization")
_SHIFTED = ("InstanceNormalization", "LayerNormalization", "GroupNormalization", "BatchNormalization")
"""Operators that round what they scale before they shift it by their third input, which may cancel it."""
ODD = 0.7310586
"""A factor that fills all bits of a number."""


@dataclass(frozen=True)
class Rounded:
    """A model that rounds differently, the name of its extra input, and how much rounding each output is expected to gather (`growth`)."""

    model: ir.Model
    factor: str
    growth: dict[str, float]


def rounded(model: ir.Model) -> Rounded:
    """A copy of ``model`` in which inputs, weights and every computed float lose about two bits.

    The extra input, a float scalar, takes one of `FACTORS`. Each value x becomes c - (c - x) with c = factor * x, which rounds x to the grid of c
    (Veltkamp's splitting): small whole numbers stay exact, as they do in real rounding, and zeros, infinities and NaN stay what they are.
    Operators that only move or choose values are left alone. Tensors of 64 MiB or more are not rounded, to keep memory bounded, and
    of more than 600 operators only every k-th, more coarsely.
    """
    copy = clone_model(model)
    if copy.functions:
        copy = _inlined(copy)
    with contextlib.suppress(ModelError):  # What the file itself says about types is used then.
        infer_shapes(copy)
    expected = growth(copy)
    return Rounded(copy, _Rounding(copy).run(), expected)


def _inlined(model: ir.Model) -> ir.Model:
    import onnx_ir.passes.common as common

    result = common.InlinePass()(model).model
    bind_opsets(result)
    return result


class _Rounding:
    """Puts a rounding chain behind each value that the arithmetic of a model makes."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.names = Names(model)
        self.version = opset(model)
        self.constants: dict[tuple[ir.DataType, str], ir.Value] = {}
        self.factor = ir.Value(name=self.names.fresh("rounding_factor"), shape=ir.Shape([]), type=ir.TensorType(ir.DataType.FLOAT))
        self.factors: dict[ir.DataType, ir.Value] = {}
        self.weights: dict[tuple[ir.Value, object], ir.Value] = {}
        self.head: list[ir.Node] = []
        self.coarser = 1.0

    def run(self) -> str:
        nodes = [node for graph in all_graphs(self.model) for node in graph]
        sizes = _size_arithmetic(nodes)
        rounding = [node for node in nodes if _rounds(node) and node not in sizes]
        step = -(-len(rounding) // MAX_ROUNDED)
        self.coarser = 2.0 ** round(math.log2(step) / 2) if rounding else 1.0
        for node in rounding[::step] if rounding else ():
            if is_op(node, *_WEIGHTED):
                self._weights(node)
            for value in node.outputs:
                self._after(value, node)
            if is_op(node, *_SHIFTED):
                self._inside(node)
            if is_op(node, *_CENTRED):
                self._centred(node)
        for value in [value for value in self.model.graph.inputs if not value.is_initializer()]:
            self._after(value, None)
        first = next(iter(self.model.graph), None)
        if first is not None and self.head:
            self.model.graph.insert_before(first, self.head)
        self.model.graph.inputs.append(self.factor)
        return self.factor.name or ""

    def _weights(self, node: ir.Node) -> None:
        for index, value in enumerate(node.inputs):
            if value is None or not value.is_initializer() or value.is_graph_input() or not _is_weight(value):
                continue
            place = (value, node.graph)
            if place not in self.weights:
                chain = self._chain(value, value.dtype)  # type: ignore[arg-type]
                node.graph.insert_before(node, chain)  # type: ignore[union-attr]
                self.weights[place] = chain[-1].outputs[0]
            node.replace_input_with(index, self.weights[place])

    def _after(self, value: ir.Value, node: ir.Node | None) -> None:
        dtype = value.dtype if value.dtype is not None else _dtype_from_inputs(node)
        if dtype not in _DROPPED or not value.name or (value.type is not None and not isinstance(value.type, ir.TensorType)):
            return
        uses = list(value.uses())
        results = [graph for graph in (value.graph,) if graph is not None and value.is_graph_output()]
        if not uses and not results or (node is None and not uses):
            return
        chain = self._chain(value, dtype)
        made = chain[-1].outputs[0]
        for user, index in uses:
            user.replace_input_with(index, made)
        if node is None:
            self.head.extend(chain)
            return
        node.graph.insert_after(node, chain)  # type: ignore[union-attr]
        for graph in results:
            kept = value.name
            value.name = self.names.fresh(f"{kept}_unrounded")
            made.name = kept
            for place, output in enumerate(graph.outputs):
                if output is value:
                    graph.outputs[place] = made

    def _inside(self, node: ir.Node) -> None:
        """Add what rounding does to the scaled numbers before the shift: the operator without its shift, rounded, less itself.

        Kernels add up larger numbers to make these, so that their last bits are often 0 where rounding would show: an odd factor fills them first.
        """
        result, shift = node.outputs[0], node.inputs[2] if len(node.inputs) > 2 else None
        if shift is None or result.dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE) or any(value.uses() for value in node.outputs[1:]):
            return
        dtype = result.dtype
        added: list[ir.Node] = []
        none = self._emit(added, "Sub", [shift, shift], dtype)
        scaled = self._emit(added, node.op_type, [*node.inputs[:2], none, *node.inputs[3:]], dtype)  # type: ignore[list-item]
        added[-1].attributes.update(node.attributes)
        moved = self._odd_rounding(added, scaled, dtype)
        readers = [(user, index) for user, index in result.uses()]
        total = self._emit(added, "Add", [result, moved], dtype)
        for user, index in readers:
            user.replace_input_with(index, total)
        node.graph.insert_after(node, added)  # type: ignore[union-attr]

    def _centred(self, node: ir.Node) -> None:
        """Move the numbers that are normalised by what rounding does to them less their mean: that is no whole number where all of them are."""
        value = node.inputs[0]
        if value is None or value.dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
            return
        added: list[ir.Node] = []
        moved = self._odd_rounding(added, value, value.dtype)
        node.replace_input_with(0, self._emit(added, "Add", [value, moved], value.dtype))
        node.graph.insert_before(node, added)  # type: ignore[union-attr]

    def _odd_rounding(self, nodes: list[ir.Node], value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """What rounding takes from a number whose bits an odd factor filled; 0 where it is no number."""
        finite = self._emit(nodes, "Mul", [self._bounded(nodes, value, dtype), self._constant(ODD, dtype)], dtype)
        chain = self._chain(finite, dtype)
        nodes += chain
        return self._emit(nodes, "Sub", [chain[-1].outputs[0], finite], dtype)

    def _chain(self, value: ir.Value, dtype: ir.DataType) -> list[ir.Node]:
        """Nodes for c - (c - x) with c = factor * x, where c is kept finite so that an infinite x comes out infinite."""
        wide = dtype if dtype in (ir.DataType.FLOAT, ir.DataType.DOUBLE) else ir.DataType.FLOAT
        nodes: list[ir.Node] = []
        x = value if wide is dtype else self._emit(nodes, "Cast", [value], wide, to=int(wide))
        c = self._emit(nodes, "Mul", [x, self._factor_for(dtype)], wide)
        c = self._bounded(nodes, c, wide)
        rest = self._emit(nodes, "Sub", [c, x], wide)
        result = self._emit(nodes, "Sub", [c, rest], wide)
        if wide is not dtype:
            result = self._emit(nodes, "Cast", [result], dtype, to=int(dtype))
        result.shape = value.shape
        return nodes

    def _bounded(self, nodes: list[ir.Node], value: ir.Value, dtype: ir.DataType) -> ir.Value:
        limit = float(np.finfo(dtype.numpy()).max)
        if self.version < 8:
            return self._emit(nodes, "Clip", [value], dtype, min=-limit, max=limit)
        low = self._emit(nodes, "Min", [value, self._constant(limit, dtype)], dtype)
        return self._emit(nodes, "Max", [low, self._constant(-limit, dtype)], dtype)

    def _emit(self, nodes: list[ir.Node], kind: str, inputs: list[ir.Value], dtype: ir.DataType, **attributes: int | float) -> ir.Value:
        if self.version < 7 and kind == "Mul":
            attributes["broadcast"] = 1
        name = self.names.fresh(f"rounding_{kind.lower()}")
        node = ir.node(kind, inputs, attributes, name=name)
        node.outputs[0].name = self.names.fresh(f"{name}_out")
        node.outputs[0].type = ir.TensorType(dtype)
        nodes.append(node)
        return node.outputs[0]

    def _factor_for(self, dtype: ir.DataType) -> ir.Value:
        if dtype not in self.factors:
            wide = ir.DataType.DOUBLE if dtype is ir.DataType.DOUBLE else ir.DataType.FLOAT
            value = self.factor if wide is ir.DataType.FLOAT else self._emit(self.head, "Cast", [self.factor], wide, to=int(wide))
            scale = _DROPPED[dtype] * self.coarser
            self.factors[dtype] = self._emit(self.head, "Mul", [value, self._constant(scale, wide)], wide) if scale != 1 else value
        return self.factors[dtype]

    def _constant(self, number: float, dtype: ir.DataType) -> ir.Value:
        key = (dtype, repr(number))
        if key not in self.constants:
            name = self.names.fresh("rounding_constant")
            tensor = ir.tensor(np.array(number, dtype=dtype.numpy()), name=name)
            value = ir.Value(name=name, shape=ir.Shape([]), type=ir.TensorType(dtype), const_value=tensor)
            self.model.graph.register_initializer(value)
            self.constants[key] = value
        return self.constants[key]


def _rounds(node: ir.Node) -> bool:
    return not is_op(node, *_EXACT)


def _size_arithmetic(nodes: list[ir.Node]) -> set[ir.Node]:
    """Nodes that compute a vector or number from shapes and constants alone, such as the scales of a Resize: rounding those would change shapes."""
    free: set[ir.Value] = set()
    found: set[ir.Node] = set()
    for node in nodes:
        fed = [value for value in node.inputs if value is not None]
        alone = is_op(node, "Shape", "Size") or all(value in free or (value.is_initializer() and not value.is_graph_input()) for value in fed)
        if not alone or subgraphs_of(node):
            continue
        free.update(node.outputs)
        if all(value.shape is not None and len(value.shape) <= 1 for value in node.outputs):
            found.add(node)
    return found


def _is_weight(value: ir.Value) -> bool:
    """More than one float, and not too many to round a copy of on every run."""
    tensor = value.const_value
    return tensor is not None and tensor.dtype in _DROPPED and tensor.size > 1 and tensor.nbytes < MAX_WEIGHT_BYTES


def _dtype_from_inputs(node: ir.Node | None) -> ir.DataType | None:
    found = (value.dtype for value in node.inputs if value is not None) if node is not None else iter(())
    return next((dtype for dtype in found if dtype in _DROPPED), None)


def growth(model: ir.Model) -> dict[str, float]:
    """For each output, the relative error that rounding is expected to cause: sqrt(sum of n * u^2) along the path where the sum is largest.

    u is the unit roundoff of a node's dtype and n how many values one result adds up (the reduction length of a MatMul, Conv or Reduce; 1
    elsewhere; 64 where it is not known). Rounding errors are independent enough to add up like a random walk, hence the square root.
    16-bit operators count one rounding to their own dtype: every runtime adds them up in 32 bits.
    """
    total: dict[ir.Value, float] = {}
    _add_up(model.graph, total, 0.0)
    return {value.name or "": math.sqrt(total.get(value, 0.0)) for value in model.graph.outputs}


def _add_up(graph: ir.Graph, total: dict[ir.Value, float], start: float) -> None:
    for node in graph:
        before = max((total.get(value, 0.0) for value in node.inputs if value is not None), default=0.0)
        before = max(before, start)
        for inner in subgraphs_of(node):
            _add_up(inner, total, before)
            before = max([before, *(total.get(value, 0.0) for value in inner.outputs)])
        here = before + (_variance(node) if _rounds(node) else 0.0)
        for value in node.outputs:
            total[value] = here


def _variance(node: ir.Node) -> float:
    dtype = next((value.dtype for value in node.outputs if value.dtype in _UNIT), None) or _dtype_from_inputs(node) or ir.DataType.FLOAT
    length = reduction_length(node)
    if dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
        return _UNIT[dtype] ** 2 + length * _UNIT[ir.DataType.FLOAT] ** 2
    return length * _UNIT[dtype] ** 2


def reduction_length(node: ir.Node) -> int:
    """How many numbers one result of ``node`` adds up."""
    if is_op(node, "Conv", "ConvInteger"):
        return _product(node.inputs[1], slice(1, None))
    if is_op(node, "ConvTranspose"):
        return _product(node.inputs[1], slice(None)) // max(1, _dim(node.inputs[1], 1))
    if is_op(node, "Gemm"):
        return _dim(node.inputs[1], 1 if attribute(node, "transB", 0) else 0)
    if is_op(node, "MatMul"):
        return max(_dim(node.inputs[1], -2), 1)
    if is_op(node, *_RECURRENT):
        steps = _dim(node.inputs[0], 0)
        return (_dim(node.inputs[1], -1) + _dim(node.inputs[2], -1)) * max(steps, 1)
    if is_op(node, "GlobalAveragePool", "InstanceNormalization"):
        return _product(node.inputs[0], slice(2, None))
    if is_op(node, "AveragePool"):
        return math.prod(attribute(node, "kernel_shape", (1,)))  # type: ignore[call-overload]
    if node.op_type.startswith("Reduce") or "Norm" in node.op_type or is_op(node, "Softmax", "LogSoftmax", "CumSum", "Einsum", "Attention"):
        return max(_dim(node.inputs[0], -1), UNKNOWN_LENGTH)
    return len(node.inputs) if is_op(node, "Sum", "Mean") else 1


def _dim(value: ir.Value | None, axis: int) -> int:
    shape = value.shape if value is not None else None
    if shape is None or not -len(shape) <= axis < len(shape):
        return UNKNOWN_LENGTH
    dim = shape[axis]
    return dim if isinstance(dim, int) else UNKNOWN_LENGTH


def _product(value: ir.Value | None, axes: slice) -> int:
    if value is None or value.shape is None:
        return UNKNOWN_LENGTH
    return max(1, math.prod(_known(value.shape[axes])))


def _known(dims: tuple[int | ir.SymbolicDim, ...]) -> Iterator[int]:
    return (dim if isinstance(dim, int) else UNKNOWN_LENGTH for dim in dims)


def has_steps(model: ir.Model) -> bool:
    """Whether some operator jumps where its input moves by a rounding: quantisation, rounding to whole numbers, a cast to integers."""
    return any(_jumps(node) for graph in all_graphs(model) for node in graph)


def _jumps(node: ir.Node) -> bool:
    if is_op(node, "Cast"):
        to = attribute(node, "to", 0)
        whole = to in (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.INT8, ir.DataType.UINT8)
        return whole and node.inputs[0] is not None and node.inputs[0].dtype in _DROPPED
    return is_op(node, "QuantizeLinear", "DynamicQuantizeLinear", "Round", "Floor", "Ceil")


def has_halves(model: ir.Model) -> bool:
    """Whether the model computes in 16-bit floats anywhere."""
    halves = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    fed = [*model.graph.inputs, *model.graph.initializers.values()]
    made = (node for graph in all_graphs(model) for node in graph)
    return any(value.dtype in halves for value in fed) or any(is_op(node, "Cast") and attribute(node, "to") in halves for node in made)
