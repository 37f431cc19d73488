"""x times a gate of x: Swish (Ramachandran, Zoph and Le 2017; SiLU with a = 1) and Mish (Misra 2019)."""

from __future__ import annotations

from functools import partial

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import producer
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from .polynomial import FLOAT, ONE, SINGLES, claim, close, made_by, means, monomial, read, read_twice
from .precision import in_widest

SLOW_ON = ("cpu",)
"""ONNX Runtime expands Swish into three nodes, out of the layout of a Conv before them, and takes three times as long as for x sigmoid(x), which it
fuses by itself. Softplus and Mish take five times as long as log(1 + exp(x)) and what follows."""
NUMBERS = "float one = {1}, float a = {1.702}, float two = {2}"


def _model(body: str, given: str = "float[N,4] x", constants: str = NUMBERS) -> str:
    return f"g ({given}) => (float[N,4] y) <{constants}> {{ {body} }}"


@rule(
    "Mul",
    drift=ROUNDING,
    lifts=24,
    doubtful=SLOW_ON,
    measured=True,
    examples=[
        _model("s = Sigmoid(x) y = Mul(x, s)"),
        _model("s = Sigmoid(x) y = Mul(s, x)"),
        _model("b = Mul(x, a) s = Sigmoid(b) y = Mul(x, s)"),
        _model("b = Div(x, two) s = Sigmoid(b) y = Mul(s, x)"),
        _model("b = Neg(x) s = Sigmoid(b) y = Mul(x, s)"),
    ],
    leaves=[
        _model("s = Sigmoid(z) y = Mul(x, s)", "float[N,4] x, float[N,4] z"),
        _model("s = Sigmoid(x) t = Mul(x, s) y = Mul(t, s)"),
        _model("b = Add(x, one) s = Sigmoid(b) y = Mul(x, s)"),
        _model("b = Mul(x, x) s = Sigmoid(b) y = Mul(x, s)"),
        _model("b = Mul(x, v) s = Sigmoid(b) y = Mul(x, s)", constants="float[4] v = {1,2,3,4}"),
        "g (float[N,1] x) => (float[N,4] y) <float[4] v = {2,2,2,2}> { b = Mul(x, v) s = Sigmoid(b) y = Mul(x, s) }",
        "g (double[N,4] x) => (double[N,4] y) { s = Sigmoid(x) y = Mul(x, s) }",
        "g (float[N,4] x) => (float[N,4] y, float[N,4] s) { s = Sigmoid(x) y = Mul(x, s) }",
    ],
)
def raise_swish(op: Build, m: Match) -> Result:
    """x sigmoid(a x) -> Swish(x, alpha=a)"""
    y = m.outputs[0]
    for node in made_by(y, "Sigmoid"):
        for x in read_twice(y, node):
            outer, inner = read(y, x), read(node.inputs[0], x)
            if not means(outer, {monomial(x, node.outputs[0]): 1.0}, y.dtype) or inner is None or inner.terms.keys() != {monomial(x)}:
                continue
            claim(m, outer, inner, node)  # type: ignore[arg-type]
            alpha = inner.terms[monomial(x)]
            return in_widest(op, m, x, partial(op.Swish, alpha=1.0 if close(alpha, 1.0, x.dtype) else alpha), (FLOAT,))
        return skip("what surrounds %s is not x sigmoid(a x)", node.name)
    return None


@rule(
    "Div",
    drift=ROUNDING,
    examples=[
        _model("n = Neg(x) e = Exp(n) d = Add(e, one) y = Div(x, d)"),
        _model("n = Mul(x, m) e = Exp(n) d = Add(one, e) y = Div(x, d)", constants="float one = {1}, float m = {-1.702}"),
    ],
    leaves=[
        _model("n = Neg(x) e = Exp(n) d = Add(e, two) y = Div(x, d)"),
        _model("n = Neg(z) e = Exp(n) d = Add(e, one) y = Div(x, d)", "float[N,4] x, float[N,4] z"),
        _model("e = Exp(x) d = Add(e, one) y = Div(d, x)"),
        _model("n = Add(x, one) e = Exp(n) d = Add(e, one) y = Div(x, d)"),
    ],
)
def raise_divided_swish(op: Build, m: Match) -> Result:
    """x / (1 + exp(-a x)) -> x Sigmoid(a x)"""
    x, below = m.root.inputs
    for node in made_by(below, "Exp"):
        outer, inner = read(below, x), read(node.inputs[0], x)
        if x is None or not means(outer, {ONE: 1.0, monomial(node.outputs[0]): 1.0}, x.dtype) or inner is None or inner.terms.keys() != {monomial(x)}:
            return skip("what surrounds %s is not x / (1 + exp(-a x))", node.name)
        claim(m, outer, inner, node)  # type: ignore[arg-type]
        return in_widest(op, m, x, partial(_gated, op, -inner.terms[monomial(x)]))
    return None


def _gated(op: Build, slope: float, x: ir.Value) -> object:
    return op.Mul(x, op.Sigmoid(x if slope == 1.0 else op.Mul(x, slope)))


@rule(
    "Mul",
    drift=ROUNDING,
    opset=18,
    examples=[
        _model("s = Softplus(x) t = Tanh(s) y = Mul(x, t)"),
        _model("s = Softplus(x) t = Tanh(s) y = Mul(t, x)"),
        "g (float16[N,4] x) => (float16[N,4] y) { s = Softplus(x) t = Tanh(s) y = Mul(x, t) }",
    ],
    leaves=[
        _model("s = Softplus(z) t = Tanh(s) y = Mul(x, t)", "float[N,4] x, float[N,4] z"),
        _model("b = Mul(x, two) s = Softplus(b) t = Tanh(s) y = Mul(x, t)"),
        _model("s = Softplus(x) t = Sigmoid(s) y = Mul(x, t)"),
        _model("e = Exp(x) f = Add(e, one) s = Log(f) t = Tanh(s) y = Mul(x, t)"),
    ],
)
def raise_mish(op: Build, m: Match) -> Result:
    """x tanh(softplus(x)) -> Mish(x)"""
    for gate, x in zip(m.root.inputs, reversed(m.root.inputs), strict=True):
        tanh = producer(gate, "Tanh")
        soft = producer(tanh.inputs[0], "Softplus") if tanh is not None else None
        if tanh is not None and soft is not None and x is not None and soft.inputs[0] is x:
            claim(m, tanh, soft)
            return in_widest(op, m, x, op.Mish, SINGLES)
    return None


@rule(
    "Mul",
    drift=ROUNDING,
    opset=18,
    doubtful=SLOW_ON,
    measured=True,
    examples=[
        _model("e = Exp(x) f = Add(e, one) s = Log(f) t = Tanh(s) y = Mul(x, t)"),
        _model("e = Exp(x) f = Add(one, e) s = Log(f) t = Tanh(s) y = Mul(t, x)"),
    ],
    leaves=[
        _model("e = Exp(x) f = Add(e, two) s = Log(f) t = Tanh(s) y = Mul(x, t)"),
        _model("e = Exp(z) f = Add(e, one) s = Log(f) t = Tanh(s) y = Mul(x, t)", "float[N,4] x, float[N,4] z"),
    ],
)
def raise_spelled_mish(op: Build, m: Match) -> Result:
    """x tanh(log(1 + exp(x))) -> Mish(x); where exp overflows tanh makes 1 of it either way"""
    for gate, x in zip(m.root.inputs, reversed(m.root.inputs), strict=True):
        tanh = producer(gate, "Tanh")
        log = producer(tanh.inputs[0], "Log") if tanh is not None else None
        if tanh is None or log is None or x is None:
            continue
        for node in made_by(log.inputs[0], "Exp"):
            inside = read(log.inputs[0])
            if inside is None or not means(inside, {ONE: 1.0, monomial(node.outputs[0]): 1.0}, x.dtype) or node.inputs[0] is not x:
                return skip("what surrounds %s is not log(1 + exp(x))", node.name)
            claim(m, tanh, log, inside, node)
            return in_widest(op, m, x, op.Mish, SINGLES)
    return None
