"""Layer normalisation (Ba, Kiros and Hinton 2016), raised in three steps: the core, then its scale, then its shift."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import same_shape
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import array, attribute, is_op
from ...compiler.core.pattern import ANY, Const, Pen
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from ...compiler.core.shapes import static_shape
from .deviation import Normalised, centred, mean_square, normalised, under_root
from .polynomial import BFLOAT16, FLOAT, FLOAT16, Polynomial, made_by, monomial, read

UP_TO_32_BITS = (FLOAT, FLOAT16, BFLOAT16)
CORE = (
    "m = ReduceMean(x, axes) d = Sub(x, m) p = Pow(d, two) v = ReduceMean(p, axes) a = Add(v, eps)",
    "int64[1] axes = {-1}, float two = {2}, float one = {1}, float four = {4}, float half = {0.5}, float minus_half = {-0.5}, float eps = {0.00001}",
)


def _model(body: str, constants: str = CORE[1], given: str = "float[N,4] x") -> str:
    return f"g ({given}) => (float[N,4] y) <{constants}> {{ {CORE[0]} {body} }}"


@rule(
    "Div",
    "Mul",
    drift=ROUNDING,
    opset=18,
    examples=[
        _model("s = Sqrt(a) y = Div(d, s)"),
        _model("s = Sqrt(a) r = Reciprocal(s) y = Mul(r, d)"),
        _model("s = Sqrt(a) r = Div(one, s) y = Mul(d, r)"),
        _model("r = Pow(a, minus_half) y = Mul(d, r)"),
        _model("r = Pow(a, half) y = Div(d, r)"),
        _model("i = Reciprocal(a) r = Sqrt(i) y = Mul(d, r)"),
        _model("s = Sqrt(a) r = Reciprocal(s) q = Mul(r, w) y = Mul(d, q)", CORE[1], "float[N,4] x, float[4] w"),
        _model("s = Sqrt(a) q = Mul(w, d) y = Div(q, s)", CORE[1], "float[N,4] x, float[4] w"),
        "g (float[N,3,4] x) => (float[N,3,4] y) <int64[2] axes = {2,1}, float eps = {0.00001}>"
        " { m = ReduceMean(x, axes) d = Sub(x, m) p = Mul(d, d) v = ReduceMean(p, axes) a = Add(eps, v) s = Sqrt(a) y = Div(d, s) }",
        "g (float[N,4] x) => (float[N,4] y) <int64[1] axes = {1}, float eps = {0.00001}, float four = {4}>"
        " { m = ReduceMean(x, axes) d = Sub(x, m) t = ReduceSumSquare(d, axes) v = Div(t, four) a = Add(eps, v) s = Sqrt(a) y = Div(d, s) }",
    ],
    leaves=[
        _model("s = Sqrt(a) y = Mul(d, s)"),
        "g (double[N,4] x) => (double[N,4] y) <int64[1] axes = {1}, double eps = {0.00001}>"
        " { m = ReduceMean(x, axes) d = Sub(x, m) p = Mul(d, d) v = ReduceMean(p, axes) a = Add(eps, v) s = Sqrt(a) y = Div(d, s) }",
        _model("s = Sqrt(a) y = Div(x, s)"),
        "g (float[N,4] x) => (float[N,4] y) <int64[1] axes = {1}, float eps = {0.00001}> { m = ReduceMean(x, axes) d = Sub(x, m) q = Mul(x, x)"
        " k = ReduceMean(q, axes) mm = Mul(m, m) v = Sub(k, mm) a = Add(v, eps) s = Sqrt(a) y = Div(d, s) }",
        _model("r = Pow(a, half) y = Mul(d, r)"),
        _model("s = Sqrt(a) r = Div(four, s) y = Add(d, r)"),
        _model("s = Sqrt(a) q = Mul(z, d) y = Div(q, s)", CORE[1], "float[N,4] x, float[N,4] z"),
        "g (float[N,3,4] x) => (float[N,3,4] y) <int64[1] axes = {1}, float eps = {0.00001}>"
        " { m = ReduceMean(x, axes) d = Sub(x, m) p = Mul(d, d) v = ReduceMean(p, axes) a = Add(v, eps) s = Sqrt(a) y = Div(d, s) }",
        "g (float[N,4] x, float[N,4] z) => (float[N,4] y) <int64[1] axes = {1}, float eps = {0.00001}>"
        " { m = ReduceMean(z, axes) d = Sub(x, m) p = Mul(d, d) v = ReduceMean(p, axes) a = Add(v, eps) s = Sqrt(a) y = Div(d, s) }",
        "g (float[N,4] x) => (float[N,4] y) <int64[1] axes = {1}, float[4] eps = {1,2,3,4}>"
        " { m = ReduceMean(x, axes) d = Sub(x, m) p = Mul(d, d) v = ReduceMean(p, axes) a = Add(v, eps) s = Sqrt(a) y = Div(d, s) }",
        "g (float[N,4] x) => (float[N,4] y) <int64[1] axes = {1}, float eps = {-0.1}>"
        " { m = ReduceMean(x, axes) d = Sub(x, m) p = Mul(d, d) v = ReduceMean(p, axes) a = Add(v, eps) s = Sqrt(a) y = Div(d, s) }",
        "g (float[4,4] x) => (float[4,4] y) <int64[1] axes = {1}, float eps = {0.00001}> { m = ReduceMean(x, axes) d = Sub(x, m) p = Mul(d, d)"
        " v = ReduceMean<keepdims=0>(p, axes) a = Add(v, eps) s = Sqrt(a) y = Div(d, s) }",
        "g (float[N,3,4] x) => (float[N,3,4] y) <int64[1] axes = {2}, int64[2] both = {1,2}, float eps = {0.00001}>"
        " { m = ReduceMean(x, both) d = Sub(x, m) p = Mul(d, d) v = ReduceMean(p, axes) a = Add(v, eps) s = Sqrt(a) y = Div(d, s) }",
        "g (float[N,4] x) => (float[N,4] y) <int64[1] axes = {1}, float eps = {0.00001}, float three = {3}>"
        " { m = ReduceMean(x, axes) d = Sub(x, m) t = ReduceSumSquare(d, axes) v = Div(t, three) a = Add(eps, v) s = Sqrt(a) y = Div(d, s) }",
    ],
)
def raise_layer_norm(op: Build, m: Match) -> Result:
    """(x - mean x) / sqrt(mean (x - mean x)^2 + epsilon) -> LayerNormalization(x, 1), with the factors that are on the way as its scale"""
    found = normalised(m.outputs[0])
    if found is None:
        return None
    centre = centred(found.square.d, found.square.axes)
    if centre is None:
        return skip("what is normalised is not less its own mean over the axes %s", found.square.axes)
    x, nodes = centre
    scale = scale_of(op, found, x)
    if isinstance(scale, Skip):
        return scale
    for node in (*found.nodes, *nodes):
        m.take(node)
    return op.LayerNormalization(x, scale, axis=found.square.axes[0] - len(x.shape), epsilon=found.square.epsilon)  # type: ignore[arg-type]


def scale_of(op: Build, found: Normalised, x: ir.Value) -> ir.Value | Skip:
    """The scale [normalised dims] that the factors of ``found`` amount to."""
    axes, shape = found.square.axes, x.shape
    if x.dtype not in UP_TO_32_BITS:
        return skip("'%s' is %s: the operator's epsilon and its first stage have 32 bits", x.name, x.dtype)
    if shape is None or list(axes) != list(range(axes[0], len(shape))):
        return skip("it normalises over %s of '%s' %s, not over the last dims", axes, x.name, shape)
    if found.others and (found.number != 1.0 or len(found.others) > 1):
        return skip("it is multiplied by %s and %s values", found.number, len(found.others))
    sizes = [size for size in shape[axes[0] :] if isinstance(size, int)]
    if len(sizes) != len(axes):
        return skip("the normalised dims %s are not all static", shape[axes[0] :])
    if found.others:
        return fitted(op, found.others[0], sizes)
    return op.const(np.full(sizes, found.number, dtype=x.dtype.numpy()), "scale")


def fitted(op: Build, value: ir.Value, sizes: list[int]) -> ir.Value | Skip:
    """``value`` if it has the shape ``sizes``; a constant may have ones before it."""
    if same_shape(value.shape, sizes):
        return value
    content = array(value)
    if content is None or content.size != np.prod(sizes) or tuple(content.shape[content.ndim - len(sizes) :]) != tuple(sizes):
        return skip("'%s' has shape %s, not %s", value.name, value.shape, sizes)
    return op.const(content.reshape(sizes), "scale")


def norm_times(op: Pen, x: object, own: Const, scale: object) -> object:
    return op.Mul(op.any("LayerNormalization", "RMSNormalization")(x, own, _attrs=ANY, _name="norm"), scale)


@rule(
    norm_times,
    drift=ROUNDING,
    opset=17,
    examples=[
        "g (float[N,2] x, float[2] s) => (float[N,2] y) <float[2] one = {1,1}> { n = LayerNormalization(x, one) y = Mul(n, s) }",
        "g (float[N,3,2] x) => (float[N,3,2] y) <float[2] one = {1,1}, float[1,1,2] s = {3,4}> { n = LayerNormalization(x, one) y = Mul(s, n) }",
        "g (float[N,2] x) => (float[N,2] y) <float[2] own = {1,2}, float[2] s = {3,4}> { n = LayerNormalization(x, own) y = Mul(s, n) }",
        '<ir_version: 10, opset_import: ["" : 23]> g (float[N,2] x, float[2] s) => (float[N,2] y) <float[2] one = {1,1}>'
        " { n = RMSNormalization(x, one) y = Mul(n, s) }",
    ],
    leaves=[
        "g (float[N,2] x, float[2] s) => (float[N,2] y) <float[2] one = {1,2}> { n = LayerNormalization(x, one) y = Mul(n, s) }",
        "g (float[2,2] x, float[2,1] s) => (float[2,2] y) <float[2] one = {1,1}> { n = LayerNormalization(x, one) y = Mul(n, s) }",
        "g (float[N,2] x, float[2] s) => (float[N,2] y) <float[2] one = {1,1}, float[2] b = {1,2}> { n = LayerNormalization(x, one, b) y = Mul(n, s) }",
        "g (float[2] x) => (float[1,2] y) <float[2] one = {1,1}, float[1,2] s = {3,4}> { n = LayerNormalization(x, one) y = Mul(n, s) }",
        "g (float[N,1] x, float[2] s) => (float[N,2] y) <float[1] one = {1}> { n = LayerNormalization(x, one) y = Mul(n, s) }",
    ],
)
def raise_norm_scale(op: Build, m: Match) -> Result:
    """LayerNormalization(x, 1) s -> LayerNormalization(x, s), and the same for RMSNormalization; two constant scales are multiplied"""
    own = m.array("own")
    scale = _affine(op, m.scale, m.own, m.x)
    if isinstance(scale, Skip):
        return scale
    if (own != 1).any():
        content = array(scale)
        if content is None:
            return skip("it has a scale already, and '%s' is not a constant", m.scale.name)
        with np.errstate(over="ignore"):
            product = (own.astype(np.float64) * content.astype(np.float64)).astype(own.dtype)
        if not np.isfinite(product.astype(np.float64)).all():
            return skip("the product of its two scales does not fit into %s", own.dtype)
        scale = op.const(product, "scale")
    return op.like(m.node("norm"), m.x, scale)


def norm_plus(op: Pen, x: object, scale: object, shift: object) -> object:
    return op.Add(op.LayerNormalization(x, scale, _attrs=ANY, _name="norm"), shift)


@rule(
    norm_plus,
    drift=ROUNDING,
    opset=17,
    examples=[
        "g (float[N,2] x, float[2] s, float[2] t) => (float[N,2] y) { n = LayerNormalization(x, s) y = Add(t, n) }",
        "g (float[N,2] x, float[2] s) => (float[N,2] y) <float[1,2] t = {1,2}> { n = LayerNormalization(x, s) y = Add(t, n) }",
    ],
    leaves=[
        "g (float[N,2] x, float[2] s, float[N,2] t) => (float[N,2] y) { n = LayerNormalization(x, s) y = Add(t, n) }",
        "g (float[N,2] x, float[2] s, float[2] t) => (float[N,2] y) { n = LayerNormalization(x, s, t) y = Add(t, n) }",
        '<ir_version: 10, opset_import: ["" : 23]> g (float[N,2] x, float[2] s, float[2] t) => (float[N,2] y) { n = RMSNormalization(x, s) y = Add(t, n) }',
    ],
)
def raise_norm_shift(op: Build, m: Match) -> Result:
    """LayerNormalization(x, s) + t -> LayerNormalization(x, s, t)"""
    shift = _affine(op, m.shift, m.scale, m.x)
    return shift if isinstance(shift, Skip) else op.like(m.node("norm"), m.x, m.scale, shift)


def _affine(op: Build, value: ir.Value, like: ir.Value, x: ir.Value) -> ir.Value | Skip:
    """``value`` with the shape of ``like``: as it is, or a constant without its leading ones that does not make the result of larger rank."""
    if same_shape(value.shape, like.shape):
        return value
    sizes = static_shape(like)
    if sizes is None or value.shape is None or x.shape is None or len(value.shape) > len(x.shape):
        return skip("'%s' has shape %s, not %s", value.name, value.shape, like.shape)
    return fitted(op, value, list(sizes))


@rule(
    "Add",
    drift=ROUNDING,
    opset=18,
    examples=[
        _model(
            "s = Sqrt(a) r = Reciprocal(s) i = Mul(r, w) l = Mul(x, i) k = Mul(m, i) o = Sub(b, k) y = Add(l, o)",
            CORE[1],
            "float[N,4] x, float[4] w, float[4] b",
        ),
        _model("r = Pow(a, minus_half) l = Mul(x, r) k = Mul(m, r) o = Sub(b, k) y = Add(o, l)", CORE[1], "float[N,4] x, float[4] b"),
    ],
    leaves=[
        _model(
            "s = Sqrt(a) r = Reciprocal(s) i = Mul(r, w) l = Mul(x, i) k = Mul(m, r) o = Sub(b, k) y = Add(l, o)",
            CORE[1],
            "float[N,4] x, float[4] w, float[4] b",
        ),
        _model("s = Sqrt(a) r = Reciprocal(s) l = Mul(x, r) k = Mul(m, r) o = Add(b, k) y = Add(l, o)", CORE[1], "float[N,4] x, float[4] b"),
        _model("s = Sqrt(a) r = Reciprocal(s) l = Mul(x, r) k = Mul(m, r) o = Sub(b, k) y = Add(l, o)", CORE[1], "float[N,4] x, float[N,4] b"),
        _model("s = Sqrt(a) l = Mul(x, s) k = Mul(m, s) o = Sub(b, k) y = Add(l, o)", CORE[1], "float[N,4] x, float[4] b"),
    ],
)
def raise_spread_layer_norm(op: Build, m: Match) -> Result:
    """x r + (b - mean(x) r), with r = s / sqrt(mean (x - mean x)^2 + epsilon), as TensorFlow spells it -> LayerNormalization(x, s, b)"""
    if next(made_by(m.outputs[0], "Reciprocal", "Sqrt", "Pow"), None) is None:
        return None
    total = read(m.outputs[0])
    found = _spread(total) if total is not None else None
    if total is None or found is None:
        return None
    x, shift, normal, nodes = found
    scale = scale_of(op, normal, x)
    if isinstance(scale, Skip):
        return scale
    bias = fitted(op, shift, [int(size) for size in scale.shape or () if isinstance(size, int)])
    if isinstance(bias, Skip):
        return bias
    for node in (*total.nodes, *normal.nodes, *nodes):
        m.take(node)
    return op.LayerNormalization(x, scale, bias, axis=normal.square.axes[0] - len(x.shape), epsilon=normal.square.epsilon)  # type: ignore[arg-type]


def _spread(total: Polynomial) -> tuple[ir.Value, ir.Value, Normalised, tuple[ir.Node, ...]] | None:
    """x, the shift, the normalisation that the other two terms amount to, and the nodes that compute its mean."""
    shifts = [key for key, number in total.terms.items() if number == 1.0 and len(key) == 1]
    if len(total.terms) != 3 or len(shifts) != 1:
        return None
    for value in dict.fromkeys(value for key in total.terms for value, _ in key):
        root = _inverse_root(value)
        square = mean_square(root[0]) if root is not None else None
        centre = centred(square.d, square.axes) if square is not None else None
        if root is None or square is None or centre is None:
            continue
        x, nodes = centre
        mean = nodes[1].outputs[0]
        others = [item for key in total.terms if key != shifts[0] and dict(key).get(x) for item, _ in key if item is not x and item is not value]
        factor = monomial(value, *others)
        wanted = {shifts[0]: 1.0, factor | monomial(x): 1.0, factor | monomial(mean): -1.0}
        if len(others) <= 1 and total.terms == wanted:
            [(shift, _)] = shifts[0]
            return x, shift, Normalised(square, 1.0, tuple(others), (*root[1], *square.nodes)), nodes
    return None


def _inverse_root(value: ir.Value) -> tuple[ir.Value, tuple[ir.Node, ...]] | None:
    """v when ``value`` is 1 / sqrt(v)."""
    node = value.producer()
    if node is not None and is_op(node, "Reciprocal") and node.inputs[0] is not None:
        root = under_root(node.inputs[0], -1)
        return (root[0], (node, *root[1])) if root is not None else None
    return under_root(value, 1)


def norm_axis(node: ir.Node) -> int:
    """The axis from which a LayerNormalization normalises; negative when the rank of its input is unknown."""
    axis = int(attribute(node, "axis", -1))  # type: ignore[call-overload]
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    return axis if shape is None or axis < 0 else axis - len(shape)
