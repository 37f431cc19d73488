"""Activations of mixed integer types, brought to one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import EXACT
from ...compiler.core.graph import constant, is_op, producer, users
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from .movement import PLAIN
from .parameters import Parameters, parameters_of

OFFSET = 128
"""From a signed code to the unsigned one of the same number."""
PARAMETERS = "float s = {0.1}, int8 z = {-3}, float t = {0.2}, uint8 w = {130}, float u = {0.02}, int8[2,2,1,1] k = {1,2,3,4}, int8 v = {0}"


def _unit(before: str, after: str) -> str:
    return f"{before} kd = DequantizeLinear(k, u, v) c = Conv(d, kd) {after}"


@rule(
    "DequantizeLinear",
    drift=EXACT,
    opset=10,
    examples=[
        f"g (float[N,2,2,3] x) => (uint8[N,2,2,3] y) <{PARAMETERS}> {{"
        + _unit("q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)", "y = QuantizeLinear(c, t, w) }"),
        f"g (uint8[N,2,2,3] x) => (float[N,2,2,3] y) <{PARAMETERS}> {{"
        + _unit("d = DequantizeLinear(x, t, w)", "r = Relu(c) q = QuantizeLinear(r, s, z) y = DequantizeLinear(q, s, z) }"),
        f"g (uint8[N,2,2,3] x) => (float[N,2,2,3] y, float[3,N,2,2] e) <{PARAMETERS}> {{"
        + _unit(
            "d = DequantizeLinear(x, t, w)",
            "q = QuantizeLinear(c, s, z) y = DequantizeLinear(q, s, z) p = Transpose<perm=[3,0,1,2]>(q) e = DequantizeLinear(p, u, v) }",
        ),
        f"g (float[N,2] a, uint8[N,2] b) => (float[N,2] y) <{PARAMETERS}> {{ q = QuantizeLinear(a, s, z) d = DequantizeLinear(q, s, z)"
        " e = DequantizeLinear(b, t, w) y = Add(d, e) }",
    ],
    leaves=[
        f"g (float[N,2,2,3] x) => (int8[N,2,2,3] y) <{PARAMETERS}> {{"
        + _unit("q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)", "y = QuantizeLinear(c, s, z) }"),
        f"g (float[N,2,2,3] x) => (uint8[N,2,2,3] y, int8[N,2,2,3] q) <{PARAMETERS}> {{"
        + _unit("q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)", "y = QuantizeLinear(c, t, w) }"),
        f"g (int8[N,2,2,3] x) => (uint8[N,2,2,3] y) <{PARAMETERS}> {{" + _unit("d = DequantizeLinear(x, s, z)", "y = QuantizeLinear(c, t, w) }"),
        f"g (float[N,2,2,3] x) => (uint8[N,2,2,3] y) <{PARAMETERS}> {{"
        + _unit("q = QuantizeLinear(x, t, w) d = DequantizeLinear(q, t, w)", "y = QuantizeLinear(c, t, w) }"),
    ],
)
def unify_signs(op: Build, m: Match) -> Result:
    """DequantizeLinear(QuantizeLinear(x, s, z: int8), s, z) beside uint8 -> DequantizeLinear(QuantizeLinear(x, s, z + 128: uint8), s, z + 128)"""
    parts = _signed_pair(m.root)
    if not isinstance(parts, _Pair):
        return parts
    if ir.DataType.UINT8 not in {*_types_before(parts.quantise), *(dtype for leaf in parts.readers for dtype in _types_after(leaf))}:
        return skip("all quantised values around it are signed")
    return parts.unsigned(op, m.root)


@rule(
    "DequantizeLinear",
    drift=EXACT,
    opset=10,
    examples=[
        f"g (float[N,2,2,3] x) => (int8[N,2,2,3] y) <{PARAMETERS}> {{"
        + _unit("q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)", "y = QuantizeLinear(c, s, z) }"),
        f"g (float[N,2] x) => (float[N,2] y, float[N,2] r) <{PARAMETERS}> {{ q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = Sigmoid(d)"
        " r = Exp(d) }",
    ],
    leaves=[
        f"g (float[N,2] x) => (float[N,2] y, int8[N,2] q) <{PARAMETERS}> {{ q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = Sigmoid(d) }}",
        f"g (float[N,2] x) => (float[N,2] y) <{PARAMETERS}> {{ q = QuantizeLinear(x, s, v) d = DequantizeLinear(q, s, v) y = Sigmoid(d) }}",
        "g (float[N,2] x) => (float[N,2] y) <float[2] s = {0.1, 1}, int8[2] z = {1,2}> { q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)"
        " y = Sigmoid(d) }",
    ],
)
def prefer_unsigned(op: Build, m: Match) -> Result:
    """DequantizeLinear(QuantizeLinear(x, s, z: int8), s, z), z not 0 -> DequantizeLinear(QuantizeLinear(x, s, z + 128: uint8), s, z + 128)

    ONNX Runtime does this itself on x86-64 wherever one node reads the value, and then has no integer kernel for what mixes both types.
    """
    parts = _signed_pair(m.root)
    if not isinstance(parts, _Pair):
        return parts
    return parts.unsigned(op, m.root) if parts.before.zero.any() else skip("it is symmetric, which other runtimes than ONNX Runtime ask for")


@rule(
    "DequantizeLinear",
    drift=EXACT,
    opset=10,
    kernels=("com.microsoft::QLinearAdd",),
    examples=[f"g (float[N,2] x) => (float[N,2] y) <{PARAMETERS}> {{ q = QuantizeLinear(x, s, v) d = DequantizeLinear(q, s, v) y = Sigmoid(d) }}"],
    leaves=[f"g (float[N,2] x) => (float[N,2] y, int8[N,2] q) <{PARAMETERS}> {{ q = QuantizeLinear(x, s, v) d = DequantizeLinear(q, s, v) y = Sigmoid(d) }}"],
)
def prefer_unsigned_symmetric(op: Build, m: Match) -> Result:
    """DequantizeLinear(QuantizeLinear(x, s, 0: int8), s, 0) -> DequantizeLinear(QuantizeLinear(x, s, 128: uint8), s, 128), for ONNX Runtime"""
    parts = _signed_pair(m.root)
    return parts.unsigned(op, m.root) if isinstance(parts, _Pair) else parts


@dataclass(frozen=True)
class _Pair:
    """A QuantizeLinear, what moves its codes to one DequantizeLinear, and all that read them."""

    quantise: ir.Node
    moves: list[ir.Node]
    readers: list[ir.Node]
    before: Parameters
    after: Parameters

    def unsigned(self, op: Build, dequantise: ir.Node) -> ir.Value:
        """The dequantised value by way of unsigned codes."""
        codes = op.like(self.quantise, *self.quantise.inputs[:2], _unsigned(op, self.before), output_dtype=None)
        for move in self.moves:
            codes = op.like(move, codes, *move.inputs[1:])  # type: ignore[arg-type]
        return op.like(dequantise, codes, dequantise.inputs[1], _unsigned(op, self.after))  # type: ignore[arg-type, return-value]


def _signed_pair(dequantise: ir.Node) -> _Pair | Skip | None:
    """A DequantizeLinear and what its signed codes come from, when they can be unsigned as well."""
    after = _signed(dequantise)
    if after is None or constant(dequantise.inputs[0]) is not None:
        return None
    path = _path(dequantise)
    if path is None:
        return skip("its codes are not made by a QuantizeLinear")
    before = _signed(path[0])
    readers = _readers(path[0].outputs[0])
    if isinstance(readers, Skip):
        return readers
    if before is None:
        return skip("the scale of its QuantizeLinear is not one constant")
    return _Pair(path[0], path[1], readers, before, after)


def _signed(node: ir.Node) -> Parameters | None:
    """The parameters, when the codes are int8 with one scale."""
    found = parameters_of(node)
    return found if found is not None and found.per_tensor and found.dtype == ir.DataType.INT8 else None


def _unsigned(op: Build, found: Parameters) -> ir.Value:
    return op.const((found.zero.astype(np.int16) + OFFSET).astype(np.uint8), "zero")


def _path(dequantise: ir.Node) -> tuple[ir.Node, list[ir.Node]] | None:
    """The QuantizeLinear whose codes these are, and the nodes that moved them since, in order."""
    moves: list[ir.Node] = []
    node = dequantise.inputs[0].producer() if dequantise.inputs[0] is not None else None
    while node is not None and node.graph is dequantise.graph:
        if is_op(node, "QuantizeLinear"):
            return node, moves[::-1]
        if not is_op(node, *PLAIN):
            return None
        moves.append(node)
        node = node.inputs[0].producer() if node.inputs[0] is not None else None
    return None


def _readers(codes: ir.Value) -> list[ir.Node] | Skip:
    """The DequantizeLinear nodes that read codes, moved or not; why not when something else needs them."""
    leaves: list[ir.Node] = []
    stack = [codes]
    while stack:
        value = stack.pop()
        if value.is_graph_output():
            return skip("'%s' gives out signed codes", value.name)
        for node in users(value):
            moved = is_op(node, *PLAIN) and len(node.outputs) == 1
            if node.graph is not codes.graph or node.inputs[0] is not value or not (moved or _signed(node) is not None):
                return skip("%s reads signed codes", node.op_type)
            if moved:
                stack.append(node.outputs[0])
            else:
                leaves.append(node)
    return leaves


def _types_before(quantise: ir.Node) -> Iterator[ir.DataType]:
    """The types of the activations that what is quantised was computed from."""
    maker = producer(quantise.inputs[0])
    if maker is not None and is_op(maker, "Relu", "Clip"):
        maker = producer(maker.inputs[0])
    if maker is not None:
        yield from _activations(maker)


def _types_after(dequantise: ir.Node) -> Iterator[ir.DataType]:
    """The types that activations are quantised to beside and after the operators that read the dequantised values."""
    for reader in users(dequantise.outputs[0]):
        yield from _activations(reader)
        for node in (after for value in reader.outputs for after in users(value)):
            last = users(node.outputs[0]) if is_op(node, "Relu", "Clip") else [node]
            yield from (one.outputs[0].dtype for one in last if is_op(one, "QuantizeLinear") and one.outputs[0].dtype is not None)


def _activations(node: ir.Node) -> Iterator[ir.DataType]:
    for value in node.inputs:
        before = producer(value, "DequantizeLinear")
        codes = before.inputs[0] if before is not None else None
        if codes is not None and constant(codes) is None and codes.dtype is not None:
            yield codes.dtype
