"""Normalisation by channel and by group of channels: InstanceNormalization (Ulyanov et al. 2016) and GroupNormalization (Wu and He 2018)."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...compiler.core.build import Build
from ...compiler.core.dims import at_least, same_shape
from ...compiler.core.drift import ROUNDING
from ...compiler.core.graph import array, attribute, is_op
from ...compiler.core.pattern import ANY, Const, Pen
from ...compiler.core.reasons import Skip, skip
from ...compiler.core.rule import Match, Result, rule
from .deviation import centred, normalised
from .polynomial import SINGLES, uniform

CORE = "m = ReduceMean(x, axes) d = Sub(x, m) p = Mul(d, d) v = ReduceMean(p, axes) a = Add(v, eps) s = Sqrt(a)"
SPATIAL = "int64[2] axes = {2,3}, float eps = {0.00001}"
GROUPS = "int64[3] split = {0,2,-1}, float[2] one = {1,1}, float[2] zero = {0,0}, float[2] two = {2,1}"
INSTANCE = "n = InstanceNormalization(x, s, b)"
GROUP = "n = GroupNormalization<num_groups=1>(x, s, b)"


def _model(body: str, constants: str = SPATIAL, given: str = "float[N,2,H,2] x") -> str:
    return f"g ({given}) => ({given.split(' x')[0]} y) <{constants}> {{ {CORE} {body} }}"


@rule(
    "Div",
    "Mul",
    drift=ROUNDING,
    opset=18,
    measured=True,
    examples=[
        _model("y = Div(d, s)"),
        _model("r = Reciprocal(s) y = Mul(d, r)", SPATIAL, "float[N,2,3,W] x"),
    ],
    leaves=[
        _model("y = Div(x, s)"),
        _model("y = Div(d, s)", SPATIAL, "float[N,C,3,2] x"),
        _model("y = Div(d, s)", SPATIAL.replace("{2,3}", "{1,2}"), "float[N,2,3,2] x"),
        _model("y = Div(d, s)", SPATIAL.replace("int64[2] axes = {2,3}", "int64[1] axes = {2}"), "float[N,3,2] x"),
    ],
)
def raise_instance_norm(op: Build, m: Match) -> Result:
    """(x - mean x) / sqrt(mean (x - mean x)^2 + epsilon) over two or more spatial dims -> InstanceNormalization(x, 1, 0)"""
    found = normalised(m.outputs[0])
    centre = centred(found.square.d, found.square.axes) if found is not None else None
    if found is None or centre is None:
        return None
    x, rank = centre[0], len(centre[0].shape or ())
    channels = x.shape[1] if x.shape is not None and rank >= 4 else None
    if rank < 4 or found.square.axes != tuple(range(2, rank)) or x.dtype not in SINGLES or not isinstance(channels, int) or found.others:
        return skip("it normalises over %s of '%s', of shape %s", found.square.axes, x.name, x.shape)
    for node in (*found.nodes, *centre[1]):
        m.take(node)
    ones = op.const(np.full([channels], found.number, dtype=x.dtype.numpy()), "scale")
    return op.InstanceNormalization(x, ones, op.const(np.zeros([channels], dtype=x.dtype.numpy()), "shift"), epsilon=found.square.epsilon)


def grouped(op: Pen, x: object, split: Const, own: Const, bias: Const, joined: object) -> object:
    parts = op.InstanceNormalization(op.Reshape(x, split, allowzero=ANY, _name="split"), own, bias, epsilon=ANY, _name="norm")
    return op.Reshape(parts, joined, allowzero=ANY)


def grouped_layers(op: Pen, x: object, split: Const, own: Const, joined: object) -> object:
    parts = op.LayerNormalization(op.Reshape(x, split, allowzero=ANY, _name="split"), own, axis=ANY, epsilon=ANY, _name="norm")
    return op.Reshape(parts, joined, allowzero=ANY)


@rule(
    grouped,
    grouped_layers,
    drift=ROUNDING,
    opset=21,
    doubtful=("cpu",),
    measured=True,
    examples=[
        f"g (float[2,4,3,2] x) => (float[2,4,3,2] y) <{GROUPS}, float[12] ones = {{1,1,1,1,1,1,1,1,1,1,1,1}}, int64[4] back = {{-1,4,3,2}}>"
        " { r = Reshape(x, split) n = LayerNormalization(r, ones) y = Reshape(n, back) }",
        f"g (float[2,4,3,2] x) => (float[2,4,3,2] y) <{GROUPS}, int64[4] back = {{-1,4,3,2}}>"
        " { r = Reshape(x, split) n = InstanceNormalization(r, one, zero) y = Reshape(n, back) }",
    ],
    leaves=[
        f"g (float[2,4,3,2] x) => (float[2,4,3,2] y) <{GROUPS}, float[12] ones = {{1,1,1,1,1,1,1,1,1,1,1,2}}, int64[4] back = {{-1,4,3,2}}>"
        " { r = Reshape(x, split) n = LayerNormalization(r, ones) y = Reshape(n, back) }",
        f"g (float[2,4,3,2] x) => (float[2,4,3,2] y) <{GROUPS},"
        " float[2,12] ones = {1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1}, int64[4] back = {-1,4,3,2}>"
        " { r = Reshape(x, split) n = LayerNormalization<axis=1>(r, ones) y = Reshape(n, back) }",
        f"g (float[N,4,3,2] x) => (float[N,4,3,2] y) <{GROUPS}, int64[4] back = {{-1,4,3,2}}>"
        " { r = Reshape(x, split) n = InstanceNormalization(r, one, zero) y = Reshape(n, back) }",
        f"g (float[N,4,3,2] x) => (float[N,4,3,2] y) <{GROUPS}, int64[4] back = {{-1,4,3,2}}>"
        " { r = Reshape(x, split) n = InstanceNormalization(r, two, zero) y = Reshape(n, back) }",
        f"g (float[N,4,3,2] x) => (float[N,3,4,2] y) <{GROUPS}, int64[4] back = {{-1,3,4,2}}>"
        " { r = Reshape(x, split) n = InstanceNormalization(r, one, zero) y = Reshape(n, back) }",
        f"g (float[N,3,4,2] x) => (float[N,3,4,2] y) <{GROUPS}, int64[4] back = {{-1,3,4,2}}>"
        " { r = Reshape(x, split) n = InstanceNormalization(r, one, zero) y = Reshape(n, back) }",
    ],
)
def raise_group_norm(op: Build, m: Match) -> Result:
    """Reshape(InstanceNormalization(Reshape(x, [n, g, -1]), 1, 0)) -> GroupNormalization(x, 1, 0, g), which ONNX Runtime expands, and is slower at"""
    shape, middle, result = m.x.shape, m.node("split").outputs[0].shape, m.outputs[0].shape
    if uniform(m.own) != 1 or (m.has("bias") and uniform(m.bias) != 0) or shape is None or middle is None or len(middle) != 3 or len(shape) < 3:
        return skip("it has a scale or shift by group, or '%s' has shape %s", m.x.name, shape)
    if is_op(m.node("norm"), "LayerNormalization") and attribute(m.node("norm"), "axis", -1) not in (-1, 2):
        return skip("it normalises over more than one group")
    groups, channels = middle[1], shape[1]
    if not at_least(shape[0], 1):
        return skip("the batch %s may be empty, which ONNX Runtime's expansion of GroupNormalization does not take", shape[0])
    if not same_shape(shape, result) or not same_shape(list(shape)[:1], list(middle)[:1]):
        return skip("'%s' of shape %s becomes %s, then %s", m.x.name, shape, middle, result)
    if not isinstance(groups, int) or not isinstance(channels, int) or groups == 0 or channels % groups:
        return skip("%s channels are no %s groups", channels, groups)
    kind = m.x.dtype.numpy() if m.x.dtype is not None else np.float32
    ones, zeros = op.const(np.ones([channels], kind), "scale"), op.const(np.zeros([channels], kind), "shift")
    return op.GroupNormalization(m.x, ones, zeros, num_groups=groups, epsilon=float(attribute(m.node("norm"), "epsilon", 1e-5)))  # type: ignore[arg-type]


def norm_times(op: Pen, x: object, own: Const, bias: Const, scale: Const) -> object:
    return op.Mul(op.any("InstanceNormalization", "GroupNormalization")(x, own, bias, _attrs=ANY, _name="norm"), scale)


def norm_plus(op: Pen, x: object, own: object, bias: Const, shift: Const) -> object:
    return op.Add(op.any("InstanceNormalization", "GroupNormalization")(x, own, bias, _attrs=ANY, _name="norm"), shift)


def _affine(body: str, constants: str, given: str = "float[N,2,3,3] x", result: str = "float[N,2,3,3] y") -> str:
    return f"g ({given}) => ({result}) <float[2] b = {{0,1}}, {constants}> {{ {body} }}"


@rule(
    norm_times,
    drift=ROUNDING,
    opset=21,
    examples=[
        _affine(f"{INSTANCE} y = Mul(n, w)", "float[2] s = {1,2}, float[2,1,1] w = {3,4}"),
        _affine(f"{INSTANCE} y = Mul(w, n)", "float[2] s = {1,2}, float w = {3}"),
        _affine(f"{GROUP} y = Mul(n, w)", "float[2] s = {1,2}, float[1,2,1,1] w = {3,4}", "float[1,2,3,3] x", "float[1,2,3,3] y"),
    ],
    leaves=[
        _affine(f"{INSTANCE} y = Mul(n, w)", "float[2] s = {1,2}, float[2] w = {3,4}", "float[N,2,2,2] x", "float[N,2,2,2] y"),
        _affine(f"{INSTANCE} y = Mul(n, w)", "float[2] s = {1,2}, float[2,1,1,1] w = {3,4}", "float[2,2,2,2] x", "float[2,2,2,2] y"),
        _affine(f"{INSTANCE} y = Mul(n, w)", "float[2] s = {1,2}, float[1,1,1,1,1] w = {3}", result="float[1,N,2,3,3] y"),
        _affine(f"{GROUP} y = Mul(n, w)", "float[2] w = {3,4}", "float[N,2,2,2] x, float[2] s", "float[N,2,2,2] y"),
        _affine(f"{INSTANCE} y = Mul(n, w)", "float[2] s = {1e30,2}, float[2,1,1] w = {1e30,4}"),
    ],
)
def raise_channel_scale(op: Build, m: Match) -> Result:
    """InstanceNormalization(x, a, b) s -> InstanceNormalization(x, a s, b s) for s by channel, and the same for GroupNormalization"""
    factor = _by_channel(m, m.scale)
    if isinstance(factor, Skip):
        return factor
    scale, shift = _narrowed(m.array("own") * factor, m.array("own")), _narrowed(m.array("bias") * factor, m.array("bias"))
    if scale is None or shift is None:
        return skip("the scale times '%s' would not be finite", m.scale.name)
    return op.like(m.node("norm"), m.x, op.const(scale, "scale"), op.const(shift, "shift"))


@rule(
    norm_plus,
    drift=ROUNDING,
    opset=21,
    examples=[
        _affine(f"{INSTANCE} y = Add(w, n)", "float[1,2,1,1] w = {3,4}", "float[N,2,3,3] x, float[2] s"),
        _affine(f"{GROUP} y = Add(n, w)", "float[2,1,1] w = {3,4}", "float[3,2,3,3] x, float[2] s", "float[3,2,3,3] y"),
    ],
    leaves=[
        _affine(f"{INSTANCE} y = Add(n, w)", "float[2,1] w = {3,4}", "float[N,2,2,2] x, float[2] s", "float[N,2,2,2] y"),
        _affine(f"{GROUP} y = Add(n, w)", "float[2] w = {3,4}", "float[N,2,2,2] x, float[2] s", "float[N,2,2,2] y"),
    ],
)
def raise_channel_shift(op: Build, m: Match) -> Result:
    """InstanceNormalization(x, s, b) + t -> InstanceNormalization(x, s, b + t) for t by channel, and the same for GroupNormalization"""
    added = _by_channel(m, m.shift)
    if isinstance(added, Skip):
        return added
    shift = _narrowed(m.array("bias") + added, m.array("bias"))
    if shift is None:
        return skip("the shift and '%s' would not be finite", m.shift.name)
    return op.like(m.node("norm"), m.x, m.own, op.const(shift, "shift"))


def _by_channel(m: Match, value: ir.Value) -> np.ndarray | Skip:
    """The constant as float64 [channels]."""
    content, bias, rank = array(value), m.array("bias"), len(m.x.shape or ())
    if content is None or content.ndim > rank or rank < 3:
        return skip("'%s' has shape %s, '%s' %s", value.name, value.shape, m.x.name, m.x.shape)
    aligned = (1,) * (rank - content.ndim) + content.shape
    if aligned[1] not in (1, bias.size) or any(size != 1 for place, size in enumerate(aligned) if place != 1):
        return skip("'%s' has shape %s, not one number by channel", value.name, value.shape)
    return np.broadcast_to(content.astype(np.float64).reshape(-1), bias.shape)


def _narrowed(wide: np.ndarray, like: np.ndarray) -> np.ndarray | None:
    """The numbers in the type of ``like``; None when one would not be finite."""
    with np.errstate(over="ignore"):
        narrow = wide.astype(like.dtype)
    return narrow if np.isfinite(narrow.astype(np.float64)).all() else None
