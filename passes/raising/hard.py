"""Piecewise linear gates: HardSigmoid, and HardSwish (Howard et al. 2019), from Clip."""

from __future__ import annotations

from functools import partial

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import attribute, is_op, scalar
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from .polynomial import ONE, SINGLES, claim, close, made_by, monomial, read, read_twice
from .precision import in_widest

NUMBERS = "float zero = {0}, float one = {1}, float three = {3}, float six = {6}, float sixth = {0.16666667}, float half = {0.5}"
SIXTH = 1 / 6


def _model(body: str, given: str = "float[N,4] x", constants: str = NUMBERS) -> str:
    return f"g ({given}) => (float[N,4] y) <{constants}> {{ {body} }}"


@rule(
    "Clip",
    "Mul",
    "Div",
    drift=ROUNDING,
    opset=11,
    examples=[
        _model("a = Mul(x, sixth) b = Add(a, half) y = Clip(b, zero, one)"),
        _model("a = Div(x, six) b = Add(half, a) y = Clip(b, zero, one)"),
        _model("a = Add(x, three) b = Mul(a, sixth) y = Clip(b, zero, one)"),
        _model("a = Add(x, three) b = Clip(a, zero, six) y = Div(b, six)"),
        _model("a = Add(three, x) b = Clip(a, zero, six) y = Mul(sixth, b)"),
        _model("a = Mul(x, c) b = Add(a, half) y = Clip(b, zero, one)", constants="float c = {0.2}, float half = {0.5}, float zero = {0}, float one = {1}"),
    ],
    leaves=[
        _model("a = Add(x, three) y = Clip(a, zero, six)"),
        _model("a = Add(x, three) b = Clip(a, half, six) y = Div(b, six)"),
        _model("a = Add(x, three) b = Clip(a, zero, three) y = Div(b, six)"),
        _model("a = Add(x, three) b = Clip(a, zero, six) y = Div(six, b)"),
        _model("a = Add(x, three) b = Clip(a, zero) y = Div(b, six)"),
        _model("a = Mul(x, x) b = Add(a, half) y = Clip(b, zero, one)"),
        _model("a = Add(x, v) b = Clip(a, zero, six) y = Div(b, six)", constants=f"{NUMBERS}, float[4] v = {{1,2,3,4}}"),
        _model("y = Clip(x, zero, one)"),
        "g (double[N,4] x) => (double[N,4] y) <double half = {0.5}, double zero = {0}, double one = {1}> { b = Add(x, half) y = Clip(b, zero, one) }",
    ],
)
def raise_hard_sigmoid(op: Build, m: Match) -> Result:
    """clip(a x + b, 0, 1) -> HardSigmoid(x, a, b), and the same for clip(a x + b, 0, h) / h"""
    y = m.outputs[0]
    for node in made_by(y, "Clip"):
        outer, height = read(y), _height(node)
        if outer is None or height is None or outer.terms.keys() != {monomial(node.outputs[0])}:
            return None
        factor = outer.terms[monomial(node.outputs[0])]
        if not close(factor * height, 1.0, y.dtype):
            return skip("it is clipped to %s times %s, not to 1", height, factor)
        for x in _arguments(node):
            inner = read(node.inputs[0], x)
            line = inner.linear(x) if inner is not None else None
            if inner is None or line is None or not inner.nodes:
                continue
            claim(m, outer, inner, node)
            alpha, beta = line[0] * factor, line[1] * factor
            return in_widest(op, m, x, partial(op.HardSigmoid, alpha=alpha, beta=beta), SINGLES)
    return None


def _height(node: ir.Node) -> float | None:
    """The upper end of a Clip from 0."""
    if len(node.inputs) < 3 or scalar(node.inputs[1]) != 0 or (top := scalar(node.inputs[2])) is None or not 0 < float(top) < float("inf"):
        return None
    return float(top)


def _arguments(node: ir.Node) -> list[ir.Value]:
    """What a Clip may be a function of: whatever single value its argument is a linear function of."""
    inner = read(node.inputs[0])
    values = [value for key in inner.terms for value, power in key if power == 1] if inner is not None else []
    return list(dict.fromkeys(values)) if len(values) == 1 else []


@rule(
    "Mul",
    "Div",
    drift=ROUNDING,
    opset=14,
    examples=[
        _model("a = HardSigmoid<alpha=0.16666667, beta=0.5>(x) y = Mul(x, a)"),
        _model("a = Add(x, three) b = Clip(a, zero, six) c = Div(b, six) y = Mul(x, c)"),
        _model("a = Add(x, three) b = Clip(a, zero, six) c = Mul(b, sixth) y = Mul(c, x)"),
        _model("a = Add(x, three) b = Clip(a, zero, six) c = Mul(x, b) y = Div(c, six)"),
        _model("a = Add(three, x) b = Clip(a, zero, six) c = Mul(x, b) y = Mul(sixth, c)"),
        _model("a = Add(x, three) b = Clip(a, zero, six) c = Mul(x, sixth) y = Mul(b, c)"),
        _model("a = Div(x, six) c = Add(a, half) b = Clip(c, zero, one) y = Mul(b, x)"),
    ],
    leaves=[
        _model("a = HardSigmoid<alpha=0.2, beta=0.5>(x) y = Mul(x, a)"),
        _model("a = HardSigmoid(x) y = Mul(x, a)"),
        _model("a = HardSigmoid<alpha=0.16666667, beta=0.5>(x) y = Mul(z, a)", "float[N,4] x, float[N,4] z"),
        _model("a = Add(x, three) b = Clip(a, zero, six) y = Mul(x, b)"),
        _model("a = Add(x, three) b = Clip(a, zero, six) c = Mul(z, b) y = Div(c, six)", "float[N,4] x, float[N,4] z"),
        _model("a = Add(x, three) b = Clip(a, zero, three) c = Mul(x, b) y = Div(c, six)"),
        _model("a = Add(x, half) b = Clip(a, zero, six) c = Mul(x, b) y = Div(c, six)"),
    ],
)
def raise_hard_swish(op: Build, m: Match) -> Result:
    """x clip(x + 3, 0, 6) / 6 -> HardSwish(x), in any order, and x HardSigmoid(x, 1/6, 1/2) -> HardSwish(x)"""
    y = m.outputs[0]
    for node in made_by(y, "Clip", "HardSigmoid"):
        for x in read_twice(y, node):
            outer, inner = read(y, x), read(node.inputs[0], x)
            gate = monomial(x, node.outputs[0])
            if outer is None or inner is None or outer.terms.keys() != {gate}:
                continue
            line = _gate(node, inner.terms.get(monomial(x), 0.0), inner.terms.get(ONE, 0.0))
            if line is None or set(inner.terms) - {ONE, monomial(x)}:
                continue
            if all(close(outer.terms[gate] * found, wanted, y.dtype) for found, wanted in zip(line, (SIXTH, 0.5, 1.0), strict=True)):
                claim(m, outer, inner, node)
                return in_widest(op, m, x, op.HardSwish, SINGLES)
        return skip("what surrounds %s is not x clip(x + 3, 0, 6) / 6", node.name)
    return None


def _gate(node: ir.Node, slope: float, start: float) -> tuple[float, float, float] | None:
    """(a, b, h) when the gate of ``slope x + start`` is clip(a x + b, 0, h)."""
    if is_op(node, "Clip"):
        height = _height(node)
        return None if height is None else (slope, start, height)
    alpha, beta = float(attribute(node, "alpha", 0.2)), float(attribute(node, "beta", 0.5))  # type: ignore[arg-type]
    return alpha * slope, alpha * start + beta, 1.0
