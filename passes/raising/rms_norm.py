"""Root mean square normalisation (Zhang and Sennrich 2019), as Llama, T5 and Gemma spell it."""

from __future__ import annotations

import numpy as np

from ...compiler.core.build import Build
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import attribute
from ...compiler.core.pattern import ANY, Const, Pen
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from .deviation import centred, normalised
from .layer_norm import scale_of
from .polynomial import BFLOAT16, FLOAT, FLOAT16

NUMBERS = "int64[1] axes = {-1}, float two = {2}, float one = {1}, float half = {0.5}, float minus_half = {-0.5}, float four = {4}, float eps = {0.000001}"
CORE = "p = Pow(x, two) v = ReduceMean(p, axes) a = Add(v, eps)"


def _model(body: str, given: str = "float[N,4] x", core: str = CORE, constants: str = NUMBERS) -> str:
    return f"g ({given}) => (float[N,4] y) <{constants}> {{ {core} {body} }}"


@rule(
    "Mul",
    "Div",
    drift=ROUNDING,
    lifts=23,
    examples=[
        _model("s = Sqrt(a) y = Div(x, s)"),
        _model("s = Sqrt(a) r = Reciprocal(s) y = Mul(x, r)"),
        _model("s = Sqrt(a) r = Div(one, s) y = Mul(r, x)"),
        _model("r = Pow(a, minus_half) y = Mul(x, r)"),
        _model("s = Sqrt(a) y = Div(x, s)", core="p = Pow(x, square) v = ReduceMean(p, axes) a = Add(v, eps)", constants=f"{NUMBERS}, int64 square = {{2}}"),
        _model("i = Reciprocal(a) r = Sqrt(i) y = Mul(x, r)"),
        _model("s = Sqrt(a) r = Reciprocal(s) q = Mul(r, w) y = Mul(x, q)", "float[N,4] x, float[4] w"),
        _model("s = Sqrt(a) q = Mul(w, x) y = Div(q, s)", "float[N,4] x, float[4] w"),
        _model("s = Sqrt(a) y = Div(x, s)", core="p = Mul(x, x) v = ReduceMean(p, axes) a = Add(eps, v)"),
        _model("s = Sqrt(a) y = Div(x, s)", core="p = Mul(x, x) t = ReduceSum(p, axes) v = Div(t, four) a = Add(eps, v)"),
        _model(
            "s = Sqrt(a) y = Div(x, s)",
            core="t = ReduceSumSquare(x, axes) v = Mul(t, quarter) a = Add(eps, v)",
            constants=f"{NUMBERS}, float quarter = {{0.25}}",
        ),
        _model("s = Sqrt(a) y = Div(x, s)", "float[N,4] z", "x = Mul(z, half) p = Mul(x, x) v = ReduceMean(p, axes) a = Add(eps, v)"),
    ],
    leaves=[
        _model("s = Sqrt(a) y = Mul(x, s)"),
        _model("y = Div(x, a)"),
        _model("s = Sqrt(a) y = Div(s, x)"),
        _model("s = Sqrt(a) y = Div(z, s)", "float[N,4] x, float[N,4] z"),
        _model("s = Sqrt(a) q = Mul(z, x) y = Div(q, s)", "float[N,4] x, float[N,4] z"),
        _model("s = Sqrt(v) q = Add(s, eps) y = Div(x, q)", core="p = Pow(x, two) v = ReduceMean(p, axes)"),
        _model("s = Sqrt(a) y = Div(x, s)", core="p = Pow(x, three) v = ReduceMean(p, axes) a = Add(v, eps)", constants=f"{NUMBERS}, float three = {{3}}"),
        _model("s = Sqrt(a) y = Div(x, s)", core="p = Mul(x, x) t = ReduceSum(p, axes) v = Div(t, two) a = Add(eps, v)"),
        _model("s = Sqrt(a) y = Div(x, s)", core="p = Mul(x, x) v = ReduceSum(p, axes) a = Add(eps, v)"),
        "g (float[4,4] x) => (float[4,4] y) <int64[1] axes = {1}, float eps = {0.000001}>"
        " { p = Mul(x, x) v = ReduceMean<keepdims=0>(p, axes) a = Add(v, eps) s = Sqrt(a) y = Div(x, s) }",
        "g (float[N,3,4] x) => (float[N,3,4] y) <int64[1] axes = {1}, float eps = {0.000001}>"
        " { p = Mul(x, x) v = ReduceMean(p, axes) a = Add(v, eps) s = Sqrt(a) y = Div(x, s) }",
        "g (float[N,3,4] x) => (float[N,3,4] y) <int64[2] axes = {0,2}, float eps = {0.000001}>"
        " { p = Mul(x, x) v = ReduceMean(p, axes) a = Add(v, eps) s = Sqrt(a) y = Div(x, s) }",
        "g (float[N,4] x) => (float[N,4] y) <int64[1] axes = {1}, float[4] eps = {1,2,3,4}>"
        " { p = Mul(x, x) v = ReduceMean(p, axes) a = Add(v, eps) s = Sqrt(a) y = Div(x, s) }",
        "g (double[N,4] x) => (double[N,4] y) <int64[1] axes = {1}, double eps = {0.000001}>"
        " { p = Mul(x, x) v = ReduceMean(p, axes) a = Add(v, eps) s = Sqrt(a) y = Div(x, s) }",
        "g (float[N,4] x) => (float[N,4] y) <int64[1] axes = {-1}, float two = {2}, float eps = {0.00001}>"
        " { m = ReduceMean(x, axes) d = Sub(x, m) p = Pow(d, two) v = ReduceMean(p, axes) a = Add(v, eps) s = Sqrt(a) y = Div(d, s) }",
    ],
)
def raise_rms_norm(op: Build, m: Match) -> Result:
    """x / sqrt(mean x^2 + epsilon) -> RMSNormalization(x, 1), with the factors that are on the way as its scale"""
    found = normalised(m.outputs[0])
    if found is None:
        return None
    x = found.square.d
    if centred(x, found.square.axes) is not None:
        return skip("'%s' is less its own mean: that is a LayerNormalization", x.name)
    scale = scale_of(op, found, x)
    if isinstance(scale, Skip):
        return scale
    for node in found.nodes:
        m.take(node)
    return op.RMSNormalization(x, scale, axis=found.square.axes[0] - len(x.shape), epsilon=found.square.epsilon)  # type: ignore[arg-type]


def widened(op: Pen, x: object, scale: Const) -> object:
    wide = op.any("LayerNormalization", "RMSNormalization")(op.Cast(x, to=1), scale, _attrs=ANY, _name="norm")
    return op.Cast(wide, _attrs=ANY)


@rule(
    widened,
    drift=ROUNDING,
    opset=17,
    examples=[
        "g (float16[N,4] x) => (float16[N,4] y) <float[4] s = {1,1,2,0.5}> { w = Cast<to=1>(x) n = LayerNormalization(w, s) y = Cast<to=10>(n) }",
        '<ir_version: 10, opset_import: ["" : 23]> g (float16[N,4] x) => (float16[N,4] y) <float[4] s = {1,1,1,1}>'
        " { w = Cast<to=1>(x) n = RMSNormalization(w, s) y = Cast<to=10>(n) }",
    ],
    leaves=[
        "g (float16[N,4] x) => (float16[N,4] y) <float[4] s = {1,1,2,0.1}> { w = Cast<to=1>(x) n = LayerNormalization(w, s) y = Cast<to=10>(n) }",
        "g (float16[N,4] x) => (double[N,4] y) <float[4] s = {1,1,2,1}> { w = Cast<to=1>(x) n = LayerNormalization(w, s) y = Cast<to=11>(n) }",
        "g (double[N,4] x) => (double[N,4] y) <float[4] s = {1,1,2,1}> { w = Cast<to=1>(x) n = LayerNormalization(w, s) y = Cast<to=11>(n) }",
        "g (int32[N,4] x) => (int32[N,4] y) <float[4] s = {1,1,2,1}> { w = Cast<to=1>(x) n = LayerNormalization(w, s) y = Cast<to=6>(n) }",
    ],
)
def raise_half_norm(op: Build, m: Match) -> Result:
    """Cast(Norm(Cast(x, float), s), 16 bits) -> Norm(x, s), which has 32 bits inside by itself (stash_type)"""
    kind, scale = m.x.dtype, m.array("scale")
    if kind not in (FLOAT16, BFLOAT16) or m.outputs[0].dtype != kind or m.node("norm").outputs[0].dtype != FLOAT:
        return skip("it goes from %s to %s", kind, m.outputs[0].dtype)
    narrow = scale.astype(kind.numpy())
    if attribute(m.node("norm"), "stash_type", 1) != 1 or not (narrow.astype(np.float32) == scale).all():
        return skip("the scale does not fit into %s without rounding", kind)
    return op.like(m.node("norm"), m.x, op.const(narrow, "scale"))
