"""Exponential linear units: Elu (Clevert, Unterthiner and Hochreiter 2015), Selu (Klambauer et al. 2017) and Celu (Barron 2017)."""

from __future__ import annotations

from functools import partial

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import broadcasts_into
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import attribute, producer
from ...compiler.core.pattern import ANY, Const, Pen
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from .comparison import pieces
from .polynomial import FLOAT, ONE, SINGLES, claim, close, made_by, monomial, number_beside, read, uniform
from .precision import in_widest

NUMBERS = "float zero = {0}, float one = {1}, float a = {1.5}, float g = {1.0507}, float ga = {1.7580993}"


def _model(body: str, given: str = "float[N,4] x", constants: str = NUMBERS) -> str:
    return f"g ({given}) => (float[N,4] y) <{constants}> {{ {body} }}"


@rule(
    "Where",
    drift=ROUNDING,
    opset=9,
    examples=[
        _model("c = Greater(x, zero) e = Exp(x) b = Sub(e, one) y = Where(c, x, b)"),
        _model("c = GreaterOrEqual(x, zero) e = Exp(x) b = Sub(e, one) d = Mul(b, a) y = Where(c, x, d)"),
        _model("c = Less(x, zero) e = Exp(x) b = Mul(e, a) d = Sub(b, a) y = Where(c, d, x)"),
        _model("c = Greater(x, zero) k = Min(x, zero) e = Exp(k) b = Sub(e, one) y = Where(c, x, b)"),
        _model("c = Greater(x, zero) e = Exp(x) b = Sub(e, one) d = Mul(b, ga) h = Mul(x, g) y = Where(c, h, d)"),
    ],
    leaves=[
        _model("c = Greater(x, zero) e = Exp(x) b = Add(e, one) y = Where(c, x, b)"),
        _model("c = Greater(x, zero) e = Exp(x) b = Sub(e, a) y = Where(c, x, b)"),
        _model("c = Greater(x, one) e = Exp(x) b = Sub(e, one) y = Where(c, x, b)"),
        _model("c = Greater(x, zero) e = Exp(x) b = Sub(e, one) y = Where(c, b, x)"),
        _model("c = Greater(x, zero) e = Exp(z) b = Sub(e, one) y = Where(c, x, b)", "float[N,4] x, float[N,4] z"),
        "g (double[N,4] x) => (double[N,4] y) <double zero = {0}, double one = {1}> { c = Greater(x, zero) e = Exp(x) b = Sub(e, one) y = Where(c, x, b) }",
    ],
)
def raise_elu(op: Build, m: Match) -> Result:
    """x where x > 0, else a (exp(x) - 1) -> Elu(x, a), and both times g -> Selu(x, a, g)"""
    found = pieces(m.root)
    if found is None or found.at != 0:
        return None
    for node in made_by(found.below, "Exp"):
        gate = node.outputs[0]
        below, above = read(found.below), read(found.above, found.x)
        if below is None or above is None or above.terms.keys() != {monomial(found.x)} or below.terms.keys() != {ONE, monomial(gate)}:
            return None
        gain, height = above.terms[monomial(found.x)], below.terms[monomial(gate)]
        if not close(-below.terms[ONE], height, gate.dtype) or gain <= 0 or height / gain <= 0:
            return skip("the piece below 0 is not a (exp(x) - 1): it is %s exp(x) + %s", height, below.terms[ONE])
        argument = _exponent(m, node, found.x)
        if argument is None:
            return skip("%s is not the exponential of '%s'", node.name, found.x.name)
        claim(m, *found.nodes, below, above, node)
        if gain == 1.0:
            return in_widest(op, m, found.x, partial(op.Elu, alpha=height), SINGLES)
        return in_widest(op, m, found.x, partial(op.Selu, alpha=height / gain, gamma=gain), SINGLES)
    return None


def _exponent(m: Match, node: ir.Node, x: ir.Value) -> ir.Value | None:
    """``x`` when the Exp is of x, or of min(x, 0), which is claimed."""
    if node.inputs[0] is x:
        return x
    lower = producer(node.inputs[0], "Min")
    if lower is None or len(lower.inputs) != 2 or x not in lower.inputs:
        return None
    index = 1 - list(lower.inputs).index(x)
    if number_beside(lower, index) != 0:
        return None
    m.take(lower)
    return x


@rule(
    "Add",
    drift=ROUNDING,
    opset=12,
    doubtful=("cpu",),
    measured=True,
    examples=[
        _model("r = Relu(x) e = Exp(x) b = Sub(e, one) d = Mul(b, a) q = Min(d, zero) y = Add(r, q)"),
        _model("r = Relu(x) e = Exp(x) b = Sub(e, one) q = Min(zero, b) y = Add(q, r)"),
        _model("r = Relu(x) s = Div(x, a) e = Exp(s) b = Sub(e, one) d = Mul(b, a) q = Min(d, zero) y = Add(r, q)"),
    ],
    leaves=[
        _model("r = Relu(x) e = Exp(x) b = Sub(e, a) q = Min(b, zero) y = Add(r, q)"),
        _model("r = Relu(x) e = Exp(x) b = Sub(e, one) q = Min(b, one) y = Add(r, q)"),
        _model("r = Relu(z) e = Exp(x) b = Sub(e, one) q = Min(b, zero) y = Add(r, q)", "float[N,4] x, float[N,4] z"),
        _model("r = Relu(x) s = Mul(x, a) e = Exp(s) b = Sub(e, one) d = Mul(b, a) q = Min(d, zero) y = Add(r, q)"),
    ],
)
def raise_summed_elu(op: Build, m: Match) -> Result:
    """Relu(x) + min(a (exp(x) - 1), 0) -> Elu(x, a), and with exp(x / a) -> Celu(x, a) (ONNX Runtime's CPU kernels take twice as long)"""
    for left, right in zip(m.root.inputs, reversed(m.root.inputs), strict=True):
        relu, lower = producer(left, "Relu"), producer(right, "Min")
        if relu is None or lower is None or len(lower.inputs) != 2 or relu.inputs[0] is None:
            continue
        index = next((index for index in (0, 1) if number_beside(lower, index) == 0), None)
        if index is None:
            continue
        x, below = relu.inputs[0], read(lower.inputs[1 - index])
        node = next(made_by(lower.inputs[1 - index], "Exp"), None)
        inner = read(node.inputs[0], x) if node is not None else None
        if node is None or below is None or inner is None or below.terms.keys() != {ONE, monomial(node.outputs[0])} or inner.terms.keys() != {monomial(x)}:
            return None
        height, slope = below.terms[monomial(node.outputs[0])], inner.terms[monomial(x)]
        if not close(-below.terms[ONE], height, x.dtype) or height <= 0:
            return skip("%s exp(x) + %s is not a (exp(x) - 1)", height, below.terms[ONE])
        claim(m, relu, lower, node, below, inner)
        if slope == 1.0:
            return in_widest(op, m, x, partial(op.Elu, alpha=height), SINGLES)
        if not close(slope * height, 1.0, x.dtype):
            return skip("%s (exp(%s x) - 1) has no operator", height, slope)
        return in_widest(op, m, x, partial(op.Celu, alpha=height), (FLOAT,))
    return None


def scaled_elu(op: Pen, x: object, gain: Const) -> object:
    return op.Mul(op.Elu(x, _attrs=ANY, _name="elu"), gain)


@rule(
    scaled_elu,
    drift=ROUNDING,
    opset=6,
    examples=[_model("e = Elu<alpha=1.6732632>(x) y = Mul(e, g)"), _model("e = Elu(x) y = Mul(g, e)")],
    leaves=[
        _model("e = Elu(x) y = Mul(e, v)", constants="float[4] v = {1,2,3,4}"),
        _model("e = Elu(x) y = Mul(e, v)", constants="float v = {-1}"),
        "g (float[4] x) => (float[1,4] y) <float[1,1] v = {2}> { e = Elu(x) y = Mul(e, v) }",
    ],
)
def raise_selu(op: Build, m: Match) -> Result:
    """g Elu(x, a) -> Selu(x, a, g)"""
    gain = uniform(m.gain)
    if gain is None or gain <= 0 or not broadcasts_into(m.gain.shape, m.x.shape) or m.x.dtype not in SINGLES:
        return skip("the factor is %s of shape %s", gain, m.gain.shape)
    return op.Selu(m.x, alpha=float(attribute(m.node("elu"), "alpha", 1.0)), gamma=gain)  # type: ignore[arg-type]
