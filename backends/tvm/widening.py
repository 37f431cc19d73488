"""Half precision computed in single precision, on processors that only store it.

Generated code would widen and narrow each number at every operation, one lane at a time. So numbers are widened where they come in, once, and narrowed
where they leave, as ONNX Runtime does on a CPU. A Cast to half precision that the model asks for still rounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from ...compiler.core.graph import constant, make_constant
from ...compiler.core.names import Names
from .prepare import BLOCK

if TYPE_CHECKING:
    import tvm

HALF, SINGLE = ir.DataType.FLOAT16, ir.DataType.FLOAT
ROUNDING = frozenset({"Cast", "EyeLike", "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "ConstantOfShape"})
"""Operators that make half precision of something else: what they make is widened behind them."""
BITS = frozenset({"BitCast", "CastLike"})
"""Operators for which the type of an operand is part of the question."""


def computes_half(target: tvm.target.Target) -> bool:
    """Whether a processor has arithmetic of half precision. TVM knows of no CPU that has none of another kind than LLVM's."""
    from tvm.target.codegen import target_has_features

    return target.kind.name != "llvm" or target_has_features("avx512fp16", target) or target_has_features("fullfp16", target)


def widen(model: ir.Model) -> bool:
    """Let a prepared model compute in single precision what it says in half; its inputs and outputs stay. Whether anything changed."""
    graph = model.graph
    if any(node.op_type in BITS for node in graph) or not any(value.dtype == HALF for node in graph for value in (*node.inputs, *node.outputs) if value):
        return False
    names = Names(model)
    nodes = list(graph)
    for value in [*graph.inputs, *graph.initializers.values()]:
        if value.dtype == HALF:
            _widen_given(graph, value, names)
    for node in nodes:
        _widen_made(graph, node, names)
    return True


def _widen_given(graph: ir.Graph, value: ir.Value, names: Names) -> None:
    """An input or constant is read in single precision; as an output of the model it stays as it is."""
    uses = list(value.uses())
    tensor = constant(value)
    if not uses:
        return
    if tensor is not None:
        wide = make_constant(graph, tensor.numpy().astype(np.float32), names.fresh(f"{value.name}_wide"))
    else:
        first = next(node for node in graph if any(read is value for read in node.inputs))
        cast = _cast(value, SINGLE, names.fresh(f"{value.name}_wide"), None)
        graph.insert_before(first, cast)
        wide = cast.outputs[0]
    for user, index in uses:
        user.replace_input_with(index, wide)
    if tensor is not None and not value.is_graph_output():
        graph.initializers.pop(value.name or "", None)


def _widen_made(graph: ir.Graph, node: ir.Node, names: Names) -> None:
    """The results of a node are single precision; outputs of the model are narrowed behind it."""
    if (said := node.attributes.get("output_dtype")) is not None and said.value == HALF.value:
        node.attributes["output_dtype"] = ir.AttrInt64("output_dtype", SINGLE.value)
    for value in node.outputs:
        if value.dtype != HALF:
            continue
        if node.op_type in ROUNDING:
            _read_wide(graph, node, value, names)
            continue
        value.type = ir.TensorType(SINGLE)  # a new one: values may share theirs
        if value.is_graph_output():
            _give_narrow(graph, node, value, names)


def _read_wide(graph: ir.Graph, node: ir.Node, value: ir.Value, names: Names) -> None:
    uses = list(value.uses())
    cast = _cast(value, SINGLE, names.fresh(f"{value.name}_wide"), node.meta.get(BLOCK))
    graph.insert_after(node, cast)
    for user, index in uses:
        user.replace_input_with(index, cast.outputs[0])


def _give_narrow(graph: ir.Graph, node: ir.Node, value: ir.Value, names: Names) -> None:
    cast = _cast(value, HALF, names.fresh(f"{value.name}_narrow"), node.meta.get(BLOCK))
    graph.insert_after(node, cast)
    for place, output in enumerate(graph.outputs):
        if output is value:
            graph.outputs[place] = cast.outputs[0]


def _cast(value: ir.Value, kind: ir.DataType, name: str, block: object) -> ir.Node:
    made = ir.Value(name=name, type=ir.TensorType(kind), shape=value.shape)
    node = ir.Node("", "Cast", [value], [ir.AttrInt64("to", kind.value)], outputs=[made], name=name)
    if block is not None:
        node.meta[BLOCK] = block
    return node
