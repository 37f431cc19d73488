"""Activations of mixed integer types, brought to one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import EXACT
from ...compiler.core.graph import array, constant, is_op, producer, users
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from .movement import PLAIN
from .parameters import Parameters, parameters_of

MOST_BYTES = 2**20
"""Of constants that are rewritten."""
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
    web = _signed_web(m.root)
    if not isinstance(web, _Web):
        return web
    around = [*(one for node in web.makers for one in _before(node)), *(one for node in web.readers for one in _after(node))]
    return _as_unsigned(op, m.root) if ir.DataType.UINT8 in set(_types(around)) else skip("all quantised values around it are signed")


@rule(
    "DequantizeLinear",
    drift=EXACT,
    opset=10,
    examples=[
        f"g (float[N,2,2,3] x) => (int8[N,2,2,3] y) <{PARAMETERS}> {{"
        + _unit("q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)", "y = QuantizeLinear(c, t, w) }").replace("int8[N,2,2,3] y", "uint8[N,2,2,3] y"),
        f"g (float[N,2] x) => (float[N,2] y, float[N,2] r) <{PARAMETERS}> {{ q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = Sigmoid(d)"
        " r = Exp(d) }",
        f"g (float[N,2] x, float[N,3] l) => (float[N,5] y, float[3,N] r) <{PARAMETERS}> {{ q = QuantizeLinear(x, s, z) p = QuantizeLinear(l, s, z)"
        " i = Concat<axis=1>(q, p) d = DequantizeLinear(i, s, z) y = Sigmoid(d) j = Transpose(p) e = DequantizeLinear(j, s, z) r = Exp(e) }",
    ],
    leaves=[
        f"g (float[N,2] x) => (float[N,2] y, int8[N,2] q) <{PARAMETERS}> {{ q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = Sigmoid(d) }}",
        f"g (float[N,2,2,3] x) => (int8[N,2,2,3] y) <{PARAMETERS}> {{"
        + _unit("q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)", "y = QuantizeLinear(c, s, z) }"),
        f"g (float[N,2] x, int8[N,2] l) => (float[N,2] y) <{PARAMETERS}> {{ e = DequantizeLinear(l, s, z) a = Add(x, e) q = QuantizeLinear(a, s, z)"
        " d = DequantizeLinear(q, s, z) y = Sigmoid(d) }",
        f"g (float[N,2] x, int8[N,3] p) => (float[N,5] y) <{PARAMETERS}> {{ q = QuantizeLinear(x, s, z)"
        " i = Concat<axis=1>(q, p) d = DequantizeLinear(i, s, z) y = Sigmoid(d) }",
        f"g (float[N,2] x) => (float[N,2] y) <{PARAMETERS}> {{ q = QuantizeLinear(x, s, v) d = DequantizeLinear(q, s, v) y = Sigmoid(d) }}",
        "g (float[N,2] x) => (float[N,2] y) <float[2] s = {0.1, 1}, int8[2] z = {1,2}> { q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)"
        " y = Sigmoid(d) }",
    ],
)
def prefer_unsigned(op: Build, m: Match) -> Result:
    """DequantizeLinear(QuantizeLinear(x, s, z: int8), s, z), z not 0 -> DequantizeLinear(QuantizeLinear(x, s, z + 128: uint8), s, z + 128)

    ONNX Runtime does this itself on x86-64 wherever one node reads the value, and then has no integer kernel for what mixes both types.
    """
    web = _signed_web(m.root)
    if not isinstance(web, _Web):
        return web
    if web.symmetric:
        return skip("it is symmetric, which other runtimes than ONNX Runtime ask for")
    return _beside_signed(web) or _as_unsigned(op, m.root)


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
    web = _signed_web(m.root)
    return (_beside_signed(web) or _as_unsigned(op, m.root)) if isinstance(web, _Web) else web


@rule(
    "DequantizeLinear",
    drift=EXACT,
    opset=10,
    kernels=("com.microsoft::QLinearAdd",),
    examples=[
        f"g (uint8[N,2] x) => (float[N,2] y) <{PARAMETERS}, int8[2] l = {{-128,127}}> {{ d = DequantizeLinear(x, t, w) e = DequantizeLinear(l, s, z)"
        " y = Mul(d, e) }",
    ],
    leaves=[
        f"g (int8[N,2] x) => (float[N,2] y) <{PARAMETERS}, int8[2] l = {{-128,127}}> {{ d = DequantizeLinear(x, s, z) e = DequantizeLinear(l, s, z)"
        " y = Mul(d, e) }",
        f"g (uint8[N,2] x) => (float[N,2] y) <{PARAMETERS}, int8[2,2] l = {{1,2,3,4}}> {{ d = DequantizeLinear(x, t, w) e = DequantizeLinear(l, s, z)"
        " y = MatMul(d, e) }",
    ],
)
def unify_constant_signs(op: Build, m: Match) -> Result:
    """DequantizeLinear(c: int8, s, z) added to or multiplied with uint8 -> DequantizeLinear(c + 128: uint8, s, z + 128)"""
    codes = array(m.root.inputs[0], MOST_BYTES)
    if codes is None or _signed(m.root) is None:
        return None
    readers = users(m.root.outputs[0])
    if not readers or not all(is_op(node, "Add", "Mul") and ir.DataType.UINT8 in set(_types(_activations(node))) for node in readers):
        return skip("not everything that reads it adds or multiplies unsigned values")
    unsigned = op.const((codes.astype(np.int16) + OFFSET).astype(np.uint8), "codes")
    return op.like(m.root, unsigned, m.root.inputs[1], _zero(op, m.root))


@dataclass
class _Web:
    """Codes of one type by way of the nodes that move them: what makes them, and all that read them."""

    makers: list[ir.Node]
    readers: list[ir.Node]

    @property
    def symmetric(self) -> bool:
        """Whether every code 0 means the number 0."""
        return not any(found.zero.any() for node in self.makers if (found := _signed(node)) is not None)


def _signed_web(dequantise: ir.Node) -> _Web | Skip | None:
    """All that has to do with the signed codes that are dequantised here, when they can all be unsigned as well."""
    codes = dequantise.inputs[0]
    if codes is None or _signed(dequantise) is None or constant(codes) is not None:
        return None
    web = _Web([], [])
    waiting, seen = [codes], {codes}
    while waiting:
        value = waiting.pop()
        maker = value.producer()
        if maker is None or maker.graph is not dequantise.graph or not (_signed(maker) is not None or _moved(maker)):
            return skip("'%s' is not made by a QuantizeLinear with one constant scale", value.name)
        if value.is_graph_output():
            return skip("'%s' gives out signed codes", value.name)
        if is_op(maker, "QuantizeLinear"):
            web.makers.append(maker)
        following = list(_moved(maker))
        for node in users(value):
            if node.graph is not dequantise.graph or not (_signed(node) is not None or value in _moved(node)):
                return skip("%s reads signed codes", node.op_type)
            if is_op(node, "DequantizeLinear"):
                web.readers.append(node)
            else:
                following.append(node.outputs[0])
        waiting += [one for one in dict.fromkeys(following) if one not in seen]
        seen.update(following)
    return web


def _moved(node: ir.Node) -> tuple[ir.Value, ...]:
    """The values that a node moves, or puts side by side, without computing anything."""
    if len(node.outputs) > 1 or not is_op(node, *PLAIN, "Concat"):
        return ()
    return tuple(value for value in (node.inputs if is_op(node, "Concat") else node.inputs[:1]) if value is not None)


def _as_unsigned(op: Build, dequantise: ir.Node) -> ir.Value:
    """The dequantised value by way of unsigned codes."""
    return op.like(dequantise, _codes(op, dequantise.inputs[0], {}), dequantise.inputs[1], _zero(op, dequantise))  # type: ignore[return-value]


def _codes(op: Build, value: ir.Value | None, done: dict[ir.Value, ir.Value]) -> ir.Value:
    assert value is not None
    node = value.producer()
    assert node is not None
    if value not in done and is_op(node, "QuantizeLinear"):
        done[value] = op.like(node, *node.inputs[:2], _zero(op, node), output_dtype=None)  # type: ignore[assignment]
    elif value not in done:
        moved = _moved(node)
        done[value] = op.like(node, *(_codes(op, one, done) for one in moved), *node.inputs[len(moved) :])  # type: ignore[assignment]
    return done[value]


def _zero(op: Build, node: ir.Node) -> ir.Value:
    found = _signed(node)
    assert found is not None
    return op.const((found.zero.astype(np.int16) + OFFSET).astype(np.uint8), "zero")


def _signed(node: ir.Node) -> Parameters | None:
    """The parameters, when the codes are int8 with one scale."""
    found = parameters_of(node)
    return found if found is not None and found.per_tensor and found.dtype == ir.DataType.INT8 else None


def _beside_signed(web: _Web) -> Skip | None:
    """Why the codes should stay signed: an operator would have codes of both types where other ones have to stay signed."""
    around = [neighbour for node in web.makers for neighbour in _before(node)] + [neighbour for node in web.readers for neighbour in _after(node)]
    for node in around:
        codes = node.inputs[0] if is_op(node, "DequantizeLinear") else node.outputs[0]
        if codes is None or codes.dtype != ir.DataType.INT8 or codes.producer() in web.makers:
            continue
        readers = [node] if is_op(node, "DequantizeLinear") else [one for one in users(codes) if is_op(one, "DequantizeLinear")]
        if not readers or not all(isinstance(_signed_web(one), _Web) for one in readers[:1]):
            return skip("'%s' beside it has to stay signed", codes.name)
    return None


def _types(nodes: Iterable[ir.Node]) -> Iterator[ir.DataType]:
    """The types of the codes that these nodes quantise to or dequantise from."""
    for node in nodes:
        codes = node.inputs[0] if is_op(node, "DequantizeLinear") else node.outputs[0]
        if codes is not None and codes.dtype is not None:
            yield codes.dtype


def _before(quantise: ir.Node) -> Iterator[ir.Node]:
    """What dequantises the activations that the quantised value was computed from."""
    maker = producer(quantise.inputs[0])
    if maker is not None and is_op(maker, "Relu", "Clip"):
        maker = producer(maker.inputs[0])
    if maker is not None:
        yield from _activations(maker)


def _after(dequantise: ir.Node) -> Iterator[ir.Node]:
    """What dequantises activations beside the dequantised value, and quantises what is computed from it."""
    for reader in users(dequantise.outputs[0]):
        yield from _activations(reader)
        for node in (after for value in reader.outputs for after in users(value)):
            last = users(node.outputs[0]) if is_op(node, "Relu", "Clip") else [node]
            yield from (one for one in last if is_op(one, "QuantizeLinear"))


def _activations(node: ir.Node) -> Iterator[ir.Node]:
    for value in node.inputs:
        before = producer(value, "DequantizeLinear")
        if before is not None and constant(before.inputs[0]) is None:
            yield before
