"""Rectifiers that leak: LeakyRelu (Maas, Hannun and Ng 2013) and PRelu (He et al. 2015)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import broadcasts_into
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import is_op, producer, scalar
from ...compiler.core.pattern import Const, Pen
from ...compiler.core.reasons import skip
from ...compiler.core.rule import Match, Result, rule
from .comparison import pieces
from .polynomial import SINGLES, Polynomial, Terms, claim, made_by, monomial, read, uniform
from .precision import in_widest

NUMBERS = "float zero = {0}, float a = {0.1}, float n = {-0.1}, float big = {1.5}, float one = {1}, float half = {0.5}"
VECTOR = "float zero = {0}, float[4] v = {0.1,0.2,0.3,-0.4}"


def _model(body: str, given: str = "float[N,4] x", constants: str = NUMBERS) -> str:
    return f"g ({given}) => (float[N,4] y) <{constants}> {{ {body} }}"


@rule(
    "Where",
    drift=ROUNDING,
    opset=7,
    examples=[
        _model("c = Greater(x, zero) b = Mul(x, a) y = Where(c, x, b)"),
        _model("c = GreaterOrEqual(x, zero) b = Mul(a, x) y = Where(c, x, b)"),
        _model("c = Less(x, zero) b = Mul(a, x) y = Where(c, b, x)"),
        _model("c = Less(x, zero) n2 = Not(c) b = Mul(n, x) y = Where(n2, x, b)"),
    ],
    leaves=[
        _model("c = Greater(x, zero) b = Mul(x, a) y = Where(c, b, x)"),
        _model("c = Greater(x, a) b = Mul(x, a) y = Where(c, x, b)"),
        _model("c = Greater(x, zero) b = Add(x, a) y = Where(c, x, b)"),
        _model("c = Greater(z, zero) b = Mul(x, a) y = Where(c, x, b)", "float[N,4] x, float[N,4] z"),
        _model("c = Greater(x, zero) b = Mul(x, v) y = Where(c, x, b)", constants=VECTOR),
        "g (double[N,4] x) => (double[N,4] y) <double zero = {0}, double a = {0.1}> { c = Greater(x, zero) b = Mul(x, a) y = Where(c, x, b) }",
    ],
)
def raise_leaky_relu(op: Build, m: Match) -> Result:
    """x where x > 0, else a x -> LeakyRelu(x, a)"""
    found = pieces(m.root)
    if found is None or found.at != 0 or found.above is not found.x:
        return None
    slope = _slope(read(found.below, found.x), found.x)
    if slope is None:
        return None
    claim(m, *found.nodes, read(found.below, found.x))  # type: ignore[arg-type]
    return in_widest(op, m, found.x, partial(op.LeakyRelu, alpha=slope), SINGLES)


def _slope(line: Polynomial | None, x: ir.Value) -> float | None:
    """a when the polynomial is ``a x``, computed by somebody."""
    if line is None or line.terms.keys() != {monomial(x)} or not line.nodes:
        return None
    return line.terms[monomial(x)]


@rule(
    "Max",
    "Min",
    drift=ROUNDING,
    opset=8,
    examples=[_model("b = Mul(x, a) y = Max(x, b)"), _model("b = Mul(a, x) y = Max(b, x)"), _model("b = Mul(big, x) y = Min(b, x)")],
    leaves=[
        _model("b = Mul(x, a) y = Min(x, b)"),
        _model("b = Mul(x, big) y = Max(x, b)"),
        _model("b = Mul(x, n) y = Max(x, b)"),
        _model("b = Mul(x, zero) y = Max(x, b)"),
        _model("b = Mul(z, a) y = Max(x, b)", "float[N,4] x, float[N,4] z"),
        _model("b = Mul(x, a) y = Max(x, b, z)", "float[N,4] x, float[N,4] z"),
    ],
)
def raise_max_leaky_relu(op: Build, m: Match) -> Result:
    """max(x, a x) -> LeakyRelu(x, a) for 0 < a < 1, and min(x, a x) for a > 1"""
    if len(m.root.inputs) != 2:
        return None
    for x, scaled in zip(m.root.inputs, reversed(m.root.inputs), strict=True):
        line = read(scaled, x) if x is not None else None
        slope = _slope(line, x) if x is not None else None
        if x is None or line is None or slope is None:
            continue
        if not (0 < slope < 1 if is_op(m.root, "Max") else slope > 1):
            return skip("the slope is %s", slope)
        claim(m, line)
        return in_widest(op, m, x, partial(op.LeakyRelu, alpha=slope), SINGLES)
    return None


@dataclass(frozen=True)
class TwoSided:
    """``Relu(x) + factor * slope * min(x, 0)``; no slope stands for 1."""

    x: ir.Value
    factor: float
    slope: ir.Value | None
    nodes: tuple[ir.Node, ...]


def two_sided(value: ir.Value) -> TwoSided | None:
    """``value`` as Relu(x) and a part for negative x, which is spelled min(x, 0), -Relu(-x) or (x - |x|) / 2."""
    if next(made_by(value, "Relu"), None) is None:
        return None
    total = read(value)
    relu = _relu_alone(total) if total is not None else None
    x = relu.inputs[0] if relu is not None else None
    if total is None or relu is None or x is None:
        return None
    rest = {key: number for key, number in total.terms.items() if key != monomial(relu.outputs[0])}
    found = _single_term(rest, x) if len(rest) == 1 else None
    if found is None:
        return _absolute_terms(value, relu, x)
    return TwoSided(x, found.factor, found.slope, (*total.nodes, relu, *found.nodes))


def _relu_alone(total: Polynomial) -> ir.Node | None:
    """The Relu that is a term by itself."""
    for key, number in total.terms.items():
        node = producer(next(iter(key))[0], "Relu") if len(key) == 1 else None
        if node is not None and number == 1.0 and key == monomial(node.outputs[0]):
            return node
    return None


def _single_term(rest: Terms, x: ir.Value) -> TwoSided | None:
    """The one other term, with min(x, 0) among its factors."""
    [(key, number)] = rest.items()
    factors = [value for value, power in key for _ in range(power)]
    for tail in factors:
        part = _negative_part(tail, x)
        if part is not None and len(factors) <= 2:
            others = [value for value in factors if value is not tail]
            return TwoSided(x, number * part[1], others[0] if others else None, part[0])
    return None


def _negative_part(value: ir.Value, x: ir.Value) -> tuple[tuple[ir.Node, ...], float] | None:
    """The nodes that make ``value`` = sign * min(x, 0), and the sign."""
    node = producer(value, "Min", "Relu")
    if node is None:
        return None
    if is_op(node, "Min"):
        others = [item for item in node.inputs if item is not x]
        fits = len(node.inputs) == 2 and len(others) == 1 and uniform(others[0]) == 0 and broadcasts_into(others[0].shape, x.shape)  # type: ignore[union-attr]
        return ((node,), 1.0) if fits else None
    inner = read(node.inputs[0], x)
    return ((node, *inner.nodes), -1.0) if inner is not None and inner.nodes and inner.terms == {monomial(x): -1.0} else None


def _absolute_terms(value: ir.Value, relu: ir.Node, x: ir.Value) -> TwoSided | None:
    """The other terms as h s x - h s |x|: twice h s is the slope."""
    total, node = read(value, x), next((node for node in made_by(value, "Abs") if node.inputs[0] is x), None)
    if total is None or node is None or len(total.terms) != 3 or total.terms.get(monomial(relu.outputs[0])) != 1.0:
        return None
    own = (x, relu.outputs[0], node.outputs[0])
    slopes = list(dict.fromkeys(item for key in total.terms for item, _ in key if item not in own))
    half = total.terms.get(monomial(x, *slopes)) if len(slopes) <= 1 else None
    if half is None or total.terms.get(monomial(node.outputs[0], *slopes)) != -half:
        return None
    return TwoSided(x, 2 * half, slopes[0] if slopes else None, (*total.nodes, relu, node))


@rule(
    "Add",
    "Sub",
    drift=ROUNDING,
    opset=8,
    examples=[
        _model("r = Relu(x) k = Neg(x) q = Relu(k) s = Mul(q, a) y = Sub(r, s)"),
        _model("r = Relu(x) k = Neg(x) q = Relu(k) s = Mul(n, q) y = Add(s, r)"),
        _model("r = Relu(x) q = Min(x, zero) s = Mul(q, a) y = Add(r, s)"),
        _model("r = Relu(x) k = Abs(x) d = Sub(x, k) s = Mul(d, a) h = Mul(s, half) y = Add(r, h)"),
    ],
    leaves=[
        _model("r = Relu(x) k = Neg(z) q = Relu(k) s = Mul(q, a) y = Sub(r, s)", "float[N,4] x, float[N,4] z"),
        _model("r = Relu(x) q = Relu(x) s = Mul(q, a) y = Sub(r, s)"),
        _model("r = Relu(x) q = Min(x, one) s = Mul(q, a) y = Add(r, s)"),
        _model("r = Relu(x) q = Min(x, zero) s = Mul(q, a) y = Sub(s, r)"),
        _model("r = Relu(x) k = Abs(x) d = Add(x, k) s = Mul(d, a) y = Add(r, s)"),
        _model("r = Relu(z) k = Abs(x) d = Sub(x, k) s = Mul(d, a) y = Add(r, s)", "float[N,4] x, float[N,4] z"),
        _model("r = Relu(x) k = Neg(x) q = Relu(k) t = Neg(q) s = Mul(v, t) y = Add(r, s)", constants=VECTOR),
        "g (float[1] x) => (float[4] y) <float[4] v = {2,2,2,2}> { r = Relu(x) k = Neg(x) q = Relu(k) s = Mul(q, v) y = Sub(r, s) }",
    ],
)
def raise_two_sided_relu(op: Build, m: Match) -> Result:
    """Relu(x) + a min(x, 0) -> LeakyRelu(x, a); min(x, 0) may be -Relu(-x) or (x - |x|) / 2"""
    found = two_sided(m.outputs[0])
    if found is None:
        return None
    if found.slope is not None:
        return skip("the slope '%s' is not one number", found.slope.name)
    claim(m, *found.nodes)
    return in_widest(op, m, found.x, partial(op.LeakyRelu, alpha=found.factor), SINGLES)


@rule(
    "Add",
    "Sub",
    drift=ROUNDING,
    opset=8,
    doubtful=("cpu",),
    measured=True,
    examples=[
        _model("r = Relu(x) k = Neg(x) q = Relu(k) t = Neg(q) s = Mul(v, t) y = Add(r, s)", constants=VECTOR),
        _model("r = Relu(x) k = Neg(x) q = Relu(k) s = Mul(q, v) y = Sub(r, s)", constants=VECTOR),
        _model("r = Relu(x) q = Min(zero, x) s = Mul(q, v) y = Add(s, r)", constants=VECTOR),
        _model("r = Relu(x) k = Abs(x) d = Sub(x, k) s = Mul(v, d) h = Mul(s, half) y = Add(r, h)", constants=f"{VECTOR}, float half = {{0.5}}"),
    ],
    leaves=[
        _model("r = Relu(x) k = Neg(x) q = Relu(k) s = Mul(q, a) y = Sub(r, s)"),
        _model("r = Relu(x) k = Neg(x) q = Relu(k) t = Neg(q) s = Mul(w, t) y = Add(r, s)", "float[N,4] x, float[N,4] w", "float zero = {0}"),
        _model("r = Relu(x) k = Abs(x) d = Sub(x, k) s = Mul(v, d) y = Add(r, s)", constants=VECTOR),
    ],
)
def raise_two_sided_prelu(op: Build, m: Match) -> Result:
    """Relu(x) + s min(x, 0) -> PRelu(x, s) for a finite s (ONNX Runtime's CPU kernel takes six times as long)"""
    found = two_sided(m.outputs[0])
    if found is None or found.slope is None:
        return None
    x, slope = found.x, found.slope
    if not m.ranges.is_finite(slope):
        return skip("the slope '%s' may be infinite, and infinity times 0 is NaN", slope.name)
    if found.factor not in (1.0, -1.0) or x.dtype not in SINGLES or not broadcasts_into(slope.shape, x.shape):
        return skip("the slope is %s times '%s' of shape %s, '%s' has shape %s", found.factor, slope.name, slope.shape, x.name, x.shape)
    claim(m, *found.nodes)
    return op.PRelu(x, slope if found.factor == 1.0 else op.Neg(slope))


@rule(
    "Where",
    drift=ROUNDING,
    opset=7,
    examples=[
        _model("c = Greater(x, zero) b = Mul(x, v) y = Where(c, x, b)", constants=VECTOR),
        _model("c = Less(x, zero) b = Mul(v, x) y = Where(c, b, x)", "float[N,4] x, float[1] v", "float zero = {0}"),
    ],
    leaves=[
        _model("c = Greater(x, zero) b = Mul(x, v) y = Where(c, b, x)", constants=VECTOR),
        _model("c = Greater(x, zero) b = Mul(z, v) y = Where(c, x, b)", "float[N,4] x, float[N,4] z", VECTOR),
        "g (float[N,1] x, float[4] v) => (float[N,4] y) <float zero = {0}> { c = Greater(x, zero) b = Mul(x, v) y = Where(c, x, b) }",
    ],
)
def raise_prelu(op: Build, m: Match) -> Result:
    """x where x > 0, else s x -> PRelu(x, s) for s that broadcasts into x"""
    found = pieces(m.root)
    product = producer(found.below, "Mul") if found is not None else None
    if found is None or product is None or found.at != 0 or found.above is not found.x or found.x not in product.inputs:
        return None
    slope = next((item for item in product.inputs if item is not found.x), None)
    if slope is None or uniform(slope) is not None or found.x.dtype not in SINGLES or not broadcasts_into(slope.shape, found.x.shape):
        return skip("the slope does not broadcast into '%s' of shape %s", found.x.name, found.x.shape)
    claim(m, *found.nodes, product)
    return op.PRelu(found.x, slope)


def single_slope(op: Pen, x: object, slope: Const) -> object:
    return op.PRelu(x, slope)


@rule(
    single_slope,
    drift=ROUNDING,
    opset=9,
    examples=[_model("y = PRelu(x, a)"), _model("y = PRelu(x, v)", constants="float[1,1] v = {0.25}")],
    leaves=[_model("y = PRelu(x, v)", constants=VECTOR), _model("y = PRelu(x, v)", "float[N,4] x, float[1] v")],
)
def raise_single_slope(op: Build, m: Match) -> Result:
    """PRelu(x, a) of one number a -> LeakyRelu(x, a)"""
    slope = scalar(m.slope)
    if slope is None or m.x.dtype not in SINGLES:
        return skip("the slope has shape %s", m.slope.shape)
    return op.LeakyRelu(m.x, alpha=float(slope))
