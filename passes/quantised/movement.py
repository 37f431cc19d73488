"""Data moved between DequantizeLinear and QuantizeLinear, moved as integers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import EXACT
from ...compiler.core.graph import array, attribute, constant, is_op, producer, used_outside
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from .parameters import BYTES, Parameters, parameters_of

PLAIN = (
    "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Gather", "GatherElements", "GatherND", "Expand", "Tile", "Identity",
    "DepthToSpace", "SpaceToDepth", "MaxPool", "ReduceMax", "ReduceMin",
)  # fmt: skip
"""What moves or picks elements of its first input, and keeps their order where it compares them."""
S = "float s = {0.1}, uint8 z = {7}"
Q = "float s = {0.1}, int8 z = {-3}"


def _case(operation: str, before: str, after: str, constants: str = "", kind: str = "uint8") -> str:
    return (
        f"g ({kind}{before} x) => ({kind}{after} y) <{S if kind == 'uint8' else Q}{constants}>"
        f" {{ a = DequantizeLinear(x, s, z) m = {operation} y = QuantizeLinear(m, s, z) }}"
    )


@rule(
    "QuantizeLinear",
    drift=EXACT,
    opset=13,
    examples=[
        _case("Transpose<perm=[1,0]>(a)", "[N,2]", "[2,N]"),
        _case("Reshape(a, l)", "[N,2]", "[2,N]", ", int64[2] l = {2,-1}", "int8"),
        _case("Unsqueeze(a, l)", "[N,2]", "[1,N,2]", ", int64[1] l = {0}"),
        _case("Slice(a, b, e)", "[4,2]", "[2,2]", ", int64[1] b = {1}, int64[1] e = {3}", "int8"),
        _case("Gather(a, l)", "[4,2]", "[2,2]", ", int64[2] l = {1,3}"),
        _case("Expand(a, l)", "[1,2]", "[3,2]", ", int64[2] l = {3,2}", "int8"),
        _case("Tile(a, l)", "[N,2]", "[M,2]", ", int64[2] l = {2,1}"),
        _case("DepthToSpace<blocksize=2>(a)", "[1,4,2,2]", "[1,1,4,4]"),
        _case("SpaceToDepth<blocksize=2>(a)", "[1,1,4,4]", "[1,4,2,2]"),
        _case("MaxPool<kernel_shape=[2,2], pads=[1,1,0,0]>(a)", "[1,2,3,3]", "[1,2,3,3]"),
        _case("MaxPool<kernel_shape=[2,2]>(a)", "[1,2,3,3]", "[1,2,2,2]", kind="int8"),
        _case("ReduceMax<keepdims=1>(a, l)", "[3,2]", "[1,2]", ", int64[1] l = {0}"),
        _case("ReduceMin<keepdims=1>(a, l)", "[3,2]", "[1,2]", ", int64[1] l = {0}", "int8"),
        _case("Pad(a, l)", "[N,2]", "[M,2]", ", int64[4] l = {1,0,1,0}"),
        _case("Pad(a, l, c)", "[N,2]", "[M,2]", ", int64[4] l = {1,0,1,0}, float c = {0.46}", "int8"),
        _case("Resize(a, , f)", "[1,2,2,2]", "[1,2,4,4]", ", float[4] f = {1,1,2,2}"),
        f"g (uint8[N,2] x, uint8[N,3] w) => (uint8[N,5] y) <{S}> {{ a = DequantizeLinear(x, s, z) b = DequantizeLinear(w, s, z)"
        " m = Concat<axis=1>(a, b) y = QuantizeLinear(m, s, z) }",
        f"g (uint8[N,2] x) => (uint8[2,N] y, float[N,2] r) <{S}> {{ a = DequantizeLinear(x, s, z) m = Transpose<perm=[1,0]>(a)"
        " y = QuantizeLinear(m, s, z) r = Relu(a) }",
    ],
    leaves=[
        f"g (uint8[N,2] x, uint8[N,3] w) => (uint8[N,5] y) <{S}, float t = {{0.2}}> {{ a = DequantizeLinear(x, s, z) b = DequantizeLinear(w, t, z)"
        " m = Concat<axis=1>(a, b) y = QuantizeLinear(m, s, z) }",
        f"g (uint8[N,2] x) => (uint8[2,N] y, float[2,N] m) <{S}> {{ a = DequantizeLinear(x, s, z) m = Transpose<perm=[1,0]>(a) y = QuantizeLinear(m, s, z) }}",
        f"g (uint8[N,2] x) => (int8[2,N] y) <{S}, int8 w = {{7}}> {{ a = DequantizeLinear(x, s, z) m = Transpose<perm=[1,0]>(a) y = QuantizeLinear(m, s, w) }}",
        "g (uint8[2,2] x) => (uint8[2,2] y) <float[2] s = {0.1, 3}, uint8[2] z = {1,2}> { a = DequantizeLinear<axis=0>(x, s, z)"
        " m = Transpose<perm=[1,0]>(a) y = QuantizeLinear<axis=0>(m, s, z) }",
        _case('Resize<mode="linear">(a, , f)', "[1,2,2,2]", "[1,2,4,4]", ", float[4] f = {1,1,2,2}"),
        _case("AveragePool<kernel_shape=[2,2]>(a)", "[1,2,3,3]", "[1,2,2,2]"),
        _case("Neg(a)", "[2]", "[2]"),
    ],
)
def move_integers(op: Build, m: Match) -> Result:
    """QuantizeLinear(move(DequantizeLinear(q, s, z)), s, z) -> move(q), for a move that picks, copies or compares elements"""
    mover = m.root.inputs[0].producer() if m.root.inputs[0] is not None else None
    if mover is None or not is_op(mover, *PLAIN, "Concat", "Pad", "Resize"):
        return None
    wanted = parameters_of(m.root)
    count = len(mover.inputs) if is_op(mover, "Concat") else 1
    sources = [producer(value, "DequantizeLinear") for value in mover.inputs[:count]]
    codes = [node.inputs[0] for node in sources if node is not None]
    if len(codes) < count or not codes:
        return skip("what %s moves is not all dequantised", mover.op_type)
    refusal = _differs(wanted, sources) or _unfit(mover)
    if refusal is not None:
        return refusal
    if used_outside(mover.outputs[0], (m.root,)):
        return skip("'%s' is also needed as floats", mover.outputs[0].name)
    assert wanted is not None
    m.take(mover)
    others: list[ir.Value | None] = list(mover.inputs[count:])
    if is_op(mover, "Pad") and attribute(mover, "mode", "constant") == "constant":
        fill = _fill(mover, wanted)
        if fill is None:
            return skip("the value it pads with is not constant")
        others[1:2] = [op.const(fill, "fill")]
    return op.like(mover, *codes, *others)


def _differs(wanted: Parameters | None, sources: list[ir.Node | None]) -> Skip | None:
    found = [parameters_of(node) for node in sources]
    if wanted is None or not wanted.per_tensor or wanted.dtype not in BYTES or not wanted.reversible:
        return skip("it does not quantise to 8 bits with one constant scale")
    if not all(one is not None and one.same_as(wanted) for one in found):
        return skip("it quantises with other parameters than what is moved was dequantised with")
    return None


def _unfit(mover: ir.Node) -> Skip | None:
    """Why the operator does more than move, or has no kernel for integers."""
    if len(mover.outputs) > 1 and any(value.uses() or value.is_graph_output() for value in mover.outputs[1:]):
        return skip("it has a second result")
    if is_op(mover, "Resize") and (attribute(mover, "mode") != "nearest" or attribute(mover, "coordinate_transformation_mode") == "tf_crop_and_resize"):
        return skip("it interpolates")
    return None


def _fill(mover: ir.Node, wanted: Parameters) -> np.ndarray | None:
    """The code that a Pad fills up with."""
    given = mover.inputs[2] if len(mover.inputs) > 2 else None
    number = array(given, 64) if given is not None else np.zeros((), dtype=wanted.scale.dtype)
    if number is None or number.size != 1:
        return None
    scale = wanted.scale.reshape(())
    code = np.rint(number.reshape(()).astype(scale.dtype) / scale) + int(wanted.zero.reshape(()))
    return np.array(np.clip(code, wanted.lowest, wanted.highest), dtype=wanted.dtype.numpy()) if np.isfinite(number).all() else None


@rule(
    "Transpose",
    drift=EXACT,
    opset=13,
    examples=[
        "g (float[N,2] x) => (float[N,3] y) <int8[3,2] w = {1,2,3,4,5,6}, float[3] s = {1,2,3}, int8[3] z = {0,0,0}>"
        " { d = DequantizeLinear<axis=0>(w, s, z) t = Transpose(d) y = MatMul(x, t) }",
        "g (float[N,2] x) => (float[N,3] y) <int8[3,2] w = {1,2,3,4,5,6}, float s = {0.5}> { d = DequantizeLinear(w, s) t = Transpose(d) y = MatMul(x, t) }",
    ],
    leaves=["g (int8[3,2] w) => (float[2,3] y) <float s = {0.5}> { d = DequantizeLinear(w, s) y = Transpose(d) }"],
)
def transpose_codes(op: Build, m: Match) -> Result:
    """Transpose(DequantizeLinear(w, s, z)), w constant -> DequantizeLinear(Transpose(w), s, z)"""
    dequantise = producer(m.root.inputs[0], "DequantizeLinear")
    codes = constant(dequantise.inputs[0]) if dequantise is not None else None
    if dequantise is None or codes is None:
        return None
    found = parameters_of(dequantise)
    if found is None or found.block or found.dtype not in BYTES:
        return skip("its parameters are not constant, or go by blocks")
    content = codes.numpy()
    perm = [int(axis) for axis in attribute(m.root, "perm", None) or range(content.ndim)[::-1]]  # type: ignore[attr-defined]
    axis = None if found.per_tensor else perm.index(found.axis)
    moved = op.const(np.ascontiguousarray(content.transpose(perm)), "codes")
    return op.like(dequantise, moved, *dequantise.inputs[1:], axis=axis)
