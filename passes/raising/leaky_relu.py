"""Rectifiers that leak: LeakyRelu (Maas, Hannun and Ng 2013) and PRelu (He et al. 2015)."""

from __future__ import annotations

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
from .polynomial import SINGLES, Polynomial, claim, made_by, monomial, read, uniform
from .precision import in_widest

NUMBERS = "float zero = {0}, float a = {0.1}, float n = {-0.1}, float big = {1.5}, float one = {1}"
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


@rule(
    "Add",
    "Sub",
    drift=ROUNDING,
    opset=8,
    examples=[
        _model("r = Relu(x) k = Neg(x) q = Relu(k) s = Mul(q, a) y = Sub(r, s)"),
        _model("r = Relu(x) k = Neg(x) q = Relu(k) s = Mul(n, q) y = Add(s, r)"),
        _model("r = Relu(x) q = Min(x, zero) s = Mul(q, a) y = Add(r, s)"),
        _model("r = Relu(x) k = Neg(x) q = Relu(k) t = Neg(q) s = Mul(v, t) y = Add(r, s)", constants=VECTOR),
        _model("r = Relu(x) q = Min(zero, x) s = Mul(q, v) y = Add(s, r)", constants=VECTOR),
    ],
    leaves=[
        _model("r = Relu(x) k = Neg(z) q = Relu(k) s = Mul(q, a) y = Sub(r, s)", "float[N,4] x, float[N,4] z"),
        _model("r = Relu(x) q = Relu(x) s = Mul(q, a) y = Sub(r, s)"),
        _model("r = Relu(x) q = Min(x, one) s = Mul(q, a) y = Add(r, s)"),
        _model("r = Relu(x) q = Min(x, zero) s = Mul(q, a) y = Sub(s, r)"),
        _model("r = Relu(x) k = Neg(x) q = Relu(k) t = Neg(q) s = Mul(w, t) y = Add(r, s)", "float[N,4] x, float[N,4] w", "float zero = {0}"),
    ],
)
def raise_two_sided_relu(op: Build, m: Match) -> Result:
    """Relu(x) + a min(x, 0) -> LeakyRelu(x, a), or PRelu(x, a) for a vector a; min(x, 0) may be -Relu(-x)"""
    if next(made_by(m.outputs[0], "Relu"), None) is None:
        return None
    total = read(m.outputs[0])
    x = _rectified(total)
    if total is None or x is None or len(total.terms) != 2 or total.terms.get(monomial(_relu_of(x, total))) != 1.0:  # type: ignore[arg-type]
        return None
    [(key, number)] = [(key, number) for key, number in total.terms.items() if key != monomial(_relu_of(x, total))]  # type: ignore[arg-type]
    factors = [value for value, power in key for _ in range(power)]
    tail = next((value for value in factors if _negative_part(value, x) is not None), None)
    if tail is None or len(factors) > 2:
        return None
    nodes, sign = _negative_part(tail, x)  # type: ignore[misc]
    rest = [value for value in factors if value is not tail]
    claim(m, total, *nodes, _relu_of(x, total).producer())  # type: ignore[union-attr, arg-type]
    if not rest:
        return in_widest(op, m, x, partial(op.LeakyRelu, alpha=number * sign), SINGLES)
    if not m.ranges.is_finite(rest[0]):
        return skip("the slope '%s' may be infinite, and infinity times 0 is NaN", rest[0].name)
    if number * sign != 1.0 or x.dtype not in SINGLES or not broadcasts_into(rest[0].shape, x.shape) or uniform(rest[0]) is not None:
        return skip("the slope has shape %s, '%s' %s", rest[0].shape, x.name, x.shape)
    return op.PRelu(x, rest[0])


def _rectified(total: Polynomial | None) -> ir.Value | None:
    """The x of a term Relu(x) that stands alone and is no -Relu(-x)."""
    for key, number in total.terms.items() if total is not None else ():
        node = producer(next(iter(key))[0], "Relu") if len(key) == 1 else None
        if node is not None and number == 1.0:
            return node.inputs[0]
    return None


def _relu_of(x: ir.Value, total: Polynomial) -> ir.Value | None:
    values = [value for key in total.terms for value, _ in key]
    return next((value for value in values if (node := producer(value, "Relu")) is not None and node.inputs[0] is x), None)


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


@rule(
    "Add",
    drift=ROUNDING,
    opset=8,
    examples=[
        _model("r = Relu(x) k = Abs(x) d = Sub(x, k) s = Mul(d, a) h = Mul(s, half) y = Add(r, h)", constants="float a = {0.1}, float half = {0.5}"),
        _model("r = Relu(x) k = Abs(x) d = Sub(x, k) s = Mul(v, d) h = Mul(s, half) y = Add(r, h)", constants=f"{VECTOR}, float half = {{0.5}}"),
    ],
    leaves=[
        _model("r = Relu(x) k = Abs(x) d = Add(x, k) s = Mul(v, d) h = Mul(s, half) y = Add(r, h)", constants=f"{VECTOR}, float half = {{0.5}}"),
        _model("r = Relu(x) k = Abs(x) d = Sub(x, k) s = Mul(v, d) y = Add(r, s)", constants=VECTOR),
        _model("r = Relu(z) k = Abs(x) d = Sub(x, k) s = Mul(d, a) y = Add(r, s)", "float[N,4] x, float[N,4] z"),
    ],
)
def raise_absolute_relu(op: Build, m: Match) -> Result:
    """Relu(x) + a (x - |x|) / 2 -> LeakyRelu(x, a), or PRelu(x, a) for a vector a, as TensorFlow spells it"""
    for node in made_by(m.outputs[0], "Abs"):
        x = node.inputs[0]
        total = read(m.outputs[0], x)
        relu = _relu_of(x, total) if x is not None and total is not None else None
        if x is None or total is None or relu is None or total.terms.get(monomial(relu)) != 1.0 or len(total.terms) != 3:
            continue
        slopes = [value for key in total.terms for value, _ in key if value not in (x, relu, node.outputs[0])]
        slope = slopes[:1] if len(set(slopes)) == 1 else []
        half = total.terms.get(monomial(x, *slope))
        if half is None or total.terms.get(monomial(node.outputs[0], *slope)) != -half:
            return skip("what surrounds %s is not a (x - |x|) / 2", node.name)
        claim(m, total, node, relu.producer())  # type: ignore[arg-type]
        if not slope:
            return in_widest(op, m, x, partial(op.LeakyRelu, alpha=2 * half), SINGLES)
        if half != 0.5 or x.dtype not in SINGLES or not broadcasts_into(slope[0].shape, x.shape) or not m.ranges.is_finite(slope[0]):
            return skip("the slope has shape %s, '%s' %s", slope[0].shape, x.name, x.shape)
        return op.PRelu(x, slope[0])
    return None


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
