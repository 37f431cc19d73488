"""QuantizeLinear right after DequantizeLinear, and what QuantizeLinear does by itself."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import EXACT
from ...compiler.core.graph import attribute, producer, scalar, users
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from .parameters import Parameters, parameters_of

SCALES = "float s = {0.1}, float t = {0.2}, uint8 z = {7}, uint8 w = {8}, int8 v = {7}"


@rule(
    "QuantizeLinear",
    drift=EXACT,
    opset=10,
    examples=[
        f"g (uint8[N,2] x) => (uint8[N,2] y) <{SCALES}> {{ a = DequantizeLinear(x, s, z) q = QuantizeLinear(a, s, z) y = Identity(q) }}",
        f"g (float[N,2] x) => (float[N,2] y, float[N,2] r) <{SCALES}> {{ p = QuantizeLinear(x, s, z) a = DequantizeLinear(p, s, z)"
        " q = QuantizeLinear(a, s, z) y = DequantizeLinear(q, t, w) r = Relu(a) }",
        "g (int8[2,N] x) => (int8[2,N] y) <float[2] s = {0.1, 3}, int8[2] z = {0, 0}, float[2] t = {0.1, 3}, int8[2] w = {0, 0}>"
        " { a = DequantizeLinear<axis=0>(x, s, z) q = QuantizeLinear<axis=0>(a, t, w) y = Identity(q) }",
        "g (uint8[N] x) => (uint8[N] y) <float[1] s = {0.5}, float t = {0.5}> { a = DequantizeLinear(x, s) q = QuantizeLinear(a, t) y = Identity(q) }",
    ],
    leaves=[
        f"g (uint8[N,2] x) => (uint8[N,2] y) <{SCALES}> {{ a = DequantizeLinear(x, s, z) q = QuantizeLinear(a, t, z) y = Identity(q) }}",
        f"g (uint8[N,2] x) => (uint8[N,2] y) <{SCALES}> {{ a = DequantizeLinear(x, s, z) q = QuantizeLinear(a, s, w) y = Identity(q) }}",
        f"g (uint8[N,2] x) => (int8[N,2] y) <{SCALES}> {{ a = DequantizeLinear(x, s, z) q = QuantizeLinear(a, s, v) y = Identity(q) }}",
        "g (uint8[N,2] x, float s) => (uint8[N,2] y) { a = DequantizeLinear(x, s) q = QuantizeLinear(a, s) y = Identity(q) }",
        "g (uint8[N,2] x) => (uint8[N,2] y) <float s = {0}> { a = DequantizeLinear(x, s) q = QuantizeLinear(a, s) y = Identity(q) }",
        "g (uint8[2,2] x) => (uint8[2,2] y) <float[2] s = {0.1, 3}> { a = DequantizeLinear<axis=0>(x, s) q = QuantizeLinear<axis=1>(a, s) y = Identity(q) }",
    ],
)
def cancel_requantise(op: Build, m: Match) -> Result:
    """QuantizeLinear(DequantizeLinear(q, s, z), s, z) -> q"""
    before = producer(m.root.inputs[0], "DequantizeLinear")
    if before is None or before.inputs[0] is None:
        return None
    one, other = parameters_of(before), parameters_of(m.root)
    if one is None or other is None or not one.same_as(other):
        return skip("it quantises with other parameters than '%s' was dequantised with", before.outputs[0].name)
    if not one.reversible:
        return skip("with the scale %s a code may not come back", one.scale)
    return before.inputs[0]


@rule(
    "QuantizeLinear",
    drift=EXACT,
    opset=10,
    examples=[
        "g (float[N,2] x) => (uint8[N,2] y) <float s = {0.1}, uint8 z = {0}> { r = Relu(x) y = QuantizeLinear(r, s, z) }",
        "g (float[N,2] x) => (int8[N,2] y) <float s = {0.1}, int8 z = {-128}> { r = Relu(x) y = QuantizeLinear(r, s, z) }",
        "g (float[N,2] x) => (uint8[N,2] y) <float s = {0.1}> { r = Relu(x) y = QuantizeLinear(r, s) }",
        "g (float[N,2] x) => (uint8[N,2] y) <float s = {0.02352941}, uint8 z = {0}, float lo = {0}, float hi = {6}>"
        " { r = Clip(x, lo, hi) y = QuantizeLinear(r, s, z) }",
        "g (float[N,2] x) => (int8[N,2] y) <float s = {0.5}, int8 z = {0}, float lo = {-100}> { r = Clip(x, lo) y = QuantizeLinear(r, s, z) }",
    ],
    leaves=[
        "g (float[N,2] x) => (uint8[N,2] y) <float s = {0.1}, uint8 z = {1}> { r = Relu(x) y = QuantizeLinear(r, s, z) }",
        "g (float[N,2] x) => (int8[N,2] y) <float s = {0.1}, int8 z = {0}> { r = Relu(x) y = QuantizeLinear(r, s, z) }",
        "g (float[N,2] x) => (uint8[N,2] y, float[N,2] r) <float s = {0.1}, uint8 z = {0}> { r = Relu(x) y = QuantizeLinear(r, s, z) }",
        "g (float[N,2] x) => (uint8[N,2] y, float[N,2] e) <float s = {0.1}, uint8 z = {0}> { p = Sin(x) r = Relu(p) y = QuantizeLinear(r, s, z) e = Exp(p) }",
        "g (float[N,2] x) => (uint8[N,2] y) <float s = {0.02352941}, uint8 z = {0}, float lo = {0}, float hi = {5.9}>"
        " { r = Clip(x, lo, hi) y = QuantizeLinear(r, s, z) }",
        "g (float[N,2] x) => (uint8[N,2] y) <float s = {0.02352941}, uint8 z = {0}, float lo = {0.1}, float hi = {6}>"
        " { r = Clip(x, lo, hi) y = QuantizeLinear(r, s, z) }",
    ],
)
def drop_clamp_before_quantise(op: Build, m: Match) -> Result:
    """QuantizeLinear(Relu(x), s, z), QuantizeLinear(Clip(x, a, b), s, z) that saturates at 0, or at a and b, by itself -> QuantizeLinear(x, s, z)"""
    clamp = producer(m.root.inputs[0], "Relu", "Clip")
    if clamp is None or clamp.inputs[0] is None:
        return None
    found = parameters_of(m.root)
    if found is None or not found.per_tensor:
        return skip("its parameters are not constant, or differ from channel to channel")
    refusal = _cuts_in(clamp, found)
    if refusal is not None:
        return refusal
    if clamp.inputs[0].producer() is not None and len(users(clamp.inputs[0])) > 1:
        return skip("'%s' is also needed as it is, and would no longer be next to one QuantizeLinear alone", clamp.inputs[0].name)
    m.take(clamp)
    return op.like(m.root, clamp.inputs[0], *m.root.inputs[1:])


def _cuts_in(clamp: ir.Node, found: Parameters) -> Skip | None:
    """Why the clamp changes codes: it cuts off numbers that are not cut off by the range of codes anyway."""
    low, high = _bounds(clamp)
    if low is None or high is None or low > high:
        return skip("its bounds are not constant")
    codes = [_code(bound, found) for bound in (low, high)]
    if codes[0] > found.lowest or codes[1] < found.highest:
        return skip("it cuts at the codes %s and %s, inside %s to %s", *codes, found.lowest, found.highest)
    return None


def _bounds(clamp: ir.Node) -> tuple[float | None, float | None]:
    if clamp.op_type == "Relu":
        return 0.0, float("inf")
    given = [*clamp.inputs[1:], None, None][:2]
    if "min" in clamp.attributes or "max" in clamp.attributes:
        return float(attribute(clamp, "min", float("-inf"))), float(attribute(clamp, "max", float("inf")))  # type: ignore[arg-type]
    ends = (float("-inf"), float("inf"))
    low, high = (end if value is None else scalar(value) for value, end in zip(given, ends, strict=True))
    return low, high


def _code(number: float, found: Parameters) -> float:
    """The code of a number before it is cut off at the range of codes, computed as QuantizeLinear does."""
    scale = found.scale.reshape(())
    with np.errstate(over="ignore"):
        return float(np.rint(scale.dtype.type(number) / scale)) + float(found.zero.reshape(()))
